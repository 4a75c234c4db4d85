"""The express engine: HTTP/1.1 on plain sockets, a thread for each connection of a child that does not wait.

A child's connection and the server's are one pair: what one of them does is seen by the other, and no request of one
run is ever on a connection of another. Heads are read, bodies pass.

Rule: as in every engine, what cannot be decided is answered by us, and nothing of it goes to a server.
"""

import logging
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from authsome.clock import Clock
from authsome.errors import AuthsomeError, EndpointUnreachable, RequestInvalid, RequestMisdirected
from authsome.proxy import answers, http1, rules, secure, targets
from authsome.proxy.answers import Answer
from authsome.proxy.authority import Issuer
from authsome.proxy.dial import connect
from authsome.proxy.engine import Contexts, Engine
from authsome.proxy.exchange import Exchange, Intercepted, Memory
from authsome.proxy.hello import Hello
from authsome.proxy.http1 import Body, Request
from authsome.proxy.inject import Head
from authsome.proxy.loop import Loop
from authsome.proxy.monitor import Monitor
from authsome.proxy.quick import Heads, Pending, Quick
from authsome.proxy.rules import Opening, Target
from authsome.proxy.side import Cut, Side, wait
from authsome.proxy.tenancy import Tenancy, Tenants
from authsome.proxy.transfer import Outcome, Stale, Transfer, Unanswered, relay

log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 60.0  # how long a stranger may take to show a run's credential
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_OPENED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_STATUS_END: Final = len("HTTP/1.1 200")
_SERVERS: Final = 256  # that are remembered
_REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that may be sent again when nobody knows whether they arrived (RFC 9110 §9.2.2), and have no body."""


class Express(Engine):
    """Serves the children of all tenants on one port."""

    def __init__(self, tenants: Tenants, issuer: Issuer, *, clock: Clock, memory: Memory, full: Monitor) -> None:
        super().__init__(tenants)
        self.clock = clock
        self.memory = memory
        self.full = full
        """Serves those that speak HTTP/2 only."""
        self.to_children = Contexts[str, ssl.SSLContext](lambda host: secure.child_context(issuer.issue(host)))
        self.to_servers = Contexts[tuple[Path, tuple[str, ...]], ssl.SSLContext](secure.server_context)
        self.speech = Speech()
        self.heads = Heads()
        self.loop = Loop()
        """Where connections wait that the quick road can serve."""

    def _meet(self, connection: socket.socket) -> None:
        child = Child(self, connection)
        self.tenants.strangers.meet(child.end_soon)
        try:
            self.loop.hands.take(lambda: self.serve(child, child.serve))
        except RuntimeError:  # out of threads
            child.release()

    def serve(self, child: "Child", serve: Callable[[], None]) -> None:
        """Serve a child's connection in this thread, to its end or until it waits in the loop."""
        try:
            serve()
        except Waits:
            return
        except Cut:
            pass
        except Exception:
            log.exception("the engine failed")
        child.release()


class Waits(Exception):
    """A connection is in the loop, and no more this thread's."""


class Speech:
    """What was found out about servers that do not choose HTTP/1.1 when they are offered that."""

    def __init__(self) -> None:
        self._is_http2_only: OrderedDict[Target, bool] = OrderedDict()
        self._lock = threading.Lock()

    def is_http2_only(self, target: Target) -> bool | None:
        """Whether it speaks nothing but HTTP/2; None: nobody knows."""
        return self._is_http2_only.get(target)

    def note(self, target: Target, *, is_http2_only: bool) -> None:
        """Note what has been found out; if it changes, the next worker will know."""
        with self._lock:
            self._is_http2_only[target] = is_http2_only
            if len(self._is_http2_only) > _SERVERS:
                self._is_http2_only.popitem(last=False)


class Child:
    """One connection of a child, and the server that it leads to."""

    def __init__(self, engine: Express, connection: socket.socket) -> None:
        self._engine = engine
        self._side = Side(connection)
        self._target: Target | None = None
        """Where this connection, or the request at hand, leads."""
        self._server: Side | None = None
        self._server_target: Target | None = None
        self._open_server: Callable[[], socket.socket] | None = None
        self._tenancy: Tenancy | None = None
        self._failure: AuthsomeError | None = None
        """Why the server could not be had before the child was asked what it wants there."""
        self._misdirected: AuthsomeError | None = None
        """What is wrong with the name that the child's TLS has asked for."""
        self._quick: Quick | None = None
        self._is_quick = False
        """Whether the next request may be one for the quick road."""
        self._begun: tuple[Exchange, Request, Transfer] | None = None
        """An exchange of that road whose response has begun."""

    def serve(self) -> None:
        """Serve it to its end.

        Raises:
            Cut: it broke off.
        """
        while (request := self._read_request()) is not None:
            is_kept = self._connect(request) if request.method == b"CONNECT" else self._plain(request)
            if not is_kept:
                break
        self._side.finish()

    def end_soon(self) -> None:
        """Cut this connection and the one that it leads to, from any thread."""
        for side in (self._side, self._server):
            if side is not None:
                side.wake()

    def release(self) -> None:
        """Let go of everything."""
        self._engine.tenants.strangers.part(self.end_soon)
        if self._tenancy is not None:
            self._tenancy.detach(self.end_soon)
        self._side.abort()
        self._drop_server()

    # ---- requests ------------------------------------------------------------------------------------------

    def _read_request(self) -> Request | None:
        """The next request; None when there is none any more, or none that can be answered."""
        side = self._side
        deadline = time.monotonic() + _FIRST_SECONDS if self._tenancy is None else None
        try:
            while not (length := self._head_length()):
                interests = [(side, True)]
                if self._server is not None:
                    interests.append((self._server, True))
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = wait(*interests, seconds=left)
                if not ready and left is not None:
                    return None
                if self._server is not None and self._server in ready and not self._is_server_idle():
                    self._drop_server()
                if side in ready and (data := side.receive()) is not None:
                    if not data:
                        return None
                    side.unread += data
            head, side.unread = side.unread[:length], side.unread[length:]
            return http1.parse_request(head)
        except http1.Refused as refused:
            self._refuse_malformed(refused)
            return None

    def _head_length(self) -> int:
        side = self._side
        if side.unread.startswith(b"\r\n"):  # RFC 9112 §2.2: behind the body of the last one
            side.unread = side.unread[2:]
        return http1.head_length(side.unread) if side.unread else 0

    def _is_server_idle(self) -> bool:
        """Whether the server waits: one that has ended, or says something unasked, gets no further request."""
        assert self._server is not None
        try:
            return self._server.receive() is None
        except Cut:
            return False

    def _refuse_malformed(self, refused: http1.Refused) -> None:
        error = RequestInvalid(refused.message)
        self._send_answer(answers.problem(error, target=self._target, status=refused.status, is_closing=True))

    def _send_answer(self, answer: Answer, method: bytes = b"") -> None:
        body = b"" if method == b"HEAD" else answer.body
        self._side.send(http1.response_bytes(answer.status, answer.reason, answer.fields) + body)

    def _refuse(self, answer: Answer, request: Request, body: Body | None) -> bool:
        """Answer a request that is not sent, and read over its body; whether the connection can go on."""
        if self._target is not None:
            log.info("refused %s: %d", self._target.authority, answer.status)
        # A child that waits to be asked for its body may send it or not after this: that cannot be told.
        is_last = body is None or request.is_last or (not body.is_complete and bool(request.values(b"expect")))
        if is_last and all(name != b"Connection" for name, _ in answer.fields):
            answer = replace(answer, fields=(*answer.fields, (b"Connection", b"close")))
        self._send_answer(answer, request.method)
        if is_last or body is None:
            return False
        try:
            self._read_over(body)
        except http1.Refused:
            return False
        return body.is_complete

    def _read_over(self, body: Body) -> None:
        side = self._side
        data: bytes | None
        data, side.unread = side.unread, b""
        while not body.is_complete:
            if data:
                _, side.unread = body.feed(data)
            if not body.is_complete:
                wait((side, True))
                data = side.receive()
                if data == b"":
                    return

    # ---- what a connection begins with -----------------------------------------------------------------------

    def _admit(self, request: Request) -> Tenancy:
        """Whose request this is; a connection stays with whoever sent its first."""
        given = [value.decode("latin-1") for value in request.values(b"proxy-authorization")]
        tenancy = self._engine.tenants.admit(given, self._engine.clock())
        if self._tenancy is None:
            tenancy.attach(self.end_soon)
            self._tenancy = tenancy
            self._engine.tenants.strangers.part(self.end_soon)
        elif self._tenancy is not tenancy:
            raise RequestInvalid("this connection belongs to another run")
        return tenancy

    def _connect(self, request: Request) -> bool:
        """A CONNECT: whose is it, where to, and what becomes of it; whether another request may follow."""
        target = None
        try:
            body = http1.request_body(request)
        except http1.Refused as refused:
            self._refuse_malformed(refused)
            return False
        try:
            tenancy = self._admit(request)
            target = targets.authority(request.target)
            opening = tenancy.opening(target)
            self._drop_server()  # of a request before, in clear text
            if opening is Opening.TUNNEL:
                self._server = Side(self._dial(tenancy, target, is_routed=False))
        except AuthsomeError as error:
            self._target = target
            return self._refuse(answers.problem(error, target=target), request, body)
        self._target = target
        if opening is Opening.TUNNEL:
            assert self._server is not None
            self._side.send(_OPENED)
            relay(self._side, self._server)
        else:
            self._intercept(tenancy, target, request)
        return False

    def _intercept(self, tenancy: Tenancy, target: Target, request: Request) -> None:
        """Put our TLS after an accepted CONNECT, and serve what is in it."""
        if self._side.unread or not targets.is_without_body(request):
            raise Cut(self._side)  # nobody may send before it is told that it can
        self._side.send(_OPENED)
        while self._side.unsent:
            wait((self._side, False))
        try:
            begun = secure.client_hello(self._side)
        except ValueError:
            return  # clear text, or what no TLS library will read either
        if self._takes_http2(tenancy, target, begun):
            self._hand_over(tenancy, target)
            return
        try:
            end = secure.child_socket(self._engine.to_children.get(target.host), self._side.socket)
            self._side = Side(end)
            tenancy.attach(self.end_soon)  # anew: the run may have ended while its descriptor changed hands
            secure.accept(end)
        except (OSError, ValueError):
            log.info("TLS with a child failed, for %s", target.authority)
            return
        except AuthsomeError:
            return
        try:
            rules.check_server_name(target, end.asked_for)
        except AuthsomeError as error:
            self._misdirected = error
        engine = self._engine
        self._quick = Quick(self._side, tenancy, target, memory=engine.memory, heads=engine.heads, clock=engine.clock)
        self._converse()

    # ---- requests in TLS -------------------------------------------------------------------------------------

    def _converse(self) -> None:
        """Serve the next request in our TLS, and those that follow, to the end.

        Raises:
            Waits: the next one is waited for in the loop.
        """
        while (request := self._read_request()) is not None and self._intercepted(request):
            self._wait_in_loop()

    def _wait_in_loop(self) -> None:
        """Leave this thread, if the next request may be one for the quick road."""
        server, side = self._server, self._side
        if not self._is_quick or server is None or side.unread or side.unsent or server.unread or server.unsent:
            return
        self._engine.loop.put(self)
        raise Waits

    def descriptors(self) -> tuple[int, ...]:
        """See `loop.Waiting`."""
        own = self._side.socket.fileno()
        return (own,) if self._server is None else (own, self._server.socket.fileno())

    def step(self, descriptor: int) -> bool:
        """See `loop.Waiting`."""
        try:
            is_childs = descriptor == self._side.socket.fileno()
            return self._hear_child() if is_childs else self._hear_server(descriptor)
        except Cut:
            return False

    def _hear_child(self) -> bool:
        """Take what the child says; whether it can go on in the loop."""
        side, server, quick = self._side, self._server, self._quick
        assert quick is not None
        if quick.pending is not None or server is None:
            return False
        data = side.receive()
        if data:
            side.unread += data
            return quick.ask(server) and not server.unsent
        return data is None

    def _hear_server(self, descriptor: int) -> bool:
        """Take what the server says; whether that can go on in the loop."""
        server, quick = self._server, self._quick
        assert quick is not None
        if server is None:
            return True
        if quick.pending is None:
            if not self._is_server_idle():
                self._engine.loop.forget(descriptor)
                self._drop_server()
            return True
        data = server.receive()
        if not data:
            return data is None
        return (quick.answer(data, server) or self._begin_answer(data)) and not self._side.unsent

    def _begin_answer(self, data: bytes) -> bool:
        """Pass on what has come of an answer that is not for the quick road; whether that is all of it.

        From here, as a thread that does the rest is not there at once; but for what may block (a 401) or says little.
        """
        quick, server = self._quick, self._server
        assert quick is not None
        assert quick.pending is not None
        assert server is not None
        quick.pending.received = data
        if len(data) < _STATUS_END or data[9:10] == b"1" or data[9:_STATUS_END] == b"401":
            return False
        exchange, request = quick.exchange(quick.pending)
        transfer = Transfer(self._side, server, exchange, request, http1.Counted(0))
        try:
            if transfer.take(data):
                quick.pending = None
                return True
        except Unanswered:  # which the thread meets again, and tells
            return False
        self._begun = exchange, request, transfer
        return False

    def go_on(self) -> None:
        """See `loop.Waiting`."""
        self._engine.serve(self, self._resume)

    def _resume(self) -> None:
        """Go on in a thread, with the exchange that is under way, if there is one."""
        quick = self._quick
        assert quick is not None
        pending = quick.pending
        if pending is not None:
            quick.pending = None
            if not self._go_on_with(quick, pending):
                self._side.finish()
                return
            self._wait_in_loop()
        self._converse()
        self._side.finish()

    def _takes_http2(self, tenancy: Tenancy, target: Target, begun: Hello) -> bool:
        """Whether the child and the server can have HTTP/2 only: one of them knows nothing else, and the other does."""
        if b"h2" not in begun.protocols or b"http/1.1" not in begun.protocols:
            return bool(begun.protocols) and b"http/1.1" not in begun.protocols
        if (known := self._engine.speech.is_http2_only(target)) is not None:
            return known
        try:
            rules.check_server_name(target, begun.server_name)  # a child that lies leads nowhere
            self._reach(target, lambda: self._dial_secure(tenancy, target, secure.HTTP1), is_secure=True)
            assert self._server is not None
            if secure.protocol(self._server.socket) is not None:
                return False
            # It has not said what it speaks. One that knows HTTP/2 only would wait for that now.
            with self._dial_secure(tenancy, target, secure.ANY_HTTP) as other:
                is_http2_only = secure.protocol(other) == "h2"
        except secure.NoSharedProtocol:
            is_http2_only = True
        except RequestMisdirected:
            return False
        except AuthsomeError as error:
            if self._server is None:
                self._failure = error  # which the first request is answered with
            return False
        self._engine.speech.note(target, is_http2_only=is_http2_only)
        return is_http2_only

    def _hand_over(self, tenancy: Tenancy, target: Target) -> None:
        """Leave a child that speaks HTTP/2 only to the engine that can; what it has said waits in its socket."""
        self._drop_server()
        connection = self._side.socket.dup()
        self._side.abort()  # which does not end it: there is the other descriptor
        try:
            self._engine.full.lend(connection, tenancy=tenancy, target=target)
        except (OSError, AuthsomeError):
            log.exception("a connection could not be handed over")

    def _go_on_with(self, quick: Quick, pending: Pending) -> bool:
        """Carry an exchange of the quick road to its end; whether the connection can go on."""
        begun, self._begun = self._begun, None
        if begun is not None:
            exchange, request, transfer = begun
            return self._conclude(exchange, request, lambda: transfer.resume(b""))
        exchange, request = quick.exchange(pending)
        body, received, is_repeatable = http1.Counted(0), pending.received, not pending.asked.length
        return self._conclude(
            exchange,
            request,
            lambda: self._carry(exchange, request, body, pending.sent, received, is_repeatable=is_repeatable),
        )

    # ---- exchanges -------------------------------------------------------------------------------------------

    def _plain(self, request: Request) -> bool:
        """A request in clear text for a proxy to pass on (RFC 9112 §3.2.2): never with a credential."""
        try:
            body = http1.request_body(request)
        except http1.Refused as refused:
            self._refuse_malformed(refused)
            return False
        self._target = None
        try:
            tenancy = self._admit(request)
            scheme, authority, path = targets.absolute(request)
            if scheme != "http":
                raise RequestInvalid("this proxy takes https by CONNECT only")
            target = self._target = targets.authority(authority, default_port=80)
        except AuthsomeError as error:
            return self._refuse(answers.problem(error, target=self._target), request, body)
        exchange = Exchange(tenancy, target, self._engine.memory)

        def prepare() -> Head:
            head = exchange.request(request.method.decode("latin-1"), Head(target=path, fields=request.fields))
            self._reach(target, lambda: self._dial(tenancy, target, is_routed=False), is_secure=False)
            return head

        return self._exchange(exchange, request, body, prepare)

    def _intercepted(self, request: Request) -> bool:
        """A request that we see in clear: checked against the connection, then given its credential."""
        try:
            body = http1.request_body(request)
        except http1.Refused as refused:
            self._refuse_malformed(refused)
            return False
        tenancy, target = self._tenancy, self._target
        assert tenancy is not None
        assert target is not None
        exchange = Intercepted(tenancy, target, self._engine.memory)

        def prepare() -> Head:
            if self._misdirected is not None:
                raise self._misdirected
            path, authorities = targets.named(request)
            exchange.check(path, authorities, self._engine.clock())
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._reach(target, lambda: self._secure_server(tenancy, target), is_secure=True)
            return exchange.request(request.method.decode("latin-1"), Head(target=path, fields=request.fields))

        is_kept = self._exchange(exchange, request, body, prepare)
        self._is_quick = exchange.is_quick
        return is_kept

    def _exchange(self, exchange: Exchange, request: Request, body: Body, prepare: Callable[[], Head]) -> bool:
        """Carry an exchange; whether the connection can go on."""
        try:
            head, content = prepare(), b""
            is_repeatable = body.is_complete
            if exchange.takes_body(head.fields):
                head, content = exchange.body(head, self._whole(request, body), self._engine.clock())
        except AuthsomeError as error:
            return self._refuse(exchange.refusal(error), request, body)
        except Cut:
            raise
        except Exception:
            log.exception("a request could not be decided")
            failure = AuthsomeError("the proxy failed", hint="see `authsome doctor`")
            return self._refuse(exchange.refusal(failure), request, None)
        sent = http1.request_bytes(request.method, head.target, head.fields) + content
        return self._conclude(
            exchange, request, lambda: self._carry(exchange, request, body, sent, None, is_repeatable=is_repeatable)
        )

    def _whole(self, request: Request, body: Body) -> bytes:
        """A request's whole body, of a known and small length; a server that ends meanwhile is dialled anew.

        Raises:
            Cut: the child's connection ended before.
            AuthsomeError: the server cannot be had any more.
        """
        side = self._side
        if request.values(b"expect") and request.minor > 0:
            side.send(_CONTINUE)
        pieces: list[bytes] = []
        data: bytes | None
        data, side.unread = side.unread, b""
        while True:
            if data:
                piece, side.unread = body.feed(data)
                pieces.append(piece)
            if body.is_complete:
                break
            wait((side, True))
            data = side.receive()
            if data == b"":
                raise Cut(side)
        if self._server is not None and not self._is_server_idle():
            self._drop_server()
            assert self._open_server is not None
            self._server = Side(self._open_server())
        return b"".join(pieces)

    def _conclude(self, exchange: Exchange, request: Request, carry: Callable[[], Outcome]) -> bool:
        """Carry an exchange that has been decided; whether the connection can go on."""
        try:
            outcome = carry()
        except Unanswered as unanswered:
            self._drop_server()
            return self._refuse(exchange.refusal(unanswered.error, was_sent=True), request, None)
        except http1.Refused as refused:
            self._drop_server()
            error = RequestInvalid(refused.message)
            answer = exchange.refusal(error, status=refused.status, was_sent=True, is_closing=True)
            return self._refuse(answer, request, None)
        if outcome is not Outcome.KEPT:
            self._drop_server()
        return outcome is Outcome.KEPT

    def _carry(  # noqa: PLR0913  # a request in its parts
        self,
        exchange: Exchange,
        request: Request,
        body: Body,
        sent: bytes,
        received: bytes | None,
        *,
        is_repeatable: bool,
    ) -> Outcome:
        """Send a request, or go on with one that was sent; `received`: what has come of its response then."""
        assert self._server is not None
        transfer = Transfer(self._side, self._server, exchange, request, body)
        try:
            return transfer.run(sent) if received is None else transfer.resume(received)
        except Stale as stale:
            if not (is_repeatable and request.method in _REPEATABLE):
                raise Cut(self._server) from stale
        self._drop_server()
        assert self._open_server is not None
        try:
            self._server = Side(self._open_server())
        except AuthsomeError as error:
            raise Unanswered(error) from error
        return Transfer(self._side, self._server, exchange, request, body).run(sent)

    # ---- servers ---------------------------------------------------------------------------------------------

    def _reach(self, target: Target, open_connection: Callable[[], socket.socket], *, is_secure: bool) -> None:
        """Have a connection to the target: the one that is there, if it leads there, and in the same way."""
        if self._server is not None and (self._server_target, self._server.is_secure) != (target, is_secure):
            self._drop_server()
        self._open_server = open_connection
        if self._server is None:
            self._server, self._server_target = Side(open_connection()), target

    def _dial(self, tenancy: Tenancy, target: Target, *, is_routed: bool) -> socket.socket:
        policy = tenancy.policy(target, is_routed=is_routed, own_ports=self._engine.tenants.own_ports)
        return connect(target, policy, tenancy.outbound)

    def _secure_server(self, tenancy: Tenancy, target: Target) -> socket.socket:
        """A connection to the server whose certificate is good for the host.

        Raises:
            EndpointUnreachable: it is not, or there is no TLS there.
        """
        try:
            return self._dial_secure(tenancy, target, secure.HTTP1)
        except secure.NoSharedProtocol as error:
            raise EndpointUnreachable(
                f"{target.authority}: the server does not speak HTTP/1.1",
                hint="use a program that speaks HTTP/2 too",
            ) from error

    def _dial_secure(self, tenancy: Tenancy, target: Target, protocols: tuple[str, ...]) -> ssl.SSLSocket:
        connection = self._dial(tenancy, target, is_routed=True)
        return secure.connect(self._engine.to_servers.get((tenancy.trust, protocols)), connection, target)

    def _drop_server(self) -> None:
        if self._server is not None:
            self._server.abort()
            self._server = None
