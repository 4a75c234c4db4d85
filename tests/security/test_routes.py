"""The whole route table, tried by those who may not: without a proof, under a false name, as a web page would."""

import re
import socket
from pathlib import Path

import pytest

from security import adversary
from security.adversary import ask

GUARDS = {
    "server": "authsome",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PUBLIC = {
    ("GET", "/"),
    ("GET", "/auth/client.json"),
    ("GET", "/health"),
    ("GET", "/openapi.json"),
    ("GET", "/ui"),
    ("GET", "/ui/enter"),
    ("GET", "/ui/first"),
    ("GET", "/ui/join/{token}"),
    ("GET", "/ui/sign-in"),
    ("GET", "/ui/{asset}"),
    ("POST", "/identities"),
    ("POST", "/ui/enter"),
    ("POST", "/ui/first"),
    ("POST", "/ui/join/{token}"),
    ("POST", "/ui/sign-in"),
}
"""What may be asked without any credential; a further route belongs here only after somebody thought about it."""


@pytest.fixture(scope="module")
def table(target):
    """Every method and path, with what the description says of who may call it."""
    paths = ask(target.port, "GET", "/openapi.json").json()["paths"]
    return [
        (method.upper(), path, {scheme for choice in endpoint.get("security", []) for scheme in choice})
        for path, methods in paths.items()
        for method, endpoint in methods.items()
        if method.upper() in METHODS
    ]


def filled(path):
    """The path with a name in each place."""
    return re.sub(r"\{[a-z_]+\}", "openai", path)


def all_paths(table):
    """Every path of the table once, and some that are in none."""
    return sorted({filled(path) for _, path, _ in table} | {"/", "/nothing", "/ui/", "/favicon.ico"})


def schemes_of(table, method, path):
    """Who may call this path with this method: by the row that spells out most of it; None when there is no row."""
    fitting = [
        (template.count("{"), schemes)
        for known, template, schemes in table
        if known == method and re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", template), path)
    ]
    return min(fitting, key=lambda each: each[0], default=(0, None))[1]


def assert_guarded(answer):
    """Every answer guards itself and names no software but ours. # SEC-35 # SEC-37 # SEC-47"""
    assert {name: answer.headers.get(name) for name in GUARDS} == GUARDS
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy
    assert not any(name.startswith("access-control-") for name in answer.headers)  # SEC-32
    assert "python" not in str(answer.headers).lower()


def test_the_public_list(table):
    """What is open is exactly what is listed here; everything else names its credential. # SEC-25"""
    assert {(method, path) for method, path, schemes in table if not schemes} == PUBLIC
    assert {scheme for _, _, schemes in table for scheme in schemes} == {"proof", "run", "browser", "session"}


def test_no_route_without_a_credential(target, table):
    """Every other route, with every method and several bad credentials: 401, and for a browser's page 404. # SEC-25"""
    bad = [
        (),
        (("Authorization", "PoP x.y.z"),),
        (("Authorization", "Run a:b"),),
        (("Cookie", "authsome_login_openai=x"),),
    ]
    for path in all_paths(table):
        for method in METHODS:
            schemes = schemes_of(table, "GET" if method == "HEAD" else method, path)
            for headers in bad:
                answer = ask(
                    target.port,
                    method,
                    path,
                    *headers,
                    ("Content-Type", "application/json"),
                    body=b"{}" if method == "POST" else b"",
                )
                assert_guarded(answer)
                if schemes is None:
                    assert answer.status in {404, 405}, (method, path, answer)
                elif schemes == {"browser"}:
                    assert answer.status in {400, 401, 404}, (method, path, answer)
                elif schemes == {"session"}:
                    assert answer.status in {303, 403}, (method, path, answer)
                    assert answer.headers.get("location", "/ui/sign-in").startswith("/ui/sign-in")
                elif schemes:
                    assert answer.status == 401, (method, path, answer)


HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.1.nip.io:{port}",
    "0.0.0.0:{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "",
    "127.0.0.1",
    "127.0.0.1:{other}",
    "127.0.0.1:0{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "localhost.:{port}",
    "127.0.0.1:{port},evil.example",
    "127.0.0.1:{port} evil.example",
    "http://127.0.0.1:{port}",
    "127.0.0.1:{port}/",
    "127.0.0.1:{port}#",
]


@pytest.mark.parametrize("host", HOSTS)
def test_names_that_are_not_ours(target, table, host):
    """A false Host is refused on every route, the open ones too. # SEC-27"""
    name = host.format(port=target.port, other=target.port + 1)
    for path in all_paths(table):
        answer = ask(target.port, "GET", path, host=name)
        assert answer.status in {400, 421}, (path, answer)
        assert_guarded(answer)


def test_one_host_header_and_one_of_ours(target):
    """Two Hosts, none, or one of ours: the first are refused. # SEC-27"""
    ours = f"127.0.0.1:{target.port}"
    for lines in (f"Host: {ours}\r\nHost: evil.example", f"Host: {ours}\r\nHost: {ours}", "X: y"):
        data = f"GET /health HTTP/1.1\r\n{lines}\r\n\r\n".encode()
        assert adversary.exchange(target.port, data).status == 400
    for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        assert ask(target.port, "GET", "/health", host=f"{name}:{target.port}").status == 200


def test_an_absolute_target_does_not_hide_a_false_host(target):
    """`GET http://evil/` is refused whatever Host says. # SEC-27 # SEC-49"""
    for url in ("http://evil.example/health", f"http://127.0.0.1:{target.port}/health", "//evil.example/health", "*"):
        data = f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode()
        assert adversary.exchange(target.port, data).status in {400, 404}


SITES = [
    (("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")),
    (("Sec-Fetch-Site", "same-site"), ("Origin", "http://127.0.0.1:1")),
    (("Origin", "https://evil.example"),),
    (("Origin", "null"),),
    (("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")),
]


@pytest.mark.parametrize("headers", SITES, ids=lambda headers: " ".join(value for _, value in headers))
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_other_sites_change_nothing(target, caller, table, headers, kind):
    """A page elsewhere can post to no route, whatever it says, and is told nothing by CORS.

    # SEC-29 # SEC-30 # SEC-32
    """
    before = caller.ask("GET", "/connections").json()
    for method, path, schemes in table:
        if method == "POST":
            answer = ask(target.port, "POST", filled(path), *headers, ("Content-Type", kind), body=b"a=b")
            assert answer.status in {400, 401, 403, 404}, (path, answer)
            assert schemes or path == "/identities" or path.startswith("/ui/")
            assert_guarded(answer)
    assert caller.ask("GET", "/connections").json() == before


def test_a_good_proof_does_not_excuse_another_content_type(caller, target):
    """JSON that is not sent as JSON, which a page could do without being asked, is refused. # SEC-33"""
    body = b'{"provider": "openai"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json"):
        token = caller.token("POST", "/auth/sessions", body)
        headers = (("Authorization", f"PoP {token}"), ("Content-Type", kind))
        assert ask(target.port, "POST", "/auth/sessions", *headers, body=body).status == 400


def test_preflight_is_not_answered(target, table):
    """OPTIONS tells nothing and allows nobody anything. # SEC-32 # SEC-46"""
    wish = (
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
        ("Access-Control-Request-Private-Network", "true"),
    )
    for path in all_paths(table):
        answer = ask(target.port, "OPTIONS", path, *wish)
        assert answer.status == 501
        assert "allow" not in answer.headers
        assert_guarded(answer)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "FOO", "get", "G-E-T", "TRACK", "DEBUG"])
def test_other_methods(target, method):
    """Methods that we do not know are refused; nothing is echoed. # SEC-46"""
    answer = ask(target.port, method, "/health", ("X-Echo", "canary-in-a-header"))
    assert answer.status in {400, 405, 501}
    assert b"canary" not in answer.body


def test_websockets_are_not_taken(target):
    """A page elsewhere gets no WebSocket: there is none. # SEC-43"""
    wish = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Origin", "https://evil.example"),
    )
    for path in ("/", "/health", "/connections", "/ui/style.css"):
        assert ask(target.port, "GET", path, *wish).status != 101


def state(caller):
    """All that a GET must not change."""
    paths = ("/connections", "/providers", "/proxy/routes")
    return [caller.ask("GET", path).json() for path in paths]


def test_get_changes_nothing(caller, table):
    """No GET, by the owner and with any query, does what a POST does. # SEC-34"""
    before = state(caller)
    for path in all_paths(table):
        for query in ("", "?method=POST", "?_method=DELETE", "?provider=openai&purpose=export", "?wait=0"):
            answer = caller.ask("GET", path + query)
            assert answer.status in {200, 303, 400, 401, 404, 405}, (path, query, answer)
    for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        target = "/connections/openai/default/logout"
        token = caller.token("GET", target)
        assert ask(caller.port, "GET", target, ("Authorization", f"PoP {token}"), (header, "POST")).status == 405
    assert state(caller) == before


MALFORMED = [
    b"GET /health HTTP/1.1\nHost: {host}\n\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nContent-Length: +0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nContent_Length: 5\r\nContent-Length: 0x5\r\n\r\nhello",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nX : a\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n",
    b"GET /hea\0lth HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /health HTTP/2.0\r\nHost: {host}\r\n\r\n",
    b"GET /health HTTP/0.9\r\nHost: {host}\r\n\r\n",
    b"GET  /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /health HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_malformed_http(target, number):
    """What is not plainly HTTP/1.1 is refused or hung up on, and the daemon goes on. # SEC-49"""
    data = MALFORMED[number].replace(b"{host}", f"127.0.0.1:{target.port}".encode())
    answer = adversary.exchange(target.port, data)
    assert answer.status == 0 or 400 <= answer.status < 600
    assert ask(target.port, "GET", "/health").status == 200


ODD = [
    "/connections/%00/x",
    "/connections/..%2f..%2fetc/x",
    "/providers/' OR 1=1 --".replace(" ", "%20"),
    "/providers/%ff",
    "/ui/../x",
]


@pytest.mark.parametrize(
    "path", [*ODD, "/ui/%2e%2e%2fapi", "/auth/sessions/%0d%0aX:y/input", "/audit/events?since=x&limit=-1"]
)
def test_errors_tell_nothing_of_the_inside(caller, path):
    """No path of the machine, no SQL, no traceback in any answer, nor in the log. # SEC-47"""
    for answer in (caller.ask("GET", path), ask(caller.port, "GET", path)):
        assert 400 <= answer.status < 500
        text = answer.body.decode()
        assert not re.search(r"Traceback|sqlite|SELECT|\.py|/(?:home|root|tmp)/|site-packages", text, re.IGNORECASE)


def test_slow_clients_do_not_hold_up_others(target):
    """Hundreds of half requests leave room for a whole one. # SEC-190"""
    half = []
    try:
        for _ in range(400):
            connection = socket.create_connection(("127.0.0.1", target.port), timeout=60)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127")
            half.append(connection)
        assert ask(target.port, "GET", "/health").status == 200
    finally:
        for connection in half:
            connection.close()


def test_threads_are_bounded(target):
    """Six hundred connections do not become as many threads. # SEC-192"""
    idle = [socket.create_connection(("127.0.0.1", target.port), timeout=60) for _ in range(600)]
    try:
        status = Path(f"/proc/{target.wait_daemon()}/status").read_text()
        threads = int(re.search(r"Threads:\s+(\d+)", status)[1])
        assert threads < 300
        assert ask(target.port, "GET", "/health").status == 200
    finally:
        for connection in idle:
            connection.close()
