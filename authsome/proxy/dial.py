"""Connections to servers: the name looked up and checked by the address guard, and the checked address dialled.

Where the user has a company's proxy, it looks up names and dials; what can be told of a host without that is checked.
"""

import asyncio
import os
import re
import socket
import time
from datetime import timedelta
from typing import Final

from authsome import address
from authsome.address import AddressPolicy
from authsome.errors import AuthsomeError, EndpointUnreachable
from authsome.proxy.rules import Target
from authsome.transport import Outbound

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_LOOKUP_TIMEOUT: Final = timedelta(seconds=15)
_CONNECT_SECONDS: Final = 20.0
_SOONER_SECONDS: Final = 4.0  # while there is another address to try: a dead IPv6 route is common
_HEAD_LIMIT: Final = 64 * 1024
_OPENED: Final = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}[ \r]")


async def dial(target: Target, policy: AddressPolicy, outbound: Outbound) -> Streams:
    """Connect to a host, for an event loop; see `connect`."""
    connection = await asyncio.to_thread(connect, target, policy, outbound)
    return await asyncio.open_connection(sock=connection)


def connect(target: Target, policy: AddressPolicy, outbound: Outbound) -> socket.socket:
    """Connect to a host.

    Raises:
        AddressRefused: it lies where it must not.
        EndpointUnreachable: it does not resolve, or no address of it answers.
    """
    if outbound.serves(target.host, target.port):
        address.check_literal(target.host, target.port, policy)
        return _through_proxy(target, outbound)
    addresses = address.resolve(target.host, target.port, policy, timeout=_LOOKUP_TIMEOUT)
    failure: AuthsomeError = EndpointUnreachable(f"{target.authority}: no address")
    for number, each in enumerate(addresses, 1):
        try:
            return _connect(target, each.ip, each.port, is_last=number == len(addresses))
        except EndpointUnreachable as error:
            failure = error
    raise failure


def _connect(target: Target, host: str, port: int, *, is_last: bool) -> socket.socket:
    seconds = _CONNECT_SECONDS if is_last else _SOONER_SECONDS
    try:
        connection = socket.create_connection((host, port), timeout=seconds)
    except TimeoutError as error:
        raise EndpointUnreachable(f"{target.authority}: no answer in {seconds:.0f} s") from error
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else "no connection"
        raise EndpointUnreachable(f"{target.authority}: {cause.lower()}") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _through_proxy(target: Target, outbound: Outbound) -> socket.socket:
    """A connection through the company's proxy (RFC 9110 §9.3.6); the user named it, so its address is not judged."""
    assert outbound.proxy is not None
    connection = _connect(target, outbound.proxy.ip, outbound.proxy.port, is_last=True)
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [f"CONNECT {host}:{target.port} HTTP/1.1", f"Host: {host}:{target.port}"]
    if outbound.authorization is not None:
        lines.append(f"Proxy-Authorization: {outbound.authorization.reveal()}")
    try:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head = _head(connection)
    except OSError:
        head = b""
    if not _OPENED.match(head):
        connection.close()
        raise EndpointUnreachable(f"{target.authority}: the proxy in HTTPS_PROXY does not lead there")
    return connection


def _head(connection: socket.socket) -> bytes:
    """A response's head, and not a byte of what follows it: that is the server's, and somebody else's to read."""
    head = b""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while not head.endswith(b"\r\n\r\n") and len(head) < _HEAD_LIMIT:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        found = connection.recv(_HEAD_LIMIT, socket.MSG_PEEK)
        if not found:
            return b""
        end = (head + found).find(b"\r\n\r\n")
        head += connection.recv(len(found) if end < 0 else end + 4 - len(head))
    return head
