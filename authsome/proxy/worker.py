"""The process that serves the children of all runs of one user, daemon and build.

The first `run` starts it, the following find it by its socket. A run is a lease: it begins with an assignment on the
socket, from the process that is about to become the command, and ends when that process does. Without runs for some
minutes, without its daemon or its place, or with its archive replaced, it leaves.

Rule: it holds runs' secrets and no identity's key. What it needs comes on standard input and on the socket, never by
argument or environment. When it is killed, the children are left without a network.
"""

import contextlib
import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authsome import archive, clock
from authsome.address import AddressPolicy
from authsome.client import supervisor
from authsome.client.wire import origin_of
from authsome.errors import AuthsomeError, StorageFailed, UsageError, reason_of
from authsome.home import Home, open_private, read_config, read_private
from authsome.outbound import outbound_from
from authsome.proxy import bundles, engines, hardening, log, peer, watch
from authsome.proxy.assignment import LIMIT, assignment_from_json
from authsome.proxy.broker import Broker, Line
from authsome.proxy.changes import Changes
from authsome.proxy.ends import Ends
from authsome.proxy.engine import BACKLOG
from authsome.proxy.shelf import Shelf
from authsome.proxy.spool import Teller
from authsome.proxy.station import Station, station_from_json
from authsome.proxy.tenancy import TUNNEL_POLICY, Ground, Tenancy, Tenants

if TYPE_CHECKING:
    from authsome.proxy.watch import Watch

logger = logging.getLogger(__name__)

IDLE_MINUTES: Final = 10.0
"""How long a worker stays without runs, unless `proxy.idle_minutes` in config.json says otherwise."""
_LOOK_SECONDS: Final = 60.0  # how often an idle worker looks whether it is still wanted
_ASSIGN_SECONDS: Final = 90.0  # a caller connects, and then asks the daemon, which may take it 30 to start
_SHORTEST_SECONDS: Final = 0.1  # between two looks
_DOUBT_SECONDS: Final = 0.2  # until the next look, while somebody may be about to need a worker that would leave
_RETRY_SECONDS: Final = 15.0  # how soon a daemon that could not be told of a run's end is told again
_PROBE_SECONDS: Final = 0.2  # a worker that lives takes a connection at once


def main(*, tunnel_policy: AddressPolicy = TUNNEL_POLICY, full_command: Sequence[str] = ()) -> int:
    """Serve until nobody needs it, which ends this process; returns the exit status when it cannot serve.

    Args:
        tunnel_policy: what a tunnel may reach.
        full_command: what starts the full engine's process, where it is not this build's own.
    """
    hardening.harden()
    line = sys.stdin.buffer.readline()
    if not line:  # started early, and not needed after all
        return 0
    try:
        station = station_from_json(line)
    except UsageError as error:
        sys.stderr.write(f"authsome: error: {error.message}\n")
        return UsageError.exit_status
    handler = log.install(station.home)
    try:
        Worker(station, tunnel_policy, full_command).serve()
    except AuthsomeError as error:
        logger.error("%s", error.message)  # noqa: TRY400  # said in full
        os.write(1, _told(error))
        return error.exit_status
    except Exception:
        logger.exception("the worker failed")
        return AuthsomeError.exit_status
    finally:
        handler.close()
    return 0


class Worker:
    """The worker's own affairs, in the main thread; the engine and the daemon's answers are waited for in others."""

    def __init__(self, station: Station, tunnel_policy: AddressPolicy, full_command: Sequence[str]) -> None:
        self._station = station
        self._tunnel_policy = tunnel_policy
        self._full_command = full_command
        self._idle_seconds = idle_minutes(station.home) * 60
        self._engine_choice = engines.choice(station.home)
        guard = supervisor.guard(station.home, station.daemon_url) if station.is_supervised else None
        self._line = Line(station.daemon_url, guard=guard, ca_bundle=station.extra_roots)
        self._tenants = Tenants(own_ports=_daemon_ports(station.daemon_url))
        self._authority = read_private(bundles.authority_path(station.home))
        self._selector = selectors.DefaultSelector()
        self._callers: dict[socket.socket, _Caller] = {}
        self._runs: dict[str, Watch] = {}
        self._brokers: dict[str, Broker] = {}
        self._inside: dict[str, str] = {}
        """The run that a run was begun in, with which it ends."""
        self._daemon: Watch | None = None
        self._ends = Ends()
        self._changes = Changes(station.home) if station.is_supervised else None
        self._teller = Teller()
        self._is_told_to_leave = False
        self._is_in_doubt = False
        self._idle_since = time.monotonic()
        self._place: tuple[int, int] | None = None
        self._build_file = _build_file()
        self._control = self._claim()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._port: int = self._listener.getsockname()[1]
        self._tenants.reserve(self._port)

    def serve(self) -> None:
        """Serve, and end this process."""
        waker, woken = socket.socketpair()
        for end in (waker, woken):
            end.settimeout(0)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._leave_soon)
        self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(64))
        self._selector.register(self._control, selectors.EVENT_READ, self._accept)
        self._watch_daemon()
        os.write(1, b'{"ready": true}\n')
        hardening.leave_standard_streams()
        logger.info("listening on port %d", self._port)
        threading.Thread(target=self._start_engine, name="engine", daemon=True).start()
        threading.Thread(target=self._ends.tell, name="ends", daemon=True).start()
        threading.Thread(target=self._teller.run, name="teller", daemon=True).start()
        while not self._is_told_to_leave:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._look()
        self._leave()

    def _claim(self) -> socket.socket:
        """Take our place, that of a dead one before us included: whoever starts us holds the lock."""
        path = self._station.socket
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _sweep(path)
            control.bind(str(path))
            path.chmod(0o600)
            status = path.lstat()
        except OSError as error:
            raise StorageFailed(f"{path} cannot be made: {reason_of(error)}") from error
        control.listen(BACKLOG)
        control.settimeout(0)
        self._place = (status.st_dev, status.st_ino)
        return control

    # ---- the engine, which takes its time to import: whoever is assigned meanwhile waits in the backlog

    def _start_engine(self) -> None:
        try:
            from authsome.proxy.authority import Issuer, load  # noqa: PLC0415  # cryptography's X.509

            engine = engines.engine(
                self._engine_choice,
                self._tenants,
                Issuer(load(self._authority)),
                clock=clock.now,
                home=self._station.home,
                full_command=self._full_command,
            )
            engine.listen(self._listener)
        except Exception:
            if self._is_told_to_leave:  # which closes what it was to listen on
                return
            logger.exception("the engine did not start")
            self._remove_socket()
            os._exit(AuthsomeError.exit_status)  # the children's connections are refused, and the next run starts anew

    # ---- runs

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._control.accept()
            user, pid = peer.user_and_process(connection)
            if user != os.geteuid():
                connection.close()
                return
            connection.settimeout(0)
            self._callers[connection] = _Caller(pid, time.monotonic() + _ASSIGN_SECONDS)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        """Read of a caller's line what there is."""
        caller = self._callers[connection]
        try:
            more = connection.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        caller.said += more
        if more and not caller.said.endswith(b"\n") and len(caller.said) <= LIMIT:
            return
        try:
            if caller.said.endswith(b"\n"):
                self._answer(connection, caller)
        finally:
            self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._callers[connection]
        connection.close()
        self._idle_since = time.monotonic()

    def _answer(self, connection: socket.socket, caller: "_Caller") -> None:
        run = ""
        try:
            run = self._assign(bytes(caller.said), caller.pid)
            answer = b"port %d\n" % self._port
        except ProcessLookupError:
            return
        except AuthsomeError as error:
            answer = _told(error)
        except Exception:
            logger.exception("a run could not be assigned")
            answer = _told(AuthsomeError("the proxy failed", hint="see `authsome doctor`"))
        try:
            connection.sendall(answer)  # a line, which a socket's buffer takes at once
        except OSError:
            if run:
                self._over(run)  # nobody is there to become its child

    def _assign(self, line: bytes, pid: int) -> str:
        """Serve a run until that process ends; returns its name."""
        assignment = assignment_from_json(line)
        lease, trust = assignment.lease, assignment.upstream_roots
        outbound = outbound_from({"https_proxy": assignment.https_proxy, "no_proxy": assignment.no_proxy})
        outer = self._tenants.find(assignment.inside)
        if outer is not None:  # whose child's environment names that run's proxy and roots, and not the user's own
            lease, trust, outbound = lease.within(outer.lease), outer.trust, outer.outbound
        run = lease.run
        process = watch.begin(pid)
        broker = self._brokers.get(run) or Broker(self._line, lease, self._shelf())
        tenancy = Tenancy(
            Ground(
                lease=lease,
                table=assignment.table,
                source=broker,
                trust=trust,
                outbound=outbound,
                tunnel_policy=self._tunnel_policy,
            )
        )
        self._end(run)  # assigned once more, by a caller that did not hear the answer
        self._tenants.add(tenancy)
        self._runs[run], self._brokers[run] = process, broker
        if outer is not None:
            self._inside[run] = outer.lease.run
        if process.fileno() >= 0:
            self._selector.register(process, selectors.EVENT_READ, lambda: self._over(run))
        self._watch_daemon()
        logger.info("run %s: begun", run)
        return run

    def _shelf(self) -> Shelf | None:
        """What a run keeps: nothing where the daemon is not one that shares our home and tells of changes."""
        if self._changes is None:
            return None
        return Shelf(self._station.home.spool, self._changes, self._teller)

    def _over(self, run: str) -> None:
        """A run's process has ended, and with it what was begun in the run."""
        for inner in [each for each, outer in self._inside.items() if outer == run]:
            self._over(inner)
        logger.info("run %s: ended", run)
        self._end(run)
        if (broker := self._brokers.pop(run, None)) is not None:
            self._ends.put(broker)

    def _end(self, run: str) -> None:
        """End a run here: its credential is dead when this returns, and its connections are closed."""
        process = self._runs.pop(run, None)
        self._inside.pop(run, None)
        if process is not None:
            if process.fileno() >= 0:
                self._selector.unregister(process)
            process.close()
        self._idle_since = time.monotonic()
        self._tenants.end(run)

    # ---- whether it is still wanted

    def _patience(self) -> float | None:
        """How long to wait for something to happen, in seconds."""
        waits = [_LOOK_SECONDS]
        if any(process.fileno() < 0 for process in self._runs.values()):
            waits.append(watch.POLL_SECONDS)
        if self._is_in_doubt:
            waits.append(_DOUBT_SECONDS)
        if not self._runs:
            waits.append(max(self._idle_since + self._idle_seconds - time.monotonic(), _SHORTEST_SECONDS))
        return min(waits)

    def _look(self) -> None:
        """See to what no descriptor tells of."""
        now = time.monotonic()
        for run in [run for run, process in self._runs.items() if process.fileno() < 0 and process.is_over()]:
            self._over(run)
        if self._daemon is not None and self._daemon.fileno() < 0 and self._daemon.is_over():
            self._daemon_ended()
        for connection in [each for each, caller in self._callers.items() if now > caller.deadline]:
            self._hang_up(connection)
        if self._runs or self._callers:
            return
        if now - self._idle_since >= self._idle_seconds or not self._is_wanted():
            self._retire()

    def _is_wanted(self) -> bool:
        """Whether a run of now could find us, and would."""
        if _place_of(self._station.socket) != self._place or _build_file() != self._build_file:
            return False
        return not self._station.is_supervised or self._daemon is not None

    def _watch_daemon(self) -> None:
        """Wait for the end of our home's daemon."""
        if self._station.is_supervised and self._daemon is None:
            state = supervisor.running(self._station.home)
            if state is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._daemon = watch.begin(state.pid)
                    if self._daemon.fileno() >= 0:
                        self._selector.register(self._daemon, selectors.EVENT_READ, self._daemon_ended)

    def _daemon_ended(self) -> None:
        assert self._daemon is not None
        if self._daemon.fileno() >= 0:
            self._selector.unregister(self._daemon)
        self._daemon.close()
        self._daemon = None
        self._watch_daemon()  # another may have taken its place

    def _retire(self) -> None:
        """Leave, unless somebody is just about to need us."""
        try:
            lock = open_private(self._station.lock, os.O_RDWR)
        except (OSError, AuthsomeError):
            self._is_told_to_leave = True  # the home is gone
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_socket()
            self._accept()
            # Whoever found the socket before it went is served; the next run has a worker of its own.
            self._is_told_to_leave = not self._callers
            self._is_in_doubt = False
        except BlockingIOError:
            # somebody is looking for a worker, of this home or of another that shares the directory
            self._is_in_doubt = True
        finally:
            os.close(lock)

    def _leave_soon(self, *_: object) -> None:
        self._is_told_to_leave = True

    def _leave(self) -> None:
        """End all runs, tell the daemon, and end this process."""
        self._remove_socket()
        self._listener.close()
        if self._changes is not None:
            self._changes.close()
        for tenancy in self._tenants.end_all():
            logger.info("run %s: ended with its proxy", tenancy.lease.run)
            self._ends.put(self._brokers.pop(tenancy.lease.run))
        if not self._station.is_supervised or self._daemon is not None:  # one that has ended has forgotten all runs
            self._ends.finish()
        logger.info("left")
        # Threads may still wait for a slow daemon or name server; the secrets in this memory do not wait for them.
        os._exit(0)

    def _remove_socket(self) -> None:
        with contextlib.suppress(OSError):
            if _place_of(self._station.socket) == self._place:
                self._station.socket.unlink()


class _Caller:
    """Somebody who is about to assign a run."""

    def __init__(self, pid: int, deadline: float) -> None:
        self.pid = pid
        self.deadline = deadline
        self.said = bytearray()


def idle_minutes(home: Home) -> float:
    """How long a worker stays without runs: `proxy.idle_minutes` in config.json.

    Raises:
        UsageError: it is no number of minutes.
    """
    section = read_config(home).get("proxy", {})
    minutes = section.get("idle_minutes", IDLE_MINUTES) if isinstance(section, dict) else None
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 <= minutes <= 7 * 24 * 60:
        raise UsageError(f'"proxy" in {home.config} is not understood', hint='as in {"proxy": {"idle_minutes": 10}}')
    return float(minutes)


def _told(error: AuthsomeError) -> bytes:
    """An error for whoever waits for an answer."""
    return json.dumps(error.to_json()).encode() + b"\n"


def _daemon_ports(url: str) -> frozenset[int]:
    origin = origin_of(url)
    return frozenset({origin.port}) if origin.is_loopback else frozenset()


def _sweep(own: Path) -> None:
    """Take away the sockets of workers that were killed, our own predecessor's first."""
    own.unlink(missing_ok=True)
    for path in own.parent.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_SECONDS)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                pass


def _place_of(path: Path) -> tuple[int, int] | None:
    """Which file it is that stands there."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _build_file() -> tuple[int, int, int] | None:
    """Which file this program runs from; another answer later means that it has been replaced."""
    path = archive.archive_path()
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
