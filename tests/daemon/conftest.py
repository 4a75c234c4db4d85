"""A server of ours on loopback, and a client that sends exactly the bytes it is told to."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from authsome.daemon.messages import Request, Response, json_response
from authsome.daemon.server import Handle, Server
from fakes.patience import PATIENCE

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

GUARDS = {
    "server": "authsome",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def assert_guarded(self) -> None:
        """Every answer guards itself, names no software but ours, and has a policy that lets no script run."""
        assert {name: self.headers.get(name) for name in GUARDS} == GUARDS
        policy = self.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert "access-control-allow-origin" not in self.headers
        assert "python" not in str(self.headers).lower()


@dataclass(slots=True)
class Client:
    """One connection; bytes out, answers in."""

    socket: socket.socket
    received: bytes = b""

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answer(self, *, with_body: bool = True) -> Answer | None:
        """The next answer; None when the server has closed the connection without one."""
        while b"\r\n\r\n" not in self.received:
            if not self._more():
                assert not self.received
                return None
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), "a header is there twice"
        length = int(headers.get("content-length", "0")) if with_body else 0
        while len(self.received) < length:
            assert self._more()
        body, self.received = self.received[:length], self.received[length:]
        return Answer(int(status.split()[1]), headers, body)

    def expect(self, status: int, **options: bool) -> Answer:
        """The next answer, which has this status and every guard."""
        answer = self.answer(**options)
        assert answer is not None
        assert answer.status == status, answer
        answer.assert_guarded()
        return answer

    def is_closed(self) -> bool:
        """Wait until the server has closed; False if it sends more instead."""
        return not self.received and not self._more()

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.received += data
        return bool(data)


@dataclass(slots=True)
class Served:
    """A running server, and every request that reached its handler."""

    server: Server
    requests: list[Request] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.server_port

    @property
    def host(self) -> str:
        """What a client says in Host."""
        return f"127.0.0.1:{self.port}"

    def connect(self) -> Client:
        """A new connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Client(connection)

    def head(self, method: str = "GET", target: str = "/", *lines: str) -> bytes:
        """A well-formed head with further header lines."""
        return "".join(
            f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", f"Host: {self.host}", *lines, "")
        ).encode("latin-1")

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection for the length of a block."""
        client = self.connect()
        with client.socket:
            yield client

    def exchange(self, data: bytes) -> Answer | None:
        """What a fresh connection that sends these bytes, and no more, is answered."""
        with self.client() as client:
            with suppress(ConnectionError):  # refused before all was sent
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)
            return client.answer()

    def is_empty(self) -> bool:
        """Wait until no connection is left; False if one stays."""
        with self.server._changed:
            return self.server._changed.wait_for(lambda: not self.server._connections, PATIENCE)

    def get(self, target: str = "/") -> Answer:
        """What a plain GET on a fresh connection is answered."""
        answer = self.exchange(self.head("GET", target))
        assert answer is not None
        return answer


@contextmanager
def running(handle: Handle | None = None, *, host: str = "127.0.0.1", **options: object) -> Iterator[Served]:
    """A server for the length of a block, with any options of `Server`; without a handler it answers `{"ok": true}`."""
    served = Served(Server(host, 0, now=lambda: NOON, **options))  # type: ignore[arg-type]

    def handler(request: Request) -> Response:
        served.requests.append(request)
        return handle(request) if handle else json_response({"ok": True})

    thread = threading.Thread(target=served.server.serve, args=(handler,))
    thread.start()
    try:
        yield served
    finally:
        served.server.stop(timedelta(seconds=5))
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def run_server() -> Iterator[Callable[..., Served]]:
    """Starts servers that live as long as the test, as `running` does."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running(*args, **options))


@pytest.fixture
def served() -> Iterator[Served]:
    """A server that answers everything with `{"ok": true}`."""
    with running() as server:
        yield server
