"""The server on the wire: what it takes, what it refuses, and what it survives."""

import json
import logging
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from authsome.daemon.messages import Response, html_response, json_response
from authsome.daemon.server import Limits, Server, own_origins
from authsome.errors import DaemonUnavailable, ProviderNotFound
from fakes.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def quickly(**changes):
    """Limits that a test can wait for."""
    return Limits(**{name: timedelta(seconds=value) for name, value in changes.items()})


# ---- requests and answers ----------------------------------------------------------------------------------


def test_a_request_arrives_as_it_was_sent(served):
    """Method, target, headers and body reach the handler unchanged, header names in lower case."""
    with served.client() as client:
        client.send(served.head("POST", "/a%2Fb?c=d&e", "X-One: 1", "x-one:\t2 ", "Content-Length: 3") + b"\0\r\n")
        assert json.loads(client.expect(200).body) == {"ok": True}
    (request,) = served.requests
    assert (request.method, request.path, request.query, request.target) == ("POST", "/a%2Fb", "c=d&e", "/a%2Fb?c=d&e")
    assert request.headers["x-one"] == ("1", "2")
    assert request.body == b"\0\r\n"
    assert request.peer == "127.0.0.1"
    assert request.received_over == f"http://127.0.0.1:{served.port}"


def test_a_connection_serves_many_requests(served):
    """HTTP/1.1 stays open, also for requests sent ahead of their answers and in pieces of any size."""
    with served.client() as client:
        client.send(b"".join(served.head("GET", f"/{number}") for number in range(20)))
        for _ in range(20):
            client.expect(200)
        for byte in served.head("POST", "/slow", "Content-Length: 2") + b"ab":
            client.send(bytes([byte]))
        client.expect(200)
    assert [request.path for request in served.requests] == [*(f"/{number}" for number in range(20)), "/slow"]
    assert served.requests[-1].body == b"ab"


@pytest.mark.parametrize(
    ("version", "line", "open_after"),
    [
        ("1.1", "Accept: */*", True),
        ("1.1", "Connection: close", False),
        ("1.1", "Connection: upgrade, CLOSE", False),
        ("1.0", "Connection: keep-alive", False),
    ],
)
def test_who_closes(served, version, line, open_after):
    """A client that says it has no more gets `Connection: close` and the end; HTTP/1.0 always does."""
    with served.client() as client:
        client.send(f"GET / HTTP/{version}\r\nHost: {served.host}\r\n{line}\r\n\r\n".encode())
        answer = client.expect(200)
        assert ("connection" in answer.headers) is not open_after
        if open_after:
            client.send(served.head())
            client.expect(200)
        else:
            assert client.is_closed()


def test_head_has_the_headers_of_get_and_no_body(served):
    """HEAD is answered with the length of what GET would bring."""
    with served.client() as client:
        client.send(served.head("HEAD"))
        answer = client.expect(200, with_body=False)
        assert answer.headers["content-length"] == "11"
        client.send(served.head("GET"))
        assert client.expect(200).body == b'{"ok":true}'


def test_a_body_is_asked_for_when_the_client_waits(served):
    """`Expect: 100-continue` is answered before the body comes, and not when it would be refused."""
    with served.client() as client:
        client.send(served.head("POST", "/", "Content-Length: 2", "Expect: 100-continue"))
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"{}")
        client.expect(200)
    with served.client() as client:
        client.send(served.head("POST", "/", "Content-Length: 9999999", "Expect: 100-continue"))
        client.expect(413)
    with served.client() as client:
        client.send(served.head("POST", "/", "Content-Length: 2", "Expect: the-unexpected"))
        client.expect(417)


def test_every_answer_guards_itself(run_server):
    """Pages, data, redirects, problems and failures all carry the same headers."""  # SEC-35 SEC-36 SEC-37 SEC-47
    answers = {
        "/page": lambda: html_response("<p>"),
        "/data": lambda: json_response({}),
        "/nothing": lambda: Response(status=204),
        "/problem": lambda: (_ for _ in ()).throw(ProviderNotFound("no provider named x")),
        "/failure": lambda: 1 // 0,
        "/broken": lambda: Response(status=200, headers=(("X", "a\r\nSet-Cookie: b"),)),
    }
    served = run_server(lambda request: answers[request.path]())
    statuses = {"/page": 200, "/data": 200, "/nothing": 204, "/problem": 404, "/failure": 500, "/broken": 500}
    for target, status in statuses.items():
        answer = served.get(target)
        answer.assert_guarded()
        assert answer.status == status
        assert answer.headers["date"] == "Sat, 31 Jan 2026 12:00:00 GMT"
        assert "set-cookie" not in answer.headers
    assert "form-action 'self'" in served.get("/page").headers["content-security-policy"]
    assert "form-action 'none'" in served.get("/data").headers["content-security-policy"]


def test_an_unexpected_error_tells_the_client_nothing(run_server, caplog):
    """The client learns that something went wrong; the log learns where."""  # SEC-47
    caplog.set_level(logging.ERROR, "authsome.daemon")

    def handle(_):
        raise KeyError("/var/secret.db")

    answer = run_server(handle).get("/x?key=value")
    assert answer.status == 500
    assert json.loads(answer.body)["code"] == "unexpected"
    assert b"secret" not in answer.body
    assert b"KeyError" not in answer.body
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError
    assert "value" not in record.getMessage()


# ---- who is asked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
def test_our_own_names_are_answered(served, name):
    """The listener's names pass, with its port."""  # SEC-27
    assert served.exchange(f"GET / HTTP/1.1\r\nHost: {name}:{served.port}\r\n\r\n".encode()).status == 200


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["evil.example"], 421),
        (["evil.example:{port}"], 421),
        (["localhost.evil:{port}"], 421),
        (["127.0.0.1.nip.io:{port}"], 421),
        (["0.0.0.0:{port}"], 421),
        (["127.0.0.1"], 421),
        (["127.0.0.1:1"], 421),
        (["127.0.0.1:0{port}"], 421),
        (["127.0.0.1:{port}@evil.example"], 421),
        (["user@127.0.0.1:{port}"], 421),
        (["localhost.:{port}"], 421),
        (["127.1:{port}"], 421),
        (["127.0.0.1:{port}, evil.example"], 421),
        (["http://127.0.0.1:{port}"], 421),
        ([""], 421),
        ([], 400),
        (["127.0.0.1:{port}", "127.0.0.1:{port}"], 400),
        (["127.0.0.1:{port}", "evil.example"], 400),
    ],
)
@pytest.mark.parametrize("line", ["GET /health", "POST /x", "OPTIONS *", "TRACE /", "CONNECT evil:443"])
def test_foreign_hosts_are_refused(served, line, hosts, status):
    """A page that rebinds DNS to us is refused before anything else is looked at."""  # SEC-27
    lines = "".join(f"Host: {host.format(port=served.port)}\r\n" for host in hosts)
    answer = served.exchange(f"{line} HTTP/1.1\r\n{lines}\r\n".encode())
    assert answer.status == status
    assert served.requests == []
    answer.assert_guarded()


@pytest.mark.parametrize(
    ("host", "port", "base_url", "expected"),
    [
        ("127.0.0.1", 7998, None, {}),
        ("127.0.0.5", 7998, None, {"127.0.0.5:7998": "http://127.0.0.5:7998"}),
        ("0.0.0.0", 7998, None, {}),
        ("::", 7998, None, {}),
        ("fd00::1", 7998, None, {"[fd00::1]:7998": "http://[fd00::1]:7998"}),
        (
            "127.0.0.1",
            7998,
            "https://Broker.example/path",
            {"broker.example": "https://broker.example", "broker.example:443": "https://broker.example"},
        ),
        ("127.0.0.1", 7998, "http://broker.example:81", {"broker.example:81": "http://broker.example:81"}),
    ],
)
def test_own_origins(host, port, base_url, expected):
    """The listener's loopback names, its address and the advertised URL, each with its port unless that is implied."""
    local = {f"{name}:{port}": f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    assert own_origins(host, port, base_url) == {**local, **expected}


def test_the_advertised_url_is_answered(run_server):
    """A request by the base URL's name is one to that origin."""
    served = run_server(base_url="https://broker.example")
    assert served.exchange(b"GET / HTTP/1.1\r\nHost: broker.example\r\n\r\n").status == 200
    assert served.requests[0].received_over == "https://broker.example"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "BREW"])
def test_other_methods_are_not_implemented(served, method):
    """They reach no handler, name no method that does, and no header that CORS would want."""  # SEC-32 SEC-46
    extra = ("Origin: http://evil.example", "Access-Control-Request-Method: POST")
    answer = served.exchange(served.head(method, "/", *extra))
    assert answer.status == 501
    answer.assert_guarded()
    assert "allow" not in answer.headers
    assert served.requests == []


# ---- malformed ---------------------------------------------------------------------------------------------

HOST = b"Host: {host}\r\n"

MALFORMED = {
    "CL.TE": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "TE.TE": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "TE": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE obscured": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "CL.CL": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "CL.CL same": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "CL list": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na",
    "CL negative": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "CL plus": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na",
    "CL underscore": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "CL hex": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na",
    "CL empty": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n",
    "CL Arabic digit": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \xd9\xa1\r\n\r\na",
    "CL huge": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "CL too large": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1048577\r\n\r\n",
    "LF only": b"GET / HTTP/1.1\n" + HOST.replace(b"\r", b"") + b"\n",
    "LF in head": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\nC: d\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rC: d\r\n\r\n",
    "CR LF CR": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n\rC: d\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n",
    "folded first": b"GET / HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n",
    "NUL in value": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n",
    "NUL in target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "space before colon": b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\n" + HOST + b"A\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab": b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\n" + HOST + b"\r\n",
    "absolute form": b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form, ours": b"GET http://{host}/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "no slash": b"GET health HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment": b"GET /#a HTTP/1.1\r\n" + HOST + b"\r\n",
    "UTF-8 in target": "GET /é HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "empty line first": b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "one line of 1 MB": b"GET /" + b"a" * 1_000_000,
    "one header of 1 MB": b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 1_000_000,
    "20,000 headers": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 20_000 + b"\r\n",
    "101 headers": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 100 + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_refused(served, data):
    """Each is answered 4xx or 5xx, or not at all; none reaches a handler, and the server serves on."""  # SEC-49
    answer = served.exchange(data.replace(b"{host}", served.host.encode()))
    if answer is not None:
        assert 400 <= answer.status < 600
        assert json.loads(answer.body)["code"] in {"request_invalid", "request_too_large"}
        assert answer.headers["connection"] == "close"
        answer.assert_guarded()
    assert served.requests == []
    assert served.get().status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"GET / HTTP/1.1\n", 400), (b"GET /" + b"a" * 40_000, 431), (b"GET / HTTP/1.1\r\nA: \0", 400)],
)
def test_what_cannot_become_a_request_is_refused_at_once(served, data, status):
    """The server does not wait for the end of a head that is lost already."""
    with served.client() as client:
        client.send(data)
        client.expect(status)
        assert client.is_closed()


def test_a_refused_upload_still_gets_its_answer(served):
    """Bytes that are still on their way do not destroy the answer that refuses them."""
    with served.client() as client:
        client.send(served.head("POST", "/", "Content-Length: 4000000") + bytes(4_000_000))
        client.expect(413)


def test_nothing_after_a_refusal_is_a_request(served):
    """A refused head ends the connection, so that its body is not taken for the next request."""
    with served.client() as client:
        client.send(served.head("POST", "/", "Content-Length: x") + served.head("GET", "/smuggled"))
        client.expect(400)
        assert client.is_closed()
    assert served.requests == []


# ---- slow, many, vanishing ---------------------------------------------------------------------------------


def test_half_a_head_is_dropped_whatever_trickles_in(run_server):
    """The deadline is for the whole head, not for the next byte."""  # SEC-190
    served = run_server(limits=quickly(head=0.4))
    with served.client() as client:
        client.send(b"GET / HTTP/1.1\r\nA: ")
        stop = threading.Event()

        def trickle():
            while not stop.wait(0.05):
                try:
                    client.send(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        client.expect(408)
        stop.set()
        thread.join()


def test_silence_is_dropped(run_server):
    """A connection that never says anything, or nothing any more, is closed without a word."""
    with run_server(limits=quickly(head=0.3)).client() as client:
        assert client.answer() is None
    served = run_server(limits=quickly(idle=0.3))
    with served.client() as client:
        client.send(served.head())
        client.expect(200)
        assert client.is_closed()


def test_half_a_body_is_dropped(run_server):
    """The body has a deadline too, and its request is not begun."""
    served = run_server(limits=quickly(body=0.3))
    with served.client() as client:
        client.send(served.head("POST", "/", "Content-Length: 10") + b"12345")
        client.expect(408)
    assert served.requests == []


def test_400_half_open_requests_do_not_keep_others_out(run_server):
    """Slow clients hold a bounded number of places, and the one that has waited longest loses its own."""  # SEC-190
    served = run_server(limits=Limits(connections=16))
    with ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(400)]
        for client in clients[:384]:
            assert client.is_closed()  # gave way to those that came later
        for client in clients[384:]:
            client.send(b"GET / HTTP/1.1\r\n")
        assert served.get().status == 200
        assert clients[384].is_closed()  # of those left, the first
        clients[399].send(f"Host: {served.host}\r\n\r\n".encode())
        clients[399].expect(200)


def test_5000_connections_do_not_make_5000_threads(run_server):
    """Threads stay within the cap, and an honest client is served at once."""  # SEC-192
    served = run_server(limits=Limits(connections=32))
    before = threading.active_count()
    most = 0
    with ExitStack() as stack:
        for number in range(5000):
            client = served.connect()
            if number >= 4900:
                stack.callback(client.socket.close)
            else:
                client.socket.close()
            if number % 100 == 0:
                most = max(most, threading.active_count())
        assert served.get().status == 200
        most = max(most, threading.active_count())
    assert most - before <= 32 + 4  # a place is free a moment before its thread is gone


def test_a_request_in_progress_is_never_evicted(run_server):
    """When every place is busy, the newcomer is told to come back; who waits for an answer gets it."""  # SEC-192
    release = threading.Event()
    begun = threading.Semaphore(0)

    def handle(_):
        begun.release()
        release.wait(60)
        return json_response({"done": True})

    served = run_server(handle, limits=Limits(connections=4))
    with ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(4)]
        for client in clients:
            client.send(served.head())
            assert begun.acquire(timeout=60)
        newcomer = stack.enter_context(served.client())
        busy = newcomer.expect(503)
        assert busy.headers["retry-after"] == "1"
        assert json.loads(busy.body)["code"] == "daemon_busy"
        assert newcomer.is_closed()
        release.set()
        for client in clients:
            client.expect(200)


def test_clients_that_vanish_leave_nothing_behind(run_server, caplog, capfd):
    """A reset before, in or after a request prints nothing, logs nothing, and gives its place free."""
    caplog.set_level(logging.INFO)
    big = Response(status=200, body=bytes(5_000_000))
    served = run_server(lambda _: big, limits=Limits(connections=64))
    reset = struct.pack("ii", 1, 0)
    for data in (b"", b"GET / HT", served.head(), served.head("POST", "/", "Content-Length: 9") + b"a") * 10:
        client = served.connect()
        client.send(data)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.socket.close()
    assert len(served.get().body) == 5_000_000
    assert served.is_empty()
    assert not served.server._waiting
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_nobody_takes_is_given_up(run_server):
    """A client that does not read holds its thread only so long."""
    served = run_server(lambda _: Response(status=200, body=bytes(50_000_000)), limits=quickly(write=0.3))
    with served.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(served.head())
        assert served.is_empty()


EXHAUSTED = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from authsome.daemon.messages import json_response
from authsome.daemon.server import Limits, Server
server = Server("127.0.0.1", 0)
held = []
def handle(request):
    if request.path == "/hold":  # what the vault and the providers' sockets would take
        try:
            while True:
                held.append(open("/dev/null"))
        except OSError:
            pass
    if request.path == "/free":
        while held:
            held.pop().close()
    return json_response({"cpu": sum(__import__("os").times()[:2])})
threading.Thread(target=server.serve, args=(handle,)).start()
print(server.server_port, flush=True)
sys.stdin.read()
server.begin_stop()
"""


def test_the_listener_survives_running_out_of_descriptors():
    """Without descriptors the server neither dies nor spins, and serves again as soon as there are some."""  # SEC-191
    command = [sys.executable, "-c", EXHAUSTED]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())

        def connect():
            return socket.create_connection(("127.0.0.1", port), timeout=60)

        def ask(connection, target):
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            return json.loads(connection.recv(65536).partition(b"\r\n\r\n")[2])["cpu"]

        with ExitStack() as stack:
            # A cap of half the descriptors holds however many connect.
            for _ in range(200):
                stack.enter_context(connect())
            first = stack.enter_context(connect())
            ask(first, "/hold")
            for _ in range(20):
                stack.enter_context(connect())
            before = ask(first, "/")
            time.sleep(1)
            assert ask(first, "/") - before < 0.3, "it spins"
            ask(first, "/free")
            with connect() as late:
                ask(late, "/")
        process.stdin.close()
        assert process.wait(60) == 0


def test_the_cap_leaves_descriptors_for_others():
    """Connections take half of the descriptors at most."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = Server("127.0.0.1", 0, limits=Limits(connections=10**9))
    server.server_close()
    assert server._cap == descriptors // 2


# ---- start and end -----------------------------------------------------------------------------------------


def test_a_taken_port_is_said_so(served):
    """The error names the port and the way out."""
    with pytest.raises(DaemonUnavailable, match=f"port {served.port} on 127.0.0.1 is taken") as caught:
        Server("127.0.0.1", served.port)
    assert "AUTHSOME_PORT" in caught.value.hint


def test_an_address_of_another_machine_is_said_so():
    """The error names the address, and the setting."""
    with pytest.raises(DaemonUnavailable, match=r"cannot listen on 192\.0\.2\.1") as caught:
        Server("192.0.2.1", 0)
    assert "AUTHSOME_HOST" in caught.value.hint


def test_clients_of_a_starting_server_wait():
    """A connection made before `serve` is answered after it."""
    server = Server("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        thread = threading.Thread(target=server.serve, args=(lambda _: json_response({}),))
        thread.start()
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert server.stop(timedelta(seconds=PATIENCE)) == 0
    thread.join(60)
    assert not thread.is_alive()


def test_stopping_ends_requests_in_progress_gently():
    """Who waits is told and answers; what is idle is closed; nobody else is let in; then it is over."""
    begun = threading.Event()

    def handle(request):
        begun.set()
        assert request.stopping.wait(60)
        return json_response({"stopped": True})

    server = Server("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve, args=(handle,))
    thread.start()
    with ExitStack() as stack:
        idle, busy = (
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=60))
            for _ in range(2)
        )
        busy.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert begun.wait(60)
        assert server.stop(timedelta(seconds=PATIENCE)) == 0
        assert idle.recv(100) == b""
        answer = b"".join(iter(lambda: busy.recv(65536), b""))
        assert b'{"stopped":true}' in answer
        assert b"Connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.server_port), timeout=5)
    thread.join(60)
    assert not thread.is_alive()


def test_stopping_does_not_wait_for_ever():
    """A request that does not end in time is cut off, and counted."""
    begun, release = threading.Event(), threading.Event()

    def handle(_):
        begun.set()
        release.wait(60)
        return json_response({})

    server = Server("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve, args=(handle,))
    thread.start()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert begun.wait(60)
        assert server.stop(timedelta(milliseconds=200)) == 1
        assert connection.recv(100) == b""
    release.set()
    thread.join(60)
    assert not thread.is_alive()


STOPPED_BY_SIGNAL = """
import signal
from datetime import timedelta
from authsome.daemon.messages import json_response
from authsome.daemon.server import Server
server = Server("127.0.0.1", 0)
signal.signal(signal.SIGTERM, lambda *_: server.begin_stop())
print(server.server_port, flush=True)
server.serve(lambda request: json_response({}))
print(server.stop(timedelta(seconds=60)), flush=True)
"""


def test_a_signal_handler_may_stop_it():
    """`begin_stop` ends `serve` in the main thread, where signal handlers run."""
    command = [sys.executable, "-c", STOPPED_BY_SIGNAL]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
            process.terminate()
            assert process.stdout.read() == "0\n"
        assert process.wait(60) == 0


IDLE = """
import resource, threading, time
from authsome.daemon.messages import json_response
from authsome.daemon.server import Server
server = Server("127.0.0.1", 0)
threading.Thread(target=server.serve, args=(lambda request: json_response({}),)).start()

def switches():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    time.sleep(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

# The first spans of time may see its beginning; the last one is what it comes to.
print(next((found for _ in range(10) if (found := switches()) <= 2), "it wakes up all the time"))
server.begin_stop()
"""


def test_an_idle_server_sleeps():
    """Nobody calls, nothing wakes up: the only switches are those of the sleep that measures."""  # SEC-198
    done = subprocess.run([sys.executable, "-c", IDLE], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() in {"0", "1", "2"}


def test_connections_leave_nothing_behind(served):
    """Connections and requests by the thousand leave no descriptor and no entry."""  # SEC-193
    served.get()
    assert served.is_empty()
    descriptors = len(list(Path("/dev/fd").iterdir()))
    for _ in range(200):
        with served.client() as client:
            client.send(served.head() * 10)
            for _ in range(10):
                client.expect(200)
        served.requests.clear()
    assert served.is_empty()
    assert len(list(Path("/dev/fd").iterdir())) <= descriptors
