"""The way out, against real servers on loopback that behave in every way but well."""

import base64
import gzip
import json
import re
import socket
import ssl
import threading
import tracemalloc
import zlib
from contextlib import contextmanager
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from authsome import transport
from authsome.address import Address, AddressPolicy
from authsome.errors import (
    AddressRefused,
    AuthsomeError,
    EndpointRefused,
    EndpointUnreachable,
    RequestInvalid,
    UsageError,
)
from authsome.message import HttpRequest
from authsome.outbound import Outbound, outbound_from
from authsome.secret import Secret
from authsome.transport import SIZE_LIMIT, Trust, send
from fakes import endpoint, wire
from fakes.ports import free_port

HERE = AddressPolicy(allow_private=True)
SOON = timedelta(seconds=1)  # for what never ends; long enough for what does
HOST = "login.example.localhost"
CONNECT_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture
def trust(authority):
    """Trust in the tests' authority beside the system's roots."""
    return Trust(authority.certificate)


@pytest.fixture
def leaf(authority):
    """A certificate for `HOST`."""
    return authority.issue(HOST)


def post(url, **changes):
    """A token request."""
    return HttpRequest(**{"method": "POST", "url": url, "body": b"grant_type=refresh_token", **changes})


def request(url, *, trust=None, policy=HERE, **changes):
    """Send a token request with the tests' usual policy."""
    return send(post(url), policy=policy, trust=trust or Trust(), **changes)


def one_line(error):
    """An error's message, after checking that it is one printable line of bearable length."""
    text = f"{error.message} {error.hint or ''}"
    assert text.isprintable()
    assert len(text) < 400
    return error.message


# ---- what is sent, and what comes back ---------------------------------------------------------------------


def test_a_request_and_its_answer(hostile):
    """Method, target, headers and body arrive as given; status, headers and body come back as sent."""
    hostile.script = endpoint.answer(b'{"a": 1}', status=201, headers="X-One: 1\r\nX-Two: \xe9\r\n")
    sent = post(hostile.url("/oauth/token?tenant=a%20b"), headers=(("accept", "application/json"), ("x-extra", "é")))
    response = send(sent, policy=HERE, trust=Trust())
    assert (response.status, response.body) == (201, b'{"a": 1}')
    assert (response.header("x-one"), response.header("X-Two")) == ("1", "é")
    (seen,) = hostile.requests
    assert (seen.method, seen.target, seen.body) == ("POST", "/oauth/token?tenant=a%20b", b"grant_type=refresh_token")
    assert seen.header("host") == f"127.0.0.1:{hostile.port}"
    assert seen.header("content-length") == "24"
    assert seen.header("accept") == "application/json"
    assert seen.header("x-extra") == "é"
    assert seen.header("accept-encoding") == "identity"
    assert seen.header("connection") == "close"
    assert seen.header("user-agent").startswith("authsome/")


def test_a_get_has_no_body(hostile):
    """A request without a body says nothing of one; an empty path is the root; a caller's User-Agent is kept."""
    bare = HttpRequest(method="GET", url=f"http://127.0.0.1:{hostile.port}", headers=(("user-agent", "mine"),))
    send(bare, policy=HERE, trust=Trust())
    (seen,) = hostile.requests
    assert seen.head.startswith(b"GET / HTTP/1.1\r\n")
    assert (seen.header("content-length"), seen.header("user-agent")) == (None, "mine")


def test_an_empty_post_says_so(hostile):
    """A POST without a body has the length that proxies insist on."""
    send(post(hostile.url(), body=b""), policy=HERE, trust=Trust())
    assert hostile.requests[0].header("content-length") == "0"


@pytest.mark.parametrize(
    "headers",
    [
        (("x-evil", "a\r\nx-injected: 1"),),
        (("x-evil", "a\nb"),),
        (("x-evil", "a\0b"),),
        (("x-evil", "\u2028"),),
        (("x evil", "a"),),
        (("", "a"),),
        (("x-evil:", "a"),),
        (("Host", "evil.example"),),
        (("content-length", "3"),),
        (("Transfer-Encoding", "chunked"),),
    ],
)
def test_headers_that_would_be_read_as_more(hostile, headers):
    """A header that could smuggle another, or contradict ours, is refused before anything is sent, and not shown."""
    with pytest.raises(RequestInvalid) as caught:
        send(post(hostile.url(), headers=headers), policy=HERE, trust=Trust())
    assert "injected" not in one_line(caught.value)
    assert hostile.requests == []


@pytest.mark.parametrize("method", ["", "get", "GET /", "GET\r\n", "GÉT"])
def test_a_method_is_one_word(hostile, method):
    """So is the method."""
    with pytest.raises(RequestInvalid):
        send(post(hostile.url(), method=method), policy=HERE, trust=Trust())
    assert hostile.requests == []


# ---- where it goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "//127.0.0.1/",
        "https:",
        "https://",
        "https:///path",
        "https://user@127.0.0.1/",
        "https://user:pass@127.0.0.1/",
        "https://127.0.0.1:0/",
        "https://127.0.0.1:99999/",
        "https://127.0.0.1:x/",
        "https://127.0.0.1/#fragment",
        "https://127.0.0.1\\@evil.example/",
        "https://127.0.0.1/\tx",
        "https://127.0.0.1/\r\nx: y",
        "https://127.0.0.1/ x",
        "https://127.0.0.1/é",
        "https://[::1/",
        "https://[127.0.0.1]/",
    ],
)
def test_only_plain_urls(url):
    """What is no plain http or https URL is refused, with no doubt left to any parser."""  # SEC-99, SEC-103
    with pytest.raises(AddressRefused) as caught:
        request(url)
    one_line(caught.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "api.localhost", "0x7f.1", "2130706433", "0177.0.0.1", "127.1", "[::1]", "[::]"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine_needs_leave(hostile, scheme, host):
    """Without leave no spelling of this machine is dialled."""  # SEC-103
    with pytest.raises(AddressRefused):
        request(f"{scheme}://{host}:{hostile.port}/token", policy=AddressPolicy())
    assert hostile.requests == []


def test_never_to_ourselves(hostile):
    """With leave, our own port is not dialled all the same."""  # SEC-103
    rules = AddressPolicy(allow_private=True, own_ports=frozenset({hostile.port}))
    with pytest.raises(AddressRefused):
        request(hostile.url(), policy=rules)
    assert hostile.requests == []


@pytest.mark.parametrize("address", ["10.0.0.1", "93.184.215.14"])
def test_plain_http_stays_on_this_machine(address, tmp_path):
    """Plain http to any other machine is refused, private network or not, and by name too."""  # SEC-99
    (tmp_path / "hosts").write_text("")
    rules = AddressPolicy(allow_private=True, look_up=lambda _: (address,), hosts_file=tmp_path / "hosts")
    for host in (address, "api.example.com"):
        with pytest.raises(AddressRefused, match="this machine only"):
            request(f"http://{host}:9/token", policy=rules)


def test_the_checked_address_is_dialled(authority, tmp_path):
    """The name is looked up once, the certificate is asked for by name, the connection goes to the address."""
    # SEC-103
    asked = []

    def look_up(host):
        asked.append(host)
        return ("127.0.0.1",)

    (tmp_path / "hosts").write_text("")
    rules = AddressPolicy(allow_private=True, look_up=look_up, hosts_file=tmp_path / "hosts")
    with endpoint.serve(endpoint.tokens(), leaf=authority.issue("api.example.com")) as server:
        url = server.url(host="api.example.com")
        assert request(url, trust=Trust(authority.certificate), policy=rules).status == 200
    assert asked == ["api.example.com"]
    assert server.requests[0].header("host") == f"api.example.com:{server.port}"


def test_the_next_address_is_tried(hostile, tmp_path):
    """A host that has an address where nobody listens is reached at its next one."""
    (tmp_path / "hosts").write_text("")
    rules = AddressPolicy(
        allow_private=True, look_up=lambda _: ("127.9.9.9", "127.0.0.1"), hosts_file=tmp_path / "hosts"
    )
    assert request(hostile.url(host="api.example.com"), policy=rules).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers(hostile, status):
    """A redirect is handed back; the place it names sees neither a request nor a secret."""  # SEC-96
    with endpoint.serve(endpoint.tokens()) as elsewhere:
        hostile.script = endpoint.redirect(elsewhere.url(), status)
        assert request(hostile.url()).status == status
        assert elsewhere.requests == []
    assert len(hostile.requests) == 1


# ---- TLS ---------------------------------------------------------------------------------------------------


def test_tls_with_an_extra_root(trust, leaf):
    """A certificate that the user's extra root signed is believed."""  # SEC-159
    with endpoint.serve(endpoint.tokens(), leaf=leaf) as server:
        assert request(server.url(host=HOST), trust=trust).status == 200


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("expired", r"login\.example\.localhost: certificate has expired"),
        ("wrong host", r"login\.example\.localhost: the certificate is for another host"),
        ("rogue", r"login\.example\.localhost: (unable to get local issuer|self.signed certificate)"),
        ("self-signed", r"login\.example\.localhost: self.signed certificate"),
        ("by address", r"127\.0\.0\.1: the certificate is for another host"),
    ],
)
def test_certificates_that_are_refused(authority, rogue, trust, case, message):
    """A certificate that does not prove the host ends it, in one line that says why, and nothing is sent."""  # SEC-98
    leaf = {
        "expired": lambda: authority.issue(HOST, expired=True),
        "wrong host": lambda: authority.issue("other.example.localhost"),
        "rogue": lambda: rogue.issue(HOST),
        "self-signed": lambda: self_signed(rogue.issue(HOST)),
        "by address": lambda: authority.issue(HOST),
    }[case]()
    with endpoint.serve(endpoint.tokens(), leaf=leaf) as server:
        with pytest.raises(EndpointUnreachable, match=message) as caught:
            request(server.url(host="127.0.0.1" if case == "by address" else HOST), trust=trust)
        assert server.requests == []
    one_line(caught.value)
    assert not isinstance(caught.value, AddressRefused)


def self_signed(leaf):
    """The same key with a certificate that vouches for itself."""
    key = serialization.load_pem_private_key(leaf.key.read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, HOST)])
    old = x509.load_pem_x509_certificate(leaf.certificate.read_bytes())
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    leaf.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return leaf


def test_without_the_extra_root_it_is_refused(leaf):
    """The system's roots alone do not believe the tests' authority; the hint says what a company's network needs."""
    with endpoint.serve(endpoint.tokens(), leaf=leaf) as server, pytest.raises(EndpointUnreachable) as caught:
        request(server.url(host=HOST))
    assert "AUTHSOME_CA_BUNDLE" in caught.value.hint


def test_the_environment_cannot_add_trust(leaf, authority, monkeypatch):
    """SSL_CERT_FILE, which a run's child has, makes nobody believed."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.directory))
    with endpoint.serve(endpoint.tokens(), leaf=leaf) as server, pytest.raises(EndpointUnreachable):
        request(server.url(host=HOST))


def test_old_tls_is_refused(trust, leaf):
    """TLS below 1.2 is not spoken."""
    context = leaf.context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    old = type("Old", (), {"context": lambda _self: context})()
    with endpoint.serve(endpoint.tokens(), leaf=old) as server:
        with pytest.raises(EndpointUnreachable, match="TLS failed") as caught:
            request(server.url(host=HOST), trust=trust)
        assert server.requests == []
    one_line(caught.value)


def test_plain_server_on_a_tls_port(trust):
    """A server that does not speak TLS is one line."""

    def greet(connection):
        connection.socket.recv(5)
        connection.socket.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        connection.socket.recv(65_536)

    with wire.listen(greet) as port, pytest.raises(EndpointUnreachable, match="TLS failed") as caught:
        request(f"https://{HOST}:{port}/token", trust=trust)
    one_line(caught.value)


def test_changed_bundle_is_seen(authority, rogue, tmp_path):
    """A root that is added to the user's file is believed without a restart, and one that is removed no longer."""
    bundle = tmp_path / "extra.pem"
    trust = Trust(bundle)
    with endpoint.serve(endpoint.tokens(), leaf=authority.issue(HOST)) as server:
        for issuer, is_believed in ((rogue, False), (authority, True), (rogue, False)):
            bundle.unlink(missing_ok=True)
            bundle.write_bytes(issuer.certificate.read_bytes())
            if is_believed:
                assert request(server.url(host=HOST), trust=trust).status == 200
            else:
                with pytest.raises(EndpointUnreachable):
                    request(server.url(host=HOST), trust=trust)


def test_context_is_built_once(trust):
    """As long as the files stay, so does the context: building it takes longer than a request."""
    assert trust.context() is trust.context()


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_bundle_without_certificates(tmp_path, content):
    """A bundle that holds none, or is not there, is an error that names it: trust is not silently less."""
    bundle = tmp_path / "extra.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(EndpointUnreachable, match=re.escape(str(bundle))) as caught:
        Trust(bundle).context()
    assert "AUTHSOME_CA_BUNDLE" in caught.value.hint


# ---- hostile and broken endpoints --------------------------------------------------------------------------

TOO_LARGE = {"endless chunks", "gzip bomb"}
TOO_SLOW = {"drip body", "drip head", "hang"}
NO_ANSWER = {"nothing", "half"}
NO_HTTP = {"not http", "endless head"}


@pytest.mark.parametrize("name", endpoint.SCRIPTS)
def test_every_hostile_script_ends(hostile, name):
    """Whatever an endpoint sends, the outcome is a bounded answer or an error of one line, in bounded time."""
    # SEC-92, SEC-94, SEC-95
    hostile.script = endpoint.SCRIPTS[name]
    expected = (
        (EndpointRefused, "larger than 1024 KiB")
        if name in TOO_LARGE
        else (EndpointUnreachable, "no answer within 1 s")
        if name in TOO_SLOW
        else (EndpointUnreachable, "closed before the answer was whole")
        if name in NO_ANSWER
        else (EndpointRefused, "not HTTP|too large")
        if name in NO_HTTP
        else None
    )
    if expected is None:
        response = request(hostile.url())
        assert len(response.body) <= SIZE_LIMIT + 1024 or name in {"deep", "rude error"}
        return
    timeout = SOON if name in TOO_SLOW else transport.TIMEOUT
    with pytest.raises(expected[0], match=rf"^127\.0\.0\.1: .*({expected[1]})") as caught:
        request(hostile.url(), timeout=timeout)
    one_line(caught.value)


def test_a_bomb_takes_no_memory(hostile):
    """Two hundred megabytes that come as two hundred kilobytes are cut before they are there."""  # SEC-94
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    hostile.script = endpoint.answer(bomb, headers="Content-Encoding: gzip\r\n")
    tracemalloc.start()
    try:
        with pytest.raises(EndpointRefused):
            request(hostile.url())
        assert tracemalloc.get_traced_memory()[1] < 8 * SIZE_LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 65_536, SIZE_LIMIT])
@pytest.mark.parametrize("coding", ["identity", "gzip", "x-gzip", "deflate"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bodies_up_to_the_limit(hostile, size, coding, framing):
    """A body of up to 1 MiB comes back whole, however it is framed and coded; one byte more does not."""
    for length in (size, SIZE_LIMIT + 1):
        plain = bytes(range(256)) * (length // 256) + bytes(length % 256)
        coded = {"identity": lambda data: data, "deflate": zlib.compress}.get(coding, gzip.compress)(plain)
        hostile.script = framed(coded, coding, framing)
        if length <= SIZE_LIMIT:
            assert request(hostile.url()).body == plain
        else:
            with pytest.raises(EndpointRefused, match="larger than 1024 KiB"):
                request(hostile.url())


def framed(body, coding, framing):
    """A script that sends a body in one of HTTP's three framings."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nConnection: close\r\n".encode()
    if framing == "length":
        return lambda: iter((head + b"Content-Length: %d\r\n\r\n" % len(body) + body,))
    if framing == "close":
        return lambda: iter((head + b"\r\n" + body,))
    chunks = [body[start : start + 5000] for start in range(0, len(body), 5000)]
    lines = b"".join(b"%x;name=value\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return lambda: iter((head + b"Transfer-Encoding: chunked\r\n\r\n" + lines + b"0\r\nX-Trailer: 1\r\n\r\n",))


@pytest.mark.parametrize(
    ("coding", "body", "message"),
    [
        ("br", b"\x0b\x02\x80{}\x03", "coded as br"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "coded as gzip, gzip"),
        ("\x1b[2J", b"{}", "coded as"),
        ("gzip", b"{}", "cannot be decompressed"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], "cannot be decompressed"),
        ("gzip", gzip.compress(b'{"a": "' + b"b" * 500 + b'"}', mtime=0)[:-9], "cannot be decompressed"),
        ("deflate", b"\0\1\2", "cannot be decompressed"),
    ],
)
def test_codings_that_are_refused(hostile, coding, body, message):
    """A coding nobody asked for, or a body that does not decode to its end, is an error, not half an answer."""
    hostile.script = endpoint.answer(body, headers=f"Content-Encoding: {coding}\r\n")
    with pytest.raises(EndpointRefused, match=message) as caught:
        request(hostile.url())
    one_line(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\0" * 100,
        b"\n" * 100,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"",
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_broken_answers(hostile, answer):
    """An answer that breaks off or breaks the protocol is one line, never half a body."""  # SEC-81, SEC-92
    hostile.script = lambda: iter((answer,))
    with pytest.raises((EndpointRefused, EndpointUnreachable)) as caught:
        request(hostile.url(), timeout=SOON)
    assert one_line(caught.value).startswith("127.0.0.1: ")


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2]
)
@pytest.mark.parametrize("at_once", [True, False])
def test_an_interim_answer_is_skipped(hostile, interim, at_once):
    """Neither `100 Continue` nor any other of its class is the answer (RFC 9110 §15.2)."""
    parts = (interim, endpoint.http(b"{}"))
    hostile.script = lambda: iter((b"".join(parts),) if at_once else parts)
    answer = request(hostile.url())
    assert (answer.status, answer.body) == (200, b"{}")


def test_a_switch_of_protocols_is_none_that_was_asked_for(hostile):
    hostile.script = lambda: iter((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",))
    assert request(hostile.url()).status == 101


def test_interim_answers_without_end_are_cut(hostile):
    hostile.script = lambda: iter((b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100_000,))
    with pytest.raises(EndpointRefused, match="too large"):
        request(hostile.url())


def test_refused_connection():
    """A port where nobody listens is one line with the host and the cause."""
    with pytest.raises(EndpointUnreachable) as caught:
        request(f"http://127.0.0.1:{free_port()}/token")
    assert one_line(caught.value) == "127.0.0.1: connection refused"


def test_reset_connection():
    """So is a connection that is reset."""  # SEC-81

    def reset(connection):
        connection.socket.recv(1)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        socket.socket.close(connection.socket)

    with wire.listen(reset) as port, pytest.raises(EndpointUnreachable, match=r"^127\.0\.0\.1: ") as caught:
        request(f"http://127.0.0.1:{port}/token")
    one_line(caught.value)


def test_a_handshake_that_hangs(trust):
    """A server that accepts and says nothing is given up like any other that is slow."""  # SEC-95
    over = threading.Event()
    with wire.listen(lambda _: over.wait()) as port:
        with pytest.raises(EndpointUnreachable, match=f"{HOST}: no answer within 0.2 s"):
            request(f"https://{HOST}:{port}/token", trust=trust, timeout=timedelta(milliseconds=200))
        over.set()


def test_no_time_at_all(hostile):
    """A deadline that has passed sends nothing."""
    with pytest.raises(EndpointUnreachable):
        request(hostile.url(), timeout=timedelta(0))
    assert hostile.requests == []


# ---- a company's proxy -------------------------------------------------------------------------------------


@contextmanager
def company_proxy(answer=CONNECT_ESTABLISHED):
    """A proxy that records its CONNECT requests and joins every one to a loopback port of the same number."""
    seen = []

    def serve(connection):
        asked = wire.read_request(connection.reader, connection.writer)
        seen.append(asked)
        connection.socket.sendall(answer)
        if b" 200 " not in answer:
            return
        port = int(asked.target.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            back = threading.Thread(target=pump, args=(upstream, connection.socket), daemon=True)
            back.start()
            pump(connection.socket, upstream)
            back.join()

    with wire.listen(serve) as port:
        yield port, seen


def pump(source, sink):
    """Copy bytes until one side ends."""
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_through_a_proxy(authority):
    """With HTTPS_PROXY the request goes through a tunnel, with the proxy's credentials, and TLS is with the host."""
    with (
        company_proxy() as (port, seen),
        endpoint.serve(endpoint.tokens(), leaf=authority.issue("api.example.com")) as server,
    ):
        outbound = outbound_from({"HTTPS_PROXY": f"http://us%40er:p%3Ass@127.0.0.1:{port}"})
        url = server.url(host="api.example.com")
        answer = request(url, trust=Trust(authority.certificate), policy=AddressPolicy(), outbound=outbound)
        assert answer.status == 200
    (asked,) = seen
    assert (asked.method, asked.target) == ("CONNECT", f"api.example.com:{server.port}")
    assert asked.header("host") == f"api.example.com:{server.port}"
    assert asked.header("proxy-authorization") == "Basic " + base64.b64encode(b"us@er:p:ss").decode()
    (seen_there,) = server.requests
    assert seen_there.header("proxy-authorization") is None
    assert b"grant_type" not in asked.head + asked.body


def test_https_port_is_named_to_the_proxy():
    """CONNECT always names the port (RFC 9110 §9.3.6)."""
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    with company_proxy(refusal) as (port, seen):
        outbound = Outbound(proxy=Address("127.0.0.1", port))
        with pytest.raises(
            EndpointUnreachable, match=rf"api\.example\.com: the proxy 127\.0\.0\.1:{port} answered 407"
        ):
            request("https://api.example.com/token", policy=AddressPolicy(), outbound=outbound)
    assert seen[0].target == "api.example.com:443"


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200 " + b"a" * 20_000]
)
def test_a_proxy_that_is_none(answer):
    """What answers CONNECT with nonsense is not taken for a tunnel."""
    with company_proxy(answer) as (port, _), pytest.raises(EndpointRefused, match="proxy's answer is not HTTP"):
        request(
            "https://api.example.com/token", policy=AddressPolicy(), outbound=Outbound(proxy=Address("127.0.0.1", port))
        )


def test_a_proxy_that_is_not_there():
    """A proxy that cannot be reached is named, without its password."""
    outbound = outbound_from({"https_proxy": f"http://user:hunter2@127.0.0.1:{free_port()}"})
    with pytest.raises(EndpointUnreachable, match="could not be reached") as caught:
        request("https://api.example.com/token", policy=AddressPolicy(), outbound=outbound)
    assert "hunter2" not in one_line(caught.value) + repr(outbound)


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fd00:ec2::254]"])
def test_a_proxy_is_not_asked_into_the_intranet(host):
    """An inner address is refused before the proxy hears of it."""  # SEC-103
    with company_proxy() as (port, seen), pytest.raises(AddressRefused):
        request(f"https://{host}/", policy=AddressPolicy(), outbound=Outbound(proxy=Address("127.0.0.1", port)))
    assert seen == []


def test_this_machine_is_never_asked_of_a_proxy(hostile, trust, leaf):
    """Requests to this machine do not leave it."""
    with company_proxy() as (port, seen), endpoint.serve(endpoint.tokens(), leaf=leaf) as server:
        outbound = Outbound(proxy=Address("127.0.0.1", port))
        assert request(hostile.url(), outbound=outbound).status == 200
        assert request(server.url(host=HOST), trust=trust, outbound=outbound).status == 200
    assert seen == []


@pytest.mark.parametrize(
    ("exempt", "host", "is_served"),
    [
        ("", "api.example.com", True),
        ("*", "api.example.com", False),
        ("example.com", "api.example.com", False),
        ("example.com", "example.com", False),
        (".example.com", "api.example.com", False),
        ("*.example.com", "api.example.com", False),
        ("API.EXAMPLE.COM", "api.example.com", False),
        ("xample.com", "api.example.com", True),
        ("api.example.com.evil", "api.example.com", True),
        ("a.example, example.com ,b.example", "api.example.com", False),
        ("a.example example.com", "api.example.com", False),
        ("example.com:443", "api.example.com", False),
        ("example.com:8443", "api.example.com", True),
        ("example.com:²", "api.example.com", True),
        ("10.1.2.3", "10.1.2.3", False),
        ("10.1.2.4", "10.1.2.3", True),
        ("2001:db8::1", "2001:db8::1", False),
        ("[2001:db8::1]", "2001:db8::1", False),
        (",, ,", "api.example.com", True),
        (".", "api.example.com", True),
        ("", "localhost", False),
        ("", "api.localhost", False),
        ("", "127.0.0.1", False),
        ("", "127.8.8.8", False),
        ("", "::1", False),
    ],
)
def test_exemptions(exempt, host, is_served):
    """NO_PROXY names hosts, suffixes and addresses, perhaps with a port; loopback needs no naming."""
    outbound = outbound_from({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": exempt})
    assert outbound.serves(host, 443) is is_served


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://other:1"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, Address("proxy.example", 3128)),
        ({"HTTPS_PROXY": "http://proxy.example:3128/"}, Address("proxy.example", 3128)),
        ({"HTTPS_PROXY": "proxy.example:3128"}, Address("proxy.example", 3128)),
        ({"HTTPS_PROXY": "http://proxy.example"}, Address("proxy.example", 80)),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, Address("::1", 3128)),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:2"}, Address("lower", 2)),
    ],
)
def test_settings(environ, proxy):
    """HTTPS_PROXY is read as curl reads it."""
    assert outbound_from(environ).proxy == proxy
    assert Outbound().serves("api.example.com", 443) is False


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@proxy.example",
        "socks5://user:hunter2@proxy.example:1080",
        "http://user:hunter2@",
        "http://user:hunter2@h:x",
        "http://user:hunter2@h:1\r\n",
    ],
)
def test_settings_that_cannot_be_meant(url):
    """A proxy we cannot speak to is said to be one, and its password is not shown."""
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        outbound_from({"HTTPS_PROXY": url})
    assert "hunter2" not in one_line(caught.value)


# ---- nothing leaks -----------------------------------------------------------------------------------------


def test_no_secret_in_any_error(hostile):
    """No error of the transport repeats what was sent, nor the path and query it was sent to."""  # SEC-143
    canary = "canary-7f3a"
    sent = HttpRequest(
        method="POST",
        url=hostile.url(f"/{canary}?{canary}={canary}"),
        headers=(("authorization", f"Bearer {canary}"),),
        body=canary.encode(),
    )
    for name in ("half", "not http", "drip head", "gzip bomb", "nothing"):
        hostile.script = endpoint.SCRIPTS[name]
        with pytest.raises(AuthsomeError) as caught:
            send(sent, policy=HERE, trust=Trust(), timeout=SOON)
        assert canary not in f"{caught.value!r} {caught.value.message} {caught.value.hint} {sent!r}"


def test_credentials_do_not_show():
    """A proxy's password does not show in a repr."""
    shown = repr(Outbound(proxy=Address("h", 1), authorization=Secret("Basic c2VjcmV0")))
    assert "c2VjcmV0" not in shown


def test_many_at_once(hostile):
    """A hanging endpoint delays nobody else: there is no lock to wait for."""  # SEC-95
    with endpoint.serve(endpoint.SCRIPTS["hang"]) as hanging:
        slow = threading.Thread(target=quietly, args=(hanging.url(),))
        slow.start()
        assert request(hostile.url()).status == 200
        assert slow.is_alive()
    slow.join()


def quietly(url):
    """A request that is known to fail."""
    with pytest.raises(EndpointUnreachable):
        request(url)


def test_answers_are_as_they_came(hostile):
    """The transport has no opinion on content: a refusal's body comes back with its status."""
    hostile.script = endpoint.answer(json.dumps({"error": "invalid_grant"}).encode(), status=400)
    response = request(hostile.url())
    assert (response.status, json.loads(response.body)) == (400, {"error": "invalid_grant"})
