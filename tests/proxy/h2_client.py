"""A client that speaks HTTP/2 and nothing else, as gRPC does, and hides nothing."""

import h2.config
import h2.connection
import h2.events

from proxy.support import Proxy, Wire

_ENDS = (h2.events.StreamEnded, h2.events.StreamReset)


class H2Client:
    """HTTP/2 by hand, over the proxy."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        context = proxy.context
        context.set_alpn_protocols(["h2"])
        self.wire: Wire = proxy.tunnel(f"{host}:{port}").secure(context, host)
        self.protocol = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.protocol.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent."""
        self.wire.send(self.protocol.data_to_send())

    def headers(
        self,
        *more: tuple[str, str],
        authority: str,
        path: str = "/echo",
        method: str = "POST",
        end_stream: bool = True,
    ) -> int:
        """Begin a request; its stream's number."""
        number: int = self.protocol.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":path", path), (":authority", authority)]
        self.protocol.send_headers(number, [*pseudo, *more], end_stream=end_stream)
        self.flush()
        return number

    def events(
        self, *numbers: int, until: type[h2.events.Event] | tuple[type[h2.events.Event], ...] = _ENDS
    ) -> list[h2.events.Event]:
        """What comes, until there was such an event on each of these streams, or the connection has ended."""
        found: list[h2.events.Event] = []
        left = set(numbers)
        while left:
            data = self.wire.socket.recv(65536)
            for event in self.protocol.receive_data(data) if data else []:
                if isinstance(event, h2.events.DataReceived):
                    self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, until):
                    left.discard(event.stream_id)
                found.append(event)
            self.flush()
            if not data or any(isinstance(each, h2.events.ConnectionTerminated) for each in found):
                break
        return found
