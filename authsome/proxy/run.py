"""The long road of `run`: whatever is not running is started, and whatever goes wrong is told.

It ends as the short one does (`proxy/launch.py`): this process becomes the command.
"""

import _socket
import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Never, Protocol, Self

from authsome import clock
from authsome.client import detach
from authsome.errors import (
    CommandNotExecutable,
    CommandNotStarted,
    DaemonUnavailable,
    RequestInvalid,
    StorageFailed,
    from_code,
    reason_of,
)
from authsome.home import Home, Settings, make_private_directory, open_private, read_config, write_private
from authsome.proxy import bundles, environment, launch
from authsome.proxy.launch import Wish
from authsome.proxy.plain import Unusual
from authsome.proxy.station import Station

FAILED: Final = 125
"""The exit status of `env`, `nice` and `timeout` when they fail themselves."""
WORKER: Final = "proxy-worker"
"""The hidden command that `cli` runs `worker.main` for."""
_START_SECONDS: Final = 20.0
_PATIENCE_SECONDS: Final = 0.3  # until a wait is worth a word
_POLL_SECONDS: Final = 0.01
_ATTEMPTS: Final = 3  # a worker may leave, or be killed, between being found and being asked
_READY_LIMIT: Final = 4096
_KEPT: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ"})
_KEPT_PREFIXES: Final = ("XDG_", "AUTHSOME_PYZ_")
_NODE_PRELOAD: Final = "node_preload.cjs"

Notice = Callable[[str], None]
"""Tells the user what is being waited for."""


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

    def while_starting(self, do: Callable[[], None]) -> None:
        """Have something done while the daemon gets ready, should it have to be started."""


def run(  # noqa: PLR0913  # each by name
    wish: Wish,
    *,
    daemon: Daemon,
    settings: Settings,
    environ: Mapping[str, str],
    worker_command: Sequence[str],
    notice: Notice | None = None,
) -> Never:
    """Become the command, behind the proxy.

    Args:
        wish: the command, and what it may use.
        daemon: where the run is asked for.
        settings: home, and extra roots.
        environ: the environment that the child's is made from.
        worker_command: what starts a worker: this program and `WORKER`.
        notice: told when this takes longer than a moment.

    Raises:
        CommandNotStarted: there is no such command, or it cannot be executed.
        AuthsomeError: there is no run, or no proxy for it.
    """
    path, shown = launch.find_command(wish.command[0], environ), wish.command[0] or "''"
    if path == "":
        raise CommandNotExecutable(f"{shown}: permission denied")
    if path is None:
        raise CommandNotStarted(f"{shown}: command not found")
    with _Starter(settings.home, worker_command, environ, notice) as starter:
        daemon.while_starting(starter.begin)
        child = _served(wish, daemon, settings, environ, starter)
    try:
        launch.become(path, wish.command, child)
    except FileNotFoundError as error:  # though the command is there
        raise CommandNotExecutable(
            f"{wish.command[0]}: what is to run it was not found", hint="a script names that in its first line"
        ) from error
    except OSError as error:
        raise CommandNotExecutable(f"{wish.command[0]}: {(error.strerror or 'cannot be executed').lower()}") from error


def _served(
    wish: Wish, daemon: Daemon, settings: Settings, environ: Mapping[str, str], starter: "_Starter"
) -> Mapping[str, str]:
    """The environment of a child whose run a worker has taken."""
    begun = daemon.call("POST", "/proxy/runs", wish.question())
    roots = bundles.prepare(settings.home, environ, settings.ca_bundle, clock.now())
    password = launch.new_password()
    try:
        grant = launch.grant_of(begun, password)
    except (Unusual, KeyError) as error:
        raise RequestInvalid("the daemon's answer to a new run is not of the agreed form") from error
    name = launch.worker_name(
        daemon.url,
        is_supervised=daemon.is_supervised,
        extra=str(settings.ca_bundle or ""),
        authority=roots.authority,
        settings=read_config(settings.home).get("proxy"),
    )
    station = Station(
        home=settings.home,
        socket=Path(launch.socket_path(str(settings.home.proxy), name)),
        daemon_url=daemon.url,
        is_supervised=daemon.is_supervised,
        extra_roots=settings.ca_bundle,
    )
    line = launch.assignment(json.dumps(begun).encode(), wish, password=password, roots=roots, environ=environ)
    port = _assign(station, line, starter)
    preload = _node_preload(settings)
    return environment.for_child(environ, grant, port=port, bundle=roots.child, node_preload=str(preload))


def _assign(station: Station, line: bytes, starter: "_Starter") -> int:
    """Have a worker serve the run, starting one if there is none; returns the port of its proxy."""
    make_private_directory(station.socket.parent)
    for _ in range(_ATTEMPTS):
        try:
            with contextlib.closing(_worker(station, starter)) as worker:
                return launch.assign(worker, line)
        except launch.Refused as refused:
            raise _error(refused.answer) from None
        except OSError:
            continue
    raise DaemonUnavailable("the proxy ended before it took the run", hint=f"see {_log_path(station.home)}")


def _worker(station: Station, starter: "_Starter") -> _socket.socket:
    """A connection to the worker; of several callers at the same time one starts it."""
    try:
        return _dial(station)
    except OSError:
        pass
    with _start_lock(station, starter.notice):
        try:
            return _dial(station)
        except OSError:
            starter.start(station)
            return _dial(station)


def _dial(station: Station) -> _socket.socket:
    try:
        return launch.dial(str(station.socket))
    except Unusual:
        raise DaemonUnavailable(
            f"what listens at {station.socket} is not ours", hint=f"remove {station.socket}, or set AUTHSOME_HOME"
        ) from None


class _Starter:
    """Starts a worker that outlives this call. Its process can begin before it is known whom it is to serve.

    It reads that from its standard input; one that is not needed after all finds the end of it, and ends.
    """

    def __init__(self, home: Home, command: Sequence[str], environ: Mapping[str, str], notice: Notice | None) -> None:
        self._home, self._command = home, command
        self._kept = {
            name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
        }
        self._pipes: tuple[int, int] | None = None
        self.notice = notice
        """Told when this takes longer than a moment."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._pipes or ():
            os.close(descriptor)

    def begin(self) -> None:
        """Begin a process, in the background."""
        make_private_directory(self._home.proxy)
        log = open_private(_log_path(self._home), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        its_input, own_input = os.pipe()
        own_output, its_output = os.pipe()
        self._pipes = own_input, own_output
        try:
            detach.start(self._command, self._kept, stdin=its_input, stdout=its_output, stderr=log)
        finally:
            for descriptor in (log, its_input, its_output):
                os.close(descriptor)

    def start(self, station: Station) -> None:
        """Have it serve there, and wait until it can be found.

        Raises:
            AuthsomeError: it did not start; the class is that of the cause, if it could tell.
        """
        if self._pipes is None:
            self.begin()
        assert self._pipes is not None
        (own_input, own_output), self._pipes = self._pipes, None
        try:
            with os.fdopen(own_input, "wb") as pipe:
                pipe.write(station.to_json())
            said = _said(own_output, self.notice)
        except (OSError, ValueError) as error:
            raise DaemonUnavailable("the proxy did not start", hint=f"see {_log_path(station.home)}") from error
        finally:
            os.close(own_output)
        if b'"ready"' not in said:
            raise _error(said)


def _said(descriptor: int, notice: Notice | None) -> bytes:
    """Read the worker's one line."""
    waiting = _Waiting("starting the proxy", notice)
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], _POLL_SECONDS)[0]:
            waiting.tick()
            continue
        more = os.read(descriptor, _READY_LIMIT)
        if not more:
            raise ValueError("the worker ended")
        line += more
    return line


def _error(answer: bytes) -> Exception:
    """The error that a worker told."""
    try:
        said = json.loads(answer)
        return from_code(said["error"], said["message"], said["hint"])
    except (ValueError, KeyError, TypeError):
        return DaemonUnavailable("the proxy's answer is not understood")


@contextmanager
def _start_lock(station: Station, notice: Notice | None) -> Iterator[None]:
    """Hold the lock of whoever starts this worker."""
    path = station.lock
    try:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be opened: {reason_of(error)}") from error
    try:
        waiting = _Waiting("waiting for another authsome to start the proxy", notice)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting.tick()
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


class _Waiting:
    """A wait that tells the user about itself when it is no longer a moment, and does not last for ever."""

    def __init__(self, what: str, notice: Notice | None) -> None:
        self._what, self._notice = what, notice
        self._since = time.monotonic()

    def tick(self) -> None:
        """One round of a waiting loop; DaemonUnavailable when it has lasted too long."""
        waited = time.monotonic() - self._since
        if waited > _START_SECONDS:
            raise DaemonUnavailable("the proxy did not start in time", hint="see `authsome doctor`")
        if self._notice is not None and waited > _PATIENCE_SECONDS:
            self._notice(self._what)
            self._notice = None


def _log_path(home: Home) -> Path:
    return home.proxy / "proxy.log"


def _node_preload(settings: Settings) -> Path:
    """The preload script at a place that stays: an archive's own may move when it is replaced."""
    path = settings.home.proxy / _NODE_PRELOAD
    source = Path(__file__).with_name(_NODE_PRELOAD).read_bytes()
    try:
        current = path.read_bytes()
    except OSError:
        current = b""
    if current != source:
        write_private(path, source)
    return path
