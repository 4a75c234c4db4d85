"""An HTTP/2 server on loopback, with flow control as a server has it.

/download?bytes=N   N bytes, as fast as the client's windows open
/grpc               a body and then trailers
anything in answers what the test has put there: fields, body and trailers; without the last a reset in its middle
anything else       JSON of the request's headers, its body's length, and its trailers
"""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import GoAwayFrame

from fakes import wire
from fakes.authority import Leaf

_BLOCK = b"x" * 16384


@dataclass(slots=True)
class _Stream:
    headers: list[tuple[str, str]]
    length: int = 0
    trailers: list[tuple[str, str]] = field(default_factory=list)
    left: int = 0
    """Bytes of a download that are still to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a path is answered with."""

    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] | None = ()
    """None: the stream is reset behind the body."""


@dataclass(slots=True, kw_only=True)
class H2Server:
    """A running server."""

    context: ssl.SSLContext
    port: int = 0
    read_delay: float = 0
    """Seconds to wait before each read: a server that takes an upload slowly."""
    requests: list[dict[str, object]] = field(default_factory=list)
    answers: dict[str, "Answer"] = field(default_factory=dict)
    most: int | None = None
    """Requests that one connection serves; at the next it announces its end (RFC 9113 §6.8), and answers those."""
    connections: int = 0
    """How many are open."""
    opened: int = 0
    """How many there were."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, plain: wire.Connection) -> None:
        """Serve one connection."""
        with self.lock:
            self.connections += 1
            self.opened += 1
        try:
            self._serve(plain)
        finally:
            with self.lock:
                self.connections -= 1

    def _serve(self, plain: wire.Connection) -> None:
        with self.context.wrap_socket(plain.socket, server_side=True) as connection:
            settings = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
            protocol = h2.connection.H2Connection(settings)
            protocol.initiate_connection()
            connection.sendall(protocol.data_to_send())
            streams: dict[int, _Stream] = {}
            while data := connection.recv(65536):
                time.sleep(self.read_delay)
                for event in protocol.receive_data(data):
                    self._handle(protocol, streams, event)
                self._send_downloads(protocol, streams)
                last = max(streams, default=0)
                if self.most is not None and protocol.highest_inbound_stream_id > last:
                    connection.sendall(GoAwayFrame(0, last_stream_id=last).serialize())
                connection.sendall(protocol.data_to_send())

    def _handle(
        self, protocol: h2.connection.H2Connection, streams: dict[int, _Stream], event: h2.events.Event
    ) -> None:
        if isinstance(event, h2.events.RequestReceived):
            if len(streams) == self.most:
                return
            streams[event.stream_id] = _Stream([(str(name), str(value)) for name, value in event.headers])
        elif getattr(event, "stream_id", None) not in streams:
            return
        elif isinstance(event, h2.events.DataReceived):
            streams[event.stream_id].length += len(event.data)
            protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            streams[event.stream_id].trailers = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            self._respond(protocol, event.stream_id, streams[event.stream_id])

    def _respond(self, protocol: h2.connection.H2Connection, number: int, stream: _Stream) -> None:
        request = {"headers": stream.headers, "length": stream.length, "trailers": stream.trailers}
        self.requests.append(request)
        target = urlsplit(dict(stream.headers)[":path"])
        if (answer := self.answers.get(target.path)) is not None:
            protocol.send_headers(number, [(":status", "200"), *answer.fields])
            protocol.send_data(number, answer.body, end_stream=answer.trailers == ())
            if answer.trailers is None:
                protocol.reset_stream(number)
            elif answer.trailers:
                protocol.send_headers(number, list(answer.trailers), end_stream=True)
        elif target.path == "/download":
            stream.left = int(parse_qs(target.query)["bytes"][0])
            protocol.send_headers(number, [(":status", "200"), ("content-length", str(stream.left))])
        elif target.path == "/grpc":
            protocol.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])
            protocol.send_data(number, b"message")
            protocol.send_headers(number, [("grpc-status", "0"), ("grpc-message", "fine")], end_stream=True)
        else:
            protocol.send_headers(number, [(":status", "200"), ("content-type", "application/json")])
            protocol.send_data(number, json.dumps(request).encode(), end_stream=True)

    def _send_downloads(self, protocol: h2.connection.H2Connection, streams: dict[int, _Stream]) -> None:
        for number, stream in streams.items():
            while stream.left:
                size = min(stream.left, len(_BLOCK), protocol.local_flow_control_window(number))
                if size <= 0:
                    break
                stream.left -= size
                protocol.send_data(number, _BLOCK[:size], end_stream=stream.left == 0)


@contextmanager
def serve(leaf: Leaf) -> Iterator[H2Server]:
    """Run the server on a free port of 127.0.0.1 until the block ends."""
    server = H2Server(context=leaf.context(alpn=("h2",)))
    with wire.listen(server.serve) as server.port:
        yield server
