"""A gRPC server by Google's library, with TLS: messages are bytes, as no method here needs a schema for them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from fakes.authority import Leaf

SERVICE: Final = "test.Words"
_UNLIMITED: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(slots=True)
class GrpcServer:
    """What it was sent."""

    port: int = 0
    authorizations: list[str] = field(default_factory=list)
    """Of each call."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Whether a call was given up by its client."""

    def _note(self, context: grpc.ServicerContext) -> None:
        sent = dict(context.invocation_metadata())
        self.authorizations.append(str(sent.get("authorization")))

    def echo(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """The same, with something behind it."""
        self._note(context)
        context.set_trailing_metadata((("x-length", str(len(message))), ("x-data-bin", b"\0\xff")))
        return message

    def tell(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """The credential, which it should keep for itself."""
        self._note(context)
        return message + self.authorizations[-1].encode()

    def count(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """As many messages as it says."""
        self._note(context)
        for number in range(int(message)):
            yield b"%d" % number

    def talk(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """An answer to each message before the next."""
        self._note(context)
        for message in messages:
            yield message.upper()

    def repeat(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Each message as it came, before the next."""
        self._note(context)
        yield from messages

    def refuse(self, _message: bytes, context: grpc.ServicerContext) -> bytes:
        """An error, with its text."""
        self._note(context)
        return context.abort(grpc.StatusCode.NOT_FOUND, "no such word: ü")  # type: ignore[no-any-return]  # it raises

    def wait(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """One message, and no more until the client has given up."""
        self._note(context)
        context.add_callback(self.cancelled.set)
        yield message
        self.cancelled.wait(60)


@contextmanager
def serve(leaf: Leaf, *, compression: grpc.Compression = grpc.Compression.NoCompression) -> Iterator[GrpcServer]:
    """Serve on a free port of loopback; `compression`: of all messages, whatever a client says that it takes."""
    found = GrpcServer()
    methods: dict[str, grpc.RpcMethodHandler] = {
        "Echo": grpc.unary_unary_rpc_method_handler(found.echo),
        "Tell": grpc.unary_unary_rpc_method_handler(found.tell),
        "Count": grpc.unary_stream_rpc_method_handler(found.count),
        "Talk": grpc.stream_stream_rpc_method_handler(found.talk),
        "Repeat": grpc.stream_stream_rpc_method_handler(found.repeat),
        "Refuse": grpc.unary_unary_rpc_method_handler(found.refuse),
        "Wait": grpc.unary_stream_rpc_method_handler(found.wait),
    }
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=_UNLIMITED, compression=compression)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    pair = (leaf.key.read_bytes(), leaf.certificate.read_bytes())
    found.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials((pair,)))
    server.start()
    try:
        yield found
    finally:
        server.stop(None).wait()
