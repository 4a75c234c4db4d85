"""A hostile endpoint on loopback: answers every request with bytes that a test chose, and records the request.

A script is a function without arguments that yields bytes, which are sent, and numbers, which are pauses in seconds;
when it ends the connection is closed. `SCRIPTS` names the ready ones, so that a table test can run through them.
"""

import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from fakes import wire
from fakes.authority import Leaf

Script = Callable[[], Iterator[bytes | float]]

_JSON: Final = "application/json"
_TOKENS: Final = {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 3600}


def http(body: bytes, *, status: int = 200, kind: str = _JSON, headers: str = "") -> bytes:
    """A whole answer; `headers` is raw, each line ended by CR LF."""
    head = f"HTTP/1.1 {status} Test\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode("latin-1") + body


def answer(body: bytes, *, status: int = 200, kind: str = _JSON, headers: str = "") -> Script:
    """A script that sends one whole answer."""
    return lambda: iter((http(body, status=status, kind=kind, headers=headers),))


def tokens(**changes: object) -> Script:
    """A token answer (RFC 6749 section 5.1) with some members changed; None stays in as null."""
    return answer(json.dumps({**_TOKENS, **changes}).encode())


def redirect(to: str, status: int = 307) -> Script:
    """A redirect, which a token endpoint's client must not follow (RFC 9700 section 4.12)."""
    return answer(b"", status=status, headers=f"Location: {to}\r\n")


def _endless_chunks() -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield b'10000\r\n{"access_token":"'.ljust(65536 + 7, b"a") + b"\r\n"
    while True:
        yield b"10000\r\n" + b"a" * 65536 + b"\r\n"


def _endless_head() -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-Filler: " + b"a" * 8000 + b"\r\n"


def _drip_body() -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    while True:
        yield b" "
        yield 0.2


def _drip_head() -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nX-Filler: "
    while True:
        yield b"a"
        yield 0.2


def _hang() -> Iterator[bytes | float]:
    while True:
        yield 0.2


def _half() -> Iterator[bytes | float]:
    yield b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{"access_token": "an-acc'


def _gzip_bomb() -> Iterator[bytes | float]:
    packer = zlib.compressobj(wbits=31)  # 31: with gzip's header
    body = packer.compress(b'{"access_token": "')
    body += b"".join(packer.compress(b"a" * (1 << 20)) for _ in range(200))
    body += packer.compress(b'"}') + packer.flush()
    yield http(body, headers="Content-Encoding: gzip\r\n")


SCRIPTS: Final[Mapping[str, Script]] = {
    # SEC-92: nonsense where JSON is due
    "html": answer(b"<!doctype html><h1>Welcome</h1>", kind="text/html"),
    "text": answer(b"access_token=an-access-token", kind="text/plain"),
    "empty": answer(b""),
    "nothing": lambda: iter(()),
    "array": answer(b"[]"),
    "string": answer(b'"an-access-token"'),
    "truncated": answer(b'{"access_token": "an-acc'),
    "deep": answer(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep array": answer(b"[" * 100_000 + b"]" * 100_000),
    "bom": answer(b"\xef\xbb\xbf" + json.dumps(_TOKENS).encode()),
    "utf-16": answer(json.dumps(_TOKENS).encode("utf-16")),
    "nan": answer(b'{"access_token": "a", "token_type": "Bearer", "expires_in": NaN}'),
    "bad utf-8": answer(b'{"access_token": "\xff\xfe", "token_type": "Bearer"}'),
    "not http": lambda: iter((b"SSH-2.0-OpenSSH_9.2\r\n",)),
    # SEC-93
    "error in 200": answer(b'{"error": "bad_verification_code", "error_description": "The code is incorrect."}'),
    # SEC-94: too much
    "endless chunks": _endless_chunks,
    "endless head": _endless_head,
    "gzip bomb": _gzip_bomb,
    # SEC-95: too slow
    "drip body": _drip_body,
    "drip head": _drip_head,
    "hang": _hang,
    # SEC-97: an error that would write to the terminal, the page and the log
    "rude error": answer(
        json.dumps(
            {
                "error": "invalid_request",
                "error_description": "\x1b[2J<script>alert(1)</script>\r\nX: y" + "a" * 1_000_000,
            }
        ).encode(),
        status=400,
    ),
    # SEC-81: passing trouble
    "half": _half,
    "500": answer(b'{"error": "server_error"}', status=500),
    "502": answer(b"<h1>Bad Gateway</h1>", status=502, kind="text/html"),
    "503": answer(b"", status=503, headers="Retry-After: 7\r\n"),
    "429": answer(b"{}", status=429, headers="Retry-After: 7\r\n"),
    # SEC-85, SEC-86, SEC-87: wrong types and values in a token answer
    "no token": answer(b'{"token_type": "Bearer"}'),
    "null token": tokens(access_token=None),
    "empty token": tokens(access_token=""),
    "number token": tokens(access_token=7),
    "token with newline": tokens(access_token="an\r\nX-Injected: 1"),
    "token not ascii": tokens(access_token="ân-access-token"),
    "64 kB token": tokens(access_token="a" * 65_536),
    "mac token": tokens(token_type="mac"),
    "dpop token": tokens(token_type="DPoP"),
}
"""What no client may take for tokens (and three it may forgive: `bom`, `nan`, and a redirect it must not follow)."""


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """A running endpoint; `script` may be changed at any time."""

    script: Script
    port: int = 0
    scheme: str = "http"
    requests: list[wire.Recorded] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/token", *, host: str = "127.0.0.1") -> str:
        """Its URL."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def serve(self, connection: wire.Connection) -> None:
        """Record one request, play the script, close."""
        if request := wire.read_request(connection.reader, connection.writer):
            self.requests.append(request)
            for step in self.script():
                if isinstance(step, bytes):
                    connection.writer.write(step)
                    connection.writer.flush()
                elif self._over.wait(step):
                    return

    def stop(self) -> None:
        """End the scripts that pause."""
        self._over.set()


@contextmanager
def serve(script: Script, *, leaf: Leaf | None = None) -> Iterator[Endpoint]:
    """Run an endpoint on a free port of 127.0.0.1 until the block ends; with `leaf` it speaks TLS."""
    endpoint = Endpoint(script=script, scheme="https" if leaf else "http")
    with wire.listen(endpoint.serve, leaf=leaf) as endpoint.port:
        try:
            yield endpoint
        finally:
            endpoint.stop()
