"""`run`: a run is asked for, its worker started, and then this process becomes the child.

Becoming the child, instead of waiting for it, makes its status, signals, terminal and process group exact. The worker
has a session of its own and is no child of the command, so Ctrl-C does not reach it and nobody has to reap it.
"""

import json
import os
import secrets
import select
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Never, Protocol

from authsome import clock
from authsome.client import detach
from authsome.errors import (
    CommandNotExecutable,
    CommandNotStarted,
    DaemonUnavailable,
    RequestInvalid,
    from_code,
)
from authsome.home import Settings, make_private_directory, open_private, write_private
from authsome.proxy import environment, rules, trust
from authsome.proxy.assignment import Assignment
from authsome.proxy.environment import Grant
from authsome.proxy.rules import Lease, Unmatched
from authsome.secret import Secret

FAILED: Final = 125
"""The exit status of `env`, `nice` and `timeout` when they fail themselves."""
WORKER: Final = "proxy-worker"
"""The hidden command that `cli` runs `worker.main` for."""
_START_SECONDS: Final = 20.0
_READY_LIMIT: Final = 4096
_KEPT: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ"})
_KEPT_PREFIXES: Final = ("XDG_", "AUTHSOME_PYZ_")
_NODE_PRELOAD: Final = "node_preload.cjs"


class Daemon(Protocol):
    """A signed line to the daemon."""

    @property
    def url(self) -> str:
        """Where it is."""

    @property
    def is_supervised(self) -> bool:
        """Whether it is the daemon of our own home."""

    def call(self, method: str, target: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """One request; errors are raised as the daemon's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asked of a run."""

    command: tuple[str, ...]
    connections: Mapping[str, str]
    """Connection by provider, where it is not to be the default one."""
    only: tuple[str, ...] = ()
    duration: timedelta | None = None
    unmatched: Unmatched = Unmatched.TUNNEL


def run(
    wish: Wish, *, daemon: Daemon, settings: Settings, environ: Mapping[str, str], worker_command: Sequence[str]
) -> Never:
    """Become the command, behind a proxy of its own.

    Args:
        wish: the command, and what it may use.
        daemon: where the run is asked for.
        settings: home, and extra roots.
        environ: the environment that the child's is made from.
        worker_command: what starts the worker: this program and `WORKER`.

    Raises:
        CommandNotStarted: there is no such command, or it cannot be executed.
        AuthsomeError: there is no run, or no proxy for it.
    """
    path = find_command(wish.command[0], environ)
    grant, lease = _ask(daemon, wish)
    roots = trust.prepare(settings.home, environ, settings.ca_bundle, clock.now())
    assignment = Assignment(
        lease=lease,
        table=grant.table,
        daemon_url=daemon.url,
        is_supervised=daemon.is_supervised,
        home=settings.home,
        upstream_roots=roots.upstream,
        extra_roots=settings.ca_bundle,
        https_proxy=_caller(environ, "https_proxy"),
        no_proxy=_caller(environ, "no_proxy"),
        pid=os.getpid(),
    )
    port = start_worker(assignment, worker_command, environ)
    child = environment.for_child(environ, grant, port=port, bundle=roots.child, node_preload=_node_preload(settings))
    _become(path, wish.command, child)


def _caller(environ: Mapping[str, str], name: str) -> str:
    """A proxy variable of the caller's; inside another run it is that run's, and leads nowhere for us."""
    return "" if environment.RUN in environ else environ.get(name) or environ.get(name.upper()) or ""


def find_command(name: str, environ: Mapping[str, str]) -> str:
    """The file that a command is, as execvp(3) would find it; looked for before anything is started.

    Raises:
        CommandNotStarted: there is none.
        CommandNotExecutable: it may not be executed.
    """
    if "/" in name:
        candidates = [name]
    else:
        places = environ.get("PATH", os.defpath).split(os.pathsep)
        candidates = [f"{place or '.'}/{name}" for place in places]
    found = False
    for candidate in candidates:
        try:
            is_file = stat.S_ISREG(Path(candidate).stat().st_mode)
        except PermissionError:
            found = True
            continue
        except OSError:
            continue
        if is_file and os.access(candidate, os.X_OK):
            return candidate
        found = True
    if found:
        raise CommandNotExecutable(f"{name}: permission denied")
    raise CommandNotStarted(f"{name}: command not found")


def _ask(daemon: Daemon, wish: Wish) -> tuple[Grant, Lease]:
    seconds = int(wish.duration.total_seconds()) if wish.duration is not None else None
    question = {"connections": dict(wish.connections), "only": list(wish.only), "seconds": seconds}
    answer = daemon.call("POST", "/proxy/runs", question)
    run, secret, expires_at = answer.get("run"), answer.get("secret"), answer.get("expires_at")
    placeholders, remove = answer.get("environment", {}), answer.get("remove", [])
    if (
        not (isinstance(run, str) and isinstance(secret, str) and isinstance(remove, list))
        or not isinstance(placeholders, dict)
        or not (expires_at is None or isinstance(expires_at, str))
    ):
        raise RequestInvalid("the daemon's answer to a new run is not of the agreed form")
    grant = Grant(
        run=run,
        password=Secret(secrets.token_urlsafe(32)),
        table=rules.table_from_json(answer.get("routes")),
        placeholders={str(name): str(value) for name, value in placeholders.items()},
        remove=frozenset(str(name) for name in remove),
    )
    lease = Lease(
        run=run,
        secret=Secret(secret),
        password=grant.password,
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
        unmatched=wish.unmatched,
    )
    return grant, lease


def start_worker(assignment: Assignment, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Start a worker that outlives this call, and wait until it listens; returns its port.

    Raises:
        AuthsomeError: it did not start; the class is that of the cause, if it could tell.
    """
    log_path = assignment.home.proxy / "proxy.log"
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    log = open_private(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    own_input, its_input = _pipe_to()
    own_output, its_output = os.pipe()
    try:
        detach.start(command, kept, stdin=its_input, stdout=its_output, stderr=log)
    finally:
        os.close(log)
        os.close(its_input)
        os.close(its_output)
    try:
        with os.fdopen(own_input, "wb") as pipe:
            pipe.write(assignment.to_json())
        return _port(own_output)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DaemonUnavailable("the proxy did not start", hint=f"see {log_path}") from error
    finally:
        os.close(own_output)


def _pipe_to() -> tuple[int, int]:
    reader, writer = os.pipe()
    return writer, reader


def _port(descriptor: int) -> int:
    """Read the worker's one line."""
    deadline = time.monotonic() + _START_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
        more = os.read(descriptor, _READY_LIMIT) if ready else b""
        if not more:
            raise ValueError("the worker ended, or says nothing")
        line += more
    said = json.loads(line)
    if "error" in said:
        raise from_code(said["error"], said["message"], said["hint"])
    return int(said["port"])


def _node_preload(settings: Settings) -> Path:
    """The preload script at a place that stays: an archive's own may move when it is replaced."""
    path = settings.home.proxy / _NODE_PRELOAD
    source = Path(__file__).with_name(_NODE_PRELOAD).read_bytes()
    make_private_directory(settings.home.proxy)
    try:
        current = path.read_bytes()
    except OSError:
        current = b""
    if current != source:
        write_private(path, source)
    return path


def _become(path: str, command: Sequence[str], environ: Mapping[str, str]) -> Never:
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ"):  # Python ignores these at its start, which exec would pass on
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(path, list(command), dict(environ))  # noqa: S606  # no shell is the point
    except OSError as error:
        raise CommandNotExecutable(f"{command[0]}: {(error.strerror or 'cannot be executed').lower()}") from error
