"""TLS on both sides of the express engine: with the child in the name of a host, with the server by its certificate."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from authsome.errors import EndpointUnreachable
from authsome.proxy import hello
from authsome.proxy.authority import Leaf
from authsome.proxy.hello import Hello
from authsome.proxy.rules import Target
from authsome.proxy.side import Side, wait

_HANDSHAKE_SECONDS: Final = 30.0
_PEEK_SECONDS: Final = 0.002  # until the rest of a ClientHello that came in pieces is looked for again
_HELLO_LIMIT: Final = 64 * 1024


_NO_PROTOCOL: Final = "no application protocol"  # OpenSSL's words for the alert; not every Python has a name for it
_IGNORE_CUTS: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))
"""Takes an end without a goodbye for one with it (`side`). Debian's Python and Ubuntu's have it set in every context;
one that is built with OpenSSL 1.1 does not know it."""
HTTP1: Final = ("http/1.1",)
ANY_HTTP: Final = ("h2", "http/1.1")


class NoSharedProtocol(Exception):
    """A server refuses what it was offered (RFC 7301 §3.2): it speaks something else."""


class ChildSocket(ssl.SSLSocket):
    """TLS with a child."""

    asked_for: str | None = None
    """The server name that its ClientHello named."""


def _note_server_name(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
    assert isinstance(connection, ChildSocket)
    connection.asked_for = name


def child_socket(context: ssl.SSLContext, connection: socket.socket) -> ChildSocket:
    """What TLS with a child will be, once `accept` has agreed on it; takes the descriptor over.

    Raises:
        OSError: the child has gone.
    """
    secure = context.wrap_socket(
        connection, server_side=True, suppress_ragged_eofs=False, do_handshake_on_connect=False
    )
    assert isinstance(secure, ChildSocket)
    return secure


def accept(connection: ChildSocket) -> None:
    """Agree on TLS with a child.

    Raises:
        OSError: it went, or distrusts us.
    """
    connection.settimeout(_HANDSHAKE_SECONDS)
    try:
        connection.do_handshake()
    finally:
        connection.settimeout(0)


def connect(context: ssl.SSLContext, connection: socket.socket, target: Target) -> ssl.SSLSocket:
    """TLS with a server, whose certificate is good for the host.

    Raises:
        EndpointUnreachable: it is not, or there is no TLS there.
        NoSharedProtocol: it does not speak what the context offers.
    """
    try:
        connection.settimeout(_HANDSHAKE_SECONDS)
        return context.wrap_socket(connection, server_hostname=target.host, suppress_ragged_eofs=False)
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise distrusted(target, error.verify_message) from error
    except (OSError, ValueError) as error:
        connection.close()
        if _NO_PROTOCOL in str(error).lower().replace("_", " "):
            raise NoSharedProtocol from error
        raise EndpointUnreachable(f"{target.authority}: the TLS handshake failed") from error


def distrusted(target: Target, cause: str) -> EndpointUnreachable:
    """What a server is told by whose certificate is not good for the host; `cause` in OpenSSL's words."""
    return EndpointUnreachable(
        f"{target.authority}: certificate verify failed: {cause}",
        hint="a company's own authority goes into AUTHSOME_CA_BUNDLE",
    )


def child_context(leaf: Leaf) -> ssl.SSLContext:
    """What stands in for a host, HTTP/1.1 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options &= ~_IGNORE_CUTS
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = ChildSocket
    context.sni_callback = _note_server_name
    with _readable(leaf.chain_pem()) as certificate_path, _readable(leaf.key_pem()) as key_path:
        context.load_cert_chain(certificate_path, key_path)
    return context


def protocol(connection: socket.socket) -> str | None:
    """The application protocol that a server has chosen."""
    assert isinstance(connection, ssl.SSLSocket)
    return connection.selected_alpn_protocol()


@contextmanager
def _readable(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL, which takes nothing else, can read these bytes: a pipe's, as a key is on no disk."""
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, data)  # less than any pipe holds
        finally:
            os.close(writing)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)


def server_context(offer: tuple[Path, tuple[str, ...]]) -> ssl.SSLContext:
    """What verifies servers against the roots in a PEM file, and offers them these protocols."""
    trust, protocols = offer
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options &= ~_IGNORE_CUTS
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(list(protocols))
    context.load_verify_locations(trust)
    return context


def client_hello(side: Side) -> Hello:
    """What a child's TLS begins with, left where it is.

    Raises:
        ValueError: it does not begin TLS.
    """
    deadline = time.monotonic() + _HANDSHAKE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if not wait((side, True), seconds=left):
            break
        seen = side.socket.recv(_HELLO_LIMIT, socket.MSG_PEEK)
        if not seen:
            break
        if (found := hello.read(seen)) is not None:
            return found
        time.sleep(_PEEK_SECONDS)
    raise ValueError("no ClientHello came")
