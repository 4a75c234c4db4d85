"""Our side: the archive, a home, an API key."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from subject import KEY, OURS, Identity, Subject

from authsome.identity.key import from_seed
from authsome.secret import Secret
from fakes.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache" / "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """The archive with a home of its own, started as a user starts it."""

    python: str
    """A Python without site-packages of ours: the archive brings its own."""
    archive: Path
    directory: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What a command gets: no variable of the developer's."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.directory),
            "AUTHSOME_PORT": str(self.port),
        }

    def argv(self, *words: str) -> tuple[str, ...]:
        """The command line of one command."""
        return (self.python, str(self.archive), *words)

    def __call__(self, *words: str, stdin: str = "", more: Mapping[str, str] | None = None) -> str:
        """Run a command that has to succeed; what it wrote."""
        done = subprocess.run(
            self.argv(*words), env={**self.environment, **(more or {})}, cwd=self.directory, input=stdin,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def subject(self) -> Subject:
        """Its daemon, for measurements that stand beside upstream's."""
        home = self.directory / ".authsome"
        handle = json.loads((home / "config.json").read_bytes())["identity"]
        seed = base64.b64decode((home / "identities" / f"{handle}.key").read_bytes())
        url = f"http://127.0.0.1:{self.port}"
        request = {"method": "POST", "host": "api.openai.com", "path": "/v1/chat/completions"}
        return Subject(
            name=OURS,
            serve=self.argv("daemon", "serve"),
            port=self.port,
            environment=self.environment,
            identity=Identity(
                handle=handle, did=from_seed(Secret(seed)).did, seed=seed.hex(), audience=url, type="pop+jwt"
            ),
            target="/proxy/resolve",
            body=json.dumps(request),
        )


def build() -> Path:
    """Build the archive from this checkout."""
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / "authsome.pyz"
    command = [sys.executable, str(CHECKOUT / "build_zipapp.py"), "--output", str(archive)]
    subprocess.run(command, cwd=CHECKOUT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return archive


def install(archive: Path, directory: Path) -> Ours:
    """Make a home below `directory`, and put an API key into it; the daemon is stopped again."""
    directory.mkdir(parents=True)
    ours = Ours(python=bare_python(), archive=archive, directory=directory, port=free_port())
    ours("login", "openai", "--stdin", "--no-verify", stdin=KEY)
    ours("daemon", "stop")
    return ours


def bare_python() -> str:
    """A Python that nobody has put anything into: no package, and no `.pth` file that runs at each start."""
    own = CACHE / "bare" / "bin" / "python"
    if not own.exists():
        subprocess.run([_beneath(), "-m", "venv", "--without-pip", str(CACHE / "bare")], check=True)
    return str(own)


def _beneath() -> str:
    """The interpreter beneath the environment that runs this."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    beneath = Path(sys.base_prefix) / "bin" / name
    return str(beneath) if os.access(beneath, os.X_OK) else sys.executable
