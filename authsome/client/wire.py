"""A lean HTTP/1.1 client for one server, the daemon.

`http.client` brings the email package and costs more to import than all the rest of a command; this reads exactly what
a daemon sends. For the same reason it dials loopback with `_socket`, which `socket` is made of.

Rule: nothing is repaired. An answer that is not plainly HTTP/1.1 is an error, and no answer is larger, or takes longer,
than was allowed.
"""

import _socket
import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from authsome.errors import DaemonUnavailable, reason_of
from authsome.message import Headers, HttpResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_HEAD_LIMIT: Final = 32 * 1024
_BODY_LIMIT: Final = 16 * 1024 * 1024  # a page of the audit log is the largest answer, far below this
_CHUNK: Final = 64 * 1024
_LOOPBACK_NAMES: Final = frozenset({"localhost", "::1"})
_PORT_DIGITS: Final = 5
_LENGTH_DIGITS: Final = 12  # far above the limit, far below what takes time to read
_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a server is: the parts of its URL."""

    secure: bool
    host: str
    port: int
    authority: str
    """Host and port as the URL has them, for the `Host` header."""
    prefix: str
    """A path that comes before every target; empty, or starting with a slash."""

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine."""
        return (
            self.host in _LOOPBACK_NAMES
            or self.host.endswith(".localhost")
            or (self.host.startswith("127.") and self.host.replace(".", "").isdigit())
        )


def origin_of(url: str) -> Origin:
    """Take a daemon's URL apart.

    Raises:
        DaemonUnavailable: it is no http or https URL with a host and a valid port.
    """
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, bracket, port_text = authority.rpartition("]:") if authority.startswith("[") else authority.rpartition(":")
    is_number = port_text.isascii() and port_text.isdigit() and len(port_text) <= _PORT_DIGITS
    if authority.startswith("["):
        host, port_text = (host[1:], port_text) if bracket else (authority[1:].removesuffix("]"), "")
    elif not host:
        host, port_text = authority, ""
    port = int(port_text) if port_text and is_number else 0 if port_text else _DEFAULT_PORTS.get(scheme, 0)
    is_plain = rest.isascii() and rest.isprintable() and (authority[:1] != "[" or bracket or authority[-1:] == "]")
    if scheme not in _DEFAULT_PORTS or not host or not is_plain or not 0 < port < 65536:
        raise DaemonUnavailable(f"{url} is not the URL of a daemon", hint="check AUTHSOME_DAEMON_URL")
    prefix = (slash + path).rstrip("/")
    return Origin(secure=scheme == "https", host=host.lower(), port=port, authority=authority, prefix=prefix)


class Channel:
    """A connection to one server, opened when first needed and kept for the next request.

    Not for two threads at once.
    """

    def __init__(self, url: str, *, guard: "Callable[[], None] | None" = None, ca_bundle: Path | None = None) -> None:
        """Take the server's URL.

        Args:
            url: its origin.
            guard: raises when the server is not the one that is meant; asked around each new connection, so that
                neither the first request nor one after an idle pause goes to whoever has taken the port.
            ca_bundle: extra roots, for https.
        """
        self.url = url
        self._origin = origin_of(url)
        self._guard = guard
        self._ca_bundle = ca_bundle
        self._socket: _socket.socket | None = None
        self._buffer = b""

    def open(self, *, timeout: float = 10.0) -> None:
        """Connect now, so that a failure to is known to have sent nothing.

        Raises:
            DaemonUnavailable: no connection.
        """
        try:
            self._connected(time.monotonic() + timeout)
        except TimeoutError as error:
            raise DaemonUnavailable(f"{self.url} did not answer in time") from error
        except OSError as error:
            raise _unreachable(self.url, error) from error

    def request(
        self, method: str, target: str, *, headers: Headers = (), body: bytes = b"", timeout: float = 30.0
    ) -> HttpResponse:
        """Send one request and read its whole answer.

        Args:
            method: the method.
            target: path and query, as they are to be sent.
            headers: sent besides Host, Content-Length and Connection.
            body: the body's bytes.
            timeout: seconds for all of it together.

        Raises:
            DaemonUnavailable: no connection, no answer in time, or no HTTP answer.
        """
        deadline = time.monotonic() + timeout
        head = [f"{method} {self._origin.prefix}{target} HTTP/1.1", f"Host: {self._origin.authority}"]
        head += [f"{name}: {value}" for name, value in headers]
        if body or method not in {"GET", "HEAD"}:
            head.append(f"Content-Length: {len(body)}")
        if any("\r" in line or "\n" in line for line in head):
            raise ValueError("a line break in a request's head")
        message = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body
        was_open = self._socket is not None
        try:
            response = self._exchange(method, message, deadline)
        except _Closed:
            # The server may close an idle connection at any time (RFC 9112 §9.3.1). It closed this one before a byte
            # of the answer, so ask once more on a new one; a signed request cannot be carried out twice.
            if not was_open:
                raise DaemonUnavailable(f"{self.url} closed the connection without an answer") from None
            try:
                response = self._exchange(method, message, deadline)
            except _Closed:
                raise DaemonUnavailable(f"{self.url} closed the connection without an answer") from None
        if (response.header("Connection") or "").lower() == "close":
            self.close()
        return response

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _exchange(self, method: str, message: bytes, deadline: float) -> HttpResponse:
        try:
            connection = self._connected(deadline)
            try:
                connection.sendall(message)
            except ConnectionError as error:
                raise _Closed from error
            return self._read(method, deadline)
        except TimeoutError as error:
            self.close()
            raise DaemonUnavailable(f"{self.url} did not answer in time") from error
        except OSError as error:
            self.close()
            raise _unreachable(self.url, error) from error
        except BaseException:
            self.close()
            raise

    def _connected(self, deadline: float) -> _socket.socket:
        if self._socket is None:
            origin = self._origin
            near = not origin.secure and _loopback_address(origin.host)
            self._check()
            self._socket = _dial_near(near, origin.port, deadline) if near else _dial(origin, self._ca_bundle, deadline)
            try:
                self._check()
            except BaseException:
                self.close()
                raise
        self._socket.settimeout(_left(deadline))
        return self._socket

    def _check(self) -> None:
        """Ask the guard before a connection is made and once it is: so nobody took the port in between."""
        if self._guard is not None:
            self._guard()

    def _read(self, method: str, deadline: float) -> HttpResponse:
        status = 100
        while 100 <= status < 200:  # interim answers (RFC 9110 §15.2)
            head = self._read_head(deadline)
            status, headers = _parse_head(head, self.url)
        lowered = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in {204, 304}:
            body = b""
        elif lowered.get("transfer-encoding", "").lower() == "chunked":
            body = self._read_chunks(deadline)
        else:
            length = lowered.get("content-length", "")
            is_number = length.isascii() and length.isdigit() and len(length) <= _LENGTH_DIGITS
            if not (is_number and int(length) <= _BODY_LIMIT):
                raise _garbled(self.url)
            body = self._read_exactly(int(length), deadline)
        return HttpResponse(status=status, headers=headers, body=body)

    def _read_head(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise _garbled(self.url)
            try:
                more = self._receive(deadline)
            except ConnectionError as error:
                raise _Closed from error
            if not more:
                if self._buffer:
                    raise _garbled(self.url)
                raise _Closed
            self._buffer += more
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        parts, missing = [self._buffer[:length]], length - len(self._buffer)
        self._buffer = self._buffer[length:]
        while missing > 0:
            more = self._receive(deadline)
            if not more:
                raise DaemonUnavailable(f"{self.url} broke off in the middle of its answer")
            parts.append(more[:missing])
            self._buffer = more[missing:]
            missing -= len(more)
        return b"".join(parts)

    def _read_chunks(self, deadline: float) -> bytes:
        """A chunked body (RFC 9112 §7.1): what a reverse proxy may make of the daemon's answer."""
        parts: list[bytes] = []
        total = 0
        while True:
            size_text = self._read_line(deadline).split(b";")[0].strip()
            size = int(size_text, 16) if size_text and _HEXADECIMAL.issuperset(size_text) else -1
            total += size
            if size < 0 or total > _BODY_LIMIT:
                raise _garbled(self.url)
            if size == 0:
                while self._read_line(deadline):
                    pass
                return b"".join(parts)
            parts.append(self._read_exactly(size, deadline))
            if self._read_exactly(2, deadline) != b"\r\n":
                raise _garbled(self.url)

    def _read_line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            more = self._receive(deadline)
            if not more or len(self._buffer) > _HEAD_LIMIT:
                raise _garbled(self.url)
            self._buffer += more
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _receive(self, deadline: float) -> bytes:
        assert self._socket is not None
        self._socket.settimeout(_left(deadline))
        return self._socket.recv(_CHUNK)


def request(  # noqa: PLR0913  # a request has that many parts
    url: str,
    method: str,
    target: str,
    *,
    headers: Headers = (),
    timeout: float = 30.0,
    ca_bundle: Path | None = None,
) -> HttpResponse:
    """One request on a connection of its own; arguments and errors as `Channel` and its `request`."""
    channel = Channel(url, ca_bundle=ca_bundle)
    try:
        return channel.request(method, target, headers=(*headers, ("Connection", "close")), timeout=timeout)
    finally:
        channel.close()


class _Closed(Exception):
    """The server closed the connection before the first byte of an answer."""


def _parse_head(head: bytes, url: str) -> tuple[int, Headers]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version != "HTTP/1.1" or not (code.isascii() and code.isdigit() and len(code) == 3):
        raise _garbled(url)
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _garbled(url)
        headers.append((name, value.strip(" \t")))
    return int(code), tuple(headers)


def _garbled(url: str) -> DaemonUnavailable:
    return DaemonUnavailable(
        f"what listens at {url} does not answer as an authsome daemon",
        hint="another program may have the port; set AUTHSOME_PORT or AUTHSOME_DAEMON_URL",
    )


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _loopback_address(host: str) -> str | None:
    """The address of a host on this machine that needs no resolver."""
    if host.startswith("127.") and host.replace(".", "").isdigit():
        return host
    # Names below `.localhost` never go to a resolver (RFC 6761 §6.3).
    return "127.0.0.1" if host.endswith(".localhost") else None


def _dial_near(address: str, port: int, deadline: float) -> _socket.socket:
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        connection.connect((address, port))
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _dial(origin: Origin, ca_bundle: Path | None, deadline: float) -> "socket.socket":
    import socket  # noqa: PLC0415  # only for what is far, or has names to be resolved

    try:
        plain = socket.create_connection((origin.host, origin.port), timeout=_left(deadline))
    except UnicodeError:  # an empty label, or one that is too long, which no name service is asked for
        raise OSError(errno.EINVAL, "no host has such a name") from None
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _secured(plain, origin.host, ca_bundle) if origin.secure else plain
    except BaseException:
        plain.close()
        raise


def _secured(plain: "socket.socket", host: str, ca_bundle: Path | None) -> "socket.socket":
    import ssl  # noqa: PLC0415  # 13 ms, and a local daemon has no use for it

    context = ssl.create_default_context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError as error:  # ssl.SSLError is one
            message = f"{ca_bundle}: no certificates could be read from it"
            raise DaemonUnavailable(message, hint="mend AUTHSOME_CA_BUNDLE") from error
    return context.wrap_socket(plain, server_hostname=host)


def _unreachable(url: str, error: OSError) -> DaemonUnavailable:
    reason, hint = reason_of(error), None
    if untrusted := getattr(error, "verify_message", ""):  # of ssl.SSLCertVerificationError
        reason = f"its certificate is not trusted: {untrusted.rstrip('.').lower()}"
        hint = "if a company's own authority has signed it, name its root in AUTHSOME_CA_BUNDLE"
    elif broken := getattr(error, "reason", ""):  # of ssl.SSLError
        reason = f"no TLS, {broken.lower().replace('_', ' ')}"
    return DaemonUnavailable(f"{url} cannot be reached: {reason}", hint=hint)
