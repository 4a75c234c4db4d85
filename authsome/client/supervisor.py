"""The daemon's life as the client sees it: is it there, is it ours, start it, stop it.

Rule 1: a daemon is ours exactly when it holds the lock in our home. What answers on the port may be anybody, and no
proof, key or bootstrap secret is ever sent to it on that account.

Rule 2: one client starts it, under a lock; the others wait for that one.
"""

import fcntl
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from authsome import __version__, archive
from authsome.client import detach, wire
from authsome.errors import DaemonUnavailable, StorageFailed, UnsafeFile, UsageError, from_code, reason_of
from authsome.home import (
    SECRET_VARIABLES,
    Home,
    Settings,
    make_private_directory,
    open_private,
    read_private,
)
from authsome.message import json_object

Notice = Callable[[str], None]
"""Tells the user what is being waited for."""

SERVE: Final = ("daemon", "serve", "--supervised")
MASTER_KEY_ON_STDIN: Final = "--master-key-stdin"

_PATIENCE: Final = 0.3  # seconds until a wait is worth a word (a warm start takes 150 ms)
_START_LIMIT: Final = 30.0  # seconds; Argon2id takes 0.1, an integrity check of a large vault a few
_STOP_LIMIT: Final = 15.0  # seconds; the daemon drains for at most 5
_EXIT_LIMIT: Final = 10.0  # seconds, after the last thing that matters was done
_UNSEEN_EXIT_LIMIT: Final = 1.0  # where an end that nobody reaps cannot be told from a process that lives
_POLL: Final = 0.01
_KEPT: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"),
        *("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "PYTHON_KEYRING_BACKEND"),  # the OS keyring
        *("LD_LIBRARY_PATH", "SYSTEMROOT"),
    }
)
_OUTBOUND: Final = frozenset({"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"})
_RUN_VARIABLE: Final = "AUTHSOME_RUN"


class DaemonState(NamedTuple):
    """A running daemon of ours."""

    pid: int
    url: str
    version: str
    build: str
    archive: str | None
    """The file it runs from; None for a checkout or an installed package."""


def guard(home: Home, url: str) -> Callable[[], None]:
    """What a connection to our own daemon is checked by: that whoever holds our home listens there."""

    def check() -> None:
        state = running(home)
        if state is None or state.url != url:
            raise DaemonUnavailable(f"no daemon of {home.root} listens at {url}", hint="the next command starts it")

    return check


def running(home: Home) -> DaemonState | None:
    """The daemon that holds this home, once it is ready; None when there is none.

    Raises:
        UnsafeFile: the lock or the state file is not private.
    """
    pid = _holder(home)
    found = _recorded(home) if pid is not None else None
    # Left behind by a killed daemon while the next one is starting: its port may be a stranger's by now.
    return found if found is not None and found.pid == pid else None


def last_url(home: Home) -> str | None:
    """Where this home's daemon listened when it was last heard of, if it ended without a word."""
    found = _recorded(home)
    return found.url if found is not None else None


def ensure_running(
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    notice: Notice | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> DaemonState:
    """The daemon of this home; started first when there is none, or when its archive has been replaced.

    Args:
        settings: whose home, and where to listen.
        environ: the caller's environment; what the daemon needs of it is handed on.
        notice: told when this takes longer than a moment.
        meanwhile: called if a daemon is started here, while it gets ready.

    Raises:
        AuthsomeError: the daemon could not start; the class is that of the cause.
    """
    state = running(settings.home)
    if state is None or _outdated(state):
        with start_lock(settings.home, notice):
            state = running(settings.home) or _await_other(settings.home)
            if state is not None and _outdated(state):
                stop(settings.home, notice=notice)
                state = None
            if state is None:
                state = _start(settings, environ or {}, notice, meanwhile)
    if state.version != __version__:
        raise DaemonUnavailable(
            f"the running daemon is version {state.version}, this is {__version__}",
            hint="`authsome daemon restart` puts this version in its place",
        )
    return state


def stop(home: Home, *, notice: Notice | None = None) -> bool:
    """Ask the daemon to end and wait until it has; False when none ran.

    Raises:
        DaemonUnavailable: it does not end.
    """
    pid = _holder(home)
    if pid is None:
        return False
    if not pid:
        raise DaemonUnavailable(f"a daemon holds {home.root}, but does not say which process it is")
    import signal  # noqa: PLC0415  # its enumerations take as long as the rest of this module

    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    waiting = _Waiting("waiting for the daemon to finish what it is doing", notice)
    deadline = time.monotonic() + _STOP_LIMIT
    while _holder(home) == pid:
        if time.monotonic() > deadline:
            raise DaemonUnavailable(f"the daemon (process {pid}) does not end", hint=f"end it with: kill -9 {pid}")
        waiting.tick()
    _wait_for_exit(pid)
    return True


def _wait_for_exit(pid: int) -> None:
    """Wait until a process that let go of the home has ended, though nobody may be there to reap it."""
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:
            pass  # an old kernel, or a sandbox
        else:
            try:
                select.select([descriptor], [], [], _EXIT_LIMIT)
            finally:
                os.close(descriptor)
            return
    deadline = time.monotonic() + _UNSEEN_EXIT_LIMIT
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(_POLL)


def wait_for_end(home: Home, pid: int) -> bool:
    """Wait for a daemon that no longer listens to let go of the home; False when it does not."""
    deadline = time.monotonic() + _STOP_LIMIT
    while _holder(home) == pid:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


@contextmanager
def start_lock(home: Home, notice: Notice | None = None) -> Iterator[None]:
    """Hold the lock of whoever starts a daemon or makes the first identity, making the home first.

    Raises:
        UnsafeFile: the home is not ours alone.
        StorageFailed: it cannot be written.
    """
    make_private_directory(home.root)
    make_private_directory(home.server)
    try:
        descriptor = open_private(home.start_lock, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StorageFailed(f"{home.start_lock} cannot be opened: {reason_of(error)}") from error
    try:
        waiting = _Waiting("waiting for another authsome to start the daemon", notice)
        while not _take(descriptor, fcntl.LOCK_EX):
            waiting.tick()
        yield
    finally:
        os.close(descriptor)


def daemon_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """What the daemon gets of the caller's environment: what it reads, and nothing that is a secret.

    From inside a run, what the run set up for its child (proxy, certificates) is left out.
    """
    outbound = frozenset() if _RUN_VARIABLE in environ else _OUTBOUND
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT
        or name in outbound
        or name.startswith(("LC_", "XDG_"))
        or (name.startswith("AUTHSOME_") and name not in SECRET_VARIABLES and not name.startswith(_RUN_VARIABLE))
    }
    host, port = listener(settings)
    kept |= {"AUTHSOME_HOME": str(settings.home.root), "AUTHSOME_HOST": host, "AUTHSOME_PORT": str(port)}
    # Its working directory is another one, so paths are handed on as absolute ones.
    for name, path in (
        ("AUTHSOME_MASTER_KEY_FILE", settings.master_key_file),
        ("AUTHSOME_CA_BUNDLE", settings.ca_bundle),
    ):
        if path is not None:
            kept[name] = str(path)
    return kept


def listener(settings: Settings) -> tuple[str, int]:
    """Where a daemon that we start is to listen: at AUTHSOME_DAEMON_URL when that is given."""
    if settings.daemon_url is None:
        return settings.host, settings.port
    origin = wire.origin_of(settings.daemon_url)
    return origin.host, origin.port


def may_start(settings: Settings) -> bool:
    """Whether the daemon that is meant is one that we may start: on this machine, plain http.

    Raises:
        UsageError: AUTHSOME_DAEMON_URL is plain http to another machine.
    """
    if settings.daemon_url is None:
        return True
    origin = wire.origin_of(settings.daemon_url)
    if not origin.is_loopback and not origin.secure:
        raise UsageError(
            f"AUTHSOME_DAEMON_URL is plain http to another machine ({origin.host})", hint="use an https:// URL"
        )
    return origin.is_loopback and not origin.secure


def last_words(home: Home) -> str | None:
    """The last line of the daemon's log that says anything, without its timestamp."""
    try:
        lines = read_private(home.daemon_log).decode("utf-8", "replace").splitlines()
    except (OSError, UnsafeFile):
        return None
    meaningful = [line.strip() for line in lines[-50:] if line.strip() and not line.startswith((" ", "Traceback"))]
    errors = [line.rpartition("error: ")[2] for line in meaningful if "error: " in line]
    return next(reversed(errors or meaningful), None)


def _start(
    settings: Settings, environ: Mapping[str, str], notice: Notice | None, meanwhile: Callable[[], None] | None
) -> DaemonState:
    home = settings.home
    command = [*archive.launch_command(), *SERVE]
    if settings.master_key is not None:
        command.append(MASTER_KEY_ON_STDIN)
    log = _open_log(home)
    ready, report = os.pipe()
    given = _key_pipe(settings)
    try:
        detach.start(command, daemon_environment(settings, environ), stdin=given, stdout=report, stderr=log)
    finally:
        for descriptor in (given, report, log):
            os.close(descriptor)
    try:
        if meanwhile is not None:
            meanwhile()
        line = _read_report(ready, _Waiting("starting the daemon", notice))
    finally:
        os.close(ready)
    try:
        answer = json_object(line)
    except ValueError:
        said = last_words(home)
        raise DaemonUnavailable(
            f"the daemon could not be started{': ' + said if said else ''}", hint="see `authsome daemon logs`"
        ) from None
    if "error" in answer:
        hint = answer.get("hint")
        raise from_code(str(answer["error"]), str(answer.get("message", "")), str(hint) if hint else None)
    state = running(home)
    if state is None:
        raise DaemonUnavailable("the daemon started and ended at once", hint="see `authsome daemon logs`")
    return state


def _key_pipe(settings: Settings) -> int:
    """The daemon's standard input: the master key from our environment, or nothing."""
    if settings.master_key is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    reader, writer = os.pipe()
    try:
        os.write(writer, settings.master_key.reveal())  # 32 bytes: a pipe takes them at once
    finally:
        os.close(writer)
    return reader


def _open_log(home: Home) -> int:
    try:
        return open_private(home.daemon_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise StorageFailed(f"{home.daemon_log} cannot be written: {reason_of(error)}") from error


def _read_report(descriptor: int, waiting: "_Waiting") -> bytes:
    deadline = time.monotonic() + _START_LIMIT
    data = b""
    while not data.endswith(b"\n"):
        if time.monotonic() > deadline:
            raise DaemonUnavailable(f"the daemon was not ready within {_START_LIMIT:.0f} s")
        if not select.select([descriptor], [], [], 0.05)[0]:
            waiting.tick()
            continue
        more = os.read(descriptor, 4096)
        if not more:
            break
        data += more
    return data


def _await_other(home: Home) -> DaemonState | None:
    """The daemon that holds the home and is not ready yet (started by hand), or is about to end."""
    deadline = time.monotonic() + _START_LIMIT
    while _holder(home) is not None:
        if (state := running(home)) is not None:
            return state
        if time.monotonic() > deadline:
            raise DaemonUnavailable(f"a daemon holds {home.root}, but does not get ready")
        time.sleep(_POLL)
    return None


def _recorded(home: Home) -> DaemonState | None:
    """What a daemon of this home wrote of itself, this one or an earlier one."""
    try:
        state = json_object(read_private(home.daemon_state))
    except (FileNotFoundError, ValueError):
        return None
    return DaemonState(
        pid=state["pid"] if isinstance(state.get("pid"), int) else 0,  # type: ignore[arg-type]
        url=str(state.get("url", "")),
        version=str(state.get("version", "")),
        build=str(state.get("build", "")),
        archive=str(state["archive"]) if state.get("archive") else None,
    )


def _holder(home: Home) -> int | None:
    """The process that holds the home's lock: None for nobody, 0 when it has not written its number yet."""
    try:
        descriptor = open_private(home.daemon_lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        if _take(descriptor, fcntl.LOCK_SH):
            return None
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _outdated(state: DaemonState) -> bool:
    """Whether the daemon runs from the very file that we run from, but from what that file was before."""
    path = archive.archive_path()
    return path is not None and state.archive == str(path) and state.build != archive.build_id()


class _Waiting:
    """A wait that tells the user about itself when it is no longer a moment."""

    def __init__(self, what: str, notice: Notice | None) -> None:
        self._what, self._notice = what, notice
        self._since = time.monotonic()

    def tick(self) -> None:
        """One round of a waiting loop."""
        if self._notice is not None and time.monotonic() - self._since > _PATIENCE:
            self._notice(self._what)
            self._notice = None
        time.sleep(_POLL)
