"""mitmproxy's protocol layers, bent where a credential proxy needs something else.

What is different: the proxy's own answers are problem details, not HTML; a request can be refused before its body is
read; CONNECT either tunnels or intercepts and never guesses; trailers pass over HTTP/1.1; interim responses are not
taken for final ones; heads have a limit; what waits for an HTTP/2 window can be counted; a server that announces the
end of an HTTP/2 connection still answers what it has begun with.

Rule: this is the one file that knows mitmproxy's inside. The layers find one another by names in mitmproxy's modules,
so `install()` puts ours there; the functional tests fail when a new mitmproxy has moved them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

import h2.events
import h11
from h2.connection import ConnectionInputs, ConnectionState
from h11._readers import ChunkedReader, Http10Reader
from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.net.http import http1, status_codes
from mitmproxy.options import Options as MitmproxyOptions
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import tls as tls_layers
from mitmproxy.proxy.layers.http import _http1, _http2
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.tcp import TCPLayer
from mitmproxy.proxy.layers.tls import ClientTLSLayer, ServerTLSLayer
from OpenSSL import SSL

from authsome import clock
from authsome.errors import AuthsomeError, EndpointUnreachable, RequestInvalid
from authsome.message import clean_line
from authsome.proxy import answers, secure
from authsome.proxy.answers import Answer
from authsome.proxy.exchange import Exchange
from authsome.proxy.rules import Opening, Target
from authsome.proxy.scrub import Filter

EXCHANGE: Final = "authsome.exchange"
"""Where a flow keeps what is decided about its request."""
OPENING: Final = "authsome.opening"
"""Where a CONNECT's flow keeps the decision."""
FILTER: Final = "authsome.filter"
"""Where a flow keeps what the server's bytes go through after a 101."""
REPEATED: Final = "authsome.repeated"
"""In a flow whose request has been sent a second time."""
INSTEAD: Final = "authsome.instead"
"""Where a flow keeps the body of our own answer, when the server's head had come already."""
_HEAD_LIMIT: Final = 256 * 1024  # nginx, the most generous of the usual servers when tuned, takes 64 KiB by default
_WORDS: Final = re.compile(
    r"server closed connection|peer closed connection|EOF|stream reset by client \([A-Z0-9_]+\)"
    r"|the server's connection was cut|the response's headers are too large"
)
"""Why there is no response, in words that quote nothing. Most of mitmproxy's go on with the server's own, in which
there may be a secret."""
_OF_TLS: Final = re.compile(
    r"(?:Certificate verify failed: |The remote server |OpenSSL |connection closed|(?:ssl/tls|sslv3|tlsv1) alert ).*"
)
"""Why there is no TLS with a server, in OpenSSL's words: it has been sent nothing that it could give back."""
_UNPROCESSED: Final = "the server took no more requests on a connection"
"""Of a request, which it has done nothing about (RFC 9113 §6.8)."""
_DISTRUSTED: Final = "Certificate verify failed: "
"""How mitmproxy begins what OpenSSL says of a certificate."""
_ADVICE: Final = ", refusing to prevent"
"""Where mitmproxy begins to name a setting of its own, which nobody has here."""
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
_SWITCHING: Final = 101
_FIRST_SILENT_STATUS: Final = 440  # mitmproxy 11 says "answer nothing" by 444 and 499
_IDLE_SECONDS: Final = 24 * 3600  # a tunnel or a WebSocket may be silent for long; the end of the run ends it


class Failure(str):
    """A text that mitmproxy carries from where a connection failed to where that is answered, with the error itself."""

    __slots__ = ("answer", "error")
    error: AuthsomeError
    answer: Answer | None
    """What the child is told, where more is known than the error."""

    def __new__(cls, error: AuthsomeError, answer: Answer | None = None) -> Self:
        """The error's message, and the error."""
        self = super().__new__(cls, error.message)
        self.error, self.answer = error, answer
        return self


@dataclass(slots=True, kw_only=True)
class Options:
    """What the layers ask of mitmproxy's options; one object per client connection, so that they can tell it things."""

    body_size_limit: str | None = None
    connection_strategy: str = "lazy"
    http2_ping_keepalive: int = 58
    http3: bool = False
    http_connect_send_host_header: bool = True
    keep_host_header: bool = False
    normalize_outbound_headers: bool = True
    proxy_debug: bool = False
    proxyauth: str | None = None
    rawtcp: bool = True
    store_streamed_bodies: bool = False
    stream_large_bodies: str | None = None
    tcp_timeout: int = _IDLE_SECONDS
    validate_inbound_headers: bool = True
    websocket: bool = False
    cut: set[str] = field(default_factory=set)
    """The servers' connections that ended without TLS's goodbye."""
    windows: "list[_Http2]" = field(default_factory=list)
    """The HTTP/2 connections of this client, with it and with servers; some may have ended."""

    child: "Http1Server | None" = None
    """HTTP/1.1 with the child, where it speaks that."""

    @property
    def pipelined_bytes(self) -> int:
        """How much of later requests has come while a response is under way."""
        return len(self.child.buf) if self.child is not None and self.child.state == self.child.wait else 0

    def watch(self, connection: "_Http2") -> None:
        """Count what waits on a new connection; those that have ended are let go."""
        self.windows = [*(each for each in self.windows if each.conn.connected), connection]

    def waiting_bytes(self, side: type[_http2.Http2Connection]) -> int:
        """How much data waits for the peers on one side to open their windows (RFC 9113 §5.2)."""
        return sum(
            len(chunk.data)
            for connection in self.windows
            if isinstance(connection, side) and connection.conn.connected
            for queue in connection.h2_conn.stream_buffers.values()
            for chunk in queue
        ) + sum(connection.queued_bytes for connection in self.windows if isinstance(connection, side))

    def for_mitmproxy(self) -> MitmproxyOptions:
        """The same object under the type that mitmproxy's signatures want."""
        return cast("MitmproxyOptions", self)


def response_of(answer: Answer) -> http.Response:
    """One of our own answers as mitmproxy has responses."""
    response = http.Response.make(answer.status, answer.body, http.Headers(answer.fields))
    response.data.reason = answer.reason
    return response


def bytes_of(answer: Answer) -> bytes:
    """One of our own answers as it goes over HTTP/1.1."""
    return cast("bytes", http1.assemble_response(response_of(answer)))  # type: ignore[no-untyped-call]


def answer_to(code: object, message: str, address: Sequence[object] | None) -> Answer | None:
    """What a child is told of a protocol error; None: nothing, the connection just ends.

    Args:
        code: mitmproxy's: a status (11) or an enumeration (12).
        message: mitmproxy's text, or a `Failure`.
        address: where the connection leads, if that is known.
    """
    status = code if isinstance(code, int) else cast("Any", code).http_status_code()
    if status is None or _FIRST_SILENT_STATUS <= status < 500:
        return None
    target = Target(host=str(address[0]), port=int(str(address[1]))) if address else None
    if status < 500 and not isinstance(message, Failure):
        cause = message.partition(_ADVICE)[0]
        return answers.problem(RequestInvalid(clean_line(cause)), target=target, status=status, is_closing=True)
    if isinstance(message, Failure) and message.answer is not None:
        return message.answer
    return answers.problem(error_of(message, target), target=target, is_closing=True)


def error_of(message: str, target: Target | None) -> AuthsomeError:
    """Why a server could not be had, or its answer not be read; `message` as in `answer_to`."""
    if isinstance(message, Failure):
        return message.error
    if target is not None and message.startswith(_DISTRUSTED):
        return secure.distrusted(target, clean_line(message.removeprefix(_DISTRUSTED)))
    return EndpointUnreachable(f"{target.authority}: {clean_line(message)}" if target else clean_line(message))


def _cause(message: str) -> str:
    """Why a server's answer could not be had or read, without its words."""
    if not _WORDS.fullmatch(message):
        return "the server's answer is malformed or incomplete"
    return message.replace("by client", "by the server")


class GetConnection(http_layers.GetHttpConnection):
    """A request's wish for a connection to its server."""

    def connection_spec_matches(self, connection: Connection) -> bool:
        """Whether this one will do; not one whose end the server has announced."""
        return connection.timestamp_end is None and super().connection_spec_matches(connection)


@dataclass
class Room(commands.StartHook):  # type: ignore[no-untyped-call]  # what registers its name
    """Wait until the child has room."""

    flow: http.HTTPFlow


class Stream(http_layers.HttpStream):
    """One request and its response."""

    def start_request_stream(self) -> CommandGenerator[None]:
        """Answer a refused request now and let its body run into the ground, or go on as usual."""
        if self.flow.response is None:
            yield from super().start_request_stream()
        else:
            yield from self._answer(self.flow.response)

    def start_response_stream(self) -> CommandGenerator[None]:
        """Begin; where our own answer takes the place of the server's, have the server stop, and say all of it."""
        if INSTEAD not in self.flow.metadata:
            yield from super().start_response_stream()
            return
        yield from self._answer_instead()

    def _answer_instead(self) -> CommandGenerator[None]:
        assert self.flow.response is not None
        self.flow.response.raw_content = self.flow.metadata[INSTEAD]
        yield from self._stop_server()
        yield from self._answer(self.flow.response)

    def _stop_server(self) -> CommandGenerator[None]:
        """Hear no more of the server."""
        refused = RequestProtocolError(self.stream_id, "refused", RequestProtocolError.code)  # which mitmproxy 12 wants
        yield http_layers.SendHttp(refused, self.context.server)

    def _answer(self, response: http.Response) -> CommandGenerator[None]:
        """Send an answer of our own, and care no more for what else there is."""
        self.client_state = self.server_state = self.state_errored
        yield http_layers.SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        if self.flow.request.method != "HEAD":
            yield http_layers.SendHttp(ResponseData(self.stream_id, response.raw_content or b""), self.context.client)
        yield http_layers.SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        self.flow.live = False
        yield http_layers.DropStream(self.stream_id)

    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:  # noqa: FBT001, FBT002
        """Send; where our own answer takes the place of the server's, that, and hear no more of the server."""
        if self.flow.response is not None and not already_streamed:
            if INSTEAD in self.flow.metadata:
                yield from self._answer_instead()
                return
            if self.flow.request.method == "HEAD":
                self.flow.response.raw_content = b""
        yield from super().send_response(already_streamed)

    def state_stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """Pass on what is in a piece; where that is much, as the child has room for it.

        A body that cannot be looked through to its end ends this request, and no other of its connections.
        """
        response = self.flow.response
        is_body = isinstance(event, ResponseData | ResponseEndOfMessage)
        if not is_body or response is None or not callable(response.stream):
            yield from super().state_stream_response_body(event)
            return
        has_passed = False
        try:
            for portion in cast("Iterable[bytes]", response.stream(getattr(event, "data", b""))):
                if has_passed:
                    yield Room(self.flow)
                yield http_layers.SendHttp(ResponseData(self.stream_id, portion), self.context.client)
                has_passed = True
        except AuthsomeError as error:
            yield from self._stop_server()
            broken = ResponseProtocolError(self.stream_id, Failure(error), ResponseProtocolError.code)
            yield from super().handle_protocol_error(broken)
            return
        if isinstance(event, ResponseEndOfMessage):
            yield from self.send_response(already_streamed=True)

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """Before a response breaks off, pass on what was held back of it; of one that never began, say whose it was.

        To HEAD the latter has no body.
        """
        response = self.flow.response
        if isinstance(event, ResponseProtocolError) and response is None:
            if event.message == _UNPROCESSED and self._can_repeat:
                yield from self._repeat()
                return
            event.message = self._failure(event.message)
        if isinstance(event, ResponseProtocolError) and response is None and self.flow.request.method == "HEAD":
            answer = answer_to(event.code, event.message, self.context.server.address)
            if answer is not None and self.client_state != self.state_errored:
                self.flow.response = response_of(answer)
                yield from self._answer(self.flow.response)
                return
        is_streaming = self.server_state == self.state_stream_response_body
        if isinstance(event, ResponseProtocolError) and is_streaming and response is not None:
            with suppress(AuthsomeError):  # it breaks off in the middle of its coding
                for chunk in cast("Iterable[bytes]", response.stream(b"")) if callable(response.stream) else ():
                    yield http_layers.SendHttp(ResponseData(self.stream_id, chunk), self.context.client)
        yield from super().handle_protocol_error(event)

    def check_invalid(self, request: bool) -> CommandGenerator[bool]:  # noqa: FBT001
        """Refuse what cannot be read; of a response, say whose it was."""
        checking = super().check_invalid(request)
        while True:
            try:
                command = next(checking)
            except StopIteration as end:
                return bool(end.value)
            event = getattr(command, "event", None)
            if not request and isinstance(event, ResponseProtocolError):
                event.message = self._failure(event.message)
            yield command

    @property
    def _can_repeat(self) -> bool:
        """Whether the request is there as it was sent, and its credential was asked for just now."""
        exchange = self.flow.metadata.get(EXCHANGE)
        is_whole = self.client_state == self.state_done and self.flow.request.raw_content is not None
        return is_whole and REPEATED not in self.flow.metadata and isinstance(exchange, Exchange) and exchange.is_fresh

    def _repeat(self) -> CommandGenerator[None]:
        """Send the request once more, by another connection."""
        self.flow.metadata[REPEATED] = True
        if not (yield from self.make_server_connection()):
            return
        request = self.flow.request
        content, trailers = request.raw_content, request.trailers
        parts: list[HttpEvent] = [RequestHeaders(self.stream_id, request, not (content or trailers))]
        if content:
            parts.append(RequestData(self.stream_id, content))
        if trailers:
            parts.append(RequestTrailers(self.stream_id, trailers))
        for part in (*parts, RequestEndOfMessage(self.stream_id)):
            yield http_layers.SendHttp(part, self.context.server)

    def _failure(self, message: str) -> str:
        """Why there is no response, as it is told to who asked."""
        exchange = self.flow.metadata.get(EXCHANGE)
        if not isinstance(exchange, Exchange):
            return message
        was_sent = not isinstance(message, Failure) and not _OF_TLS.fullmatch(message) and message != _UNPROCESSED
        error = error_of(_cause(message) if was_sent else message, exchange.target)
        return Failure(error, exchange.refusal(error, was_sent=was_sent, is_closing=True))

    def flow_done(self) -> CommandGenerator[None]:
        """End, or leave HTTP."""
        if self.flow.response is None or self.flow.response.status_code != _SWITCHING:
            yield from super().flow_done()
            return
        self.flow.live = False
        self.child_layer = Upgraded(self.context, self.flow.metadata.get(FILTER))
        self._handle_event = self.passthrough
        yield from self.child_layer.handle_event(events.Start())
        # Last, as what comes right behind the head is for the new layer.
        yield http_layers.SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def handle_connect_regular(self) -> CommandGenerator[None]:
        """Put a tunnel or our TLS after an accepted CONNECT."""
        if self.flow.response is None and self.flow.metadata[OPENING] is Opening.TUNNEL:
            # Dialled before the answer, so that the child learns from the status what is wrong.
            error = yield commands.OpenConnection(self.context.server)
            if error:
                answer = answer_to(status_codes.BAD_GATEWAY, error, self.context.server.address)
                assert answer is not None
                self.flow.response = response_of(answer)
            else:
                self.child_layer = TCPLayer(self.context, ignore=True)
        elif self.flow.response is None:
            self.child_layer = intercepting(self.context)
        yield from self.handle_connect_finish()  # type: ignore[no-untyped-call]


class Upgraded(TCPLayer):
    """The bytes after a 101, both ways as they are, but for the secrets in those to the child."""

    def __init__(self, context: Context, through: Filter | None) -> None:
        super().__init__(context, ignore=True)
        self._through = through

    def relay_messages(self, event: events.Event) -> CommandGenerator[None]:
        """Relay, through the filter."""
        is_from_server = isinstance(event, events.ConnectionEvent) and event.connection is self.context.server
        if self._through is None or not is_from_server:
            yield from super().relay_messages(event)
            return
        is_data = isinstance(event, events.DataReceived)
        data = self._through.feed(event.data) if isinstance(event, events.DataReceived) else self._through.finish()
        if data:
            yield commands.SendData(self.context.client, data)
        if not is_data:
            yield from super().relay_messages(event)


class Abort(commands.CloseConnection):
    """End a connection in the middle of a message, and let that be seen."""


class ChildTls(ClientTLSLayer):
    """TLS with the child."""

    def send_close(self, command: commands.CloseConnection) -> CommandGenerator[None]:
        """Say goodbye (RFC 8446 §6.1), by which a body without a length is known to be whole; but not for an abort."""
        if self.tls is not None and not isinstance(command, Abort):
            with suppress(SSL.Error):
                self.tls.shutdown()
                yield from self.tls_interact()
        yield from super().send_close(command)


class ServerTls(ServerTLSLayer):
    """TLS with the server."""

    def receive_close(self) -> CommandGenerator[None]:
        """Take note of an end without a goodbye: somebody may have cut the connection."""
        if not self.tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
            cast("Options", self.context.options).cut.add(self.conn.id)
        yield from super().receive_close()


def intercepting(context: Context) -> ServerTls:
    """What serves a connection behind an accepted CONNECT: our TLS, and HTTP in it."""
    outside, inside = ServerTls(context), ChildTls(context)
    outside.child_layer = inside
    inside.child_layer = http_layers.HttpLayer(context, http_layers.HTTPMode.transparent)
    return outside


class _Chunks(ChunkedReader):
    """Reads a chunked body and keeps its trailers, at which mitmproxy would give up."""

    trailers: list[tuple[bytes, bytes]] | None = None

    def __call__(self, buf: Any) -> Any:  # noqa: ANN401  # h11's own types are private
        event = super().__call__(buf)
        if isinstance(event, h11.EndOfMessage) and event.headers:
            self.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
            return h11.EndOfMessage()
        return event


class _Http1(_http1.Http1Connection):
    """What both ends of HTTP/1.1 need."""

    ReceiveTrailers: type[RequestTrailers | ResponseTrailers]
    trailers: http.Headers | None = None
    """Trailers to send with the end of the message."""

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """Pass trailers on, before the end of the message (RFC 9112 §7.1.2)."""
        for command in super().read_body(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, self.ReceiveEndOfMessage):
                trailers = getattr(self.body_reader, "trailers", None)
                if trailers:
                    yield ReceiveHttp(self.ReceiveTrailers(command.event.stream_id, http.Headers(trailers)))
            yield command

    def send_message(self, event: HttpEvent, is_chunked: bool) -> CommandGenerator[None]:  # noqa: FBT001
        """Send, and put trailers where a chunked body has them; another body has no place for them."""
        if isinstance(event, RequestTrailers | ResponseTrailers):
            self.trailers = event.trailers if is_chunked else None
            return
        for command in super().send(event):
            if self.trailers is not None and isinstance(command, commands.SendData) and command.data == b"0\r\n\r\n":
                lines = b"".join(b"%b: %b\r\n" % pair for pair in self.trailers.fields)
                command.data = b"0\r\n%b\r\n" % lines
                self.trailers = None
            yield command

    @property
    def has_endless_head(self) -> bool:
        """Whether a head has grown past all use without ending."""
        return len(self.buf) > _HEAD_LIMIT


def _is_chunked(message: http.Message | None) -> bool:
    return message is not None and "chunked" in message.headers.get("transfer-encoding", "").lower()


class Http1Server(_Http1, _http1.Http1Server):
    """HTTP/1.1 with the child."""

    ReceiveTrailers = RequestTrailers

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        cast("Options", context.options).child = self

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """Send a response, or our own answer where mitmproxy has an HTML page."""
        if isinstance(event, ResponseProtocolError) and self.response is None:
            answer = answer_to(event.code, event.message, self.context.server.address)
            if answer is not None and self.conn.connected:
                yield commands.SendData(self.conn, bytes_of(answer))
                yield commands.CloseConnection(self.conn)
                return
        if isinstance(event, ResponseProtocolError):
            yield Abort(self.conn)
            return
        yield from self.send_message(event, _is_chunked(self.response))

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """Read a request's head, if it ends some day."""
        yield from super().read_headers(event)
        if self.state == self.read_headers and self.has_endless_head:
            yield commands.SendData(self.conn, make_error_response(431, "the request's headers are too large"))
            yield commands.CloseConnection(self.conn)
            self.state = self.done


class Http1Client(_Http1, _http1.Http1Client):
    """HTTP/1.1 with the server."""

    ReceiveTrailers = ResponseTrailers

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """Read on; a body that ends with the connection has ended well only if TLS says so (RFC 9112 §9.8)."""
        is_end = isinstance(event, events.ConnectionClosed) and isinstance(self.body_reader, Http10Reader)
        if is_end and self.conn.id in cast("Options", self.context.options).cut and self.stream_id is not None:
            message = "the server's connection was cut"
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(self.ReceiveProtocolError(self.stream_id, message, self.ReceiveProtocolError.code))
            return
        yield from super().read_body(event)

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """Send a request; one from HTTP/2, which needs no length there, in chunks if it has none.

        Else the server would take its body for the next request.
        """
        if isinstance(event, RequestHeaders) and event.request.is_http2 and not event.end_stream:
            headers = event.request.headers
            if "content-length" not in headers:
                headers["transfer-encoding"] = "chunked"
        yield from self.send_message(event, _is_chunked(self.request))

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """Read a response's head; interim ones (RFC 9110 §15.2) end here, as 100 was answered by us already."""
        if isinstance(event, events.DataReceived):
            while _INTERIM.match(bytes(self.buf)):
                if self.buf.maybe_extract_lines() is None:
                    return
            if self.has_endless_head:
                yield commands.CloseConnection(self.conn)
                if self.stream_id is not None:
                    message = "the response's headers are too large"
                    yield ReceiveHttp(
                        self.ReceiveProtocolError(self.stream_id, message, self.ReceiveProtocolError.code)
                    )
                self.state = self.done
                return
        yield from super().read_headers(event)


class _Http2(_http2.Http2Connection):
    """What both ends of HTTP/2 need."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)  # type: ignore[call-arg]  # the concrete class comes in between
        cast("Options", context.options).watch(self)

    @property
    def queued_bytes(self) -> int:
        """How much waits for a stream that cannot be begun yet."""
        return 0


class Http2Server(_Http2, _http2.Http2Server):
    """HTTP/2 with the child."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and self.is_open_for_us(event.stream_id):
            stream = self.h2_conn.streams[event.stream_id]
            answer = answer_to(event.code, event.message, self.context.server.address)
            if answer is not None and not stream.state_machine.headers_sent:
                fields = [(name.lower(), value) for name, value in answer.fields if name != b"Connection"]
                self.h2_conn.send_headers(event.stream_id, [(b":status", b"%d" % answer.status), *fields])
                self.h2_conn.send_data(event.stream_id, answer.body, end_stream=True)
                yield commands.SendData(self.conn, self.h2_conn.data_to_send())
                return
        yield from super()._handle_event(event)


class Http2Client(_Http2, _http2.Http2Client):
    """HTTP/2 with the server.

    One that announces the connection's end, as all do some day, still answers what it has begun with.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        machine = cast("Any", self.h2_conn.state_machine)
        # h2 takes that announcement for the end itself.
        goes_on = {(ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN)}
        machine._transitions = {**machine._transitions, **goes_on}  # noqa: SLF001
        self._unprocessed: list[int] = []
        """Requests that it will not begin with any more, by the child's numbers."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """Go on; behind an announced end nothing is begun, and who asked is told."""
        is_late = isinstance(event, HttpEvent) and event.stream_id not in self.our_stream_id and self._is_ending
        if not is_late:
            yield from super()._handle_event(event)
        elif isinstance(event, RequestHeaders):
            self._unprocessed.append(event.stream_id)
        unprocessed, self._unprocessed = self._unprocessed, []
        for number in unprocessed:
            yield ReceiveHttp(ResponseProtocolError(number, _UNPROCESSED, ResponseProtocolError.code))

    @property
    def _is_ending(self) -> bool:
        return self.conn.timestamp_end is not None

    def handle_h2_event(self, event: h2.events.Event) -> CommandGenerator[bool]:
        """Take note of an announced end: no request comes here any more, and those too many have to go elsewhere."""
        if not isinstance(event, h2.events.ConnectionTerminated):
            return (yield from super().handle_h2_event(event))
        self.conn.timestamp_end = clock.steady()  # any time: it is but a mark
        self._unprocessed += self.stream_queue
        self.stream_queue.clear()
        for ours in [each for each in self.streams if each > (event.last_stream_id or 0)]:
            del self.streams[ours]
            self._unprocessed.append(self.their_stream_id[ours])
        return False

    @property
    def queued_bytes(self) -> int:
        """See `_Http2`: the server takes so many requests at once and no more (RFC 9113 §5.1.2)."""
        queued = (event for queue in self.stream_queue.values() for event in queue)
        return sum(len(event.data) for event in queued if isinstance(event, RequestData))


def make_error_response(status_code: int, message: str = "") -> bytes:
    """The whole response to a request that cannot be read."""
    answer = answer_to(status_code, message, None)
    assert answer is not None
    return bytes_of(answer)


def install() -> None:
    """Put our layers where mitmproxy's look for one another."""
    for name, ours in _REPLACED.items():
        setattr(http_layers, name, ours)
    tls_layers.ServerTLSLayer = ServerTls  # type: ignore[misc]  # for a server that is dialled anew
    _http1.ChunkedReader = _Chunks  # type: ignore[attr-defined]
    _http1.make_error_response = make_error_response


_REPLACED: Final[Mapping[str, type]] = {
    "GetHttpConnection": GetConnection,
    "Http1Client": Http1Client,
    "Http1Server": Http1Server,
    "Http2Client": Http2Client,
    "Http2Server": Http2Server,
    "HttpStream": Stream,
}
