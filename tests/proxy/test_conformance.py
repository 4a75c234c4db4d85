"""What holds for whoever carries the bytes: the corners of HTTP, each by both engines."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import h2.events
import pytest

from fakes import api, daemon_api, wire
from fakes.api import ApiServer
from fakes.authority import Authority
from fakes.daemon_api import DaemonApi
from fakes.patience import PATIENCE, eventually
from proxy.conftest import ENGINES
from proxy.h2_client import H2Client
from proxy.support import HOST, OTHER_HOST, PLACEHOLDER, TOKEN, Proxy, Runner, Wire


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both engines."""
    name: str = request.param
    return name


@dataclass(slots=True)
class Scripted:
    """A server whose every answer is written by the test."""

    answer: Callable[[wire.Connection, bytes], None]
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0

    def serve(self, connection: wire.Connection) -> None:
        """Hand each request's head, and the connection, to the test; as long as something comes."""
        self.connections += 1
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = connection.reader.readline()
                if not line:
                    return
                head += line
            self.heads.append(head)
            self.answer(connection, head)


@contextmanager
def scripted(
    runner: Runner, authority: Authority, answer: Callable[[wire.Connection, bytes], None]
) -> Iterator[Scripted]:
    """Such a server, for the runner's route to lead to."""
    server = Scripted(answer)
    with wire.listen(server.serve, leaf=authority.issue(HOST)) as server.port:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        yield server


def send(connection: wire.Connection, data: bytes) -> None:
    """Send at once."""
    connection.writer.write(data)
    connection.writer.flush()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TLS = b"\x16"
"""How a TLS connection begins (RFC 8446 §5.1)."""


# ---- what servers may not say ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nevil!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 5\r\n\r\nevil!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nevil!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nevil!",
        b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 5\r\n\r\nevil!",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nevil!",
        b"ICY 200 OK\r\nContent-Length: 5\r\n\r\nevil!",
        b"SSH-2.0-evil!\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nevil!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\nevil!",
    ],
)
def test_a_response_that_can_be_read_in_two_ways_is_refused(runner: Runner, authority: Authority, response: bytes):
    """The child gets a 502, and nothing of what the server said."""
    # SEC-155
    with (
        scripted(runner, authority, lambda connection, _: send(connection, response)) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        answer = wire_.request("GET", "/", f"Host: {HOST}:{server.port}")
    assert (answer.status, answer.json()["code"]) == (502, "endpoint_unreachable")
    assert (answer.json()["title"], answer.json()["provider"]) == ("authsome has no answer to this request", "example")
    assert b"evil" not in answer.body


@pytest.mark.parametrize("is_ended", [True, False])
def test_an_answer_that_breaks_off_in_its_head_is_not_quoted(runner: Runner, authority: Authority, *, is_ended: bool):
    """What a server sent back of a request is not in what we say of it."""
    # SEC-163

    def answer(connection: wire.Connection, head: bytes) -> None:
        send(connection, b"HTTP/1.1 200 OK\r\nX-Echo: " + head.partition(b"Bearer ")[2].strip() + b"\r\n")
        if not is_ended:
            send(connection, b"no field\r\n\r\n")
        raise OSError  # which ends it

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        answered = wire_.request("GET", "/", f"Host: {HOST}:{server.port}")
    assert (answered.status, answered.json()["provider"]) == (502, "example")
    assert TOKEN.encode() in b"".join(server.heads)
    assert TOKEN not in f"{answered.body!r} {answered.headers}"


def test_an_upgrade_that_nobody_asked_for_is_no_answer(runner: Runner, authority: Authority):
    """A server cannot turn a connection into another protocol by itself."""
    # SEC-155
    response = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\nevil!"
    with (
        scripted(runner, authority, lambda connection, _: send(connection, response)) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n")
        wire_.socket.settimeout(3)
        received = b""
        with suppress(OSError):
            while data := wire_.socket.recv(4096):
                received += data
    assert not received.startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\nevil!",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_answer_ends_one_request_over_http2(runner: Runner, authority: Authority, method: str, response):
    """A child that speaks HTTP/2 only gets a 502, as HEAD without a body; its connection carries the next request."""
    # SEC-155 SEC-177
    answers = iter([response, OK])

    def answer(connection: wire.Connection, _: bytes) -> None:
        send(connection, next(answers))
        if not response:
            raise OSError  # which ends it

    with scripted(runner, authority, answer) as server, runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server.port)
        where = f"{HOST}:{server.port}"
        events = client.events(client.headers(authority=where, method=method))
        after = client.events(client.headers(authority=where, method="GET"))
        client.wire.close()
    assert [dict(each.headers)[":status"] for each in events if isinstance(each, h2.events.ResponseReceived)] == ["502"]
    body = b"".join(each.data for each in events if isinstance(each, h2.events.DataReceived))
    assert bool(body) is (method == "GET")
    told = json.loads(body) if body else {"code": "endpoint_unreachable", "provider": "example"}
    assert (told["code"], told["provider"]) == ("endpoint_unreachable", "example")
    assert [dict(each.headers)[":status"] for each in after if isinstance(each, h2.events.ResponseReceived)] == ["200"]


def test_no_answer_to_a_head_has_a_body_neither(runner: Runner, authority: Authority):
    """What we say in its place has none: it would be taken for the next answer."""
    # SEC-177

    def answer(_connection: wire.Connection, _: bytes) -> None:
        raise OSError  # which ends it

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.send(f"HEAD / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n")
        assert wire_.answer("HEAD").status == 502
        assert wire_.reader.read() == b""


@pytest.mark.parametrize("coding", ["br", "dcb"])
def test_a_coding_that_is_refused_is_not_waited_for(runner: Runner, authority: Authority, coding: str):
    """The child has all of the refusal when the server has said no more than its head: its body may never end."""
    # SEC-163
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    gone = threading.Event()

    def answer(connection: wire.Connection, _: bytes) -> None:
        send(connection, head)
        connection.reader.read(1)
        gone.set()

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        answered = wire_.request("GET", "/", f"Host: {HOST}:{server.port}")
        assert gone.wait(PATIENCE)
    assert answered.status == 502
    assert f"({coding})" in str(answered.json()["detail"])
    assert '"scrub": "off"' in str(answered.json()["hint"])


def test_a_cut_body_is_told_on_a_server_that_was_dialled_again(runner: Runner, authority: Authority):
    """A body without a length is whole only if TLS was ended: on a server's second connection as on its first."""
    # SEC-172

    def answer(connection: wire.Connection, _: bytes) -> None:
        send(connection, OK if server.connections == 1 else b"HTTP/1.1 200 OK\r\n\r\nabc")
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.tunnel(f"{HOST}:{server.port}") as tunnel,
    ):
        secure = proxy.watchful(tunnel, HOST)
        with Wire(secure) as wire_:
            host = f"Host: {HOST}:{server.port}"
            assert wire_.request("GET", "/", host).body == b"ok"
            time.sleep(0.2)
            wire_.send(f"GET / HTTP/1.1\r\n{host}\r\n\r\n")
            with pytest.raises(ssl.SSLError):
                read_to_end(secure)
    assert server.connections == 2


def read_to_end(connection: ssl.SSLSocket) -> bytes:
    """What comes until TLS is ended properly."""
    received = b""
    while data := connection.recv(4096):
        received += data
    return received


def test_the_size_of_a_servers_chunk_may_be_padded(runner: Runner, authority: Authority):
    """Some servers do that; the child gets chunks of our own writing. What a child sends is taken at its word."""
    # SEC-155 SEC-177
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3   \r\nabc\r\n0\t\r\n\r\n"
    with (
        scripted(runner, authority, lambda connection, _: send(connection, response)) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        answer = wire_.request("GET", "/", f"Host: {HOST}:{server.port}")
    assert (answer.status, answer.body) == (200, b"abc")


# ---- what a child may not say ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "https://evil.example/"),
        ("GET", "http://evil.example/"),
        ("GET", "evil"),
        ("GET", "/evil HTTP/1.1"),
        ("GET", "/evil#y"),
        ("GET", "*"),
        ("GET", "/\u00e9vil"),
        ("GET /evil", "/"),
        ("head", "/evil"),
        ("connect", "/evil"),
    ],
)
def test_what_http1_could_not_say_does_not_come_from_http2(runner: Runner, authority: Authority, method, path):
    """A server of HTTP/1.1 gets no line that it reads in another way: a URL in it would be of another host."""
    # SEC-151 SEC-157
    with scripted(runner, authority, lambda connection, _: send(connection, OK)) as server, runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server.port)
        where = f"{HOST}:{server.port}"
        events = client.events(client.headers(authority=where, method=method, path=path))
        client.wire.close()
        client = H2Client(proxy, HOST, server.port)
        whole = client.events(client.headers(authority=where, method="GET", path="/x?y"))
        client.wire.close()
    statuses = [dict(each.headers)[":status"] for each in events if isinstance(each, h2.events.ResponseReceived)]
    assert statuses in ([], ["400"])
    assert [dict(each.headers)[":status"] for each in whole if isinstance(each, h2.events.ResponseReceived)] == ["200"]
    assert [head.partition(b"\r\n")[0] for head in server.heads] == [b"GET /x?y HTTP/1.1"]


@pytest.mark.parametrize("length", [None, 37])
def test_a_body_from_http2_is_no_request_of_http1(runner: Runner, authority: Authority, length: int | None):
    """HTTP/2 needs no length; a server of HTTP/1.1 that is told none would take the body for the next request."""
    # SEC-155 SEC-157
    body = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"[:37]
    received: list[bytes] = []

    def answer(connection: wire.Connection, head: bytes) -> None:
        is_chunked = b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
        end = b"0\r\nx-sum: 1\r\n\r\n" if is_chunked else body
        came = b""
        while not came.endswith(end) and (byte := connection.reader.read(1)):
            came += byte
        received.append(came)
        send(connection, OK)

    with scripted(runner, authority, answer) as server, runner.proxy() as proxy:
        client = H2Client(proxy, HOST, server.port)
        more = () if length is None else (("content-length", str(length)),)
        number = client.headers(*more, authority=f"{HOST}:{server.port}", end_stream=False)
        client.protocol.send_data(number, body)
        client.protocol.send_headers(number, [("x-sum", "1")], end_stream=True)
        client.flush()
        events = client.events(number)
        client.wire.close()
    assert [dict(each.headers)[":status"] for each in events if isinstance(each, h2.events.ResponseReceived)] == ["200"]
    assert received == [body if length else b"25\r\n" + body + b"\r\n0\r\nx-sum: 1\r\n\r\n"]
    assert len(server.heads) == 1


def test_trailers_say_nothing_of_the_message(runner: Runner, authority: Authority):
    """Some servers put trailers among the headers: neither host nor framing, nor what is meant for us, may be there."""
    # SEC-155 SEC-156
    received: list[bytes] = []
    trailers = b"Host: evil.example\r\nContent-Length: 3\r\ntransfer-encoding: chunked\r\nX-Kept: 1\r\n"

    def answer(connection: wire.Connection, _: bytes) -> None:
        body = b""
        while not body.endswith(b"\r\n\r\n") and (line := connection.reader.readline()):
            body += line
        received.append(body)
        send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + trailers + b"\r\n")

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.send(f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire_.send(b"2\r\nhi\r\n0\r\nAuthsome-Connection: work\r\n" + trailers + b"\r\n")
        came = b""
        while not came.lower().endswith(b"x-kept: 1\r\n\r\n") and (byte := wire_.reader.read(1)):
            came += byte
    assert received[0].lower() == b"2\r\nhi\r\n0\r\nx-kept: 1\r\n\r\n"
    assert came.lower().endswith(b"\r\n\r\n0\r\nx-kept: 1\r\n\r\n")


# ---- time that passes --------------------------------------------------------------------------------------


def test_a_body_that_is_long_in_coming_gets_the_credential_of_its_time(
    proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi
):
    """A request whose body may hold a placeholder waits for it: not with what was good when it began."""
    # SEC-162 SEC-169
    good = {**daemon_api.bearer(TOKEN), "placeholders": [[PLACEHOLDER, TOKEN]]}
    form = f"token={PLACEHOLDER}"
    head = (
        f"POST /echo HTTP/1.1\r\nHost: {HOST}:{api_server.port}\r\nContent-Length: {len(form)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    later = "sk-real-of-a-later-time-0001"
    for after, status in (
        ({**daemon_api.bearer(later, revision=2), "placeholders": [[PLACEHOLDER, later]]}, 200),
        (daemon_api.Problem(status=424, code="login_required", detail="logged out"), 424),
    ):
        daemon_fake.credentials[HOST] = good
        daemon_fake.resolved.clear()
        with proxy.open(HOST, api_server.port) as wire_:
            wire_.send(head)
            assert eventually(lambda: daemon_fake.resolved)
            daemon_fake.credentials[HOST] = after
            time.sleep(2.5)
            assert wire_.send(form).answer("POST").status == status
    (request,) = api_server.requests
    assert (request.header("authorization"), request.body) == (f"Bearer {later}", f"token={later}".encode())


def test_a_server_that_cannot_be_had_is_told_before_the_upload(runner: Runner):
    """Nobody reads a body, and keeps it, for a server that is not there."""
    # SEC-165
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    runner.daemon.routes = [daemon_api.route(HOST, port=port)]
    with runner.proxy() as proxy, proxy.open(HOST, port) as wire_:
        wire_.send(f"POST / HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: 100000000\r\n\r\nbegun")
        answer = wire_.answer("POST")
    assert (answer.status, answer.json()["code"]) == (502, "endpoint_unreachable")
    assert runner.daemon.resolved == []


# ---- both directions at once -------------------------------------------------------------------------------


def test_an_answer_before_the_end_of_the_request(runner: Runner, authority: Authority):
    """A server may refuse an upload in its middle, and the child hears of it while it is still sending."""
    refusal = b"HTTP/1.1 413 Too much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop"
    with (
        scripted(runner, authority, lambda connection, _: send(connection, refusal)) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.send(f"PUT / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Length: 1000000\r\n\r\n" + "x" * 1000)
        answer = wire_.answer("PUT")
    assert (answer.status, answer.body) == (413, b"stop")


def test_a_chunked_upload_is_streamed(runner: Runner, authority: Authority):
    """What the child has sent is with the server before the child goes on."""
    # SEC-165
    seen: list[tuple[bytes, float]] = []

    def answer(connection: wire.Connection, _: bytes) -> None:
        while (line := connection.reader.readline()) != b"0\r\n":
            seen.append((connection.reader.read(int(line, 16)), time.monotonic()))
            connection.reader.readline()
        connection.reader.readline()
        send(connection, OK)

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.send(f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            wire_.send(f"6;ext=1\r\npart {number}\r\n")
            assert eventually(lambda number=number: len(seen) == number + 1)
        assert wire_.send("0\r\n\r\n").answer("POST").body == b"ok"
    assert [data for data, _ in seen] == [b"part 0", b"part 1", b"part 2"]


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun"])
@pytest.mark.parametrize(
    "end", ["0\r\nConnection: content-length\r\n\r\n", "zz\r\n"]
)  # a trailer that no head can have
def test_an_upload_that_cannot_be_passed_on_to_its_end(runner: Runner, authority: Authority, begun: bytes, end: str):
    """The child is told, or cut off; an answer that has begun is not filled up with ours; and nobody waits for ever."""
    # SEC-155 SEC-172
    received: list[bytes] = []

    def answer(connection: wire.Connection, _: bytes) -> None:
        send(connection, begun)
        with suppress(OSError):
            while data := connection.reader.read1():
                received.append(data)

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.socket.settimeout(30)
        wire_.send(f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire_.send("2\r\nhi\r\n")
        said = b""
        while begun and not said.endswith(b"begun"):
            said += wire_.reader.read(1)
        wire_.send(end)
        with suppress(ConnectionError, ssl.SSLError):
            said += wire_.reader.read()
    assert said.endswith(b"begun") if begun else said.startswith(b"HTTP/1.1 400 ") or not said
    assert not b"".join(received).endswith(b"0\r\n\r\n")


def test_a_child_that_goes_in_the_middle_of_its_upload(runner: Runner, authority: Authority):
    """The server learns that the request is not whole; half of a body is not passed for all of it."""
    # SEC-173
    ended: list[bytes] = []

    def answer(connection: wire.Connection, _: bytes) -> None:
        received = b""
        with suppress(OSError):
            while data := connection.reader.read1():
                received += data
        ended.append(received)

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        wire_.send(f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        assert eventually(lambda: server.heads)
        wire_.close()
        assert eventually(lambda: ended)
    assert b"0\r\n\r\n" not in ended[0]


def test_a_refused_expectation_ends_the_connection(runner: Runner, authority: Authority):
    """An answer instead of 100-continue: the child has it, and its body cannot become somebody's next request."""
    # SEC-177
    refusal = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
    with (
        scripted(runner, authority, lambda connection, _: send(connection, refusal)) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        head = f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Length: 60\r\nExpect: 100-continue\r\n\r\n"
        answer = wire_.send(head).answer("POST")
        while answer.status == 100:  # mitmproxy's own, sent once there is a credential
            wire_.send(f"GET /smuggled HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n".ljust(60))
            answer = wire_.answer("POST")
        assert answer.status == 403
    assert all(b"smuggled" not in head.split(b"\r\n")[0] for head in server.heads)


# ---- connections -------------------------------------------------------------------------------------------


def test_requests_in_one_write_are_answered_in_order(proxy: Proxy, api_server: ApiServer):
    """A client that does not wait for answers gets each, in order."""
    request = "GET /echo?{} HTTP/1.1\r\nHost: {}:{}\r\n\r\n"
    with proxy.open(HOST, api_server.port) as wire_:
        wire_.send("".join(request.format(number, HOST, api_server.port) for number in range(3)))
        targets = [wire_.answer().json()["target"] for _ in range(3)]
    assert targets == ["/echo?0", "/echo?1", "/echo?2"]


def test_a_server_that_ends_an_idle_connection_is_dialled_again(runner: Runner, authority: Authority):
    """The child's connection stays good."""

    def answer(connection: wire.Connection, _: bytes) -> None:
        send(connection, OK)
        connection.socket.shutdown(socket.SHUT_RDWR)

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        for _ in range(3):
            assert wire_.request("GET", "/", f"Host: {HOST}:{server.port}").body == b"ok"
            time.sleep(0.2)
    assert server.connections == 3


def test_a_request_that_may_have_arrived_is_not_sent_twice(runner: Runner, authority: Authority):
    """When a kept connection ends without an answer, a POST was sent once, and the child is told of the end."""

    def answer(connection: wire.Connection, head: bytes) -> None:
        if head.startswith(b"POST"):
            connection.socket.shutdown(socket.SHUT_RDWR)
        else:
            send(connection, OK)

    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        host = f"Host: {HOST}:{server.port}"
        assert wire_.request("GET", "/", host).body == b"ok"
        wire_.send(f"POST / HTTP/1.1\r\n{host}\r\nContent-Length: 0\r\n\r\n")
        try:
            line = wire_.reader.readline()
        except OSError:
            line = b""
    assert line == b"" or line.startswith(b"HTTP/1.1 502 ")
    assert [head.split()[0] for head in server.heads] == [b"GET", b"POST"]


def test_an_old_client_gets_what_it_can_read(proxy: Proxy, api_server: ApiServer):
    """HTTP/1.0 knows no chunks: the body ends with the connection."""
    with proxy.open(HOST, api_server.port) as wire_:
        wire_.send(f"GET /download?bytes=100000 HTTP/1.0\r\nHost: {HOST}:{api_server.port}\r\n\r\n")
        received = b""
        with suppress(OSError):
            received = wire_.reader.read()
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"".join(api.pattern(100000))


def test_clear_text_to_two_servers_on_one_connection(proxy: Proxy, plain_api_server: ApiServer, daemon_fake: DaemonApi):
    """Each request goes where its own URL says."""
    # SEC-152
    del daemon_fake
    with api.serve() as other, proxy.connect() as wire_:
        for host, server in ((HOST, plain_api_server), (OTHER_HOST, other), (HOST, plain_api_server)):
            url = f"http://{host}:{server.port}/echo"
            assert wire_.request("GET", url, "Host: x", proxy.authorization).json()["target"] == "/echo"
        assert (len(plain_api_server.requests), len(other.requests)) == (2, 1)
        assert all(request.all("proxy-authorization") == () for request in plain_api_server.requests)


def test_clear_text_before_a_connect_leaves_nothing_behind(runner: Runner):
    """A connection that led to a server in clear text does not carry what is asked for by CONNECT afterwards.

    Whoever stands between us and the server could answer the first request, keep that connection, and be handed the
    credential on it, without any certificate.
    """
    # SEC-152
    heard: list[bytes] = []

    def between(connection: wire.Connection) -> None:
        while (line := connection.reader.readline()) and not line.startswith(TLS):
            heard.append(line)
            if line == b"\r\n":
                send(connection, OK)

    with wire.listen(between) as port, runner.proxy() as proxy, proxy.connect() as first:
        there = f"{HOST}:{port}"
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        assert first.request("GET", f"http://{there}/", f"Host: {there}", proxy.authorization).status == 200
        assert first.request("CONNECT", there, f"Host: {there}", proxy.authorization).status == 200
        with suppress(OSError), first.secure(proxy.context, HOST) as second:  # the full engine ends it here
            assert second.request("GET", "/kept", f"Host: {there}").status == 502
    assert heard[0] == b"GET / HTTP/1.1\r\n"
    assert not [line for line in heard if TOKEN.encode() in line or b"/kept" in line]


@pytest.mark.parametrize("engine", ["auto"], scope="module")  # mitmproxy closes both ways
def test_a_tunnel_passes_half_closes(proxy: Proxy):
    """One side may end what it says and still listen: whatever is in a tunnel is between the two."""

    def handle(connection: wire.Connection) -> None:
        received = connection.reader.read()
        send(connection, b"got %d" % len(received))

    with wire.listen(handle) as port, proxy.tunnel(f"{OTHER_HOST}:{port}") as wire_:
        wire_.send(b"x" * 300_000)
        wire_.socket.shutdown(socket.SHUT_WR)
        assert wire_.reader.read() == b"got 300000"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:https",
        ":443",
        "user@host:443",
        "host:443/",
        "[::1:443",
        "host:-1",
    ],
)
def test_a_connect_to_no_address_is_refused(proxy: Proxy, target: str):
    """Only host and port are an authority to connect to (RFC 9110 §9.3.6)."""
    # SEC-151
    with proxy.connect() as wire_:
        wire_.send(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n{proxy.authorization}\r\n\r\n")
        answer = wire_.answer("CONNECT")
    assert answer.status in {400, 502}


# ---- the end of a run --------------------------------------------------------------------------------------


def test_the_end_of_a_run_ends_all_that_it_had_open(runner: Runner, authority: Authority):
    """A stream, an idle kept connection, a tunnel and a connection that is only open: all are cut within seconds."""
    with api.serve(leaf=authority.issue(OTHER_HOST)) as other, runner.proxy() as proxy:
        server = runner.server
        kept = proxy.open(HOST, server.port)
        assert kept.request("GET", "/echo", f"Host: {HOST}:{server.port}").status == 200
        stream = proxy.open(HOST, server.port)
        stream.send(f"GET /sse?events=100&interval=1 HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n")
        assert stream.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        tunnel = proxy.tunnel(f"{OTHER_HOST}:{other.port}").secure(authority.client_context(), OTHER_HOST)
        assert tunnel.request("GET", "/echo", f"Host: {OTHER_HOST}:{other.port}").status == 200
        proxy.end()
        for wire_ in (kept, stream, tunnel):
            assert is_ended(wire_)
            wire_.close()


def test_the_end_of_a_run_ends_a_handshake_too(runner: Runner):
    """A connection whose TLS is not agreed on yet is one of the run's, and does not come to life after it."""
    # SEC-138 SEC-151
    with runner.proxy() as proxy:
        tunnel = proxy.tunnel(f"{HOST}:{runner.server.port}")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = proxy.context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        is_agreed = False
        while not is_agreed:
            try:
                secure.do_handshake()
                is_agreed = True
            except ssl.SSLWantReadError:
                tunnel.send(outgoing.read())
                incoming.write(tunnel.socket.recv(65536))
        proxy.end()
        assert eventually(lambda: not runner.daemon.live)  # told last
        secure.write(f"GET / HTTP/1.1\r\nHost: {HOST}:{runner.server.port}\r\n\r\n".encode())
        with suppress(OSError):
            tunnel.send(outgoing.read())
        received = b""
        with suppress(OSError):
            while data := tunnel.socket.recv(65536):
                received += data
        tunnel.close()
    assert received == b""
    assert runner.server.requests == []


def is_ended(wire_: Wire) -> bool:
    """Whether the other side ends the connection soon."""
    wire_.socket.settimeout(PATIENCE)
    try:
        while wire_.socket.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


# ---- a credential in the path ------------------------------------------------------------------------------


def test_the_daemon_never_hears_of_a_path_with_a_secret(proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """A 401 is told with the path that the child sent, not with the one that holds the credential."""
    # SEC-88
    daemon_fake.credentials[HOST] = {**daemon_api.bearer(TOKEN), "set": [], "path": f"/bot{TOKEN}/me"}
    api_server.protected["/bot"] = ("X-Never", "there")
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", f"/bot{PLACEHOLDER}/me", f"Host: {HOST}:{api_server.port}")
    assert answer.status == 401
    assert api_server.requests[0].target == f"/bot{TOKEN}/me"
    assert [question.get("path") for question in daemon_fake.resolved] == [f"/bot{PLACEHOLDER}/me"] * 2
    assert TOKEN not in json.dumps(daemon_fake.resolved)


def test_what_the_proxy_itself_answers_is_the_same(proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """A refusal has the same form whoever carries it: status, type, members, and no body for HEAD."""
    daemon_fake.credentials[HOST] = daemon_api.Problem(
        status=424, code="login_required", detail="expired", hint="log in"
    )
    host = f"Host: {HOST}:{api_server.port}"
    with proxy.open(HOST, api_server.port) as wire_:
        answer = wire_.request("GET", "/", host)
        assert set(answer.json()) == {"type", "title", "status", "detail", "code", "hint", "host", "provider"}
        assert answer.header("Content-Type") == "application/problem+json"
        assert answer.header("Cache-Control") == "no-store"
        head = wire_.request("HEAD", "/", host)
        assert (head.status, head.body) == (424, b"")
        assert re.fullmatch("[0-9]+", head.header("Content-Length") or "")
        assert wire_.request("GET", "/", host).status == 424
    assert api_server.requests == []


def test_no_tunnel_within_a_tunnel(proxy: Proxy, api_server: ApiServer):
    """Where TLS ends here, a CONNECT is no request: a server that took it would leave HTTP, and we would not."""
    # SEC-155
    there = f"{HOST}:{api_server.port}"
    for target in ("/", there, f"https://{there}/"):
        with proxy.open(HOST, api_server.port) as wire_:
            assert wire_.request("CONNECT", target, f"Host: {there}").status == 400
    assert api_server.requests == []
