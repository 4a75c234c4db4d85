"""Servers for the client's tests: one that sends scripted bytes, and a small daemon that checks proofs."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from authsome import clock
from authsome.errors import AuthenticationFailed, AuthsomeError
from authsome.home import Settings, settings_from
from authsome.identity import did, proof


@dataclass
class Scripted:
    """A server that answers each request head with the next of `answers`, whatever was asked; None closes instead."""

    url: str
    answers: list[bytes | None] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Scripted(url=f"http://127.0.0.1:{listener.getsockname()[1]}")

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # a client may have heard enough
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                server.requests.append(data)
                data = b""
                answer = server.answers.pop(0) if server.answers else None
                if answer is None:
                    return
                connection.sendall(answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(60)


@dataclass
class SmallDaemon:
    """As much of a daemon as proves the client's side: it knows identities, checks proofs and runs `answer`."""

    url: str
    bootstrap: str | None = None
    registered: dict[str, str] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    calls: list[tuple[str, str, dict[str, object] | None]] = field(default_factory=list)
    answer: Callable[[str, str], tuple[int, object]] = lambda method, target: (
        200,
        {"method": method, "target": target},
    )

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        token = headers.get("authorization", "").removeprefix("PoP ")
        data = json.loads(body) if body else None
        self.calls.append((method, target, data))
        try:
            if target == "/identities":
                return self._register(token, method, target, body, data)
            claimed = proof.parse(token)
            key = self.registered.get(claimed.handle) if claimed.handle in self.claimed else None
            self._verify(token, key, method, target, body)
        except AuthsomeError as error:
            return error.http_status, {"status": error.http_status, "code": error.code, "detail": error.message}
        return self.answer(method, target)

    def _register(
        self, token: str, method: str, target: str, body: bytes, data: dict[str, object] | None
    ) -> tuple[int, object]:
        assert data is not None
        handle, key = str(data["handle"]), str(data["did"])
        self._verify(token, key, method, target, body)
        self.registered.setdefault(handle, key)
        if self.bootstrap is not None and data.get("bootstrap") == self.bootstrap:
            self.claimed.add(handle)
        return 200, {"identity": {"handle": handle, "did": key}, "claimed": handle in self.claimed}

    def _verify(self, token: str, key: str | None, method: str, target: str, body: bytes) -> None:
        if key is None:
            raise AuthenticationFailed
        proof.verify(
            token,
            public_key=did.public_key_from_did(key),
            audiences=frozenset({self.url}),
            method=method,
            target=target,
            body=body,
            now=clock.now(),
        )


@pytest.fixture
def small_daemon() -> Iterator[SmallDaemon]:
    listener = socket.create_server(("127.0.0.1", 0))
    daemon = SmallDaemon(url=f"http://127.0.0.1:{listener.getsockname()[1]}")

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError), connection.makefile("rb") as reader:
            while line := reader.readline():
                method, target, _ = line.decode().split(" ")
                headers: dict[str, str] = {}
                while (header := reader.readline()) != b"\r\n":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = reader.read(int(headers.get("content-length", "0")))
                status, answer = daemon.handle(method, target, headers, body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield daemon
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(60)


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings of a home that is not made yet."""
    return settings_from({"AUTHSOME_HOME": str(home)})
