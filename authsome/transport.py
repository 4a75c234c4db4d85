"""The one way out to providers: sends an HttpRequest, and brings back an HttpResponse or an error of one line.

Rule 1: https, verified against the system's roots and the user's extra ones; plain http to this machine only. No switch
turns verification off.
Rule 2: the address that was checked is the one that is dialled (`authsome.address`).
Rule 3: one deadline for all of it, and one size, after decompression. A slow or endless answer costs that and no more.
Rule 4: a redirect is an answer like any other and is never followed: what was sent here is for nobody else
(RFC 9700 §4.12).
"""

import http.client
import io
import re
import socket
import ssl
import threading
import zlib
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from authsome import __version__, address
from authsome.address import Address, AddressPolicy
from authsome.errors import AddressRefused, EndpointRefused, EndpointUnreachable, RequestInvalid
from authsome.message import Headers, HttpRequest, HttpResponse, clean_line
from authsome.outbound import DIRECT, Deadline, Outbound, open_tunnel

TIMEOUT: Final = timedelta(seconds=30)  # SECURITY.md 95; a token endpoint takes one or two
SIZE_LIMIT: Final = 1024 * 1024  # bytes of body; token answers have 1 to 20 KiB

_CONNECT_TIMEOUT: Final = 5.0  # seconds for an address while there is another to try: IPv6 that leads nowhere is common
_OVERHEAD: Final = 256 * 1024
"""Bytes that head, chunk lines and trailers may add; http.client takes 100 lines of 64 KiB."""
_READ_SIZE: Final = 64 * 1024
_CONTINUE, _SWITCHING, _OK = 100, 101, 200
"""Statuses: http.client itself skips the first alone, and nobody here asks for the second."""
_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80

_URL: Final = re.compile(r"[!-~]+")  # printable ASCII: urlsplit would silently drop tabs and line ends
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2, token
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")  # RFC 9110 §5.5, field-content
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_OUR_FIELDS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})

_ROOTS: Final = (  # where systems keep their roots, for a Python that was built elsewhere
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # macOS, BSD, Alpine
)


class Trust:
    """Whose certificates are believed: the system's roots and a file of the user's own.

    The TLS context is built when first needed and again when one of the files changes. What `SSL_CERT_FILE` says in our
    own environment is not asked: a daemon started inside a run would trust that run's authority for ever.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        """Take the user's extra roots, a PEM file (`AUTHSOME_CA_BUNDLE`)."""
        self._ca_bundle = ca_bundle
        self._lock = threading.Lock()
        self._built: tuple[object, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """The TLS context as of now.

        Raises:
            EndpointUnreachable: there are no roots, or the user's file cannot be read.
        """
        system = _system_roots()
        with self._lock:
            stamp = tuple(_stamp(path) for path in (system, self._ca_bundle) if path is not None)
            if self._built is None or self._built[0] != stamp:
                self._built = stamp, self._build(system)
            return self._built[1]

    def _build(self, system: Path | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name from the start
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if system is not None:
            context.load_verify_locations(cafile=system)
        elif self._ca_bundle is None:
            raise EndpointUnreachable(
                "this system has no certificate roots",
                hint="install its ca-certificates, or name a file in AUTHSOME_CA_BUNDLE",
            )
        if self._ca_bundle is not None:
            try:
                context.load_verify_locations(cafile=self._ca_bundle)
            except OSError as error:  # ssl.SSLError is one
                raise EndpointUnreachable(
                    f"{self._ca_bundle}: no certificates could be read from it", hint="mend AUTHSOME_CA_BUNDLE"
                ) from error
        return context


def send(  # noqa: PLR0913  # each by name
    request: HttpRequest,
    *,
    policy: AddressPolicy,
    trust: Trust,
    outbound: Outbound = DIRECT,
    timeout: timedelta = TIMEOUT,
    limit: int = SIZE_LIMIT,
) -> HttpResponse:
    """Send one request on a connection of its own.

    Args:
        request: what to send; `Host`, `Content-Length` and the like are set here, and refused there.
        policy: which addresses may be dialled.
        trust: whose certificates are believed.
        outbound: the company's proxy, if there is one.
        timeout: for all of it, from the name's look-up to the last byte.
        limit: the most bytes of body, after decompression.

    Raises:
        AddressRefused: the URL is not https, or leads to an address that must not be dialled. Nothing was sent.
        EndpointUnreachable: network, TLS, or time; the message names the host and the cause.
        EndpointRefused: what came back is not HTTP, is too large, or is coded in a way that was not asked for.
        RequestInvalid: the request cannot be written down as HTTP.
    """
    place = _place(request.url)
    head = _head(request, place)
    deadline = Deadline(timeout)
    is_out = False
    try:
        with _connect(place, policy, trust, outbound, deadline) as connection:
            deadline.apply(connection)
            is_out = True
            connection.sendall(head + request.body)
            return _receive(connection, request.method, deadline, limit)
    except TimeoutError as error:
        seconds = f"{timeout.total_seconds():g}"
        raise EndpointUnreachable(f"{place.host}: no answer within {seconds} s", unanswered=is_out) from error
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(place.host, error) from error
    except ssl.SSLError as error:
        reason = clean_line((error.reason or "broken off").lower().replace("_", " "))
        raise EndpointUnreachable(f"{place.host}: TLS failed, {reason}", unanswered=is_out) from error
    except (http.client.RemoteDisconnected, http.client.IncompleteRead) as error:
        raise EndpointUnreachable(
            f"{place.host}: the connection was closed before the answer was whole", unanswered=True
        ) from error
    except OSError as error:
        cause = clean_line((error.strerror or "the connection broke").lower())
        raise EndpointUnreachable(f"{place.host}: {cause}", unanswered=is_out) from error
    except http.client.HTTPException as error:
        raise EndpointRefused(f"{place.host}: the answer is not HTTP") from error
    except _Unusable as error:
        raise EndpointRefused(f"{place.host}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a URL leads."""

    is_tls: bool
    host: str
    port: int
    authority: str
    target: str = field(repr=False)


class _Unusable(Exception):
    """An answer that is of no use; says why."""


class _Stream(io.RawIOBase):
    """A connection's bytes, until the deadline or a size that no honest answer has."""

    def __init__(self, connection: socket.socket, deadline: Deadline, limit: int) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview[int]", /) -> int:  # type: ignore[override]  # narrower than Buffer
        self._deadline.apply(self._connection)
        count = self._connection.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise _Unusable("the answer is too large")
        return count


class _Answering:
    """What `http.client.HTTPResponse` wants of a socket: a file to read from."""

    def __init__(self, stream: _Stream) -> None:
        self._file: io.BufferedReader = io.BufferedReader(stream, _READ_SIZE)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self._file


def _place(url: str) -> _Place:
    parts = _split(url)
    if parts is None:
        raise AddressRefused("the address is not an https URL", hint="look at the provider's definition")
    is_tls, host, port = parts.scheme == "https", parts.hostname or "", parts.port
    usual = _HTTPS_PORT if is_tls else _HTTP_PORT
    name = f"[{host}]" if ":" in host else host
    return _Place(
        is_tls=is_tls,
        host=host,
        port=port or usual,
        authority=name if port in {None, usual} else f"{name}:{port}",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def _split(url: str) -> SplitResult | None:
    """The parts of an absolute http or https URL without user, fragment or any doubt; None for every other text."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    is_plain = _URL.fullmatch(url) is not None and "\\" not in url and "@" not in parts.netloc and "#" not in url
    return parts if named and is_plain and parts.scheme in {"http", "https"} else None


def _head(request: HttpRequest, place: _Place) -> bytes:
    """The request line and header section (RFC 9112 §3, §5), in bytes that can be read in one way only."""
    if not _METHOD.fullmatch(request.method):
        raise RequestInvalid("a request's method is one word in upper case")
    fields = [("Host", place.authority), ("Connection", "close"), ("Accept-Encoding", "identity")]
    if not any(name.lower() == "user-agent" for name, _ in request.headers):
        fields.append(("User-Agent", f"authsome/{__version__}"))  # some endpoints refuse a request without one
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        fields.append(("Content-Length", str(len(request.body))))
    for name, value in request.headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _OUR_FIELDS:
            # not the value, which may be a secret
            raise RequestInvalid(f"a request cannot have this header: {clean_line(name, 40)}")
        fields.append((name, value))
    lines = [f"{request.method} {place.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _connect(
    place: _Place, policy: AddressPolicy, trust: Trust, outbound: Outbound, deadline: Deadline
) -> socket.socket:
    context = trust.context() if place.is_tls else None
    if context is not None and outbound.proxy is not None and outbound.serves(place.host, place.port):
        address.check_literal(place.host, place.port, policy)
        connection = open_tunnel(outbound, place.host, place.port, deadline)
    else:
        found = address.resolve(place.host, place.port, policy, timeout=timedelta(seconds=deadline.left()))
        if context is None and not all(each.is_loopback for each in found):
            raise AddressRefused(f"{place.host}: plain http is for this machine only", hint="use an https URL")
        connection = _dial(found, deadline)
    if context is None:
        return connection
    try:
        deadline.apply(connection)
        return context.wrap_socket(connection, server_hostname=place.host)
    except BaseException:
        connection.close()
        raise


def _dial(found: tuple[Address, ...], deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; the last one's error is the one told."""
    *others, last = found
    for each in others:
        try:
            return socket.create_connection(each, min(deadline.left(), _CONNECT_TIMEOUT))
        except OSError:
            continue
    return socket.create_connection(last, deadline.left())


def _receive(connection: socket.socket, method: str, deadline: Deadline, limit: int) -> HttpResponse:
    stream = _Stream(connection, deadline, 2 * limit + _OVERHEAD)  # twice: chunks of a few bytes, which some send
    with _begun(_Answering(stream), method) as response:
        headers: Headers = tuple(response.getheaders())
        coding = (response.getheader("Content-Encoding") or "identity").strip().lower()
        body = _body(response, coding, limit)
        if response.length:  # what Content-Length promised beyond the end
            raise http.client.IncompleteRead(body, response.length)
        return HttpResponse(status=response.status, headers=headers, body=body)


def _begun(answering: _Answering, method: str) -> http.client.HTTPResponse:
    """The answer, its head read; what comes before it for the time being is skipped (RFC 9110 §15.2)."""
    while True:
        response = http.client.HTTPResponse(answering, method=method)  # type: ignore[arg-type]  # a file is all it asks for
        response.begin()
        if not _CONTINUE < response.status < _OK or response.status == _SWITCHING:
            return response
        response.fp = None  # type: ignore[assignment]  # lest its end closes what the answer is read from


def _body(response: http.client.HTTPResponse, coding: str, limit: int) -> bytes:
    """Read and decode as far as the limit; never more than a buffer beyond it is in memory."""
    if coding not in {"identity", "gzip", "x-gzip", "deflate"}:
        raise _Unusable(f"the answer is coded as {clean_line(coding, 20)}, which nobody asked for")
    decoder = None if coding == "identity" else zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib by its header
    body = bytearray()
    while data := _read(response):
        if decoder is None:
            body += data
        else:
            try:
                body += decoder.decompress(data, limit + 1 - len(body))
            except zlib.error as error:
                raise _Unusable("the answer cannot be decompressed") from error
        if len(body) > limit:
            raise _Unusable(f"the answer is larger than {limit // 1024} KiB")
    if decoder is not None and body and not decoder.eof:
        raise _Unusable("the answer cannot be decompressed")
    return bytes(body)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_READ_SIZE)
    except ValueError as error:  # a chunk of negative size
        raise http.client.HTTPException from error


def _untrusted(host: str, error: ssl.SSLCertVerificationError) -> EndpointUnreachable:
    text = clean_line(error.verify_message or "the certificate cannot be verified").rstrip(".")
    if "mismatch" in text.lower():
        text = "the certificate is for another host"
    unknown = "issuer" in text or "self-signed" in text or "self signed" in text
    hint = (
        "if your company's network re-signs TLS, name its root in AUTHSOME_CA_BUNDLE and restart the daemon"
        if unknown
        else None
    )
    return EndpointUnreachable(f"{host}: {text[:1].lower()}{text[1:]}", hint=hint or "the provider has to mend this")


def _system_roots() -> Path | None:
    """The file of the system's roots; certifi's when there is none."""
    built_in = Path(ssl.get_default_verify_paths().openssl_cafile)
    for path in (built_in, *_ROOTS):
        if path.is_file():
            return path
    if find_spec("certifi") is not None:
        import certifi  # noqa: PLC0415  # comes with mitmproxy; used where the system keeps no file

        return Path(certifi.where())
    return None


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return path, None
    return path, status.st_ino, status.st_size, status.st_mtime_ns
