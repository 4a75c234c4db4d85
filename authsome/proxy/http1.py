"""HTTP/1.1 as bytes (RFC 9112): heads read strictly, bodies framed without being kept. Plain values, no I/O.

Rule: what two readers could take in two ways is refused, never guessed. CRLF ends a line and nothing else does; no
folding, no space before a colon, no control characters; one length or one transfer coding, and that is chunked.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from authsome.proxy.inject import Fields

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_LIMIT: Final = 256 * 1024  # bytes; nginx, the most generous of the usual servers when tuned, has 64 KiB by default
_CHUNK_LINE_LIMIT: Final = 16 * 1024  # bytes; extensions are rare and short

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 §5.6.2
_TEXT: Final = rb"[\t -~\x80-\xff]*"  # RFC 9110 §5.5, field-content
_REQUEST_LINE: Final = re.compile(rb"(%b) ([!-~]+) HTTP/1\.([01])" % _TOKEN)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (%b))?" % _TEXT)
_FIELD_LINES: Final = re.compile(rb"(?:%b+:%b+\r\n)*+" % (_TOKEN, _TEXT))  # possessive: nothing is tried twice
_STRAY: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")  # 2^59 bytes; more digits have overflowed in others' parsers
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;%b)?\r\n" % _TEXT)
_PADDED_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;%b)?\r\n" % _TEXT)
"""As some servers write it; what reads no more than we do of it cannot read it in another way."""
_WITHOUT_BODY: Final = frozenset({204, 304})


class Refused(Exception):
    """These bytes are not a message that is passed on."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.message = message
        self.status = status
        """What a request is answered with."""
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of a request."""

    method: bytes
    target: bytes = field(repr=False)
    minor: int
    """Of the version, 1.0 or 1.1."""
    fields: Fields = field(repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field (its name in lower case), in order."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after it (RFC 9112 §9.3)."""
        return self.minor == 0 or b"close" in _options(self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The head of a response."""

    minor: int
    status: int
    reason: bytes
    fields: Fields = field(repr=False)

    @property
    def is_interim(self) -> bool:
        """Whether another one follows (RFC 9110 §15.2); 101 is the end of HTTP, and no interim one."""
        return self.status < 200 and self.status != 101

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after it."""
        return self.minor == 0 or b"close" in _options(self.fields)


def head_length(buffer: bytes) -> int:
    """How long the head at the beginning of these bytes is, its empty line included; 0 while it has not ended.

    Raises:
        Refused: it can no longer become a good one.
    """
    end = buffer.find(b"\r\n\r\n", 0, HEAD_LIMIT)
    if end >= 0:
        return end + 4
    if len(buffer) >= HEAD_LIMIT:
        raise Refused("the head is too large", status=431)
    if _STRAY.search(buffer):
        raise Refused("malformed line end")
    return 0


def parse_request(head: bytes) -> Request:
    """Read a request's head, its empty line included.

    Raises:
        Refused: it is malformed.
    """
    line, fields = _split(head)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refused("malformed request line")
    return Request(method=match[1], target=match[2], minor=int(match[3]), fields=fields)


def parse_response(head: bytes) -> Response:
    """Read a response's head, its empty line included.

    Raises:
        Refused: it is malformed.
    """
    line, fields = _split(head)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise Refused("malformed status line")
    return Response(minor=int(match[1]), status=int(match[2]), reason=match[3] or b"", fields=fields)


def request_bytes(method: bytes, target: bytes, fields: Fields) -> bytes:
    """A request's head as it is sent."""
    return _join(b"%b %b HTTP/1.1\r\n" % (method, target), fields)


def response_bytes(status: int, reason: bytes, fields: Fields) -> bytes:
    """A response's head as it is sent."""
    return _join(b"HTTP/1.1 %d %b\r\n" % (status, reason), fields)


def fields_bytes(fields: Fields) -> bytes:
    """A head's fields and its empty line as they are sent."""
    return _join(b"", fields)


def request_body(request: Request) -> "Body":
    """How a request's body is framed (RFC 9112 §6.3).

    Raises:
        Refused: that can be read in more than one way.
    """
    return _coded(request.minor, request.fields, _CHUNK_LINE) or Counted(_length(request.fields) or 0)


def response_body(response: Response, method: bytes) -> "Body":
    """How the body of a response to `method` is framed (RFC 9112 §6.3).

    Raises:
        Refused: that can be read in more than one way.
    """
    coded, length = _coded(response.minor, response.fields, _PADDED_CHUNK_LINE), _length(response.fields)
    if method == b"HEAD" or response.status < 200 or response.status in _WITHOUT_BODY:
        return Counted(0)
    if coded is not None:
        return coded
    return Counted(length) if length is not None else UntilClose()


class Body(Protocol):
    """Tells a message's content from its framing, as the bytes come."""

    is_complete: bool
    """Whether the message has ended."""
    trailers: Fields
    """Once it has."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The content in these bytes, and the bytes behind the end of the message.

        Raises:
            Refused: the framing is malformed.
        """

    def close(self) -> bool:
        """The connection has ended properly; whether the message is whole."""


class Counted:
    """A body of a known length."""

    trailers: Fields = ()

    def __init__(self, length: int) -> None:
        self.left = length
        """How many bytes are to come."""
        self.is_complete = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        if len(data) < self.left:
            self.left -= len(data)
            return data, b""
        left, self.left, self.is_complete = self.left, 0, True
        return (data, b"") if left == len(data) else (data[:left], data[left:])

    def close(self) -> bool:
        """See `Body`."""
        return self.is_complete


class UntilClose:
    """A body that ends with its connection."""

    trailers: Fields = ()
    is_complete = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        return data, b""

    def close(self) -> bool:
        """See `Body`."""
        self.is_complete = True
        return True


class Chunked:
    """A body in chunks (RFC 9112 §7.1); extensions are read over, trailers kept."""

    def __init__(self, *, line: re.Pattern[bytes] = _CHUNK_LINE) -> None:
        """Take the form of a chunk's first line."""
        self._line = line
        self.is_complete = False
        self.trailers: Fields = ()
        self._step: Callable[[bytes, int, list[bytes]], int] = self._size
        self._left = 0
        """Of the chunk at hand."""
        self._unread = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        data = self._unread + data if self._unread else data
        content: list[bytes] = []
        at, after = -1, 0
        while at != after and not self.is_complete:
            at = after
            after = self._step(data, at, content)
        self._unread = b"" if self.is_complete else data[after:]
        return b"".join(content), data[after:] if self.is_complete else b""

    def close(self) -> bool:
        """See `Body`."""
        return self.is_complete

    def _size(self, data: bytes, at: int, _content: list[bytes]) -> int:
        end = data.find(b"\n", at, at + _CHUNK_LINE_LIMIT) + 1
        if not end:
            if len(data) - at >= _CHUNK_LINE_LIMIT:
                raise Refused("a chunk's first line is too long")
            return at
        match = self._line.fullmatch(data, at, end)
        if match is None:
            raise Refused("malformed chunk")
        self._left = int(match[1], 16)
        self._step = self._data if self._left else self._end
        return end

    def _data(self, data: bytes, at: int, content: list[bytes]) -> int:
        piece = data[at : at + self._left]
        if piece:
            content.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = self._line_end
        return at + len(piece)

    def _line_end(self, data: bytes, at: int, _content: list[bytes]) -> int:
        found = data[at : at + 2]
        if not b"\r\n".startswith(found):
            raise Refused("a chunk is longer than it says")
        if len(found) < 2:
            return at
        self._step = self._size
        return at + 2

    def _end(self, data: bytes, at: int, _content: list[bytes]) -> int:
        """Behind the last chunk: trailers, if any, and an empty line."""
        if data[at : at + 2] == b"\r\n":
            self.is_complete = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + HEAD_LIMIT) + 4
        if end < 4:
            if len(data) - at >= HEAD_LIMIT:
                raise Refused("the trailers are too large")
            return at
        self.trailers = _fields(data[at : end - 2])
        self.is_complete = True
        return end


def chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, as an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Fields) -> bytes:
    """The end of a body in chunks."""
    return _join(b"0\r\n", trailers)


def _split(head: bytes) -> tuple[bytes, Fields]:
    line, _, rest = head.partition(b"\r\n")
    return line, _fields(rest[:-2])


def _fields(lines: bytes) -> Fields:
    if not _FIELD_LINES.fullmatch(lines):
        raise Refused("malformed header")
    found = []
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        found.append((name, value.strip(b"\t ")))
    return tuple(found)


def _join(line: bytes, fields: Fields) -> bytes:
    return b"%b%b\r\n\r\n" % (line, b"\r\n".join([b": ".join(pair) for pair in fields])) if fields else line + b"\r\n"


def _options(fields: Fields) -> set[bytes]:
    values = [value for name, value in fields if name.lower() == b"connection"]
    return {option.strip().lower() for value in values for option in value.split(b",")}


def _coded(minor: int, fields: Fields, line: re.Pattern[bytes]) -> Chunked | None:
    values = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    if not values:
        return None
    if values != [b"chunked"] or minor == 0:
        raise Refused("a transfer coding other than chunked")
    if any(name.lower() == b"content-length" for name, _ in fields):
        raise Refused("both a length and a transfer coding")
    return Chunked(line=line)


def _length(fields: Fields) -> int | None:
    values = [value for name, value in fields if name.lower() == b"content-length"]
    if not values:
        return None
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise Refused("not one plain Content-Length")
    return int(values[0])
