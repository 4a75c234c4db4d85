"""The quick road and a thread do the same, whatever comes: on a connection that was used before and on a new one."""

import json
import socket
import subprocess  # noqa: TC003
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes import api
from fakes.api import Answer
from fakes.patience import PATIENCE, eventually
from fakes.program import Program
from proxy.support import Proxy, Wire

KEY = "kk-0123456789abcdefghijklmnop"
_HOST = "api.example.localhost"
_CHILD = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
_QUIET_SECONDS = (0.3, 3, 30)
"""How long nothing has to come until it is taken for all; longer where the shorter one made a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A run's proxy and the server behind it."""

    proxy: Proxy
    server: api.ApiServer
    authority: str

    def connection(self, *, used: bool) -> Wire:
        """A connection to the server; `used`: so often that the next request is one for the quick road."""
        wire = self.proxy.open(_HOST, self.server.port)
        for _ in range(3 if used else 0):
            assert wire.request("GET", "/before", f"Host: {self.authority}").status == 200
        return wire

    def outcome(self, pieces: list[bytes], *, used: bool, quiet: float) -> tuple[bytes, bool, list[bytes]]:
        """What comes back of these bytes, whether the connection ends, and the heads that the server got."""
        with self.connection(used=used) as wire:
            self.server.requests.clear()
            for piece in pieces:
                wire.send(piece)
                if piece is not pieces[-1]:
                    time.sleep(0.05)
            came, has_ended = _all_of(wire.socket, quiet)
        return came, has_ended, [request.head for request in self.server.requests]


def _all_of(connection: socket.socket, quiet: float) -> tuple[bytes, bool]:
    """What comes until it is quiet for so many seconds, and whether it is the end."""
    connection.settimeout(quiet)
    came = b""
    try:
        while data := connection.recv(65536):
            came += data
    except TimeoutError:
        return came, False
    except OSError:
        pass
    return came, True


@pytest.fixture
def opened(program: Program, keyed: api.ApiServer, start: Callable[..., "subprocess.Popen[str]"]) -> Iterator[Open]:
    """A run with a credential for the server."""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    child = start("run", "--", sys.executable, "-c", _CHILD)
    assert child.stdout
    proxy = Proxy(child=child, environ=json.loads(child.stdout.readline()))  # type: ignore[arg-type]
    keyed.answers["/echo-of-it"] = Answer(body=f"it was {KEY}".encode(), headers=(("X-It", KEY),))
    keyed.answers["*"] = Answer()
    keyed.answers["/empty"] = Answer(status=204)
    keyed.answers["/large"] = Answer(body=b"x" * 300_000)
    keyed.answers["/refused"] = Answer(status=401, body=b"no")
    keyed.answers["/last"] = Answer(headers=(("Connection", "close"),), body=b"bye")
    keyed.answers["/hops"] = Answer(
        headers=(("Keep-Alive", "timeout=5"), ("Alt-Svc", "h3"), ("X-A", "1"), ("X-A", "2"))
    )
    keyed.answers["/spaces"] = Answer(headers=(("X-A", "  1 \t"), ("X-B", ""), ("x-c", "a\t b"), ("X_D", "\xe9")))
    keyed.answers["/kept"] = Answer(headers=(("connection", "Keep-Alive"), ("Alt_Svc", "h3"), ("Upgrade", "h2c")))
    keyed.answers["/control"] = Answer(headers=(("X-A", "1\x01"),))
    keyed.answers["/messages"] = Answer(headers=(("Content-Type", "application/grpc"),), body=b"\0\0\0\0\1x")
    keyed.answers["/coded"] = Answer(headers=(("Content-Encoding", "zstd"),), body=b"x")
    keyed.answers["/long"] = Answer(headers=tuple((f"X-{number}", "a" * 600) for number in range(30)))
    keyed.answers["/folded"] = Answer(headers=(("X-A", "1\r\n 2"),))
    keyed.answers["/lengths"] = Answer(headers=(("Content-Length", "0"),))
    yield Open(proxy=proxy, server=keyed, authority=f"{_HOST}:{keyed.port}")
    child.kill()


def _requests(host: bytes) -> dict[str, list[bytes]]:
    """Requests of all kinds, each as the pieces that it is sent in."""

    def head(line: bytes, *fields: bytes) -> bytes:
        return b"\r\n".join([line, *fields, b"", b""])

    own = b"Host: " + host
    get = b"GET /x?a=1&b=2 HTTP/1.1"
    post = b"POST /x HTTP/1.1"
    whole = {
        "plain": head(get, own),
        "placeholder": head(get, own, b"Authorization: Bearer kk-placeholder", b"authorization: x"),
        "underscore": head(get, own, b"Authorization_: 1", b"X_Api_Key: 1"),
        "close": head(get, own, b"Connection: close"),
        "hops": head(get, own, b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"TE: trailers", b"Proxy-Foo: 1"),
        "strips": head(get, own, b"Connection: Host"),
        "upgrade": head(get, own, b"Connection: Upgrade", b"Upgrade: websocket"),
        "body": head(post, own, b"Content-Length: 5") + b"hello",
        "body of a get": head(get, own, b"Content-Length: 5") + b"hello",
        "empty body": head(post, own, b"Content-Length: 0"),
        "chunks": head(post, own, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        "head": head(b"HEAD /x HTTP/1.1", own),
        "options": head(b"OPTIONS * HTTP/1.1", own),
        "absolute": head(b"GET https://" + host + b"/y HTTP/1.1", own),
        "absolute elsewhere": head(b"GET https://evil.example/y HTTP/1.1", own),
        "connect": head(b"CONNECT " + host + b" HTTP/1.1", own),
        "another host": head(get, b"Host: evil.example"),
        "two hosts": head(get, own, own),
        "no host": head(get),
        "old version": head(b"GET /x HTTP/1.0", own),
        "new version": head(b"GET /x HTTP/1.2", own),
        "lower-case version": head(b"GET /x http/1.1", own),
        "fragment": head(b"GET /x#y HTTP/1.1", own),
        "two spaces": head(b"GET  /x HTTP/1.1", own),
        "no path": head(b"GET x HTTP/1.1", own),
        "dots": head(b"GET /a/../b/%2e%2e/c HTTP/1.1", own),
        "bytes": head(b"GET /\xc3\xa9 HTTP/1.1", own),
        "folded": head(get, own, b"X-A: 1", b" 2"),
        "space before the colon": head(get, own, b"X-A : 1"),
        "no colon": head(get, own, b"X-A"),
        "nul": head(get, own, b"X-A: \0"),
        "line feeds": head(get, own).replace(b"\r\n", b"\n"),
        "bare return": head(get, own, b"X-A: 1\r2"),
        "two lengths": head(post, own, b"Content-Length: 5", b"Content-Length: 5") + b"hello",
        "both lengths": head(post, own, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        "negative": head(post, own, b"Content-Length: -1"),
        "plus": head(post, own, b"Content-Length: +5") + b"hello",
        "named": head(get, own, b"Authsome-Connection: default"),
        "named otherwise": head(get, own, b"Authsome-Connection: nobody"),
        "named twice": head(get, own, b"Authsome-Connection: a", b"Authsome-Connection: b"),
        "codings": head(b"GET /gzip HTTP/1.1", own, b"Accept-Encoding: gzip, br"),
        "part": head(get, own, b"Range: bytes=0-1", b"Accept-Encoding: gzip"),
        "empty line first": b"\r\n" + head(get, own),
        "two at once": head(get, own) + head(b"GET /y HTTP/1.1", own),
        "secret comes back": head(b"GET /echo-of-it HTTP/1.1", own),
        "no content": head(b"GET /empty HTTP/1.1", own),
        "large": head(b"GET /large HTTP/1.1", own),
        "refused": head(b"GET /refused HTTP/1.1", own),
        "last": head(b"GET /last HTTP/1.1", own),
        "answer's hops": head(b"GET /hops HTTP/1.1", own),
        "answer's spaces": head(b"GET /spaces HTTP/1.1", own),
        "answer's kept connection": head(b"GET /kept HTTP/1.1", own),
        "answer's control character": head(b"GET /control HTTP/1.1", own),
        "answer's messages": head(b"GET /messages HTTP/1.1", own),
        "answer's coding": head(b"GET /coded HTTP/1.1", own),
        "answer's long head": head(b"GET /long HTTP/1.1", own),
        "answer's folding": head(b"GET /folded HTTP/1.1", own),
        "answer's lengths": head(b"GET /lengths HTTP/1.1", own),
        "events": head(b"GET /sse?events=2&interval=0.01 HTTP/1.1", own),
        "cut": head(b"GET /cut?bytes=10 HTTP/1.1", own),
        "download": head(b"GET /download?bytes=70000&chunked=1 HTTP/1.1", own),
        "500": head(b"GET /status/500 HTTP/1.1", own),
        "304": head(b"GET /status/304 HTTP/1.1", own),
    }
    pieces = {name: [data] for name, data in whole.items()}
    pieces["byte by byte"] = [whole["plain"][:1], whole["plain"][1:20], whole["plain"][20:-1], whole["plain"][-1:]]
    pieces["body later"] = [head(post, own, b"Content-Length: 5"), b"he", b"llo"]
    pieces["no host behind a url"] = [head(b"GET https://" + host + b"/y HTTP/1.1"), head(get)]
    pieces["expectation"] = [head(post, own, b"Content-Length: 5", b"Expect: 100-continue"), b"hello"]
    pieces["one after the other"] = [whole["plain"], whole["body"], whole["plain"], whole["secret comes back"]]
    return pieces


def test_whatever_comes_on_a_used_connection_is_treated_as_on_a_new_one(opened):
    """To the byte: what the child gets, what the server gets, and whether it goes on. # SEC-151 # SEC-155 # SEC-156"""
    different = {}
    for name, pieces in _requests(opened.authority.encode()).items():
        for quiet in _QUIET_SECONDS:
            new, used = (opened.outcome(pieces, used=used, quiet=quiet) for used in (False, True))
            if name == "events":  # which hold the time
                new, used = ((each[0][:100], *each[1:]) for each in (new, used))
            if new == used:
                break
        else:
            different[name] = new, used
    assert different == {}


def test_connections_that_wait_have_no_thread(opened, program):
    """They are in the loop, and served from there; else the test above would compare a thread with a thread."""
    worker = next(pid for pid, command in program.processes().items() if "proxy-worker" in command)
    wires = [opened.connection(used=True) for _ in range(40)]
    assert eventually(lambda: len(list(Path(f"/proc/{worker}/task").iterdir())) < 20)
    host = f"Host: {opened.authority}"
    assert all(wire.request("GET", "/x", host).status == 200 for wire in wires[:1] * 50)
    for wire in wires:
        wire.close()


def test_a_server_that_ends_is_dialled_again(opened):
    """Between two requests, and just as the next one is sent."""
    host = f"Host: {opened.authority}"
    with opened.connection(used=True) as wire:
        assert wire.request("GET", "/last", host).status == 200
    with opened.connection(used=True) as wire:
        count = opened.server.connections
        assert wire.request("GET", "/x", host).status == 200
        assert opened.server.connections == count


def test_the_end_of_the_run_ends_what_waits(opened):
    """A connection in the loop is closed like any other."""
    with opened.connection(used=True) as wire:
        opened.proxy.end()
        assert _all_of(wire.socket, PATIENCE) == (b"", True)


def test_many_wait_at_once(opened):
    """Each gets its own answer."""
    wires = [opened.connection(used=True) for _ in range(20)]
    host = f"Host: {opened.authority}"
    for round_ in range(5):
        for number, wire in enumerate(wires):
            wire.send(f"GET /n/{number}/{round_} HTTP/1.1\r\n{host}\r\n\r\n")
        for number, wire in enumerate(wires):
            assert wire.answer().json()["target"] == f"/n/{number}/{round_}"
    for wire in wires:
        wire.close()
