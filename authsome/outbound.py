"""The way out through a company's proxy: who goes through it, and the tunnel that it opens (RFC 9110 §9.3.6).

Rule: the user has named the proxy, so its own address is not judged; and of what it answers not a byte is taken that
belongs to whom it leads to.
"""

import base64
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import unquote, urlsplit

from authsome import address
from authsome.address import Address
from authsome.errors import EndpointRefused, EndpointUnreachable, UsageError
from authsome.secret import Secret

_HTTP_PORT: Final = 80
_URL: Final = re.compile(r"[!-~]+")  # printable ASCII: urlsplit would silently drop tabs and line ends
_HEAD_LIMIT: Final = 16 * 1024  # bytes of an answer that has no body
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")
_HINT: Final = "HTTPS_PROXY names it"


class Deadline:
    """The time by which all must be over."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()

    def left(self) -> float:
        """Seconds left; raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def apply(self, connection: socket.socket) -> None:
        """Let the next operation on the connection last no longer than that."""
        connection.settimeout(self.left())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """The way through a company's proxy, as HTTPS_PROXY and NO_PROXY say it."""

    proxy: Address | None = None
    """Its host (a name or an address, as written) and port."""
    authorization: Secret[str] | None = field(default=None, repr=False)
    """The value of Proxy-Authorization, when the URL has a user."""
    exempt: tuple[str, ...] = ()
    """NO_PROXY's entries in lower case."""

    def serves(self, host: str, port: int) -> bool:
        """Whether a request to this host goes through the proxy. This machine never does."""
        if self.proxy is None or address.is_local_name(host):
            return False
        literal = address.parse_literal(host)
        if literal is not None and address.reach(literal) is address.Reach.LOOPBACK:
            return False
        return not any(_exempts(entry, host, port) for entry in self.exempt)


DIRECT: Final = Outbound()


def outbound_from(environ: Mapping[str, str]) -> Outbound:
    """Read HTTPS_PROXY and NO_PROXY; the lower-case names win, as they do for curl.

    Raises:
        UsageError: HTTPS_PROXY is no http:// URL or host:port.
    """
    text = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
    exempt = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").lower().replace(",", " ").split()
    if not text:
        return Outbound(exempt=tuple(exempt))
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname or "", parts.port or _HTTP_PORT
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme != "http" or not host or not _URL.fullmatch(text):  # its value may hold a password: not shown
        raise UsageError("HTTPS_PROXY is not the URL of a proxy", hint="as in http://proxy.example.com:3128")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret("Basic " + base64.b64encode(pair.encode()).decode())
    return Outbound(proxy=Address(host, port), authorization=authorization, exempt=tuple(exempt))


def open_tunnel(outbound: Outbound, host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection through the proxy that leads to a host.

    Raises:
        EndpointUnreachable: the proxy is not there, or does not lead there.
        EndpointRefused: what it answers is not HTTP.
        OSError: it broke off, or takes too long.
    """
    proxy = outbound.proxy
    assert proxy is not None
    named = f"[{proxy.ip}]:{proxy.port}" if ":" in proxy.ip else f"{proxy.ip}:{proxy.port}"
    try:
        connection = socket.create_connection(proxy, deadline.left())
    except OSError as error:
        raise EndpointUnreachable(f"{host}: the proxy {named} could not be reached", hint=_HINT) from error
    try:
        status = _ask(connection, outbound, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", deadline)
    except BaseException:
        connection.close()
        raise
    if status is not None and 200 <= status < 300:
        return connection
    connection.close()
    if status is None:
        raise EndpointRefused(f"{host}: the proxy's answer is not HTTP", hint=_HINT)
    raise EndpointUnreachable(f"{host}: the proxy {named} answered {status}", hint=_HINT)


def _ask(connection: socket.socket, outbound: Outbound, authority: str, deadline: Deadline) -> int | None:
    """The status of the answer; None: it is not HTTP."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if outbound.authorization is not None:
        lines.append(f"Proxy-Authorization: {outbound.authorization.reveal()}")
    deadline.apply(connection)
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    found = _STATUS.match(_head(connection, deadline))
    return None if found is None else int(found[1])


def _head(connection: socket.socket, deadline: Deadline) -> bytes:
    """The answer's head, and nothing of what follows it; empty, where there is none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        deadline.apply(connection)
        seen = connection.recv(_HEAD_LIMIT, socket.MSG_PEEK)
        if not seen or len(head) > _HEAD_LIMIT:
            return b""
        end = (head + seen).find(b"\r\n\r\n")
        head += connection.recv(len(seen) if end < 0 else end + 4 - len(head))
    return head


def _exempts(entry: str, host: str, port: int) -> bool:
    """Whether a NO_PROXY entry covers a host: `*`, a name and all below it, an address, each perhaps with a port."""
    if entry == "*":
        return True
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdecimal() and ":" not in name:
        if digits.lstrip("0") != str(port):
            return False
        entry = name
    entry = entry.removeprefix("*").removeprefix(".").strip("[]")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
