"""The full engine: mitmproxy's protocol core, driven by the rule book.

Of mitmproxy only the layers are used (HTTP/1.1, HTTP/2, TLS as state machines without I/O), and its driver of one
connection. Its Master, addons, options, certificate store and address book are left out: nothing is written to disk,
nothing is read from the environment, nothing is kept of what passes.

Rule: every hook fails closed. What cannot be decided is answered by us, and nothing of it goes to a server.
"""

import asyncio
import logging
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

from mitmproxy import http, tls
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import tcp as tcp_layers
from mitmproxy.proxy.layers import tls as tls_layers
from mitmproxy.proxy.layers.http import _hooks as http_hooks
from mitmproxy.proxy.server import ConnectionIO, LiveConnectionHandler
from OpenSSL import SSL, _util, crypto

from authsome import address
from authsome.address import AddressPolicy
from authsome.clock import Clock
from authsome.errors import AuthsomeError, CredentialUnavailable, RequestInvalid, RouteAmbiguous
from authsome.models.route import Route, RouteTable
from authsome.proxy import answers, inject, layers, rules
from authsome.proxy.authority import Issuer
from authsome.proxy.dial import dial
from authsome.proxy.inject import Credential, Head
from authsome.proxy.rules import Lease, Opening, Target
from authsome.transport import DIRECT, Outbound

log = logging.getLogger(__name__)

_REFUSED: Final = "authsome.refused"
_CREDENTIAL: Final = "authsome.credential"
_PROVIDER: Final = "authsome.provider"
_ROUTES_SECONDS: Final = 1.0  # how long a route table serves new connections before the daemon is asked again
_REFRESH_SECONDS: Final = 10.0  # how long a 401 waits for the refresh that it caused
_WINDOW_LIMIT: Final = 4 * 1024 * 1024  # bytes that may wait for a slow HTTP/2 peer before its partner is read on
_CONTEXTS: Final = 256
_HTTP_PROTOCOLS: Final = (b"h2", b"http/1.1")


class CredentialSource(Protocol):
    """Where credentials come from: the daemon."""

    async def resolve(
        self, method: str, target: Target, path: str, *, provider: str, is_rejected: bool = False
    ) -> Credential:
        """What goes on a request."""

    async def routes(self) -> RouteTable:
        """The run's routes as of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What an engine stands on."""

    lease: Lease
    source: CredentialSource
    issuer: Issuer
    trust: Path
    """A PEM file with the roots that servers are verified against."""
    table: RouteTable
    clock: Clock
    tunnel_policy: AddressPolicy
    """What a tunnel, or a plain request, may reach."""
    outbound: Outbound = DIRECT
    own_ports: frozenset[int] = frozenset()


class Engine:
    """Listens for one run's child and serves it."""

    def __init__(self, ground: Ground) -> None:
        layers.install()
        self.ground = ground
        self.upstream = _upstream_context(ground.trust)
        self._table = ground.table
        self._table_until = 0.0
        self._table_lock = asyncio.Lock()
        self._contexts: OrderedDict[str, SSL.Context] = OrderedDict()
        self._rejected: dict[tuple[str, str], str] = {}
        self._server: asyncio.Server | None = None
        self._own_ports = ground.own_ports
        self._children: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        """Listen on 127.0.0.1; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        port: int = self._server.sockets[0].getsockname()[1]
        self._own_ports |= {port}
        return port

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for child in self._children:
            child.cancel()
        await asyncio.gather(*self._children, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._children.add(task)
        try:
            await Child(self, reader, writer).handle_client()
        finally:
            self._children.discard(task)

    async def table(self) -> RouteTable:
        """The run's routes, a second old at most; the last ones known when the daemon cannot be asked.

        Old routes can only lead to a request that the daemon then refuses, or to a tunnel.
        """
        loop = asyncio.get_running_loop()
        async with self._table_lock:
            if loop.time() >= self._table_until:
                try:
                    self._table = await self.ground.source.routes()
                except AuthsomeError as error:
                    log.warning("the routes could not be renewed: %s", error.message)
                self._table_until = loop.time() + _ROUTES_SECONDS
        return self._table

    def policy(self, target: Target, *, is_routed: bool) -> AddressPolicy:
        """Where a target may lie."""
        if not is_routed:
            policy = self.ground.tunnel_policy
            return AddressPolicy(
                allow_private=policy.allow_private, allow_intranet=policy.allow_intranet, own_ports=self._own_ports
            )
        tables = (self._table, self.ground.table)
        allowed = any(table.allows_private_addresses(target.host, target.port) for table in tables)
        return AddressPolicy(allow_private=allowed, own_ports=self._own_ports)

    def server_context(self, host: str) -> SSL.Context:
        """The TLS context that stands in for a host."""
        context = self._contexts.get(host)
        if context is None:
            context = _child_context(self.ground.issuer, host)
            self._contexts[host] = context
            if len(self._contexts) > _CONTEXTS:
                self._contexts.popitem(last=False)
        return context

    def route(self, target: Target, path: str) -> Route | None:
        """The route of a request; None: it belongs to none and goes as it is.

        Raises:
            RouteAmbiguous: more than one claims it equally.
            CredentialUnavailable: it had one when the run began: what the child sends would be a placeholder.
        """
        route = self._table.decide(target.host, target.port, path)
        if route == "ambiguous":
            raise RouteAmbiguous(f"more than one connection claims {target.authority}")
        if route != "none":
            return route
        before = self.ground.table.decide(target.host, target.port, path)
        if before == "none":
            return None
        provider = "its provider" if before == "ambiguous" else before.provider
        hint = "log in again" if before == "ambiguous" else f"log in again: authsome login {provider}"
        raise CredentialUnavailable(f"{provider} is no longer connected", hint=hint)

    async def rejected(self, method: str, target: Target, path: str, credential: Credential) -> None:
        """A server has answered 401 to a credential: have it refreshed, once per credential."""
        key = (credential.provider, credential.connection)
        if self._rejected.get(key) == credential.credential_id:
            return
        self._rejected[key] = credential.credential_id
        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                await self.ground.source.resolve(method, target, path, provider=credential.provider, is_rejected=True)
        except TimeoutError:
            log.warning("%s: the refresh after a 401 takes long", credential.provider)
        except AuthsomeError as error:
            log.warning("%s: refused, and not refreshed: %s", credential.provider, error.message)


class Child(LiveConnectionHandler):
    """One connection of the child, and the servers that it leads to."""

    def __init__(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.engine = engine
        self.options = layers.Options()
        super().__init__(reader, writer, self.options.for_mitmproxy(), mode_specs.ProxyMode.parse("regular"))
        context = self.layer.context
        context.layers.clear()
        self.layer = http_layers.HttpLayer(context, http_layers.HTTPMode.regular)
        self.timeout_watchdog.timeout = self.options.tcp_timeout
        self.target: Target | None = None
        """Where this connection leads, once a CONNECT was accepted."""
        self.is_intercepted = False
        self.misdirected: AuthsomeError | None = None
        self.has_failed = False
        self.moved = asyncio.Event()

    def log(self, message: str, level: int = logging.INFO, exc_info: object = None) -> None:  # noqa: ARG002
        """Keep mitmproxy's own words out of the log: they quote what passes. A crash ends the connection."""
        if level >= logging.ERROR:
            log.error("the engine failed", exc_info=sys.exc_info() if exc_info is True else None)
            self.has_failed = True

    async def server_event(self, event: events.Event) -> None:
        """Handle an event, and wake whoever waits for room."""
        await super().server_event(event)
        self.moved.set()
        if self.has_failed and self.client in self.transports:
            self.close_connection(self.client)

    async def drain_writers(self) -> None:
        """Wait for slow peers before reading on, those behind an HTTP/2 window too."""
        await super().drain_writers()  # type: ignore[no-untyped-call]
        # A reader waits for the other side only: its own peer's window updates come through itself.
        own = self.transports.get(self.client)
        is_from_child = own is not None and asyncio.current_task() is own.handler
        other = layers.Http2Client if is_from_child else layers.Http2Server
        while self.options.waiting_bytes(other) > _WINDOW_LIMIT:
            self.moved.clear()
            await self.moved.wait()

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Dial a server by the address guard."""
        connection = command.connection
        assert isinstance(connection, Server)
        assert connection.address is not None
        target = Target(host=connection.address[0], port=connection.address[1])
        policy = self.engine.policy(target, is_routed=self.is_intercepted)
        loop = asyncio.get_running_loop()
        try:
            connection.timestamp_start = loop.time()
            reader, writer = await dial(target, policy, self.engine.ground.outbound)
        except AuthsomeError as error:
            await self._fail_to_open(command, error)
            return
        except Exception:
            log.exception("a server could not be dialled")
            await self._fail_to_open(command, AuthsomeError("the proxy failed", hint="see `authsome doctor`"))
            return
        connection.state = ConnectionState.OPEN
        connection.peername = writer.get_extra_info("peername")
        connection.sockname = writer.get_extra_info("sockname")
        self.transports[connection] = ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
        await self.server_event(events.OpenConnectionCompleted(command, None))
        await self.handle_connection(connection)

    async def _fail_to_open(self, command: commands.OpenConnection, error: AuthsomeError) -> None:
        command.connection.error = layers.Failure(error)
        await self.server_event(events.OpenConnectionCompleted(command, command.connection.error))

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Decide what mitmproxy asks; the names and order of its hooks are in its `layers`."""
        match hook:
            case http_hooks.HttpConnectHook(flow=flow):
                await self._guarded(flow, self._connect)
            case http_hooks.HttpRequestHeadersHook(flow=flow):
                await self._guarded(flow, self._request)
            case http_hooks.HttpRequestHook(flow=flow):
                self._request_trailers(flow)
            case http_hooks.HttpResponseHeadersHook(flow=flow):
                await self._guarded(flow, self._response)
            case tcp_layers.TcpMessageHook(flow=stream):
                stream.messages.clear()
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

    def _refuse(self, flow: http.HTTPFlow, error: AuthsomeError) -> None:
        target = self.target or rules.target_of(flow.request.host, flow.request.port)
        answer = answers.problem(error, target=target, provider=flow.metadata.get(_PROVIDER))
        flow.metadata[_REFUSED] = True
        flow.response = layers.response_of(answer)
        flow.request.headers.pop("expect", None)
        flow.request.stream = True
        log.info("refused %s: %s", target.authority, error.code)

    async def _connect(self, flow: http.HTTPFlow) -> None:
        """A CONNECT: whose is it, where to, and what becomes of it."""
        ground = self.engine.ground
        ground.lease.admit(flow.request.headers.get_all("proxy-authorization"), ground.clock())
        target = rules.target_of(flow.request.host, flow.request.port)
        opening = ground.lease.opening(await self.engine.table(), ground.table, target)
        flow.request.data.host = target.host
        flow.metadata[layers.OPENING] = opening
        self.target = target
        self.is_intercepted = opening is Opening.INTERCEPT

    async def _request(self, flow: http.HTTPFlow) -> None:
        """A request's head: on an intercepted connection it may get a credential, else it passes as it is."""
        if flow.error is not None:
            return  # malformed; mitmproxy is answering it already
        if self.target is None:
            self._plain(flow)
        else:
            await self._intercepted(flow, self.target)
        flow.request.stream = True

    def _plain(self, flow: http.HTTPFlow) -> None:
        """A request in clear text for a proxy to pass on (RFC 9112 §3.2.2): never with a credential."""
        ground, request = self.engine.ground, flow.request
        ground.lease.admit(request.headers.get_all("proxy-authorization"), ground.clock())
        if request.scheme != "http":
            raise RequestInvalid("this proxy takes https by CONNECT only")
        target = rules.target_of(request.host, request.port)
        ground.lease.allow_unmatched(target)
        fields = inject.forwardable(request.headers.fields)
        if not target.host.isascii():
            raise RequestInvalid("a host is written in ASCII, an IDN as xn--…")
        host = target.http_host.encode("ascii")
        request.headers = http.Headers(((b"Host", host), *inject.without(fields, ("Host",))))

    async def _intercepted(self, flow: http.HTTPFlow, target: Target) -> None:
        """A request that we see in clear: checked against the connection, then given its credential."""
        request = flow.request
        self.engine.ground.lease.check_time(self.engine.ground.clock())
        if self.misdirected is not None:
            raise self.misdirected
        if not self.is_intercepted or request.scheme != "https":
            raise RequestInvalid("a request in clear text on a connection that was opened for a tunnel")
        authorities = request.headers.get_all("host")
        if request.authority:
            authorities.append(request.authority)
        rules.check_authorities(target, authorities)
        if flow.server_conn.error is not None:
            return  # the server cannot be had: no credential is asked for, and mitmproxy answers
        fields = inject.forwardable(request.headers.fields, keep_trailers_option=request.is_http2)
        head = Head(target=request.data.path, fields=fields)
        path = head.target.partition(b"?")[0].decode("latin-1")
        route = self.engine.route(target, path)
        if route is not None:
            flow.metadata[_PROVIDER] = route.provider
            credential = await self.engine.ground.source.resolve(request.method, target, path, provider=route.provider)
            flow.metadata[_CREDENTIAL] = credential
            head = inject.injected(head, credential)
        if not request.is_http2:
            request.authority = ""
        request.data.path = head.target
        request.headers = http.Headers(head.fields)

    def _request_trailers(self, flow: http.HTTPFlow) -> None:
        """Trailers are headers that come late: what may not stand in the head may not stand there."""
        trailers, credential = flow.request.trailers, flow.metadata.get(_CREDENTIAL)
        if trailers is not None and isinstance(credential, Credential):
            names = (*credential.remove, *(name for name, _ in credential.set))
            flow.request.trailers = http.Headers(inject.without(trailers.fields, names))

    async def _response(self, flow: http.HTTPFlow) -> None:
        """A response's head; a 401 to our credential has it refreshed for the next request."""
        if flow.metadata.get(_REFUSED) or flow.response is None:
            return
        response, credential = flow.response, flow.metadata.get(_CREDENTIAL)
        response.stream = True
        fields = response.headers.fields
        response.headers = http.Headers(inject.response_fields(fields) if self.target else inject.forwardable(fields))
        if response.status_code == 401 and isinstance(credential, Credential) and self.target is not None:
            path = flow.request.data.path.partition(b"?")[0].decode("latin-1")
            await self.engine.rejected(flow.request.method, self.target, path, credential)

    def _client_hello(self, hello: tls.ClientHelloData) -> None:
        """TLS begins: the server comes first, so that the child is offered the protocol that the server speaks."""
        assert self.target is not None
        try:
            rules.check_server_name(self.target, hello.client_hello.sni)
        except AuthsomeError as error:
            self.misdirected = error
        hello.establish_server_tls_first = self.misdirected is None

    def _start_child_tls(self, start: tls.TlsData) -> None:
        assert self.target is not None
        start.ssl_conn = SSL.Connection(self.engine.server_context(self.target.host))
        start.ssl_conn.set_app_data(_protocol_for_child(start.context.server))
        start.ssl_conn.set_accept_state()

    def _start_server_tls(self, start: tls.TlsData) -> None:
        assert self.target is not None
        connection, client = start.conn, start.context.client
        connection.sni = self.target.host
        offers = [client.alpn] if client.alpn else client.alpn_offers
        connection.alpn_offers = [each for each in _HTTP_PROTOCOLS if each in offers] or [b"http/1.1"]
        start.ssl_conn = SSL.Connection(self.engine.upstream)
        _verify_name(start.ssl_conn, self.target.host)
        start.ssl_conn.set_alpn_protos(list(connection.alpn_offers))
        start.ssl_conn.set_connect_state()


def _protocol_for_child(server: Connection) -> bytes:
    """What the child is to speak: what the server speaks; without one, what any program can read an error in."""
    return b"h2" if server.alpn == b"h2" else b"http/1.1"


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:  # noqa: ANN401  # pyOpenSSL's marker is private
    wanted = connection.get_app_data()
    if wanted in offered:
        return wanted
    return b"h2" if b"h2" in offered else SSL.NO_OVERLAPPING_PROTOCOLS  # gRPC knows nothing else


def _child_context(issuer: Issuer, host: str) -> SSL.Context:
    leaf = issuer.issue(host)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_privatekey(crypto.PKey.from_cryptography_key(leaf.key))
    context.use_certificate(crypto.X509.from_cryptography(leaf.certificate))
    context.add_extra_chain_cert(crypto.X509.from_cryptography(leaf.issuer))
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
