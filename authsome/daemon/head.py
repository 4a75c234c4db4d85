"""The strict parser of a request's head (RFC 9112); whatever two parsers could read differently is refused.

Rule: CRLF ends a line and nothing else does; no folding, no space before the colon, no control characters, one
Host, one Content-Length in plain digits, no transfer coding. Browsers and our own clients send nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

HEAD_LIMIT: Final = 32 * 1024  # bytes; twice what common servers take, as a callback's query may be long
FIELD_LIMIT: Final = 100  # lines; as in nginx and http.client
BODY_LIMIT: Final = 1024 * 1024  # bytes; the largest body is a provider's definition of 256 KiB

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that reach the router; any other is not implemented, OPTIONS included: it has nothing to tell."""

Fields = Mapping[str, tuple[str, ...]]
"""Header fields by lower-case name, each with every value in order."""

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  # RFC 9110 §5.6.2
_REQUEST_LINE: Final = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_FIELD_LINES: Final = re.compile(rf"(?:{_TOKEN}:[\t -~\x80-\xff]*\r\n)*")  # linear: a token holds no colon
_STRAY_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0")
_LENGTH: Final = re.compile(r"[0-9]{1,10}")
_ORIGIN_FORM: Final = re.compile(r"/[^#]*")


class Refused(Exception):
    """The bytes that came are not a request that this server takes; the connection ends with this status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and its header fields, well formed but not yet judged."""

    method: str
    target: str = field(repr=False)
    version: tuple[int, int]
    fields: Fields = field(repr=False)

    def single(self, name: str) -> str | None:
        """The value of a field that may be sent once.

        Raises:
            Refused: 400, it was sent more than once.
        """
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise Refused(400, f"more than one {name} header")
        return values[0] if values else None

    @property
    def keeps_alive(self) -> bool:
        """Whether the client will take another answer on this connection (RFC 9112 §9.3)."""
        options = ",".join(self.fields.get("connection", ())).lower().split(",")
        return self.version >= (1, 1) and "close" not in (option.strip() for option in options)


def parse(block: bytes) -> Head:
    """Parse a head without its final empty line.

    Raises:
        Refused: 400 malformed, 431 too many fields.
    """
    line, separator, rest = block.decode("latin-1").partition("\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refused(400, "malformed request line")
    if not _FIELD_LINES.fullmatch(rest + separator):
        raise Refused(400, "malformed header")
    lines = rest.split("\r\n") if rest else []
    if len(lines) > FIELD_LIMIT:
        raise Refused(431, "too many headers")
    fields: dict[str, tuple[str, ...]] = {}
    for text in lines:
        name, _, value = text.partition(":")
        name = name.lower()
        fields[name] = (*fields.get(name, ()), value.strip("\t "))
    method, target, major, minor = match.groups()
    return Head(method, target, (int(major), int(minor)), fields)


def check_unfinished(data: bytes, start: int) -> None:
    """Refuse the beginning of a head that can no longer become a good one; up to `start` it was checked before.

    Raises:
        Refused: 400 for a line end that is not CRLF, 431 when it is too long already.
    """
    if len(data) > HEAD_LIMIT:
        raise Refused(431, "the request's head is too large")
    if _STRAY_LINE_END.search(data, start):
        raise Refused(400, "malformed line end")


def check_host(head: Head, origins: Mapping[str, str]) -> str:
    """The origin that this request was sent to; a name that is not ours is a page that rebinds DNS.

    Raises:
        Refused: 400 no Host, or several; 421 not one of ours.
    """
    host = head.single("host")
    if host is None:
        raise Refused(400, "no Host header")
    origin = origins.get(host.lower())
    if origin is None:
        raise Refused(421, "this daemon does not answer for that host")
    return origin


def check_form(head: Head) -> None:
    """Check what does not depend on the address: version, method, form of the target, transfer coding.

    Raises:
        Refused: 400, 501 or 505.
    """
    if head.version[0] != 1:
        raise Refused(505, "this daemon speaks HTTP/1.1")
    if head.method not in METHODS:
        raise Refused(501, "no such method")
    if not _ORIGIN_FORM.fullmatch(head.target):
        raise Refused(400, "the target must be a path")
    if "transfer-encoding" in head.fields:
        # With a length beside it this is request smuggling (RFC 9112 §6.1); without one we have no need of it.
        raise Refused(400 if "content-length" in head.fields else 501, "transfer codings are not taken")


def body_length(head: Head) -> int:
    """The number of body bytes that follow.

    Raises:
        Refused: 400 not one plain number, 413 too many, 417 an unknown expectation.
    """
    text = head.single("content-length")
    if text is None:
        return 0
    if not _LENGTH.fullmatch(text):
        raise Refused(400, "malformed Content-Length")
    if int(text) > BODY_LIMIT:
        raise Refused(413, "the request's body is too large")
    return int(text)


def expects_continue(head: Head) -> bool:
    """Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).

    Raises:
        Refused: 417, it expects something else.
    """
    expectation = head.single("expect")
    if expectation is None:
        return False
    if expectation.lower() != "100-continue":
        raise Refused(417, "unknown expectation")
    return head.version >= (1, 1)
