"""Where the tour plays: a temporary home with a daemon of its own, and authsome started in it as a user would."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from authsome import archive
from authsome.cli.tour import authority, servers
from authsome.cli.tour.servers import Places, Seen
from authsome.home import make_private_directory, write_private

PROVIDER = "tour"
VARIABLE = "TOUR_TOKEN"
PLACEHOLDER = "tour_at_placeholder_0000000000000000000000"
_PATIENCE = 60  # seconds for one command


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A home, an environment, and the two strangers."""

    directory: Path
    environ: Mapping[str, str]
    places: Places
    seen: Seen

    @property
    def home(self) -> Path:
        """AUTHSOME_HOME."""
        return self.directory / "home"

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command of authsome, as a process of its own."""
        return subprocess.Popen(  # noqa: S603  # ourselves
            [*archive.launch_command(), "--no-color", *words],
            env=dict(self.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run a command of authsome to its end: exit status, standard output, standard error."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=_PATIENCE)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return process.returncode, out, err


@contextmanager
def built(environ: Mapping[str, str]) -> Iterator[Stage]:
    """Set the stage, and leave nothing of it: no process, no file. SIGTERM is taken as Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="authsome-tour-")).resolve()
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        trusted, tls = authority.make_certificates(directory, servers.API_HOST)
        seen = Seen()
        with servers.serve(seen, tls) as places:
            stage = Stage(
                directory=directory, environ=_environment(environ, directory, trusted, places), places=places, seen=seen
            )
            make_private_directory(stage.home / "providers")
            write_private(
                stage.home / "providers" / f"{PROVIDER}.json", json.dumps(_definition(places), indent=2).encode()
            )
            try:
                yield stage
            finally:
                for number in (signal.SIGINT, *handlers):
                    handlers.setdefault(number, signal.signal(number, signal.SIG_IGN))
                stage.run("daemon", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _environment(environ: Mapping[str, str], directory: Path, trusted: Path, places: Places) -> dict[str, str]:
    """The caller's, without its authsome and without a proxy: the tour has its own of both."""
    foreign = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    kept = {
        name: value
        for name, value in environ.items()
        if (not name.startswith("AUTHSOME_") or name == "AUTHSOME_PYZ_CACHE") and name.upper() not in foreign
    }
    return kept | {
        "AUTHSOME_HOME": str(directory / "home"),
        "AUTHSOME_PORT": str(_free_port()),
        "AUTHSOME_CA_BUNDLE": str(trusted),
        "TOUR_API": f"{places.api}/me",
        "TMPDIR": str(directory),  # which every process keeps, the proxy too: it is what `processes_left` knows them by
    }


def _definition(places: Places) -> dict[str, object]:
    return {
        "schema_version": 1,
        "name": PROVIDER,
        "display_name": "Tour provider",
        "auth_type": "oauth2",
        "flow": "pkce",
        "api_url": places.api,
        "allow_private_addresses": True,
        "oauth": {
            "authorization_url": f"{places.login}/authorize",
            "token_url": f"{places.login}/token",
            "pkce": "required",
            "token_endpoint_auth_method": "client_secret_basic",
            "response": {"account": "account"},
            "refresh": {"rotates": True},
        },
        "inject": {"header": "Authorization", "template": "Bearer {access_token}"},
        "export": {"env": {VARIABLE: {"value": "{access_token}", "placeholder": PLACEHOLDER}}},
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def processes_left(directory: Path) -> bool | None:
    """Whether a process still has this directory in its command line or environment; None where that cannot be seen."""
    mark = os.fsencode(directory)
    own = str(os.getpid())
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit() and name != own]  # noqa: PTH208
    except OSError:
        return None
    for number in numbers:
        try:
            if mark in Path("/proc", number, "environ").read_bytes():
                return True
        except OSError:
            continue
    return False
