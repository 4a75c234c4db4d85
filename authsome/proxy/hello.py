"""What a client says in its first TLS message (ClientHello, RFC 8446 §4.1.2), read before anybody answers it.

Only the choice of an engine hangs on this, and whether a server is looked at before it is made; the server name that
counts is the one that the TLS library has read.
"""

from typing import Final, NamedTuple

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0  # RFC 6066 §3
_ALPN: Final = 16  # RFC 7301 §3.1


class Hello(NamedTuple):
    """What is read of it."""

    protocols: tuple[bytes, ...] = ()
    """The application protocols that are offered (ALPN)."""
    server_name: str | None = None
    """The server that is asked for (SNI)."""


def read(data: bytes) -> Hello | None:
    """Read the message at the beginning of these bytes; None: more are needed.

    Raises:
        ValueError: this is no ClientHello.
    """
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if data and data[0] != _HANDSHAKE:
            raise ValueError("not a TLS handshake")
        size = int.from_bytes(data[3:5], "big")
        if len(data) < 5 + size or len(data) < 5:
            return None
        message += data[5 : 5 + size]
        data = data[5 + size :]
        if message[:1] != bytes([_CLIENT_HELLO]):
            raise ValueError("not a ClientHello")
    hello = _Reader(message[4 : 4 + int.from_bytes(message[1:4], "big")])
    hello.take(2 + 32)  # version, random
    for width in (1, 2, 1):  # session, cipher suites, compression methods
        hello.vector(width)
    extensions = _Reader(hello.vector(2)) if hello.data else _Reader(b"")
    found = Hello()
    while extensions.data:
        kind = int.from_bytes(extensions.take(2), "big")
        value = _Reader(extensions.vector(2))
        if kind == _ALPN:
            offered, protocols = _Reader(value.vector(2)), []
            while offered.data:
                protocols.append(offered.vector(1))
            found = found._replace(protocols=tuple(protocols))
        elif kind == _SERVER_NAME:
            names = _Reader(value.vector(2))
            names.take(1)  # a host name: there is no other kind
            found = found._replace(server_name=names.vector(2).decode("latin-1"))
    return found


class _Reader:
    """Takes one thing after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if len(self.data) < size:
            raise ValueError("a ClientHello that is shorter than it says")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def vector(self, width: int) -> bytes:
        """Bytes behind their length."""
        return self.take(int.from_bytes(self.take(width), "big"))
