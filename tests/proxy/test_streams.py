"""What passes through the engine passes as it is, in both directions, without being kept."""

import base64
import gzip
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import brotli
import h2.events
import pytest
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import RequestData
from mitmproxy.test import tflow

from authsome.proxy import layers
from fakes import api, daemon_api, wire
from fakes.api import ApiServer
from fakes.authority import Authority
from fakes.patience import PATIENCE, eventually, settled
from proxy import h2_server, zstd
from proxy.conftest import ENGINES
from proxy.h2_client import H2Client
from proxy.support import HOST, PLACEHOLDER, TOKEN, Proxy, Runner, descriptors, peak

MIB = 1024 * 1024
BULK = 300 * MIB
GROWTH = 50 * MIB
DOWNLOAD_GROWTH = 20 * MIB


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both engines."""
    name: str = request.param
    return name


# ---- time --------------------------------------------------------------------------------------------------


def test_events_arrive_as_they_are_sent(proxy: Proxy, api_server: ApiServer):
    """Five server-sent events are five reads; the server sends each once the one before has arrived."""
    # SEC-164
    with proxy.open(HOST, api_server.port) as wire_:
        wire_.socket.settimeout(PATIENCE)
        wire_.send(f"GET /sse?events=5&held=1 HTTP/1.1\r\nHost: {HOST}:{api_server.port}\r\n\r\n")
        while wire_.reader.readline() != b"\r\n":
            pass
        for number in range(5):
            api_server.events.release()
            event = wire_.reader.read(int(wire_.reader.readline(), 16))
            assert json.loads(event.removeprefix(b"data: "))["event"] == number
            wire_.reader.readline()


def test_idle_connections_delay_nobody(proxy: Proxy, api_server: ApiServer):
    """With 200 connections open and silent, a request goes through."""
    # SEC-174
    idle = [proxy.connect() for _ in range(200)]
    try:
        with proxy.open(HOST, api_server.port) as wire_:
            assert wire_.request("GET", "/echo", f"Host: {HOST}:{api_server.port}").status == 200
    finally:
        for each in idle:
            each.close()


def test_strangers_are_bounded(proxy: Proxy, api_server: ApiServer):
    """Who shows no run's credential takes the place of others who have not: a run's connections stay, and get through.

    Each costs the worker a thread and a descriptor, and any user of this machine can make them.
    """
    # SEC-192
    own = proxy.open(HOST, api_server.port)
    strangers = [proxy.connect() for _ in range(700)]
    try:
        assert eventually(lambda: len(list(Path(f"/proc/{proxy.pid}/task").iterdir())) < 560)
        for each in strangers[:150]:
            each.socket.settimeout(PATIENCE)
            assert each.socket.recv(1) == b""
        with own, proxy.open(HOST, api_server.port) as another:
            for wire_ in (own, another):
                assert wire_.request("GET", "/echo", f"Host: {HOST}:{api_server.port}").status == 200
    finally:
        for each in strangers:
            each.close()


# ---- memory ------------------------------------------------------------------------------------------------


def test_a_large_download_is_not_kept(runner: Runner):
    """300 MiB pass, with and without a length, and the worker grows by less than 20 MiB."""
    # SEC-165
    with runner.proxy() as proxy:
        pid = proxy.pid
        fetch(proxy, runner.server, 16 * MIB)
        before = peak(pid)
        fetch(proxy, runner.server, BULK)
        fetch(proxy, runner.server, BULK, chunked=True)
        assert peak(pid) - before < DOWNLOAD_GROWTH


def fetch(proxy: Proxy, server: ApiServer, size: int, *, chunked: bool = False) -> None:
    """Download and compare."""
    wanted, found = hashlib.sha256(), hashlib.sha256()
    for block in api.pattern(size):
        wanted.update(block)
    with proxy.open(HOST, server.port) as wire_:
        query = f"bytes={size}" + ("&chunked=1" if chunked else "")
        wire_.send(f"GET /download?{query} HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n")
        while wire_.reader.readline() != b"\r\n":
            pass
        if chunked:
            while part := int(wire_.reader.readline(), 16):
                found.update(wire_.reader.read(part))
                wire_.reader.readline()
        else:
            left = size
            while left:
                block = wire_.reader.read(min(left, MIB))
                assert block
                left -= len(block)
                found.update(block)
    assert found.digest() == wanted.digest()


PACKERS = {
    "gzip": lambda size: gzip.compress(bytes(size), 6),
    "br": lambda size: brotli.compress(bytes(size)),
    "zstd": lambda size: zstd.compress(bytes(size)),
}


@pytest.mark.parametrize("coding", PACKERS)
def test_what_a_few_bytes_hold_is_not_kept(runner: Runner, coding: str):
    """100 MiB, compressed to next to nothing, arrive whole, as a child has room that at first has none."""
    # SEC-94 SEC-165
    size = 100 * MIB
    runner.server.answers["/packed"] = api.Answer(headers=(("Content-Encoding", coding),), body=PACKERS[coding](size))
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire_:
        assert wire_.request("GET", "/echo", host).status == 200
        pid = proxy.pid
        before = peak(pid)
        wire_.send(f"GET /packed HTTP/1.1\r\n{host}\r\nAccept-Encoding: {coding}\r\n\r\n")
        head = b"".join(iter(wire_.reader.readline, b"\r\n"))
        assert b"chunked" in head
        assert b"content-encoding" not in head.lower()
        settled(lambda: peak(pid))  # all of it could be decoded by now
        found = 0
        while length := int(wire_.reader.readline(), 16):
            assert not wire_.reader.read(length + 2).strip(b"\0\r\n")
            found += length
        assert wire_.reader.readline() == b"\r\n"
        assert found == size
        assert peak(pid) - before < GROWTH
        assert wire_.request("GET", "/echo", host).status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_is_not_kept(runner: Runner, chunked):
    """300 MiB go up, with and without a length; the server gets all of it and the worker keeps nothing."""
    # SEC-165
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    with runner.proxy() as proxy:
        pid = proxy.pid
        with proxy.open(HOST, runner.server.port) as wire_:
            assert wire_.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
        before = peak(pid)
        with proxy.open(HOST, runner.server.port) as wire_:
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BULK}"
            wire_.send(f"POST /echo HTTP/1.1\r\nHost: {HOST}:{runner.server.port}\r\n{framing}\r\n\r\n")
            for _ in range(BULK // len(block)):
                digest.update(block)
                wire_.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            if chunked:
                wire_.send("0\r\n\r\n")
            echo = wire_.answer().json()
        assert (echo["length"], echo["sha256"]) == (BULK, digest.hexdigest())
        assert peak(pid) - before < GROWTH


@pytest.mark.parametrize("when", ["undecided", "behind another"])
def test_what_comes_too_early_is_not_kept(runner: Runner, when: str):
    """A child that sends on while the daemon is asked, or the answer before is under way, is not read for long."""
    # SEC-165
    size, block = 200 * MIB, bytes(MIB)
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire_:
        assert wire_.request("GET", "/echo", host).status == 200
        pid = proxy.pid
        before = peak(pid)
        if when == "undecided":
            runner.daemon.held.add(runner.daemon.run)
        else:
            wire_.send(f"GET /sse?events=1&held=1 HTTP/1.1\r\n{host}\r\n\r\n")

        def send() -> None:
            wire_.send(f"POST /echo HTTP/1.1\r\n{host}\r\nContent-Length: {size}\r\n\r\n")
            for _ in range(size // len(block)):
                wire_.send(block)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        settled(lambda: peak(pid))
        growth = peak(pid) - before
        runner.daemon.held.clear()
        runner.server.events.release()
        sending.join(PATIENCE)
        if when != "undecided":
            assert wire_.answer().status == 200
        assert wire_.answer().json()["length"] == size
        assert growth < GROWTH


def test_clients_that_vanish_leave_nothing(runner: Runner):
    """Sixty clients go in the middle of a download: their descriptors, and the servers', are free within seconds."""
    # SEC-173
    with runner.proxy() as proxy:
        pid = proxy.pid
        with proxy.open(HOST, runner.server.port) as wire_:
            wire_.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}")
        before = settled(lambda: descriptors(pid))
        assert before < 60
        for _ in range(60):
            wire_ = proxy.open(HOST, runner.server.port)
            wire_.send(f"GET /download?bytes={BULK} HTTP/1.1\r\nHost: {HOST}:{runner.server.port}\r\n\r\n")
            wire_.reader.read(1000)
            wire_.close()
        assert eventually(lambda: descriptors(pid) <= before + 3), descriptors(pid)


# ---- messages ----------------------------------------------------------------------------------------------

Serve = Callable[[AbstractContextManager[object]], object]


def scripted(
    runner: Runner, authority: Authority, response: bytes, *, received: list[bytes]
) -> AbstractContextManager[int]:
    """A server that reads one request's head and what comes right with it, answers these bytes, and ends."""

    def handle(connection: wire.Connection) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n") and (line := connection.reader.readline()):
            head += line
        received.append(head)
        if b"chunked" in head:
            body = b""
            ends = (b"0\r\n\r\n", b"-end\r\n\r\n")
            while not body.endswith(ends) and (line := connection.reader.readline()):
                body += line
            received.append(body)
        connection.writer.write(response)
        connection.writer.flush()

    del runner
    return wire.listen(handle, leaf=authority.issue(HOST))


@pytest.mark.parametrize(
    ("response", "is_whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
    ],
)
def test_a_body_that_breaks_off_is_not_made_whole(runner: Runner, authority: Authority, response, is_whole):
    """When a server dies in the middle of a body, the child sees that it is short."""
    # SEC-172
    with scripted(runner, authority, response, received=[]) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        done = runner("curl", "-sS", f"https://{HOST}:{port}/")
    assert (done.returncode == 0) is is_whole
    assert done.stdout == b"abc"


def test_a_body_without_a_length_ends_with_the_goodbye(runner: Runner, authority: Authority):
    """A body that ends with its connection is whole when TLS was ended properly, and cut short when it was not."""
    # SEC-172
    for is_proper in (True, False):

        def handle(connection: wire.Connection, is_proper=is_proper) -> None:
            while connection.reader.readline() != b"\r\n":
                pass
            connection.writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
            connection.writer.flush()
            if is_proper:
                connection.socket.unwrap()  # type: ignore[attr-defined]  # TLS

        with wire.listen(handle, leaf=authority.issue(HOST)) as port:
            runner.daemon.routes = [daemon_api.route(HOST, port=port)]
            with runner.proxy() as proxy, proxy.tunnel(f"{HOST}:{port}") as tunnel:
                secure = proxy.watchful(tunnel, HOST)
                secure.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
                received, is_ended = b"", False
                try:
                    while data := secure.recv(4096):
                        received += data
                    is_ended = True
                except ssl.SSLError:
                    pass
                secure.close()
        assert received.endswith(b"\r\n\r\nabc")
        assert is_ended is is_proper


def test_a_server_that_ends_without_an_answer_is_a_502(runner: Runner, authority: Authority):
    """No answer at all is told as an error, with host, provider and what to do; but not that nothing was sent."""
    with scripted(runner, authority, b"", received=[]) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        answer = json.loads(runner.output("curl", "-sS", f"https://{HOST}:{port}/"))
    assert (answer["status"], answer["code"], answer["host"]) == (502, "endpoint_unreachable", f"{HOST}:{port}")
    assert (answer["provider"], answer["hint"]) == (
        "example",
        "check the network and try again; `authsome doctor` says more",
    )
    assert answer["title"] == "authsome has no answer to this request"


def test_messages_pass_unchanged(runner: Runner, authority: Authority):
    """Header order, doubled headers, odd case and statuses survive; Alt-Svc and hop-by-hop headers do not."""
    # SEC-177
    response = (
        b"HTTP/1.1 299 Odd Reason\r\nSet-Cookie: a=1; Path=/\r\nX-ODD-case: v\r\nSet-Cookie: b=2\r\n"
        b'Alt-Svc: h3=":443"\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nConnection: X-Hop\r\nContent-Length: 3\r\n\r\nabc'
    )
    received: list[bytes] = []
    with scripted(runner, authority, response, received=received) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        with runner.proxy() as proxy, proxy.open(HOST, port) as wire_:
            lines = (f"Host: {HOST}:{port}", "Range: bytes=0-2", "cOOKie: a=1", "X-Twice: 1", "X-Twice: 2")
            answer = wire_.request("GET", "/a%20b;c?d=e+f&&g", *lines)
    assert (answer.status, answer.body) == (299, b"abc")
    assert answer.headers == (
        ("Set-Cookie", "a=1; Path=/"),
        ("X-ODD-case", "v"),
        ("Set-Cookie", "b=2"),
        ("Content-Length", "3"),
    )
    wanted = [
        b"GET /a%20b;c?d=e+f&&g HTTP/1.1",
        *(line.encode() for line in lines),
        b"Authorization: Bearer " + TOKEN.encode(),
    ]
    assert received[0].split(b"\r\n")[:-2] == wanted


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_responses_without_a_body(proxy: Proxy, api_server: ApiServer, method, status):
    """HEAD, 204 and 304 end with their head, and the connection serves the next request."""
    # SEC-177
    with proxy.open(HOST, api_server.port) as wire_:
        for _ in range(2):
            answer = wire_.request(method, f"/status/{status}", f"Host: {HOST}:{api_server.port}")
            assert answer.status == status


def test_interim_responses_are_not_final(runner: Runner, authority: Authority):
    """A 103 before the answer is not taken for it."""
    response = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    )
    with scripted(runner, authority, response, received=[]) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        assert runner.output("curl", "-sS", f"https://{HOST}:{port}/") == b"abc"


def test_expect_is_answered_before_the_body(proxy: Proxy, api_server: ApiServer):
    """A client that waits for 100-continue gets it, once there is a credential."""
    # SEC-177
    with proxy.open(HOST, api_server.port) as wire_:
        host = f"Host: {HOST}:{api_server.port}"
        wire_.send(f"POST /echo HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert wire_.answer().status == 100
        assert wire_.send("hello").answer().json()["body"] == "hello"


def test_trailers_pass_over_http1(runner: Runner, authority: Authority):
    """Trailers reach the other side in both directions, without any spelling of the credential's headers."""
    # SEC-177
    response = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    received: list[bytes] = []
    with scripted(runner, authority, response, received=received) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        with runner.proxy() as proxy, proxy.open(HOST, port) as wire_:
            wire_.send(f"POST / HTTP/1.1\r\nHost: {HOST}:{port}\r\nTransfer-Encoding: chunked\r\n\r\n")
            wire_.send("2\r\nhi\r\n0\r\nauthorization: Bearer mine\r\nX-Check: the-end\r\n\r\n")
            head, tail = b"", b""
            while not head.endswith(b"\r\n\r\n") and (line := wire_.reader.readline()):
                head += line
            while not tail.endswith(b"\r\n\r\n") and (line := wire_.reader.readline()):
                tail += line
    assert re.sub(rb"[0-9]\r\n|\r\n", b"", tail.partition(b"0\r\n")[0]) == b"abc"
    assert tail.lower().endswith(b"0\r\nx-sum: 1\r\n\r\n")
    assert received[1].lower() == b"2\r\nhi\r\n0\r\nx-check: the-end\r\n\r\n"


# ---- HTTP/2 ------------------------------------------------------------------------------------------------


def test_connections_that_have_ended_are_let_go():
    """A child's connection may last for days, and its server end one after the other behind it."""
    options = layers.Options()
    context = Context(tflow.tclient_conn(), options.for_mitmproxy())
    for _ in range(3):
        context.server = Server(address=("example.localhost", 443))
        context.server.state = ConnectionState.OPEN
        made = layers.Http2Client(context)
        assert options.windows == [made]
        context.server.state = ConnectionState.CLOSED


def test_what_waits_for_a_stream_is_counted():
    """A server takes only so many requests at once: the bodies of further ones wait, and hold their child back."""
    # SEC-165
    options = layers.Options()
    context = Context(tflow.tclient_conn(), options.for_mitmproxy())
    context.server = Server(address=("example.localhost", 443))
    context.server.state = ConnectionState.OPEN
    made = layers.Http2Client(context)
    made.stream_queue[1].append(RequestData(1, b"x" * 1000))
    assert options.waiting_bytes(layers.Http2Client) == 1000
    assert options.waiting_bytes(layers.Http2Server) == 0


@pytest.fixture
def server2(runner: Runner, authority: Authority, serve: Serve) -> h2_server.H2Server:
    """An HTTP/2 server that the runner's route leads to."""
    server = serve(h2_server.serve(authority.issue(HOST)))
    assert isinstance(server, h2_server.H2Server)
    runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
    return server


@pytest.mark.parametrize("engine", ["full"])  # the express engine agrees on HTTP/1.1 with who can speak that
def test_http2_on_both_sides(runner: Runner, server2: h2_server.H2Server):
    """A client that speaks HTTP/2 speaks it to a server that does, with the credential in place of its own."""
    # SEC-177
    code = (
        "import httpx, sys; c = httpx.Client(http2=True, headers={'Authorization': 'Bearer mine', 'x-api-key': 'm'});"
        "rs = [c.get(sys.argv[1]) for _ in range(3)]; print([r.http_version for r in rs])"
    )
    out = runner.output(runner.python, "-c", code, f"https://{HOST}:{server2.port}/echo")
    assert out.decode().strip() == "['HTTP/2', 'HTTP/2', 'HTTP/2']"
    for request in server2.requests:
        headers = request["headers"]
        assert isinstance(headers, list)
        assert [value for name, value in headers if name == "authorization"] == [f"Bearer {TOKEN}"]
        assert [value for name, value in headers if name == "x-api-key"] == []


def test_a_server_that_announces_a_connections_end(runner: Runner, server2: h2_server.H2Server):
    """What it has begun with it answers; what it has not is sent by another connection, and the child sees no error."""
    # SEC-177
    server2.most = 1
    where = f"{HOST}:{server2.port}"
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        begun = client.headers(authority=where, method="GET", path="/download?bytes=300000")
        found = client.events(begun, until=h2.events.DataReceived)
        late = client.headers(authority=where, method="GET", path="/late")
        found += client.events(begun, late)
        client.wire.close()
    statuses = [dict(each.headers)[":status"] for each in found if isinstance(each, h2.events.ResponseReceived)]
    sizes = [len(each.data) for each in found if isinstance(each, h2.events.DataReceived) and each.stream_id == begun]
    assert (statuses, sum(sizes), server2.opened) == (["200", "200"], 300000, 2)


def test_a_request_that_cannot_be_repeated_is_told_to_be_unsent(runner: Runner, server2: h2_server.H2Server):
    """Of a body that has passed nothing is kept, so the child has to send it again, and may."""
    # SEC-177
    server2.most = 1
    where = f"{HOST}:{server2.port}"
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        client.events(client.headers(authority=where, method="GET"))
        late = client.headers(authority=where, end_stream=False)
        client.protocol.send_data(late, b"body", end_stream=True)
        client.flush()
        found = client.events(late)
        client.wire.close()
    told = json.loads(b"".join(each.data for each in found if isinstance(each, h2.events.DataReceived)))
    assert (told["status"], told["title"]) == (502, "authsome did not send this request")
    assert len(server2.requests) == 1


def test_grpc_like_calls(runner: Runner, server2: h2_server.H2Server):
    """HTTP/2 alone, `te: trailers`, and trailers after the body: what gRPC needs."""
    # SEC-177
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        number = client.headers(("te", "trailers"), authority=f"{HOST}:{server2.port}", path="/grpc")
        events = client.events(number)
        client.wire.close()
    (trailers,) = [event.headers for event in events if isinstance(event, h2.events.TrailersReceived)]
    assert dict(trailers) == {"grpc-status": "0", "grpc-message": "fine"}
    headers = server2.requests[0]["headers"]
    assert isinstance(headers, list)
    assert ["te", "trailers"] in [list(pair) for pair in headers]


@pytest.mark.parametrize(
    ("claimed", "more"),
    [
        ("evil.example", ()),
        ("{host}", (("host", "evil.example"),)),
        ("{host}", (("connection", "close"),)),
        ("{host}", (("transfer-encoding", "chunked"),)),
        ("{host}", (("te", "gzip"),)),
        ("{host}", (("x-a", "b\r\nauthorization: c"),)),
        ("{host}", (("x-a", "b\0"),)),
    ],
)
def test_lies_and_smuggling_over_http2(runner: Runner, server2: h2_server.H2Server, claimed, more):
    """Another authority, a Host that differs, connection headers, line breaks: refused, and no secret is told."""
    # SEC-151 SEC-157
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        number = client.headers(*more, authority=claimed.format(host=f"{HOST}:{server2.port}"))
        events = client.events(number)
        client.wire.close()
    responses = [event.headers for event in events if isinstance(event, h2.events.ResponseReceived)]
    assert all(dict(headers)[":status"] in {"400", "421"} for headers in responses), responses
    assert server2.requests == []


def body_of(events: list[h2.events.Event]) -> bytes:
    """The body that came on a stream."""
    return b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))


def trailers_of(events: list[h2.events.Event]) -> dict[str, str]:
    """The trailers that came on a stream."""
    (trailers,) = [event.headers for event in events if isinstance(event, h2.events.TrailersReceived)]
    return {str(name): str(value) for name, value in trailers}


BROKEN = {
    "noise": h2_server.Answer(fields=(("content-encoding", "gzip"),), body=b"no gzip at all"),
    "half": h2_server.Answer(fields=(("content-encoding", "gzip"),), body=gzip.compress(b"x" * 1000)[:-9]),
    "reset": h2_server.Answer(
        fields=(("content-encoding", "gzip"),), body=gzip.compress(b"x" * 1000)[:-9], trailers=None
    ),
    "plain, reset": h2_server.Answer(body=b"half", trailers=None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_over_http2_ends_its_own_stream(runner: Runner, server2: h2_server.H2Server, name: str):
    """The child is told so of that one; what else its connection carries goes on, and so does the server's."""
    # SEC-163 SEC-172
    server2.answers["/broken"] = BROKEN[name]
    authority = f"{HOST}:{server2.port}"
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        other = client.headers(authority=authority, end_stream=False)
        events = client.events(client.headers(("accept-encoding", "gzip"), authority=authority, path="/broken"))
        assert any(isinstance(event, h2.events.StreamReset) for event in events), events
        assert not any(isinstance(event, h2.events.StreamEnded | h2.events.ConnectionTerminated) for event in events)
        client.protocol.send_data(other, b"to its end", end_stream=True)
        client.flush()
        assert json.loads(body_of(client.events(other)))["length"] == 10
        client.wire.close()
    assert server2.opened == 1


def digest_of(body: bytes) -> str:
    """As Content-Digest writes it (RFC 9530 §2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@pytest.mark.parametrize("holds_secret", [True, False])
def test_a_digest_behind_an_http2_answer_is_of_what_came(runner: Runner, server2: h2_server.H2Server, holds_secret):
    """A digest of what the body was before a secret in it was replaced would say that somebody had forged it."""
    # SEC-163 SEC-177
    body = f"it is {TOKEN if holds_secret else 'nothing'}".encode()
    trailers = (("content-digest", digest_of(body)), ("digest", "sha-256=x"), ("grpc-status", "0"))
    server2.answers["/told"] = h2_server.Answer(body=body, trailers=trailers)
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        events = client.events(client.headers(authority=f"{HOST}:{server2.port}", path="/told"))
        client.wire.close()
    assert (body_of(events) == body) is not holds_secret
    assert trailers_of(events) == ({"grpc-status": "0"} if holds_secret else dict(trailers))


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_digest_behind_an_http2_request_is_of_what_is_sent(runner: Runner, server2: h2_server.H2Server, is_signed):
    """As one in its head (decision 24): made anew, or refused where that cannot be done."""
    # SEC-177
    runner.daemon.credentials[HOST] = {**daemon_api.bearer(TOKEN), "placeholders": [[PLACEHOLDER, TOKEN]]}
    form = f"token={PLACEHOLDER}".encode()
    kind = (("content-type", "application/x-www-form-urlencoded"), ("content-length", str(len(form))))
    trailers = [("content-digest", digest_of(form)), *([("signature", "sig=:x:")] if is_signed else [])]
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        number = client.headers(*kind, authority=f"{HOST}:{server2.port}", end_stream=False)
        client.protocol.send_data(number, form)
        client.protocol.send_headers(number, trailers, end_stream=True)
        client.flush()
        events = client.events(number)
        client.wire.close()
    if is_signed:
        assert "signs the body" in json.loads(body_of(events))["detail"]
        assert server2.requests == []
    else:
        sent = f"token={TOKEN}".encode()
        assert json.loads(body_of(events))["length"] == len(sent)
        assert server2.requests[0]["trailers"] == [("content-digest", digest_of(sent))]


def test_http2_refusals_are_problem_details(runner: Runner, server2: h2_server.H2Server):
    """Over HTTP/2 too a refusal is JSON, for one stream; the connection goes on."""
    runner.daemon.credentials[HOST] = daemon_api.Problem(status=424, code="login_required", detail="expired")
    with runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server2.port)
        for _ in range(2):
            events = client.events(client.headers(authority=f"{HOST}:{server2.port}"))
            body = b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))
            assert json.loads(body)["code"] == "login_required"
        client.wire.close()
    assert server2.requests == []


@pytest.mark.parametrize("engine", ["full"])  # the express engine agrees on HTTP/1.1 with who can speak that
def test_http2_download_to_a_slow_child_is_not_kept(runner: Runner, server2: h2_server.H2Server):
    """A child that opens its window slowly holds the server back, not our memory."""
    # SEC-165
    code = (
        "import httpx, sys, time\n"
        "with httpx.Client(http2=True, timeout=60) as c, c.stream('GET', sys.argv[1]) as r:\n"
        "    size = 0\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    for block in r.iter_raw(): size += len(block)\n"
        "print(r.http_version, size)"
    )
    size = 100 * MIB
    with runner.start(runner.python, "-c", code, f"https://{HOST}:{server2.port}/download?bytes={size}") as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"ready\n"
        pid = runner.workers()[-1]
        before = settled(lambda: peak(pid))  # as much as is kept has come
        child.stdin.write(b"\n")
        child.stdin.flush()
        out = child.stdout.read()
        after = peak(pid)
    assert out.decode().split() == ["HTTP/2", str(size)]
    assert after - before < DOWNLOAD_GROWTH
    assert before < 200 * MIB  # both processes


@pytest.mark.parametrize("engine", ["full"])  # the express engine agrees on HTTP/1.1 with who can speak that
def test_http2_upload_to_a_slow_server_is_not_kept(runner: Runner, server2: h2_server.H2Server):
    """A server that opens its window slowly holds the child back, not our memory."""
    # SEC-165
    server2.read_delay = 0.002
    code = (
        "import httpx, sys\n"
        "block = b'x' * 65536\n"
        "r = httpx.Client(http2=True, timeout=60).post(sys.argv[1], content=(block for _ in range(640)))\n"
        "print(r.http_version, r.json()['length'], flush=True); sys.stdin.readline()"
    )
    with runner.start(runner.python, "-c", code, f"https://{HOST}:{server2.port}/echo") as child:
        assert child.stdout is not None
        assert child.stdin is not None
        line = child.stdout.readline()
        after = peak(runner.workers()[-1])
        child.stdin.write(b"\n")
        child.stdin.close()
    assert line.decode().split() == ["HTTP/2", str(640 * 65536)]
    assert after < 180 * MIB  # both processes
