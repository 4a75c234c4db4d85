"""The HTTP server: connections, deadlines and limits around one function from request to response.

Rule: nothing a client sends, or does not send, costs more than one of a bounded number of threads for a bounded
time. A connection that waits for a request may be closed at any moment, and its request is then not begun; one whose
request has begun is never closed before its answer.

A connection has no thread of its own: a few workers serve whichever has something to say, and whoever would make them
wait is served aside (`workers`, docs/decisions/0013-few-workers.md).
"""

import errno
import logging
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from socketserver import TCPServer, ThreadingMixIn
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from authsome import clock
from authsome.daemon import head, messages
from authsome.daemon.forwarding import Forwarding, is_local
from authsome.daemon.head import Head, Refused
from authsome.daemon.messages import Request, Response, Taker
from authsome.daemon.peers import Peers
from authsome.daemon.readiness import MOST, Readiness
from authsome.daemon.workers import Workers
from authsome.errors import (
    AuthsomeError,
    DaemonBusy,
    DaemonUnavailable,
    NotAllowed,
    RequestInvalid,
    RequestTooLarge,
    reason_of,
)

Handle = Callable[[Request], Response]


class Group(Protocol):
    """Requests that are cheaper to answer together than one by one."""

    def begin(self, request: Request) -> object | None:
        """What `carry_out` takes for this request; None, or an error of ours: it is to be answered by itself."""

    def carry_out(self, begun: Sequence[Any]) -> Sequence[Response | Handle]:
        """The answers, in order: each one itself, or what makes it of its request and may take long."""


BACKLOG: Final = 512  # connections the kernel keeps for us; 64 clients at once overran the default of 5
STACK: Final = 2 * 1024 * 1024
"""Bytes of address space, not memory; CPython 3.13's JSON parser needs 1.3 MiB at its limit."""
_RECEIVE: Final = 64 * 1024  # bytes a read
_NEVER: Final = float("inf")
_LINGER: Final = timedelta(seconds=1)  # to read what a refused client still sends, lest a reset destroys the answer
_MAKE_ROOM: Final = 1.0  # seconds until an evicted connection has surely been closed
_WORKERS_END: Final = 1.0  # seconds until workers that have nothing to do have surely ended
_PAUSE: Final = 0.1  # seconds between attempts to accept when there are no descriptors left
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_LOCAL_NAMES: Final = MappingProxyType(
    {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # what one calls those from here
)
"""Wildcards, and a name of this machine that leads there."""

_log: Final = logging.getLogger("authsome.daemon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may take; a long poll's handler is not bounded here."""

    connections: int = 256
    """Connections at most, and so threads; also at most half of the process's file descriptors, which the vault and
    providers need too."""
    head: timedelta = timedelta(seconds=10)
    """From a head's first byte to its end, and from a new connection to its first byte."""
    idle: timedelta = timedelta(seconds=60)
    """Between an answer and the next request."""
    body: timedelta = timedelta(seconds=20)
    """From the end of the head to the end of the body."""
    write: timedelta = timedelta(seconds=20)
    """For an answer to be taken."""


def own_origins(host: str, port: int, base_url: str | None) -> Mapping[str, str]:
    """The values of Host that are ours, each with the origin it means (RFC 6454).

    Args:
        host: the listener's address; a wildcard is not a name of ours.
        port: the listener's port.
        base_url: the URL that the daemon advertises, if it is another.
    """
    names = {"127.0.0.1", "localhost", "[::1]"}
    if host not in _LOCAL_NAMES:
        names.add(f"[{host}]" if ":" in host else host.lower())
    origins: dict[str, str] = {}
    for name in names:
        origins.update(_spellings("http", name, port))
    if base_url is not None:
        origins.update(_spellings_of(base_url))
    return MappingProxyType(origins)


def origin_of(url: str) -> str:
    """The origin of a URL of ours (RFC 6454)."""
    return next(iter(_spellings_of(url).values()))


def _spellings_of(url: str) -> Mapping[str, str]:
    parts = urlsplit(url)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return _spellings(parts.scheme, name, parts.port or _default_port(parts.scheme))


class Server(ThreadingMixIn, TCPServer):
    """Listens from its creation; answers once `serve` is called, so that clients of a starting daemon just wait.

    `begin_stop` may be called from anywhere, a handler or a signal handler included; `stop` by whoever waits for the
    end.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG
    allow_reuse_address = True
    allow_reuse_port = False  # newer versions of Python may say True: two daemons would then share the port

    def __init__(  # noqa: PLR0913  # what a listener is, and what it lets in
        self,
        host: str,
        port: int,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        peers: Peers | None = None,
        forwarding: Forwarding | None = None,
        now: clock.Clock = clock.now,
    ) -> None:
        """Bind the listener.

        Args:
            host: its address.
            port: its port.
            base_url: the URL that the daemon advertises, if it is another.
            limits: what a client may take.
            peers: which users of this machine may connect; all of them without it.
            forwarding: the proxies before it; none without it.
            now: the clock.

        Raises:
            DaemonUnavailable: something else holds the port, or the address is not this machine's.
        """
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.limits = limits or Limits()
        self.stopping = threading.Event()
        self._now = now
        self._peers = peers
        self.forwarding = forwarding or Forwarding()
        self._handle: Handle = _not_ready
        self._cap = _connection_cap(self.limits)
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._waiting: dict[socket.socket, float] = {}  # until when; in the order in which they began to wait
        self._conversations: dict[int, _Conversation] = {}  # by descriptor
        self._sweep_at = _NEVER
        self._ready = Readiness()
        self._turn: deque[_Conversation] = deque()  # what has something to say, for whichever worker is free
        self._group: Group | None = None
        self._workers = Workers(self._next_work, is_left=lambda: bool(self._turn))
        self._accepting = threading.Event()
        self._date = (0, "")
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.settimeout(0)
        try:
            super().__init__((host, port), _Conversation)  # type: ignore[arg-type]  # begun, not run, by its creation
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        self.socket.settimeout(0)  # a client may vanish between the wait and the accept
        self.server_port: int = self.server_address[1]
        name = _LOCAL_NAMES.get(host, f"[{host}]" if ":" in host else host)
        self.url: str = next(iter(_spellings("http", name, self.server_port).values()))
        self.origins: Mapping[str, str] = own_origins(host, self.server_port, base_url)
        self.public: str | None = None if base_url is None else origin_of(base_url)
        self.is_secure = base_url is not None and base_url.startswith("https:")

    def serve(self, handle: Handle) -> None:
        """Answer requests until `begin_stop`."""
        self.start(handle)
        self.serve_forever()

    def start(self, handle: Handle) -> None:
        """Start what answers requests, once `serve_forever` accepts them.

        Sets the process's stack size for new threads.
        """
        self._handle = handle
        threading.stack_size(STACK)
        self._workers.start()
        self._accepting.set()  # not by `serve_forever`: who stops waits for its end, even if it has yet to begin

    def answer_together(self, group: "Group") -> None:
        """From now on have requests that come at the same time answered together, where that can be."""
        self._group = group

    def serve_forever(self, poll_interval: float | None = None) -> None:
        """Accept connections until `begin_stop`; without any, nothing wakes up in between."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.socket, selectors.EVENT_READ)
                selector.register(self._wake_reader, selectors.EVENT_READ)
                while not self.stopping.is_set():
                    left = self._sweep()
                    ready = [key.fileobj for key, _ in selector.select(poll_interval if left == _NEVER else left)]
                    if self._wake_reader in ready:
                        self.stopping.set()
                    elif ready:
                        self._accept()
        finally:
            self._accepting.clear()
            with self._changed:
                self._changed.notify_all()

    def begin_stop(self) -> None:
        """Take no new requests, and tell those in progress; returns at once.

        Takes no lock, as a signal handler may interrupt whoever holds one.
        """
        with suppress(OSError):
            self._wake_writer.send(b"\0")

    @property
    def wake_descriptor(self) -> int:
        """Whatever is written to it begins the stop."""
        return self._wake_writer.fileno()

    def stop(self, drain: timedelta) -> int:
        """Stop: close what waits, let the requests in progress end, close the listener.

        Args:
            drain: how long requests in progress may still take.

        Returns:
            The number of requests that did not end in time, and were cut off.
        """
        self.begin_stop()
        self.stopping.set()
        with self._changed:
            while self._evict():
                pass
            self._changed.wait_for(
                lambda: not self._connections and not self._accepting.is_set(), drain.total_seconds()
            )
            abandoned = tuple(self._connections)
            for connection in abandoned:
                _hang_up(connection)
        self.server_close()
        return len(abandoned)

    @property
    def most_streams(self) -> int:
        """How many connections may be handed over: as many again are left for requests."""
        return self._cap // 2

    def server_close(self) -> None:
        """Close the listener, and let the workers end; once is enough."""
        if self._ready.closed:
            return
        super().server_close()
        if self._peers is not None:
            self._peers.close()
        self.stopping.set()
        with suppress(OSError):
            self._wake_writer.send(b"\0")
        self._ready.watch_always(self._wake_reader.fileno())  # not before: a stopping server still closes what waits
        self._workers.end(_WORKERS_END)
        self._ready.close()
        self._wake_writer.close()
        self._wake_reader.close()

    def answer(self, request: Request, handle: Handle | None = None) -> Response:
        """The response to a request, whatever happens on the way to it."""
        try:
            return (handle or self._handle)(request)
        except AuthsomeError as error:
            return messages.problem(error)
        except Exception:  # noqa: BLE001  # the request handler's last line: the client gets no more than `unexpected`
            _log.exception("unexpected error")
            return messages.problem(AuthsomeError())

    def date(self) -> str:
        """The Date header's value (RFC 9110 §5.6.7), made once a second."""
        moment = self._now()
        second = int(moment.timestamp())
        made_for, text = self._date
        if made_for != second:
            text = _http_date(moment)
            self._date = (second, text)
        return text

    def begin_waiting(self, connection: socket.socket, patience: timedelta) -> bool:
        """Note that the connection waits for a request from now on; False if it must close instead."""
        # No lock: one step of a dict is whole by itself. Whoever stops says so first and then evicts what waits.
        self._waiting[connection] = time.monotonic() + patience.total_seconds()
        return not self.stopping.is_set()

    def wake_for(self, connection: socket.socket) -> None:
        """Let a worker go on with a connection that waits, once it has something to say."""
        self._ready.watch(connection.fileno())

    def wait_aside(self, connection: socket.socket) -> None:
        """Let the calling thread itself wait for the rest of a request, by its own deadlines.

        Raises:
            EOFError: the connection was given up meanwhile.
        """
        with self._changed:  # which whoever gives up connections holds
            if connection not in self._waiting:
                raise EOFError
            self._waiting[connection] = _NEVER
        self._workers.step_aside()

    def end_waiting(self, connection: socket.socket) -> bool:
        """Note that a whole request has come; False if the connection was given up meanwhile."""
        return self._waiting.pop(connection, None) is not None

    def hand_over(self, connection: socket.socket, taker: Taker) -> None:
        """Let somebody else go on with a connection; it keeps its place until they close it."""
        self._conversations.pop(connection.fileno(), None)
        taker(connection, lambda: self.shutdown_request(connection))

    def step_aside(self) -> None:
        """Let others serve while the calling thread blocks, if it is one of ours."""
        self._workers.step_aside()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Begin a conversation, to be gone on with when it has something to say; or say that there are too many.

        Raises:
            OSError, MemoryError: there is no room for it.
        """
        if self._admit(request):
            request.settimeout(None)
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._conversations[request.fileno()] = _Conversation(request, client_address, self, self._why_not(request))
            self._ready.add(request.fileno())
            return
        if not self.stopping.is_set():
            busy = messages.problem(DaemonBusy()).to_bytes(
                date=self.date(), keeps_alive=False, is_secure=self.is_secure
            )
            with suppress(OSError):
                request.settimeout(0)
                request.send(busy)
                request.shutdown(socket.SHUT_WR)
                request.recv(_RECEIVE)  # what has come already would turn our close into a reset
        self.shutdown_request(request)

    def _why_not(self, connection: socket.socket) -> AuthsomeError | None:
        """Why whatever is asked on a connection is refused; None: it is not."""
        try:
            theirs, ours = connection.getpeername()[0], connection.getsockname()[0]
        except OSError:
            return self._turned_away()  # gone already
        if not self.forwarding.admits(theirs, ours):
            return NotAllowed("this daemon is reached by its public URL", hint="set AUTHSOME_DAEMON_URL to it")
        return self._turned_away() if self._peers is not None and not self._peers.admits(connection) else None

    def _turned_away(self) -> NotAllowed:
        if self.is_secure:  # asked by the proxy that ends TLS, most likely, for somebody who knows nothing of it
            return NotAllowed(
                "this daemon does not serve that user of its machine who asked, such as its proxy's",
                hint='its admin lets in whom the proxy runs as: "users" in config.json there, and daemon restart',
            )
        return NotAllowed(
            "this daemon serves another user of this machine",
            hint="use a daemon of your own: AUTHSOME_PORT; its owner can let you in with users in config.json",
        )

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection and give its place free."""
        with self._changed:
            self._waiting.pop(request, None)  # before its descriptor may become another connection's
            self._conversations.pop(request.fileno(), None)
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002  # the base class's shape
        """Log what a conversation did not foresee; the default prints it."""
        _log.exception("a connection ended")

    def _accept(self) -> None:
        try:
            connection, peer = self.socket.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._recover()
            return
        try:
            self.process_request(connection, peer)
        except (OSError, MemoryError):
            _log.exception("a connection could not be begun")
            self.shutdown_request(connection)
            self._recover()

    def _recover(self) -> None:
        """Free what a waiting connection holds, and do not spin while there is nothing to free."""
        with self._changed:
            self._evict()
            self._changed.wait(_PAUSE)

    def _admit(self, connection: socket.socket) -> bool:
        with self._changed:
            if len(self._connections) >= self._cap and self._evict():
                self._changed.wait_for(lambda: len(self._connections) < self._cap, _MAKE_ROOM)
            if len(self._connections) >= self._cap or self.stopping.is_set():
                return False
            deadline = time.monotonic() + self.limits.head.total_seconds()
            self._connections.add(connection)
            self._waiting[connection] = deadline
            self._sweep_at = min(self._sweep_at, deadline)
            return True

    def _sweep(self) -> float:
        """Give up what has waited too long; for how many seconds there is nothing more to sweep."""
        now = time.monotonic()
        if now >= self._sweep_at:
            with self._changed:
                # One that is being served now will wait for at least so long.
                self._sweep_at = now + min(self.limits.head, self.limits.idle).total_seconds()
                for connection, deadline in list(self._waiting.items()):
                    if deadline > now:
                        self._sweep_at = min(self._sweep_at, deadline)
                    elif self.end_waiting(connection):
                        _hang_up(connection)
                if not self._connections:
                    self._sweep_at = _NEVER
        return self._sweep_at - now

    def _next_work(self) -> Callable[[], None] | None:
        """What a worker does next, once there is something; None when the server has ended."""
        while not self._turn:
            descriptors = self._ready.wait()
            self._turn.extend(found for each in descriptors if (found := self._conversations.get(each)) is not None)
            if self._wake_reader.fileno() in descriptors and not self._turn:
                return None
        return self._serve_turn

    def _serve_turn(self) -> None:
        """Go on with one conversation, or with several whose requests can be answered together.

        What comes after one that may take long stays in `_turn`, for the worker that takes this one's place.
        """
        alone, together = self._begin_together()
        if together:
            self._answer_all(together)
        if alone is not None:
            alone.go_on()

    def _begin_together(self) -> "tuple[_Conversation | None, list[tuple[_Conversation, object]]]":
        """The conversations whose requests are answered together, and the first one that cannot be among them."""
        together: list[tuple[_Conversation, object]] = []
        while len(together) < MOST:
            try:
                conversation = self._turn.popleft()
            except IndexError:
                break
            is_alone = self._group is None or not (together or self._turn)
            begun = None if is_alone or self._group is None else conversation.begin(self._group)
            if begun is None:
                return conversation, together
            together.append((conversation, begun))
        return None, together

    def _answer_all(self, together: "list[tuple[_Conversation, object]]") -> None:
        assert self._group is not None
        answers: Sequence[Response | Handle]
        try:
            answers = self._group.carry_out([begun for _, begun in together])
        except Exception:  # noqa: BLE001  # as in `answer`
            _log.exception("unexpected error")
            answers = [messages.problem(AuthsomeError())] * len(together)
        at_once: list[_Conversation] = []
        for (conversation, _), answer in zip(together, answers, strict=True):
            conversation.owe(answer)
            if isinstance(answer, Response):
                at_once.append(conversation)
            else:
                self._turn.append(conversation)
        # Not sent from here: whoever does not read his answer keeps nobody else's back.
        self._turn.extendleft(reversed(at_once))

    def _evict(self) -> bool:
        """Give up the connection that has waited longest; a worker then closes it. Call with the lock held."""
        for oldest in list(self._waiting):
            if self.end_waiting(oldest):
                _hang_up(oldest)
                return True
        return False


class _Conversation:
    """One connection: requests and their answers in turn."""

    __slots__ = (
        "_is_remote", "_next", "_owed", "_peer", "_received", "_refusal", "_server", "_socket", "_taker",
        "_waits_aside",
    )  # fmt: skip

    def __init__(
        self, connection: socket.socket, peer: object, server: Server, refusal: AuthsomeError | None = None
    ) -> None:
        """Take a connection, and why whatever it asks is refused, if it is."""
        self._socket = connection
        self._refusal = refusal
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._is_remote = not is_local(self._peer, _own_address(connection))
        self._server = server
        self._received = b""
        self._waits_aside = False
        self._next: tuple[Request, bool] | None = None
        self._owed: Response | Handle | None = None
        self._taker: Taker | None = None

    def begin(self, group: Group) -> object | None:
        """The next request, begun, when all of it has come; None when it is for `go_on`. Never blocks."""
        if self._owed is not None or self._refusal is not None:
            return None
        try:
            if not self._received:
                self._received = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            end = self._received.find(b"\r\n\r\n")
            if not 0 <= end <= head.HEAD_LIMIT:
                return None
            parsed, origin, length = self._judged(self._received[:end])
            start, end = end + 4, end + 4 + length
            if len(self._received) < end:
                return None
            body, self._received = self._received[start:end], self._received[end:]
            self._next = (self._request(parsed, origin, body), parsed.keeps_alive)
            begun = group.begin(self._next[0])
        except Exception:  # noqa: BLE001  # `go_on` meets it again, and tells
            return None
        return begun if begun is not None and self._server.end_waiting(self._socket) else None

    def owe(self, answer: Response | Handle) -> None:
        """Keep the answer to the request that was begun, or what makes it, for `go_on`."""
        self._owed = answer

    def go_on(self) -> None:
        """Serve what has come, then wait again, or end."""
        try:
            with suppress(OSError):  # the client is gone or too slow, or we hung up: nobody is left to tell
                if self._refusal is not None:  # nothing that it sent is looked at
                    self._refuse(messages.problem(self._refusal))
                while self._refusal is None and self._exchange():
                    if not self._received:
                        self._server.wake_for(self._socket)  # from here on it may be another worker's
                        return
        except Exception:  # noqa: BLE001  # a worker has others to serve
            self._server.handle_error(self._socket, self._peer)
        if self._taker is not None:
            self._server.hand_over(self._socket, self._taker)
            return
        self._server.shutdown_request(self._socket)

    def _exchange(self) -> bool:
        """Take one request and answer it; whether another may follow."""
        try:
            request, keeps_alive = self._next or self._read()
        except Refused as refusal:
            kind = RequestTooLarge if refusal.status == 413 else RequestInvalid
            self._refuse(messages.problem(kind(refusal.message), status=refusal.status))
            return False
        except EOFError:
            return False
        except BlockingIOError:  # woken for nothing
            return True
        owed, self._next, self._owed = self._owed, None, None
        if owed is None and not self._server.end_waiting(self._socket):
            return False
        started = time.monotonic()
        response = owed if isinstance(owed, Response) else self._server.answer(request, owed)
        keeps_alive = keeps_alive and not self._server.stopping.is_set() and response.taken_by is None
        try:
            self._send(response, keeps_alive=keeps_alive, with_body=request.method != "HEAD")
        except ValueError:
            _log.exception("malformed answer")
            self._send(messages.problem(AuthsomeError()), keeps_alive=False, with_body=request.method != "HEAD")
            return False
        self._taker = response.taken_by
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s %d in %.1f ms", request.method, response.status, (time.monotonic() - started) * 1000)
        return keeps_alive and self._server.begin_waiting(self._socket, self._server.limits.idle)

    def _read(self) -> tuple[Request, bool]:
        """The next request, and whether the connection may serve another after it.

        Raises:
            Refused: it is not one that we take.
            EOFError: the client has no more, or was given up.
        """
        parsed, origin, length = self._judged(self._read_head())
        body = self._read_body(length, asks=head.expects_continue(parsed))
        return self._request(parsed, origin, body), parsed.keeps_alive

    def _judged(self, block: bytes) -> tuple[Head, str, int]:
        """A head that we take, the origin that it was sent to, and how many bytes of body follow.

        Raises:
            Refused: we do not.
        """
        parsed = head.parse(block)
        origin = head.check_host(parsed, self._server.origins)
        if self._is_remote and origin != self._server.public:
            raise Refused(421, "this daemon does not answer for that host")
        head.check_form(parsed)
        return parsed, origin, head.body_length(parsed)

    def _request(self, parsed: Head, origin: str, body: bytes) -> Request:
        path, _, query = parsed.target.partition("?")
        peer = self._peer
        if origin == self._server.public:
            peer = self._server.forwarding.client(peer, parsed.fields.get("x-forwarded-for", ()))
        return Request(
            method=parsed.method,
            path=path,
            query=query,
            target=parsed.target,
            headers=parsed.fields,
            body=body,
            peer=peer,
            received_over=origin,
            stopping=self._server.stopping,
        )

    def _read_head(self) -> bytes:
        if not self._received:
            self._received = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            if not self._received:
                raise EOFError
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            deadline = time.monotonic() + self._server.limits.head.total_seconds()
            searched = 0
            while end < 0:
                head.check_unfinished(self._received, searched)
                searched = max(len(self._received) - 3, 0)
                self._received += self._receive_until(deadline)
                end = self._received.find(b"\r\n\r\n", searched)
        if end > head.HEAD_LIMIT:
            raise Refused(431, "the request's head is too large")
        block, self._received = self._received[:end], self._received[end + 4 :]
        return block

    def _read_body(self, length: int, *, asks: bool) -> bytes:
        if len(self._received) < length:
            if asks:
                self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            deadline = time.monotonic() + self._server.limits.body.total_seconds()
            pieces = [self._received]
            missing = length - len(self._received)
            while missing > 0:
                pieces.append(self._receive_until(deadline))
                missing -= len(pieces[-1])
            self._received = b"".join(pieces)
        body, self._received = self._received[:length], self._received[length:]
        return body

    def _receive_until(self, deadline: float) -> bytes:
        """More bytes, waited for aside.

        Raises:
            Refused: 408, they did not come in time.
            EOFError: the client has no more, or was given up.
        """
        if not self._waits_aside:
            self._server.wait_aside(self._socket)
            self._waits_aside = True
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise Refused(408, "the request took too long")
        self._socket.settimeout(remaining)
        try:
            data = self._socket.recv(_RECEIVE)
        except TimeoutError as error:
            raise Refused(408, "the request took too long") from error
        if not data:
            raise EOFError
        return data

    def _send(self, response: Response, *, keeps_alive: bool, with_body: bool = True) -> None:
        data = response.to_bytes(
            date=self._server.date(), keeps_alive=keeps_alive, is_secure=self._server.is_secure, with_body=with_body
        )
        if self._waits_aside:
            self._waits_aside = False
            self._socket.settimeout(None)
        try:
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._server.step_aside()
            self._socket.settimeout(self._server.limits.write.total_seconds())
            self._socket.sendall(memoryview(data)[sent:])
            self._socket.settimeout(None)

    def _refuse(self, problem: Response) -> None:
        """Say why, then read on for a moment while the connection may be evicted like any that waits."""
        self._send(problem, keeps_alive=False)
        self._socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER.total_seconds()
        with suppress(EOFError, Refused):
            while True:
                self._receive_until(deadline)


def _spellings(scheme: str, name: str, port: int) -> Mapping[str, str]:
    """How a client may write this host and port, with and without a default port; the origin each means."""
    if port == _default_port(scheme):
        return {name: f"{scheme}://{name}", f"{name}:{port}": f"{scheme}://{name}"}
    return {f"{name}:{port}": f"{scheme}://{name}:{port}"}


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _connection_cap(limits: Limits) -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.connections if descriptors < 0 else max(1, min(limits.connections, descriptors // 2))


def _cannot_listen(host: str, port: int, error: OSError) -> DaemonUnavailable:
    if error.errno == errno.EADDRINUSE:
        return DaemonUnavailable(
            f"port {port} on {host} is taken by another program",
            hint="stop it (it may be the daemon of another home), or set AUTHSOME_PORT to another port",
        )
    return DaemonUnavailable(
        f"cannot listen on {host} port {port}: {reason_of(error)}", hint="check AUTHSOME_HOST and AUTHSOME_PORT"
    )


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _own_address(connection: socket.socket) -> str:
    try:
        return str(connection.getsockname()[0])
    except OSError:
        return ""


def _not_ready(_: Request) -> Response:
    return messages.problem(DaemonUnavailable("the daemon is starting"))


def _http_date(moment: datetime) -> str:
    """An IMF-fixdate; strftime would use the locale's names."""
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year} {moment:%H:%M:%S} GMT"
