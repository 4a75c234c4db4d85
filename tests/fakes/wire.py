"""HTTP/1.1 on a bare socket, for servers that must see, and may send, exactly the bytes they want.

The reader is lenient on purpose: what a client sent is recorded as it came, and the test judges it.
"""

import hashlib
import socket
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from fakes.authority import Leaf

_KEPT_BODY: Final = 64 * 1024  # of a longer body only length and hash are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A request as it came over the wire."""

    head: bytes
    """Request line and headers, byte for byte."""
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """The first 64 KiB of the body, without its framing."""
    length: int
    sha256: str
    at: float
    """time.monotonic() when the head was read."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a doubled one the last."""
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body as a urlencoded form; of a doubled field the last."""
        return dict(urllib.parse.parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a header, in order."""
        return tuple(value for key, value in self.headers if key.lower() == name.lower())

    def header(self, name: str) -> str | None:
        """A header's only value, or None; a doubled header fails."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


def read_request(reader: BinaryIO, writer: BinaryIO) -> Recorded | None:
    """Read one request; None when the client has ended the connection. Answers `Expect: 100-continue`."""
    lines: list[bytes] = []
    while (line := reader.readline(1 << 20)) not in {b"\r\n", b"\n", b""}:
        lines.append(line)
    if not lines:
        return None
    at = time.monotonic()
    method, _, rest = lines[0].decode("latin-1").partition(" ")
    fields = (field.decode("latin-1").partition(":") for field in lines[1:])
    headers = tuple((name, value.strip()) for name, _, value in fields)
    framing = {name.lower(): value.lower() for name, value in headers}
    if framing.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.flush()
    kept, length, digest = bytearray(), 0, hashlib.sha256()
    for block in _body(reader, framing):
        length += len(block)
        digest.update(block)
        kept += block[: _KEPT_BODY - len(kept)]
    return Recorded(
        head=b"".join(lines),
        method=method,
        target=rest.rpartition(" ")[0].strip(),
        headers=headers,
        body=bytes(kept),
        length=length,
        sha256=digest.hexdigest(),
        at=at,
    )


def _body(reader: BinaryIO, framing: dict[str, str]) -> Iterator[bytes]:
    if framing.get("transfer-encoding", "").endswith("chunked"):
        while size := int(reader.readline().partition(b";")[0] or b"0", 16):
            yield reader.read(size)
            reader.readline()
        while reader.readline() not in {b"\r\n", b"\n", b""}:
            pass  # trailers
        return
    left = int(framing.get("content-length") or 0)
    while left and (block := reader.read(min(left, 1 << 16))):
        left -= len(block)
        yield block


@dataclass(frozen=True, slots=True)
class Connection:
    """One client's connection, after the TLS handshake if there is one."""

    socket: socket.socket
    reader: BinaryIO
    writer: BinaryIO


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, handle: Callable[[Connection], None], leaf: Leaf | None, port: int) -> None:
        self.handle = handle
        self.context = leaf.context() if leaf else None
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # noqa: ARG002
        with self.lock:
            self.open.add(request)
        plain = request
        try:
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context:
                request = self.context.wrap_socket(request, server_side=True)
                with self.lock:
                    self.open = (self.open - {plain}) | {request}
            with request.makefile("rb") as reader, request.makefile("wb") as writer:
                self.handle(Connection(request, reader, writer))
        except (OSError, ValueError):
            pass  # the client went, distrusts us, or the test is over: its end of the matter is what counts
        finally:
            with self.lock:
                self.open.discard(request)
            _cut(request)
            request.close()

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        self.shutdown()
        self.server_close()
        with self.lock:
            connections = tuple(self.open)
        for connection in connections:
            _cut(connection)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        # Not SSLSocket.shutdown, which drops the TLS state under the thread that may be using it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


@contextmanager
def listen(handle: Callable[[Connection], None], *, leaf: Leaf | None = None, port: int = 0) -> Iterator[int]:
    """Serve every connection on 127.0.0.1 in a thread of its own; yields the port (`port` 0: a free one)."""
    with _Server(handle, leaf, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.close()
            thread.join()
