"""Connections to servers: the name looked up and checked by the address guard, and the checked address dialled.

Where the user has a company's proxy, it looks up names and dials; what can be told of a host without that is checked.
"""

import asyncio
import os
import socket
from datetime import timedelta
from typing import Final

from authsome import address
from authsome.address import AddressPolicy
from authsome.errors import AuthsomeError, EndpointUnreachable
from authsome.outbound import Deadline, Outbound, open_tunnel
from authsome.proxy.rules import Target

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_LOOKUP_TIMEOUT: Final = timedelta(seconds=15)
_CONNECT_SECONDS: Final = 20.0
_SOONER_SECONDS: Final = 4.0  # while there is another address to try: a dead IPv6 route is common


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
    """A connection through the company's proxy."""
    try:
        connection = open_tunnel(outbound, target.host, target.port, Deadline(timedelta(seconds=_CONNECT_SECONDS)))
    except OSError as error:
        raise EndpointUnreachable(
            f"{target.authority}: the proxy does not answer", hint="HTTPS_PROXY names it"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
