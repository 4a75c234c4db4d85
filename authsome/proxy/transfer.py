"""One exchange on the wire: the request to the server, the response to the child, as they come, and nothing kept.

Both directions move at the same time, as a server may answer before it has the whole request, and a WebSocket has no
order at all. Rule: a response that breaks off breaks off for the child too; it is never made whole.
"""

from contextlib import suppress
from enum import Enum, auto
from typing import Never

from authsome.errors import AuthsomeError, EndpointUnreachable
from authsome.proxy import http1
from authsome.proxy.exchange import Exchange
from authsome.proxy.http1 import Body, Request, Response
from authsome.proxy.scrub import Filter
from authsome.proxy.side import Cut, Pair, Side, wait


class Outcome(Enum):
    """What has become of the two connections."""

    KEPT = auto()
    """Both can carry another exchange."""
    ENDED = auto()
    """The response is whole, and was the last one."""
    UPGRADED = auto()
    """They have left HTTP, and ended."""


class Unanswered(Exception):
    """There is no response, and none of it has reached the child: it can be told so."""

    def __init__(self, error: AuthsomeError) -> None:
        self.error = error
        super().__init__(error.message)


class Stale(Exception):
    """A kept connection has ended as the request was sent; the server may have seen it or not (RFC 9112 §9.3.1)."""


class Transfer:
    """One exchange."""

    def __init__(self, child: Side, server: Side, exchange: Exchange, request: Request, body: Body) -> None:
        self._child = child
        self._server = server
        self._exchange = exchange
        self._request = request
        self._upload = body
        self._is_upload_chunked = isinstance(body, http1.Chunked)
        self._is_upload_lost = False
        self._head = b""
        """Of a response, as far as it has come."""
        self._response: Response | None = None
        self._download: Body = http1.Counted(0)
        self._filter: Filter | None = None
        self._is_download_chunked = False
        self._is_last = request.is_last

    def run(self, head: bytes) -> Outcome:
        """Carry the request, whose head is sent like this, and its response.

        Raises:
            Unanswered: no response came, or none that can be passed on.
            Stale: the server had ended the connection before.
            Cut: one of the two connections broke off, or the response did.
            http1.Refused: the child's body is malformed.
        """
        self._send_first(head)
        return self._finish()

    def resume(self, received: bytes) -> Outcome:
        """Go on with a request that has been sent, and of whose response this much has come.

        Raises:
            as `run`.
        """
        if received:
            self._answer(received)
        return self._finish()

    def take(self, received: bytes) -> bool:
        """Pass on what has come of the response to a request that has been sent; does not wait.

        Returns:
            Whether that is all, and both connections can carry another exchange; else `resume` goes on.

        Raises:
            as `run`.
        """
        self._answer(received)
        if not self._is_answered or self._is_last:
            return False
        self._server.used += 1
        return True

    def _finish(self) -> Outcome:
        child, server = self._child, self._server
        while not (self._is_answered and (self._upload.is_complete or self._is_upload_lost)):
            if self._has_more and child.has_room:
                self._pass_more()
                continue
            if self._is_answered and self._request.values(b"expect"):
                return Outcome.ENDED  # the child may send its body or leave it: what comes next cannot be told
            is_uploading = not self._upload.is_complete
            # Behind the body, reading tells that the child has gone; one read ahead of the next request is enough.
            is_child_read = server.has_room or self._is_upload_lost if is_uploading else not child.unread
            is_server_read = not self._is_answered and child.has_room and not self._has_more
            try:
                ready = wait((child, is_child_read), (server, is_server_read))
            except Cut as cut:
                self._lose_upload(cut)
                continue
            if child in ready:
                self._from_child(child.receive())
            if server in ready:
                self._from_server()
            if self._response is not None and self._response.status == 101:
                self._relay_upgraded()
                return Outcome.UPGRADED
        server.used += 1
        return Outcome.ENDED if self._is_last or self._is_upload_lost else Outcome.KEPT

    @property
    def _is_answered(self) -> bool:
        return self._response is not None and self._download.is_complete and not self._has_more

    @property
    def _has_more(self) -> bool:
        """Whether there is more for the child in what has come already."""
        return self._filter is not None and self._filter.has_more

    def _send_first(self, head: bytes) -> None:
        """Head and what is there of the body in one write, as servers answer late to two (RFC 9293 §3.7.4)."""
        unread, self._child.unread = self._child.unread, b""
        body = b""
        if self._upload.is_complete:
            self._child.unread = unread
        elif unread:
            body = self._uploaded(unread)
        try:
            self._server.send(head + body)
        except Cut as cut:
            self._lose_upload(cut)

    def _uploaded(self, data: bytes) -> bytes:
        content, self._child.unread = self._upload.feed(data)
        if not self._is_upload_chunked:
            return content
        found = http1.chunk(content)
        if self._upload.is_complete:
            try:
                found += http1.last_chunk(self._exchange.request_trailers(self._upload.trailers))
            except AuthsomeError as error:
                raise http1.Refused(error.message) from error
        return found

    def _from_child(self, data: bytes | None) -> None:
        if data == b"":
            raise Cut(self._child)
        if data is None:
            return
        if self._upload.is_complete:
            self._child.unread = data
            return
        try:
            found = self._uploaded(data)
        except http1.Refused as refused:
            if self._response is not None:  # which would be filled up with what says so
                raise Cut(self._child) from refused
            raise
        if not self._is_upload_lost:
            try:
                self._server.send(found)
            except Cut as cut:
                self._lose_upload(cut)

    def _lose_upload(self, cut: Cut) -> None:
        """The server takes no more of the request; what it has said of it is still worth reading."""
        if self._is_upload_lost or cut.side is not self._server:
            raise cut
        self._is_upload_lost = True
        self._server.forget_unsent()

    def _from_server(self) -> None:
        try:
            data = self._server.receive()
        except Cut:
            if self._response is None:
                self._fail("the server's connection was cut")
            self._break_off()
            raise
        if data:
            self._answer(data)
        elif data == b"":
            self._is_last = True
            if self._response is None:
                self._fail("the server ended the connection without an answer")
            elif not self._download.close():
                self._break_off()
                raise Cut(self._server)
            else:
                self._child.send(self._ending())

    def _fail(self, message: str) -> Never:
        if self._server.used and not self._head:
            raise Stale
        raise Unanswered(EndpointUnreachable(f"{self._exchange.target.authority}: {message}"))

    def _answer(self, data: bytes) -> None:
        found = b""
        if self._response is None:
            self._head += data
            try:
                found, data = self._heads()
            except http1.Refused as error:
                raise Unanswered(
                    EndpointUnreachable(f"{self._exchange.target.authority}: the server's answer: {error.message}")
                ) from error
            except AuthsomeError as error:
                raise Unanswered(error) from error
        try:
            found += self._downloaded(data)
        except (http1.Refused, AuthsomeError) as error:
            raise Cut(self._server) from error
        self._child.send(found)

    def _heads(self) -> tuple[bytes, bytes]:
        """What the child gets of the heads that have come, and what came behind them."""
        found = b""
        while self._response is None and (length := http1.head_length(self._head)):
            head = http1.parse_response(self._head[:length])
            self._head = self._head[length:]
            found += self._interim(head) if head.is_interim else self._begin(head)
        if self._response is None:
            return found, b""
        rest, self._head = self._head, b""
        return found, rest

    def _interim(self, head: Response) -> bytes:
        passed = self._exchange.response(head.status, head.reason, head.fields, has_body=False)
        is_known = self._request.minor > 0
        return http1.response_bytes(head.status, passed.reason, passed.fields) if is_known else b""

    def _begin(self, head: Response) -> bytes:
        body = http1.response_body(head, self._request.method)
        passed = self._exchange.response(head.status, head.reason, head.fields, has_body=not body.is_complete)
        fields = passed.fields
        names = {name.lower() for name, _ in fields}
        is_counted = isinstance(body, http1.Counted) and (body.is_complete or b"content-length" in names)
        is_ended_by_close = isinstance(body, http1.UntilClose) or (not is_counted and self._request.minor == 0)
        if is_ended_by_close:
            fields = tuple(each for each in fields if each[0].lower() != b"transfer-encoding")
        elif not is_counted:
            self._is_download_chunked = True
            if b"transfer-encoding" not in names:
                fields += ((b"Transfer-Encoding", b"chunked"),)
        if (is_ended_by_close or head.minor == 0) and b"connection" not in names:
            fields += ((b"Connection", b"close"),)
        self._is_last = self._is_last or head.is_last or is_ended_by_close
        self._response, self._download, self._filter = head, body, passed.filter
        return http1.response_bytes(head.status, passed.reason, fields)

    def _downloaded(self, data: bytes) -> bytes:
        """What the child gets of a piece of the body."""
        if self._response is None or self._response.status == 101:
            self._server.unread = data
            return b""
        if self._download.is_complete:
            self._is_last = self._is_last or bool(data)
            return b""
        content, beyond = self._download.feed(data)
        self._is_last = self._is_last or bool(beyond)  # nobody asked for that
        return self._filtered(content)

    def _filtered(self, content: bytes) -> bytes:
        """What the child gets of content, and of the end of the body if that has come."""
        if self._filter is not None:
            content = self._filter.feed(content)
        if self._download.is_complete and not self._has_more:
            return self._ending(content)
        return http1.chunk(content) if self._is_download_chunked else content

    def _pass_more(self) -> None:
        """Go on with what has come, now that the child has room."""
        try:
            found = self._filtered(b"")
        except AuthsomeError as error:
            raise Cut(self._server) from error
        self._child.send(found)

    def _ending(self, content: bytes = b"") -> bytes:
        content += self._filter.finish() if self._filter is not None else b""
        if not self._is_download_chunked:
            return content
        return http1.chunk(content) + http1.last_chunk(self._exchange.response_trailers(self._download.trailers))

    def _break_off(self) -> None:
        """Pass on what was held back of a response that is not whole."""
        if self._filter is not None:
            with suppress(AuthsomeError):
                rest = self._filter.finish()
                self._child.send(http1.chunk(rest) if self._is_download_chunked else rest)

    def _relay_upgraded(self) -> None:
        through = self._exchange.upgraded()
        first, self._server.unread = self._server.unread, b""
        self._child.send(through.feed(first) if through else first)
        relay(self._child, self._server, through)


class _Way:
    """One direction of a relay."""

    def __init__(self, source: Side, target: Side, through: Filter | None = None) -> None:
        self.source = source
        self._target = target
        self._through = through
        self._is_told = False
        self.is_live = True

    @property
    def is_open(self) -> bool:
        """Whether its source is to be read."""
        return self.is_live and self._target.has_room

    def step(self) -> None:
        """Pass on what has come."""
        data = self.source.receive()
        if data is None:
            return
        self.is_live = bool(data)
        if self._through is not None:
            data = self._through.feed(data) if data else self._through.finish()
        self._target.send(data)

    def end_when_sent(self) -> None:
        """Tell the target of the end, once it has all that came before."""
        if not self.is_live and not self._is_told and not self._target.unsent:
            self._target.end_output()
            self._is_told = True


def relay(child: Side, server: Side, through: Filter | None = None) -> None:
    """Pass bytes both ways until both sides have ended, those to the child through a filter.

    In clear a side may end what it says and go on listening; with TLS its end is the end.

    Raises:
        Cut: one of them broke off.
    """
    unread, child.unread = child.unread, b""
    server.send(unread)
    up, down = _Way(child, server), _Way(server, child, through)
    pair, ways = Pair(child, server), (up, down)
    while up.is_live or down.is_live:
        ready = pair.wait([way.source for way in ways if way.is_open])
        for way in ways:
            if way.source in ready:
                way.step()
            if not server.is_secure:
                way.end_when_sent()
            elif not way.is_live:
                up.is_live = down.is_live = False
    for side in (child, server):
        while side.unsent:
            wait((side, False))
