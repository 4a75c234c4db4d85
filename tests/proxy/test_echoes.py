"""What a server sends back of a credential does not reach the child, by either engine."""

import base64
import gzip
import json
import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import brotli
import h2.events
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage

from fakes import daemon_api, wire
from fakes.api import Answer, ApiServer
from fakes.authority import Authority
from fakes.daemon_api import DaemonApi
from fakes.patience import PATIENCE
from proxy import h2_server, websocket_server, zstd
from proxy.conftest import ENGINES
from proxy.h2_client import H2Client
from proxy.support import HOST, PLACEHOLDER, TOKEN, Proxy, Runner

PACKED = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}
SPELLINGS = {
    "plain": TOKEN,
    "header": f"Bearer {TOKEN}",
    "JSON": json.dumps({"token": TOKEN}),
    "Base64": base64.b64encode(TOKEN.encode()).decode(),
    "Base64 of more": base64.b64encode(f"x{TOKEN}y".encode()).decode(),
    "Base64 for URLs": base64.urlsafe_b64encode(f"xy{TOKEN}".encode()).decode(),
    "URL": quote(TOKEN, safe=""),
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both engines."""
    name: str = request.param
    return name


def holds_secret(data: bytes) -> bool:
    """Whether the token is there, plain or in any Base64."""
    if TOKEN.encode() in data:
        return True
    for run in re.findall(rb"[A-Za-z0-9+/_-]{16,}", data):
        text = run.replace(b"-", b"+").replace(b"_", b"/")
        for skip in range(4):
            piece = text[skip:]
            if TOKEN[1:-1].encode() in base64.b64decode(piece[: len(piece) // 4 * 4]):
                return True
    return False


def test_the_search_for_a_secret_finds_it():
    """This module's own search sees each spelling, so that it could fail."""
    assert all(holds_secret(f"before {text} after".encode()) for text in SPELLINGS.values())
    assert not holds_secret(b"before " + PLACEHOLDER.encode() + b" after")


def test_an_echo_tells_everything_but_the_secret(proxy: Proxy, api_server: ApiServer):
    """The server got it, and the child gets the rest of the echo, of the same length."""
    # SEC-163
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", "/echo?x=1", f"Host: {HOST}:{api_server.port}", "X-Mine: kept")
    assert api_server.requests[0].header("authorization") == f"Bearer {TOKEN}"
    headers = answer.json()["headers"]
    assert isinstance(headers, list)
    assert ["X-Mine", "kept"] in headers
    assert ["Authorization", "Bearer authsome-placeholder-authsome"[: 7 + len(TOKEN)]] in headers
    assert not holds_secret(answer.body)


def test_a_host_that_tells_it_in_clear_text(runner: Runner, plain_api_server: ApiServer):
    """What a host was sent over TLS is looked for in its answers over plain http too, which carry no credential."""
    # SEC-152 SEC-163
    told = json.dumps({"last": TOKEN}).encode()
    coding = (("Content-Encoding", "gzip"), ("X-Echo", TOKEN))
    plain_api_server.answers["/told"] = Answer(headers=coding, body=gzip.compress(told))
    url, codings = f"http://{HOST}:{plain_api_server.port}/told", "Accept-Encoding: gzip, br"
    with runner.proxy() as proxy:
        with proxy.connect() as before:
            answer = before.request("GET", url, "Host: x", codings, proxy.authorization)
            assert gzip.decompress(answer.body) == told  # the run has sent it nothing that it could tell
        with proxy.open(HOST, runner.server.port) as secure:
            assert secure.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
        with proxy.connect() as after:
            answer = after.request("GET", url, "Host: x", codings, proxy.authorization)
    assert not holds_secret(answer.body)
    assert not holds_secret(json.dumps(answer.headers).encode())
    assert len(answer.body) == len(told)
    first, second = plain_api_server.requests
    assert (first.header("accept-encoding"), second.header("accept-encoding")) == ("gzip, br", "gzip, br")
    assert second.all("authorization") == ()
    assert len(runner.daemon.resolved) == 1


@pytest.mark.parametrize("name", SPELLINGS)
def test_headers_and_bodies_in_every_spelling(proxy: Proxy, api_server: ApiServer, name: str):
    """Each spelling, in two headers, one of them a cookie, and in the body."""
    # SEC-163
    text = SPELLINGS[name]
    headers = (("X-Echo", text), ("Set-Cookie", f"t={text}; Path=/"), ("Set-Cookie", "other=1"))
    body = f"<{text}>{text}<{text}>".encode()
    api_server.answers["/told"] = Answer(headers=headers, body=body)
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", "/told", f"Host: {HOST}:{api_server.port}")
    assert not holds_secret(json.dumps(answer.headers).encode())
    assert not holds_secret(answer.body)
    assert len(answer.body) == len(body)
    assert answer.body.startswith(b"<")
    assert ("Set-Cookie", "other=1") in answer.headers


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", None])
def test_compressed_echoes(proxy: Proxy, api_server: ApiServer, coding: str | None):
    """What was asked for compressed comes as it is, without the secret and otherwise whole."""
    # SEC-163
    rest = "".join(chr(33 + number % 90) for number in range(5000))
    body = f"{rest}{TOKEN}{rest}".encode()
    packed = PACKED.get(str(coding), bytes)(body)
    api_server.answers["/packed"] = Answer(headers=(("Content-Encoding", coding),) if coding else (), body=packed)
    with proxy.open(HOST, api_server.port) as wire_:
        host = f"Host: {HOST}:{api_server.port}"
        for _ in range(2):  # and the connection goes on
            answer = wire_.request("GET", "/packed", host, "Accept-Encoding: br, gzip, deflate, zstd, dcb")
            assert (answer.status, answer.header("Content-Encoding")) == (200, None)
            assert len(answer.body) == len(body)
            assert answer.body.startswith(rest.encode())
            assert answer.body.endswith(rest.encode())
            assert not holds_secret(answer.body)
    assert api_server.requests[0].header("accept-encoding") == "br, gzip, deflate, zstd"


def test_a_compressed_file_that_was_not_asked_for_comes_as_sent(proxy: Proxy, api_server: ApiServer):
    """Byte by byte, with its length; and when it holds the secret it is cut before that."""
    # SEC-163
    good, bad = gzip.compress(b"a file" * 1000), gzip.compress(b"a file" * 10 + TOKEN.encode() * 10)
    host = f"Host: {HOST}:{api_server.port}"
    api_server.answers["/file"] = Answer(headers=(("Content-Encoding", "gzip"),), body=good)
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", "/file", host)
        assert (answer.header("Content-Encoding"), answer.body) == ("gzip", good)
    api_server.answers["/file"] = Answer(headers=(("Content-Encoding", "gzip"),), body=bad)
    with proxy.open(HOST, api_server.port) as wire_:
        wire_.send(f"GET /file HTTP/1.1\r\n{host}\r\n\r\n")
        try:
            received = wire_.reader.read()
        except OSError:
            received = b""  # cut as hard as can be
    assert bad[-20:] not in received
    assert not holds_secret(received)


@pytest.mark.parametrize(("coding", "asked"), [("dcb", "dcb"), ("br", "gzip"), ("zstd", "identity")])
def test_a_coding_that_cannot_be_undone_is_refused(proxy: Proxy, api_server: ApiServer, coding: str, asked: str):
    """A server that sends what was not asked for: 502, with the field that would let it pass."""
    # SEC-163
    api_server.answers["/bad"] = Answer(headers=(("Content-Encoding", coding),), body=b"packed" * 1000)
    host = f"Host: {HOST}:{api_server.port}"
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", "/bad", host, f"Accept-Encoding: {asked}")
    assert (answer.status, answer.json()["code"]) == (502, "endpoint_unreachable")
    assert '"scrub": "off"' in str(answer.json()["hint"])
    assert b"packed" not in answer.body


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_compressed_answer_that_is_broken_is_cut(proxy: Proxy, api_server: ApiServer, coding: str):
    """A child that reads to the end sees that it is none, and the worker serves the next."""
    # SEC-163
    pack = PACKED[coding]
    bodies = [pack(TOKEN.encode() * 1000)[:-1], b"noise" * 100]
    host = f"Host: {HOST}:{api_server.port}"
    for body in bodies:
        api_server.answers["/bad"] = Answer(headers=(("Content-Encoding", coding),), body=body)
        with proxy.open(HOST, api_server.port) as wire_:
            wire_.send(f"GET /bad HTTP/1.1\r\n{host}\r\nAccept-Encoding: {coding}\r\n\r\n")
            try:
                received = wire_.reader.read()
            except OSError:
                received = b""  # cut as hard as can be
        assert not received.endswith(b"\r\n0\r\n\r\n") or received.startswith(b"HTTP/1.1 502")
        assert body[-20:] not in received
        assert len(received) < 1 << 20
        assert not holds_secret(received)
    with proxy.open(HOST, api_server.port) as wire_:
        assert wire_.request("GET", "/echo", host).status == 200


def test_a_definition_can_switch_it_off(runner: Runner):
    """Where the daemon names no secrets, the request and the answer are left alone."""
    server = runner.server
    runner.daemon.credentials[HOST] = daemon_api.bearer("sk-of-a-provider-that-echoes", secrets=[])
    with runner.proxy() as proxy, proxy.open(HOST, server.port) as wire_:
        answer = wire_.request("GET", "/gzip", f"Host: {HOST}:{server.port}", "Accept-Encoding: br, gzip")
    assert answer.header("Content-Encoding") == "gzip"
    assert b"sk-of-a-provider-that-echoes" in gzip.decompress(answer.body)
    assert server.requests[0].header("accept-encoding") == "br, gzip"


def test_a_later_answer_does_not_tell_either(runner: Runner):
    """A host that kept the credential is looked through in answers to requests that had none, by another connection."""
    # SEC-163
    runner.daemon.routes[0]["path_prefix"] = "/a/"
    server = runner.server
    server.answers["/kept"] = Answer(body=f"it was {TOKEN}".encode())
    host = f"Host: {HOST}:{server.port}"
    with runner.proxy() as proxy:
        with proxy.open(HOST, server.port) as wire_:
            assert wire_.request("GET", "/a/x", host).status == 200
        with proxy.open(HOST, server.port) as wire_:
            answer = wire_.request("GET", "/kept", host)
    assert server.requests[1].all("authorization") == ()
    assert answer.body.startswith(b"it was authsome")


def test_a_basic_pair_is_a_secret(proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """Also where the password alone would be too short to be looked for."""
    # SEC-163
    daemon_fake.credentials[HOST] = daemon_api.basic("me@example.com", "short")
    pair = base64.b64encode(b"me@example.com:short").decode()
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", "/echo", f"Host: {HOST}:{api_server.port}")
    assert api_server.requests[0].header("authorization") == f"Basic {pair}"
    assert pair.encode() not in answer.body


@contextmanager
def pieces(authority: Authority, *parts: bytes, go: threading.Semaphore | None = None) -> Iterator[int]:
    """A server that answers with these bytes, each in a write of its own, and when the test says `go`."""

    def handle(connection: wire.Connection) -> None:
        while connection.reader.readline() not in {b"\r\n", b""}:
            pass
        for part in parts:
            if go:
                go.acquire(timeout=PATIENCE)
            connection.socket.sendall(part)
            time.sleep(0 if go else 0.05)

    with wire.listen(handle, leaf=authority.issue(HOST)) as port:
        yield port


def test_across_the_borders_of_chunks(runner: Runner, authority: Authority):
    """A secret in three chunks and three writes, in a trailer, and a piece of one at the very end that is none."""
    # SEC-163
    token = TOKEN.encode()
    parts = [b"begin" + token[:5], token[5:9], token[9:] + b"middle" + token[:4], b" and " + token[:7]]
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Token\r\n\r\n"
    end = b"0\r\nX-Token: " + token + b"\r\n\r\n"
    with pieces(authority, head, *chunks, end) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        with runner.proxy() as proxy, proxy.open(HOST, port) as wire_:
            wire_.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n")
            while wire_.reader.readline() != b"\r\n":
                pass
            body = b""
            while size := int(wire_.reader.readline(), 16):
                body += wire_.reader.read(size)
                wire_.reader.readline()
            trailer = wire_.reader.readline()
    whole = b"".join(parts)
    assert len(body) == len(whole)
    assert body.startswith(b"beginauthsome-")
    assert body.endswith(b"middle" + token[:4] + b" and " + token[:7])
    assert trailer.lower().startswith(b"x-token: authsome-")


def test_events_with_a_secret_arrive_as_they_are_sent(runner: Runner, authority: Authority):
    """A stream of events is looked through without being held up: each arrives before the next one is sent."""
    # SEC-163 SEC-164
    events = [b"data: %d %b\n\n" % (number, TOKEN.encode()) for number in range(4)]
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    go = threading.Semaphore(1)  # for the head
    with pieces(authority, head, *chunks, b"0\r\n\r\n", go=go) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        with runner.proxy() as proxy, proxy.open(HOST, port) as wire_:
            wire_.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n")
            while wire_.reader.readline() != b"\r\n":
                pass
            for number in range(4):
                go.release()
                event = wire_.reader.read(int(wire_.reader.readline(), 16))
                wire_.reader.readline()
                assert event.startswith(b"data: %d authsome-" % number)
                assert event.endswith(b"\n\n")
            go.release()


@pytest.mark.parametrize("is_binary", [False, True])
def test_messages_of_a_websocket(runner: Runner, authority: Authority, is_binary):
    """The handshake carries the credential; messages come uncompressed, and without it."""
    # SEC-163 SEC-166
    with websocket_server.serve(authority.issue(HOST)) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        with runner.proxy() as proxy, proxy.open(HOST, server.port) as wire_:
            answer = wire_.request(
                "GET",
                "/chat",
                f"Host: {HOST}:{server.port}",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Extensions: permessage-deflate",
            )
            assert answer.status == 101
            assert answer.header("Sec-WebSocket-Extensions") is None
            protocol = Connection(ConnectionType.CLIENT)
            plain = ["no secret", "yes", "s", TOKEN[:-1], "x" * 70_000 + "s"]  # some end as the secret begins
            told = [f"one {TOKEN} two", "x" * 70_000 + TOKEN, base64.b64encode(TOKEN.encode()).decode()]
            texts = [*told, *plain, *told]
            for text in texts:
                message = BytesMessage(text.encode()) if is_binary else TextMessage(text)
                wire_.send(protocol.send(message))
                received = b""
                is_whole = False
                while not is_whole:
                    protocol.receive_data(wire_.socket.recv(65536))
                    for event in protocol.events():
                        assert isinstance(event, BytesMessage if is_binary else TextMessage)
                        data = event.data
                        received += data if isinstance(data, bytes | bytearray) else data.encode()
                        is_whole = event.message_finished
                assert len(received) == len(text)
                assert not holds_secret(received)
                assert (received == text.encode()) is (text in plain)
    assert server.handshakes[0]["authorization"] == f"Bearer {TOKEN}"


def test_an_echo_over_http2(runner: Runner, authority: Authority):
    """A client that speaks HTTP/2 only, whichever engine it is left to: header values and body without the secret."""
    # SEC-163
    with h2_server.serve(authority.issue(HOST)) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        with runner.proxy() as proxy:
            client = H2Client(proxy, HOST, server.port)
            for _ in range(2):
                number = client.headers(("accept-encoding", "br, gzip, dcb"), authority=f"{HOST}:{server.port}")
                events = client.events(number)
                body = b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))
                echoed = json.loads(body)["headers"]
                assert ["accept-encoding", "br, gzip"] in echoed
                assert any(name == "authorization" and "authsome-" in value for name, value in echoed)
                assert not holds_secret(body)
            client.wire.close()
    sent = [dict(request["headers"]) for request in server.requests]  # type: ignore[call-overload]
    assert [headers["authorization"] for headers in sent] == [f"Bearer {TOKEN}"] * 2
