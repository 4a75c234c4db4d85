"""Requests and responses of the daemon as plain values; what each answer says about itself.

Rule: every answer carries the same guards (no sniffing, no framing, no caching, no referrer, own origin only), and
nothing that tells Python, a version, a path or a secret.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Event
from types import MappingProxyType
from typing import Final

from authsome.daemon import fields
from authsome.daemon.fields import Fields
from authsome.errors import AuthsomeError, MethodNotAllowed, RequestInvalid, TooManyAttempts
from authsome.message import Headers

DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of what is not a page."""

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of a page: our own style sheet and icon, forms to ourselves, no script."""

SCRIPTED_PAGE_POLICY: Final = PAGE_POLICY + "; script-src 'self'; connect-src 'self'"
"""The same for a page of the dashboard, which has a script of ours besides."""

RETRY_AFTER: Final = "1"  # seconds, with every 503: what is busy or refreshing is done soon

Taker = Callable[[socket.socket, Callable[[], None]], None]
"""Takes a connection whose head is sent, and what closes it; from then on the connection is its own. Raises nothing."""

_GUARDS: Final = (
    "Server: authsome\r\n"
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)
_STRICT_TRANSPORT: Final = "Strict-Transport-Security: max-age=31536000\r\n"  # a year, of this host alone
_STATUS_LINES: Final = MappingProxyType({code.value: f"HTTP/1.1 {code.value} {code.phrase}\r\n" for code in HTTPStatus})
_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~]*")
_LOCATION: Final = re.compile(r"(?:https?://[^/\\]|/(?![/\\]))[!-~]*")
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))  # made once: `json.dumps` makes one for each call
_NO_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that is whole, well formed, and sent to one of our own names."""

    method: str
    path: str
    """As it came, still percent-encoded."""
    query: str = field(repr=False)
    target: str = field(repr=False)
    """Path and query exactly as they came."""
    headers: Mapping[str, tuple[str, ...]] = field(repr=False)
    """By lower-case name."""
    body: bytes = field(repr=False)
    peer: str
    """The address of the other end."""
    received_over: str
    """The one of our origins (`http://127.0.0.1:7998`) that the request was sent to."""
    stopping: Event = field(repr=False)
    """Set when the daemon stops: whoever waits ends the wait."""

    @property
    def is_looked_at(self) -> bool:
        """Whether somebody looks at the answer: browsers ask for HTML when they go somewhere."""
        return any("text/html" in accepted for accepted in self.headers.get("accept", ()))

    @property
    def wants_page(self) -> bool:
        """Whether somebody who looks at it has sent nothing besides."""
        return self.method == "GET" and self.is_looked_at

    def header(self, name: str) -> str | None:
        """The value of a header that may be sent once, by lower-case name.

        Raises:
            RequestInvalid: it was sent more than once.
        """
        values = self.headers.get(name, ())
        if len(values) > 1:
            raise RequestInvalid(f"more than one {name} header")
        return values[0] if values else None

    def json(self) -> Fields:
        """The fields of the JSON body.

        Raises:
            RequestInvalid: it is not sent as `application/json` (a page could post anything else without being
                asked first), or is not an object.
        """
        self._check_type("application/json")
        return fields.parse_json(self.body)

    def form(self) -> Fields:
        """The fields of the form in the body.

        Raises:
            RequestInvalid: it is not sent as a URL-encoded form, or is malformed.
        """
        self._check_type("application/x-www-form-urlencoded")
        return fields.parse_form(self.body)

    def query_fields(self) -> Fields:
        """The fields of the query.

        Raises:
            RequestInvalid: it is malformed.
        """
        return fields.parse_query(self.query)

    def _check_type(self, wanted: str) -> None:
        media_type, _, parameter = (self.header("content-type") or "").lower().partition(";")
        if media_type.strip() != wanted or parameter.strip() not in {"", "charset=utf-8", 'charset="utf-8"'}:
            raise RequestInvalid(f"the body must be {wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer: status, body with its type, and headers beyond the guards that all answers carry."""

    status: int
    content_type: str | None = None
    body: bytes = field(default=b"", repr=False)
    headers: Headers = field(default=(), repr=False)
    policy: str = DATA_POLICY
    taken_by: Taker | None = field(default=None, repr=False)
    """What sends the body, in place of `body`, and ends it by closing the connection (RFC 9112 §6.3)."""

    def to_bytes(self, *, date: str, keeps_alive: bool, is_secure: bool = False, with_body: bool = True) -> bytes:
        """The whole answer in one piece, so that it leaves in one write.

        Args:
            date: the Date header's value (RFC 9110 §6.6.1).
            keeps_alive: whether the connection stays open.
            is_secure: whether browsers are to come by https alone from now on (RFC 6797); those that came in clear do
                not heed it.
            with_body: False for HEAD.

        Raises:
            ValueError: a header is not one line of printable ASCII.
        """
        lines = [_STATUS_LINES[self.status], "Date: ", date, "\r\n", _GUARDS]
        lines += ("Content-Security-Policy: ", self.policy, "\r\n")
        if is_secure:
            lines.append(_STRICT_TRANSPORT)
        if not keeps_alive:
            lines.append("Connection: close\r\n")
        if self.content_type is not None:
            lines += ("Content-Type: ", self.content_type, "\r\n")
        if self.status not in _NO_BODY and self.taken_by is None:
            lines.append(f"Content-Length: {len(self.body)}\r\n")
        for name, value in self.headers:
            line = f"{name}: {value}"
            if not _FIELD.fullmatch(line):
                raise ValueError(f"malformed response header {name!r}")
            lines += (line, "\r\n")
        lines.append("\r\n")
        head = "".join(lines).encode("ascii")
        return head + self.body if with_body and self.status not in _NO_BODY else head


def json_response(value: Mapping[str, object], *, status: int = 200, headers: Headers = ()) -> Response:
    """An answer in JSON."""
    body = _ENCODER.encode(value).encode()
    return Response(status=status, content_type="application/json", body=body, headers=headers)


def html_response(page: str, *, status: int = 200, headers: Headers = (), policy: str = PAGE_POLICY) -> Response:
    """A page."""
    return Response(
        status=status, content_type="text/html; charset=utf-8", body=page.encode(), headers=headers, policy=policy
    )


def redirect(location: str, *, headers: Headers = ()) -> Response:
    """An answer that sends the browser on with GET (303).

    Raises:
        ValueError: the location is neither a path on this origin nor an http(s) URL.
    """
    if not _LOCATION.fullmatch(location):
        raise ValueError("a redirect goes to a path of ours or to an http(s) URL")
    return Response(status=303, headers=(("Location", location), *headers))


def problem(error: AuthsomeError, *, status: int | None = None, headers: Headers = ()) -> Response:
    """Problem details of an error (RFC 9457), with its code and hint beside the standard members.

    Args:
        error: what happened.
        status: the HTTP status, where it is not the error's own.
        headers: further headers.
    """
    status = error.http_status if status is None else status
    details = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
    }
    return Response(
        status=status,
        content_type="application/problem+json",
        body=_ENCODER.encode(details).encode(),
        headers=(*_headers_of(error, status), *headers),
    )


def retry_after(error: TooManyAttempts) -> tuple[str, str]:
    """The header that says how long to wait (RFC 9110 §10.2.3)."""
    return "Retry-After", str(error.seconds)


def _headers_of(error: AuthsomeError, status: int) -> Headers:
    if status == 401:
        return (("WWW-Authenticate", "PoP"),)
    if status == 503:
        return (("Retry-After", RETRY_AFTER),)
    if isinstance(error, TooManyAttempts):
        return (retry_after(error),)
    if isinstance(error, MethodNotAllowed):
        return (("Allow", ", ".join(error.allowed)),)
    return ()
