"""A WebSocket server on loopback with TLS that sends back what it gets (RFC 6455)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, Request

from fakes import wire
from fakes.authority import Leaf


@dataclass(slots=True, kw_only=True)
class EchoServer:
    """A running server."""

    port: int = 0
    handshakes: list[dict[str, str]] = field(default_factory=list)

    def serve(self, connection: wire.Connection) -> None:
        """Serve one connection."""
        protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        while data := connection.socket.recv(65536):
            protocol.receive_data(data)
            for event in protocol.events():
                if isinstance(event, Request):
                    fields = {name.decode().lower(): value.decode() for name, value in event.extra_headers}
                    self.handshakes.append(fields)
                    connection.socket.sendall(protocol.send(AcceptConnection()))
                elif isinstance(event, Message):
                    reply = BytesMessage if isinstance(event, BytesMessage) else type(event)
                    answer = reply(data=event.data, message_finished=event.message_finished)  # type: ignore[arg-type]
                    connection.socket.sendall(protocol.send(answer))
                elif isinstance(event, Ping | CloseConnection):
                    connection.socket.sendall(protocol.send(event.response()))
                    if isinstance(event, CloseConnection):
                        return


@contextmanager
def serve(leaf: Leaf) -> Iterator[EchoServer]:
    """Run the server on a free port of 127.0.0.1 until the block ends."""
    server = EchoServer()
    with wire.listen(server.serve, leaf=leaf) as server.port:
        yield server
