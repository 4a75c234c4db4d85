"""The full engine: mitmproxy's protocol core, driven by the rule book.

Of mitmproxy only the layers are used (HTTP/1.1, HTTP/2, TLS as state machines without I/O), and its driver of one
connection. Its Master, addons, options, certificate store and address book are left out: nothing is written to disk,
nothing is read from the environment, nothing is kept of what passes.

Rule: every hook fails closed. What cannot be decided is answered by us, and nothing of it goes to a server.
"""

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

from cryptography import x509
from mitmproxy import http, tls
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import tls as tls_layers
from mitmproxy.proxy.layers.http import _hooks as http_hooks
from mitmproxy.proxy.server import ConnectionIO, LiveConnectionHandler
from OpenSSL import SSL, _util, crypto

from authsome import address
from authsome.clock import Clock
from authsome.errors import AuthsomeError, RequestInvalid
from authsome.proxy import answers, layers, rules, targets
from authsome.proxy.apart import Worker
from authsome.proxy.dial import dial
from authsome.proxy.engine import Contexts
from authsome.proxy.exchange import Exchange, Intercepted
from authsome.proxy.inject import Head
from authsome.proxy.rules import Opening, Target
from authsome.proxy.scrub import Filter
from authsome.proxy.tenancy import Tenancy

log = logging.getLogger(__name__)

_REFUSED: Final = "authsome.refused"
_WITHOUT_BODY: Final = frozenset({101, 204, 304})
_QUESTIONS: Final = 32  # that wait for the worker at the same time
_SHARE: Final = 16  # of them for one run, so that there are some for the others
_LOOKUPS: Final = 32  # names that are looked up at the same time
_WINDOW_LIMIT: Final = 4 * 1024 * 1024  # bytes that may wait for a slow HTTP/2 peer, or for us, before more are read
_OF_REQUESTS: Final = (http_hooks.HttpConnectHook, http_hooks.HttpRequestHeadersHook, http_hooks.HttpRequestHook)
_HTTP_PROTOCOLS: Final = (b"h2", b"http/1.1")

Answered = TypeVar("Answered")


class Full:
    """Serves the connections that the worker lends, by one event loop in a thread of its own."""

    def __init__(self, worker: Worker, *, clock: Clock) -> None:
        layers.install()
        self.worker = worker
        self.clock = clock
        self.to_children = Contexts[str, SSL.Context](lambda host: _child_context(*worker.leaf(host)))
        self.to_servers = Contexts[Path, SSL.Context](_upstream_context)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_unhandled)
        self._threads = ThreadPoolExecutor(max_workers=_QUESTIONS, thread_name_prefix="worker")
        self._loop.set_default_executor(ThreadPoolExecutor(max_workers=_LOOKUPS, thread_name_prefix="lookup"))
        self._shares: WeakKeyDictionary[Tenancy, asyncio.Semaphore] = WeakKeyDictionary()
        self._children: dict[int, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._loop.run_forever, name="full", daemon=True).start()

    def serve(self, number: int, connection: socket.socket, tenancy: Tenancy | None, target: Target | None) -> None:
        """Serve a connection, from any thread: from its first byte, or behind the CONNECT to a target of a run's."""

        def begin() -> None:
            task = self._loop.create_task(self._serve(number, connection, tenancy, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    def end(self, number: int) -> None:
        """Cut a connection and those that it leads to, from any thread; whoever lent it has shut it down already."""

        def end() -> None:
            if (child := self._children.get(number)) is not None:
                child.end()

        self._loop.call_soon_threadsafe(end)

    async def _serve(
        self, number: int, connection: socket.socket, tenancy: Tenancy | None, target: Target | None
    ) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
            child = self._children[number] = Child(self, number, reader, writer)
            try:
                if tenancy is not None and target is not None:
                    await child.begin_intercepted(tenancy, target)
                await child.handle_client()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()  # all that was sent is on its way
        finally:
            self._children.pop(number, None)
            connection.close()
            self.worker.gone(number)

    async def ask(self, call: Callable[..., Answered], *args: object, **named: object) -> Answered:
        """Make a call that asks the worker, without holding up the loop."""
        return await self._loop.run_in_executor(self._threads, partial(call, *args, **named))

    async def ask_for(
        self, tenancy: Tenancy, call: Callable[..., Answered], *args: object, **named: object
    ) -> Answered:
        """As `ask`, on behalf of a run, which may have to wait for its other questions."""
        async with self._shares.setdefault(tenancy, asyncio.Semaphore(_SHARE)):
            return await self.ask(call, *args, **named)


def _unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What a task left behind: logged by kind only, asyncio's own text quotes objects."""
    error = context.get("exception")
    if isinstance(error, BaseException) and not isinstance(error, ConnectionError):
        log.error("a task failed", exc_info=(type(error), error, error.__traceback__))


class Child(LiveConnectionHandler):
    """One connection of the child, and the servers that it leads to."""

    def __init__(self, engine: Full, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.engine = engine
        self.number = number
        """What the worker calls it."""
        self.options = layers.Options()
        super().__init__(reader, writer, self.options.for_mitmproxy(), mode_specs.ProxyMode.parse("regular"))
        context = self.layer.context
        context.layers.clear()
        self.layer = http_layers.HttpLayer(context, http_layers.HTTPMode.regular)
        self.timeout_watchdog.timeout = self.options.tcp_timeout
        self.tenancy: Tenancy | None = None
        """Whose it is, once its first request has been admitted."""
        self.target: Target | None = None
        """Where this connection leads, once a CONNECT was accepted."""
        self.is_intercepted = False
        self.to_child: SSL.Context | None = None
        """The TLS context that stands in for the target."""
        self.misdirected: AuthsomeError | None = None
        self.has_failed = False
        self.moved = asyncio.Event()
        self.undecided = 0
        """Questions that a request waits for."""
        self.early = 0
        """Bytes that have come from the child while there were some."""

    def log(self, message: str, level: int = logging.INFO, exc_info: object = None) -> None:  # noqa: ARG002
        """Keep mitmproxy's own words out of the log: they quote what passes. A crash ends the connection."""
        if level >= logging.ERROR:
            log.error("the engine failed", exc_info=sys.exc_info() if exc_info is True else None)
            self.has_failed = True

    async def begin_intercepted(self, tenancy: Tenancy, target: Target) -> None:
        """Begin behind a CONNECT that was accepted already, with TLS."""
        self.tenancy = tenancy
        await self.engine.ask_for(tenancy, tenancy.table)  # which says where the target may lie
        await self._intercept(target)
        context = self.layer.context
        context.layers.clear()
        context.server.address = (target.host, target.port)
        self.layer = layers.intercepting(context)

    async def _intercept(self, target: Target) -> None:
        self.target, self.is_intercepted = target, True
        self.to_child = await self.engine.ask(self.engine.to_children.get, target.host)

    def end(self) -> None:
        """Cut this connection and those that it leads to."""
        for io in list(self.transports.values()):
            if isinstance(io.writer, asyncio.StreamWriter):
                io.writer.transport.abort()
            if io.handler is not None:
                io.handler.cancel()

    async def server_event(self, event: events.Event) -> None:
        """Handle an event, and wake whoever waits for room."""
        if self.undecided and isinstance(event, events.DataReceived) and event.connection is self.client:
            self.early += len(event.data)
        await super().server_event(event)
        self.moved.set()
        if self.has_failed and self.client in self.transports:
            self.close_connection(self.client)

    async def drain_writers(self) -> None:
        """Wait for slow peers before reading on, those behind an HTTP/2 window too, and with a child for ourselves."""
        await super().drain_writers()  # type: ignore[no-untyped-call]
        # A reader waits for the other side only: its own peer's window updates come through itself.
        own = self.transports.get(self.client)
        is_from_child = own is not None and asyncio.current_task() is own.handler
        other = layers.Http2Client if is_from_child else layers.Http2Server
        while self.options.waiting_bytes(other) > _WINDOW_LIMIT or (is_from_child and self._is_ahead):
            self.moved.clear()
            await self.moved.wait()

    @property
    def _is_ahead(self) -> bool:
        """Whether the child has said enough for now: a request is undecided, or the answer before it is under way."""
        return max(self.early, self.options.pipelined_bytes) > _WINDOW_LIMIT

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Dial a server by the address guard, and serve it."""
        with self._undecided():
            is_open = await self._dial(command)
        if is_open:
            await self.server_event(events.OpenConnectionCompleted(command, None))
            await self.handle_connection(command.connection)

    async def _dial(self, command: commands.OpenConnection) -> bool:
        """Connect; whether there is a connection now."""
        connection = command.connection
        assert isinstance(connection, Server)
        assert connection.address is not None
        assert self.tenancy is not None
        target = Target(host=connection.address[0], port=connection.address[1])
        policy = self.tenancy.policy(target, is_routed=self.is_intercepted, own_ports=self.engine.worker.own_ports)
        loop = asyncio.get_running_loop()
        try:
            connection.timestamp_start = loop.time()
            reader, writer = await dial(target, policy, self.tenancy.outbound)
        except AuthsomeError as error:
            await self._fail_to_open(command, error)
            return False
        except Exception:
            log.exception("a server could not be dialled")
            await self._fail_to_open(command, AuthsomeError("the proxy failed", hint="see `authsome doctor`"))
            return False
        connection.state = ConnectionState.OPEN
        connection.peername = writer.get_extra_info("peername")
        connection.sockname = writer.get_extra_info("sockname")
        self.transports[connection] = ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
        return True

    async def _fail_to_open(self, command: commands.OpenConnection, error: AuthsomeError) -> None:
        command.connection.error = layers.Failure(error)
        await self.server_event(events.OpenConnectionCompleted(command, command.connection.error))

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Decide what mitmproxy asks. What cannot be decided, and is past being refused, ends the connection."""
        try:
            with self._undecided() if isinstance(hook, _OF_REQUESTS) else nullcontext():
                await self._decide(hook)
        except Exception as error:  # else mitmproxy would wait for the answer for ever
            if isinstance(error, AuthsomeError):
                log.info("ended: %s", error.code)
            else:
                log.exception("the engine failed")
            self.end()
            raise asyncio.CancelledError from error  # so that nothing goes on as if it had been decided

    @contextmanager
    def _undecided(self) -> Iterator[None]:
        """What comes from the child meanwhile has to be kept."""
        self.undecided += 1
        try:
            yield
        finally:
            self.undecided -= 1
            if not self.undecided:
                self.early = 0
            self.moved.set()

    async def _decide(self, hook: commands.StartHook) -> None:
        """The names and order of mitmproxy's hooks are in its `layers`."""
        match hook:
            case http_hooks.HttpConnectHook(flow=flow):
                await self._guarded(flow, self._connect)
            case http_hooks.HttpRequestHeadersHook(flow=flow):
                await self._guarded(flow, self._request)
            case http_hooks.HttpRequestHook(flow=flow):
                await self._request_end(flow)
            case http_hooks.HttpResponseHeadersHook(flow=flow):
                await self._guarded(flow, self._response)
            case http_hooks.HttpResponseHook(flow=flow):
                self._response_trailers(flow)
            case layers.Room():
                await self.drain_writers()
            case tls_layers.TlsClienthelloHook(data=hello):
                self._client_hello(hello)
            case tls_layers.TlsStartClientHook(data=start):
                self._start_child_tls(start)
            case tls_layers.TlsStartServerHook(data=start):
                self._start_server_tls(start)
            case _:
                pass

    async def _guarded(self, flow: http.HTTPFlow, decide: Callable[[http.HTTPFlow], Awaitable[None]]) -> None:
        """Decide, and answer for whatever goes wrong with it."""
        try:
            await decide(flow)
        except AuthsomeError as error:
            self._refuse(flow, error)
        except Exception:
            log.exception("a request could not be decided")
            self._refuse(flow, AuthsomeError("the proxy failed", hint="see `authsome doctor`"))

    def _refuse(self, flow: http.HTTPFlow, error: AuthsomeError, *, is_closing: bool = False) -> None:
        exchange = flow.metadata.get(layers.EXCHANGE)
        target = self.target or rules.target_of(flow.request.host, flow.request.port)
        refusal = exchange.refusal if isinstance(exchange, Exchange) else partial(answers.problem, target=target)
        is_late = flow.response is not None
        answer = refusal(error, was_sent=is_late, is_closing=is_closing)
        flow.metadata[_REFUSED] = True
        flow.response = layers.response_of(answer)
        if is_late:
            flow.metadata[layers.INSTEAD] = answer.body
            flow.response.stream = True
        flow.request.headers.pop("expect", None)
        flow.request.stream = True
        log.info("refused %s: %s", target.authority, error.code)

    async def _admit(self, headers: http.Headers) -> Tenancy:
        """Whose request this is; a connection stays with whoever sent its first."""
        given = headers.get_all("proxy-authorization")
        self.tenancy = await self.engine.ask(self.engine.worker.admit, self.number, given)
        return self.tenancy

    async def _connect(self, flow: http.HTTPFlow) -> None:
        """A CONNECT: whose is it, where to, and what becomes of it."""
        tenancy = await self._admit(flow.request.headers)
        target = rules.target_of(flow.request.host, flow.request.port)
        opening = await self.engine.ask_for(tenancy, tenancy.opening, target)
        flow.request.data.host = target.host
        flow.metadata[layers.OPENING] = opening
        self.target = target
        if opening is Opening.INTERCEPT:
            await self._intercept(target)

    async def _request(self, flow: http.HTTPFlow) -> None:
        """A request's head: on an intercepted connection it may get a credential, else it passes as it is."""
        if flow.error is not None:
            return  # malformed; mitmproxy is answering it already
        request = flow.request
        exchange = await self._plain(request) if self.target is None else self._intercepted(flow, self.target)
        flow.metadata[layers.EXCHANGE] = exchange
        if flow.server_conn.error is not None:  # the server cannot be had: no credential is asked for
            self._refuse(flow, layers.error_of(flow.server_conn.error, exchange.target), is_closing=True)
            return
        head = Head(target=request.data.path, fields=request.headers.fields)
        keep_trailers_option = self.target is not None and request.is_http2
        assert self.tenancy is not None
        head = await self.engine.ask_for(
            self.tenancy, exchange.request, request.method, head, keep_trailers_option=keep_trailers_option
        )
        if self.target is not None and not request.is_http2:
            request.authority = ""
        request.data.path = head.target
        request.headers = http.Headers(head.fields)
        request.stream = not exchange.takes_body(head.fields)

    async def _plain(self, request: http.Request) -> Exchange:
        """A request in clear text for a proxy to pass on (RFC 9112 §3.2.2): never with a credential."""
        tenancy = await self._admit(request.headers)
        targets.check_line(request.data.method, request.data.path)
        if request.scheme != "http":
            raise RequestInvalid("this proxy takes https by CONNECT only")
        return Exchange(tenancy, rules.target_of(request.host, request.port), self.engine.worker.memory)

    def _intercepted(self, flow: http.HTTPFlow, target: Target) -> Exchange:
        """A request that we see in clear: checked against the connection, then given its credential."""
        request = flow.request
        assert self.tenancy is not None
        exchange = flow.metadata[layers.EXCHANGE] = Intercepted(self.tenancy, target, self.engine.worker.memory)
        if self.misdirected is not None:
            raise self.misdirected
        if not self.is_intercepted or request.scheme != "https":
            raise RequestInvalid("a request in clear text on a connection that was opened for a tunnel")
        targets.check_line(request.data.method, request.data.path)
        authorities = request.headers.get_all("host")
        if len(authorities) != 1 and not request.is_http2:
            raise RequestInvalid("not one Host header")
        if request.authority:
            authorities.append(request.authority)
        exchange.check(request.data.path, authorities, self.engine.clock())
        return exchange

    async def _request_end(self, flow: http.HTTPFlow) -> None:
        """The end of a request: of one whose body was waited for, nothing has been sent."""
        if flow.request.stream:
            self._request_trailers(flow)
        else:
            await self._guarded(flow, self._whole_body)

    async def _whole_body(self, flow: http.HTTPFlow) -> None:
        """A body that was waited for, and what stands behind it."""
        exchange = flow.metadata.get(layers.EXCHANGE)
        request, content = flow.request, flow.request.raw_content
        if content is not None and isinstance(exchange, Exchange) and exchange.takes_body(request.headers.fields):
            assert self.tenancy is not None
            head = Head(target=request.data.path, fields=request.headers.fields)
            head, request.raw_content = await self.engine.ask_for(
                self.tenancy, exchange.body, head, content, self.engine.clock()
            )
            request.data.path = head.target
            request.headers = http.Headers(head.fields)
        self._request_trailers(flow)

    def _request_trailers(self, flow: http.HTTPFlow) -> None:
        exchange = flow.metadata.get(layers.EXCHANGE)
        if flow.request.trailers is not None and isinstance(exchange, Exchange):
            flow.request.trailers = http.Headers(exchange.request_trailers(flow.request.trailers.fields))

    async def _response(self, flow: http.HTTPFlow) -> None:
        """A response's head; its body is streamed, through whatever looks for secrets in it."""
        exchange, response = flow.metadata.get(layers.EXCHANGE), flow.response
        if flow.metadata.get(_REFUSED) or response is None or not isinstance(exchange, Exchange):
            return
        has_body = flow.request.method != "HEAD" and response.status_code not in _WITHOUT_BODY
        assert self.tenancy is not None
        data = response.data
        passed = await self.engine.ask_for(
            self.tenancy, exchange.response, data.status_code, data.reason, data.headers.fields, has_body=has_body
        )
        was_counted = "content-length" in response.headers
        response.data.reason = passed.reason
        response.headers = http.Headers(passed.fields)
        response.stream = True if passed.filter is None else partial(_filtered, passed.filter)
        if was_counted and "content-length" not in response.headers and not flow.request.is_http2:
            response.headers["Transfer-Encoding"] = "chunked"
        flow.metadata[layers.FILTER] = exchange.upgraded()

    def _response_trailers(self, flow: http.HTTPFlow) -> None:
        exchange = flow.metadata.get(layers.EXCHANGE)
        if flow.response is not None and flow.response.trailers is not None and isinstance(exchange, Exchange):
            flow.response.trailers = http.Headers(exchange.response_trailers(flow.response.trailers.fields))

    def _client_hello(self, hello: tls.ClientHelloData) -> None:
        """TLS begins: the server comes first, so that the child is offered the protocol that the server speaks."""
        assert self.target is not None
        try:
            rules.check_server_name(self.target, hello.client_hello.sni)
        except AuthsomeError as error:
            self.misdirected = error
        hello.establish_server_tls_first = self.misdirected is None

    def _start_child_tls(self, start: tls.TlsData) -> None:
        assert self.to_child is not None
        start.ssl_conn = SSL.Connection(self.to_child)
        start.ssl_conn.set_app_data(_protocol_for_child(start.context.server))
        start.ssl_conn.set_accept_state()

    def _start_server_tls(self, start: tls.TlsData) -> None:
        assert self.target is not None
        assert self.tenancy is not None
        connection, client = start.conn, start.context.client
        connection.sni = self.target.host
        offers = [client.alpn] if client.alpn else client.alpn_offers
        connection.alpn_offers = [each for each in _HTTP_PROTOCOLS if each in offers] or [b"http/1.1"]
        start.ssl_conn = SSL.Connection(self.engine.to_servers.get(self.tenancy.trust))
        _verify_name(start.ssl_conn, self.target.host)
        start.ssl_conn.set_alpn_protos(list(connection.alpn_offers))
        start.ssl_conn.set_connect_state()


def _filtered(through: Filter, data: bytes) -> Iterator[bytes]:
    """What the child gets for a piece of a body, in portions; an empty piece is its end."""
    found = through.feed(data) if data else through.finish()
    while found or through.has_more:
        if found:
            yield found
        found = through.feed(b"") if through.has_more else b""


def _protocol_for_child(server: Connection) -> bytes:
    """What the child is to speak: what the server speaks; without one, what any program can read an error in."""
    return b"h2" if server.alpn == b"h2" else b"http/1.1"


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:  # noqa: ANN401  # pyOpenSSL's marker is private
    wanted = connection.get_app_data()
    if wanted in offered:
        return wanted
    return b"h2" if b"h2" in offered else SSL.NO_OVERLAPPING_PROTOCOLS  # gRPC knows nothing else


def _child_context(chain: bytes, key: bytes) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key))
    leaf, issuer = x509.load_pem_x509_certificates(chain)
    context.use_certificate(crypto.X509.from_cryptography(leaf))
    context.add_extra_chain_cert(crypto.X509.from_cryptography(issuer))
    context.set_alpn_select_callback(cast("Any", _choose_protocol))  # its type is wrong in pyOpenSSL's own stubs
    return context


def _upstream_context(trust: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER)
    context.load_verify_locations(str(trust))
    return context


def _verify_name(connection: SSL.Connection, host: str) -> None:
    """Have OpenSSL check that the certificate is for this host (RFC 6125 §6), and send the name (RFC 6066 §3)."""
    library = cast("Any", _util.lib)
    parameters = library.SSL_get0_param(cast("Any", connection)._ssl)  # noqa: SLF001  # pyOpenSSL has no call for it
    library.X509_VERIFY_PARAM_set_hostflags(parameters, library.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
    literal = address.parse_literal(host)
    if literal is None:
        name = host.encode("ascii")
        connection.set_tlsext_host_name(name)
        is_set = library.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
    else:
        is_set = library.X509_VERIFY_PARAM_set1_ip(parameters, literal.packed, len(literal.packed))
    if is_set != 1:
        raise RuntimeError("OpenSSL did not take the host's name")
