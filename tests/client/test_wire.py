"""The lean HTTP client takes plain HTTP/1.1, and nothing else, in bounded time."""

import socket
import threading

import pytest

from authsome.client import wire
from authsome.errors import DaemonUnavailable
from fakes.authority import Authority
from fakes.ports import free_port


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://127.0.0.1:7998", ("127.0.0.1", 7998, "127.0.0.1:7998", "", False)),
        ("http://localhost", ("localhost", 80, "localhost", "", False)),
        ("https://Broker.Example/team/", ("broker.example", 443, "Broker.Example", "/team", True)),
        ("http://[::1]:99", ("::1", 99, "[::1]:99", "", False)),
        ("http://[::1]", ("::1", 80, "[::1]", "", False)),
    ],
)
def test_a_url_is_taken_apart(url, parts):
    origin = wire.origin_of(url)
    assert (origin.host, origin.port, origin.authority, origin.prefix, origin.secure) == parts


ODD = [
    "http://[::1",
    "http://[::1]x",
    "http://127.0.0.1:\u0663",
    "http://127.0.0.1:" + "1" * 5000,
    "https://日本.example",
]


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://a:0", "http://a:70000", "http://a:b", "127.0.0.1:1", *ODD]
)
def test_what_is_no_url_of_a_daemon_is_refused(url):
    with pytest.raises(DaemonUnavailable):
        wire.origin_of(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("a.localhost", True),
        ("[::1]", True),
        ("127.0.0.1.nip.io", False),
        ("localhost.example", False),
        ("example.com", False),
    ],
)
def test_only_this_machine_counts_as_loopback(host, loopback):
    assert wire.origin_of(f"http://{host}:80").is_loopback is loopback


ANSWERS = {
    "sized": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
    "empty": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n",
        200,
        b"abc",
    ),
    "interim first": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", 404, b""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_whole(scripted, name):
    answer, status, body = ANSWERS[name]
    scripted.answers = [answer]
    response = wire.request(scripted.url, "GET", "/x?y=1", headers=(("A", "b"),))
    assert (response.status, response.body) == (status, body)
    assert scripted.requests[0].startswith(b"GET /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nA: b\r\n" in scripted.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nto the end",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
        b"X" * 100_000,
        None,
    ],
)
def test_a_stranger_on_the_port_is_told_apart(scripted, answer):
    """Whatever else listens there: one error that says so, no exception of another kind."""
    # SEC-123
    scripted.answers = [answer, answer]
    with pytest.raises(DaemonUnavailable) as caught:
        wire.request(scripted.url, "GET", "/health", timeout=5)
    assert scripted.url in caught.value.message


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_name_that_no_host_has(host):
    with pytest.raises(DaemonUnavailable, match="no host has such a name"):
        wire.request(f"https://{host}", "GET", "/")


def test_nobody_there():
    with pytest.raises(DaemonUnavailable, match="refused"):
        wire.request(f"http://127.0.0.1:{free_port()}", "GET", "/", timeout=5)


def test_the_deadline_holds_for_all_of_it_together():
    """A server that sends a byte now and then does not hold the client longer than was allowed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not done.wait(0.05):
                    try:
                        connection.sendall(b".")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(DaemonUnavailable, match="in time"):
            wire.request(f"http://127.0.0.1:{listener.getsockname()[1]}", "GET", "/", timeout=0.4)
        done.set()
        thread.join()


def test_a_kept_connection_is_used_again_and_replaced_when_the_server_closed_it(scripted):
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    scripted.answers = [ok, ok, None, ok]
    channel = wire.Channel(scripted.url)
    assert channel.request("GET", "/1").body == b"ok"
    assert channel.request("POST", "/2", body=b"").body == b"ok"
    assert scripted.connections == 1
    assert channel.request("GET", "/3").body == b"ok"  # closed instead of answered, then asked again
    assert scripted.connections == 2
    channel.close()


def test_connection_close_is_obeyed(scripted):
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    scripted.answers = [closing, closing]
    channel = wire.Channel(scripted.url)
    channel.request("GET", "/")
    channel.request("GET", "/")
    assert scripted.connections == 2
    channel.close()


def test_a_line_break_never_reaches_the_wire(scripted):
    with pytest.raises(ValueError, match="line break"):
        wire.request(scripted.url, "GET", "/", headers=(("A", "b\r\nC: d"),))
    assert not scripted.requests


def test_https_is_verified(authority: Authority, rogue: Authority):
    """A certificate is checked against the system's roots and AUTHSOME_CA_BUNDLE, for the very host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = authority.issue("localhost").context()

        def answer() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(65536)
                        secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                except OSError:
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        good = wire.Channel(f"https://localhost:{port}", ca_bundle=authority.certificate)
        assert good.request("GET", "/", headers=(("Connection", "close"),)).body == b"ok"
        good.close()
        for bundle, host in ((rogue.certificate, "localhost"), (authority.certificate, "127.0.0.1")):
            with pytest.raises(DaemonUnavailable, match=r"its certificate is not trusted: [^(]*$") as caught:
                wire.Channel(f"https://{host}:{port}", ca_bundle=bundle).request("GET", "/")
            assert "AUTHSOME_CA_BUNDLE" in str(caught.value.hint)
        thread.join()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bundle_that_cannot_be_used_is_named(tmp_path, content):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(DaemonUnavailable, match=f"{bundle}: no certificates") as caught:
            wire.Channel(url, ca_bundle=bundle).open()
    assert caught.value.hint == "mend AUTHSOME_CA_BUNDLE"


def test_what_has_no_tls_is_told_in_words():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DaemonUnavailable, match=r"no TLS, [a-z ]+$"):
            wire.request(f"https://127.0.0.1:{listener.getsockname()[1]}", "GET", "/")
        thread.join()
