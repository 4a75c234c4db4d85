"""An API server on loopback, TLS or plain, that records every request as it came.

What it answers depends on the path:

    /sse?events=5&interval=0.2     server-sent events, each with the server's time.monotonic() in `at`
    /sse?events=5&held=1           the same, each when the test has released one more of `events`
    /download?bytes=N[&chunked=1]  N bytes (the letters of `pattern`)
    /status/N                      this status
    /redirect?to=URL[&status=302]  a redirect
    /slow?seconds=N                an echo after N seconds
    /cut?bytes=N                   N bytes of a body that was announced one byte longer, then the end
    /gzip                          an echo, compressed
    /files/…                       a file below `files`
    what `answers` names           just that
    anything else                  an echo: JSON {method, target, headers: [[name, value]…], body, length, sha256}

A path that begins with a prefix in `protected` answers 401 unless the header has exactly the value asked for.
"""

import gzip
import json
import mimetypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fakes import wire
from fakes.authority import Leaf
from fakes.patience import PATIENCE

_BLOCK: Final = bytes(range(65, 91)) * 2520  # A to Z, 64 KiB or nearly


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a path answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0
    """Seconds before anything is sent."""


@dataclass(slots=True, kw_only=True)
class ApiServer:
    """A running server; `answers`, `protected` and `files` may be changed while it runs."""

    port: int = 0
    scheme: str = "http"
    requests: list[wire.Recorded] = field(default_factory=list)
    connections: int = 0
    """How many connections were made (after the TLS handshake)."""
    answers: dict[str, Answer] = field(default_factory=dict)
    protected: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: Path | None = None
    events: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """What held events wait for."""

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        """A URL of this server by one of its names."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def to(self, path: str) -> list[wire.Recorded]:
        """The requests for one path."""
        return [request for request in self.requests if request.path == path]

    def serve(self, connection: wire.Connection) -> None:
        """Answer one connection's requests."""
        self.connections += 1
        while request := wire.read_request(connection.reader, connection.writer):
            self.requests.append(request)
            for block in self._respond(request):
                connection.writer.write(block)
                connection.writer.flush()
            if (request.all("connection") or ("",))[-1].lower() == "close" or request.path == "/cut":
                return

    def _respond(self, request: wire.Recorded) -> Iterator[bytes]:
        for prefix, (name, value) in self.protected.items():
            if request.path.startswith(prefix) and request.all(name) != (value,):
                body = b'{"message": "Bad credentials"}'
                headers = (("WWW-Authenticate", 'Basic realm="test"'), ("Content-Type", "application/json"))
                yield from _whole(request, Answer(status=401, headers=headers, body=body))
                return
        if request.path in self.answers:
            yield from _whole(request, self.answers[request.path])
        elif request.path.startswith("/files/"):
            yield from _whole(request, self._file(request.path.removeprefix("/files/")))
        elif request.path == "/sse":
            yield from _sse(request, self.events)
        else:
            first = request.path.split("/")[1]
            yield from _ROUTES.get(first, _echo)(request)

    def _file(self, name: str) -> Answer:
        assert self.files is not None, "the test gave no directory of files"
        path = (self.files / name).resolve()
        if path.is_dir():
            path /= "index.html"
        if not path.is_relative_to(self.files.resolve()) or not path.is_file():
            return Answer(status=404)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return Answer(headers=(("Content-Type", kind),), body=path.read_bytes())


def _whole(request: wire.Recorded, answer: Answer) -> Iterator[bytes]:
    time.sleep(answer.delay)
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    length = "" if answer.status in {204, 304} else f"Content-Length: {len(answer.body)}\r\n"
    body = b"" if request.method == "HEAD" or answer.status in {204, 304} else answer.body
    yield f"HTTP/1.1 {answer.status} Test\r\n{head}{length}\r\n".encode("latin-1") + body


def _chunked(kind: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield head.encode()
    for block in blocks:
        yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"


def echo_of(request: wire.Recorded) -> bytes:
    """The JSON that an echo answers."""
    value = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": request.body.decode("utf-8", "replace"),
        "length": request.length,
        "sha256": request.sha256,
    }
    return json.dumps(value).encode()


def _echo(request: wire.Recorded) -> Iterator[bytes]:
    headers = (("Content-Type", "application/json"),)
    return _whole(request, Answer(headers=headers, body=echo_of(request)))


def _gzip(request: wire.Recorded) -> Iterator[bytes]:
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    return _whole(request, Answer(headers=headers, body=gzip.compress(echo_of(request))))


def _slow(request: wire.Recorded) -> Iterator[bytes]:
    time.sleep(float(request.query.get("seconds", "1")))
    return _echo(request)


def _status(request: wire.Recorded) -> Iterator[bytes]:
    return _whole(request, Answer(status=int(request.path.rpartition("/")[2]), body=b"as asked\n"))


def _redirect(request: wire.Recorded) -> Iterator[bytes]:
    status, to = int(request.query.get("status", "302")), request.query["to"]
    return _whole(request, Answer(status=status, headers=(("Location", to),)))


def _sse(request: wire.Recorded, held: threading.Semaphore) -> Iterator[bytes]:
    events, interval = int(request.query.get("events", "5")), float(request.query.get("interval", "0.2"))

    def stream() -> Iterator[bytes]:
        for number in range(events):
            if "held" in request.query:
                held.acquire(timeout=PATIENCE)
            else:
                time.sleep(interval if number else 0)
            yield b"data: %b\n\n" % json.dumps({"event": number, "at": time.monotonic()}).encode()

    return _chunked("text/event-stream", stream())


def pattern(size: int) -> Iterator[bytes]:
    """The bytes that `/download` answers, in blocks."""
    while size > 0:
        yield _BLOCK[:size]
        size -= len(_BLOCK)


def _download(request: wire.Recorded) -> Iterator[bytes]:
    size = int(request.query["bytes"])
    if "chunked" in request.query:
        yield from _chunked("application/octet-stream", pattern(size))
        return
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    yield head.encode()
    yield from pattern(size)


def _cut(request: wire.Recorded) -> Iterator[bytes]:
    size = int(request.query["bytes"])
    yield f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size + 1}\r\n\r\n".encode()
    yield from pattern(size)


_ROUTES: Final[Mapping[str, Callable[[wire.Recorded], Iterator[bytes]]]] = {
    "cut": _cut,
    "download": _download,
    "gzip": _gzip,
    "redirect": _redirect,
    "slow": _slow,
    "status": _status,
}


@contextmanager
def serve(*, leaf: Leaf | None = None, files: Path | None = None, port: int = 0) -> Iterator[ApiServer]:
    """Run the server on 127.0.0.1 (`port` 0: a free one) until the block ends; with `leaf` it speaks TLS."""
    server = ApiServer(scheme="https" if leaf else "http", files=files)
    with wire.listen(server.serve, leaf=leaf, port=port) as server.port:
        yield server
