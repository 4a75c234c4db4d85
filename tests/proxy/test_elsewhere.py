"""Placeholders that a child puts elsewhere than where the credential is injected, by both engines and real clients."""

import base64
import hashlib
import json
import ssl
import time
from contextlib import suppress
from urllib.parse import quote

import pytest

from authsome.proxy import placeholders
from fakes import api, daemon_api, wire
from fakes.api import ApiServer
from fakes.authority import Authority
from fakes.daemon_api import DaemonApi
from proxy import h2_server
from proxy.conftest import ENGINES
from proxy.support import HOST, OTHER_HOST, PLACEHOLDER, TOKEN, Answer, Proxy, Runner, Wire, eventually
from proxy.test_conformance import OK, scripted, send

BOT = "0000000000:AuthsomePlaceholder0000000000000000"
BOT_TOKEN = "4839574812:AAFD39kkdpWt3ywyRZergyOLMaJhac60qcU"
FOREIGN = "other-placeholder-000000"
"""Of another provider's."""
PAIRS = [[PLACEHOLDER, TOKEN], [BOT, BOT_TOKEN]]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both engines."""
    name: str = request.param
    return name


def stand_in(daemon: DaemonApi, **more: object) -> None:
    """Have the daemon say what the placeholders stand for; the credential itself goes into a header of its own."""
    daemon.credentials[HOST] = daemon_api.bearer(
        TOKEN, set=[["X-Own", "own"]], placeholders=PAIRS, secrets=[TOKEN, BOT_TOKEN], **more
    )


@pytest.fixture
def told(proxy: Proxy, daemon_fake: DaemonApi) -> Proxy:
    """The proxy, whose daemon says so."""
    stand_in(daemon_fake)
    daemon_fake.environment = {"EXAMPLE_API_KEY": PLACEHOLDER, "BOT_TOKEN": BOT}
    return proxy


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (f"/bot{BOT}/getMe", f"/bot{BOT_TOKEN}/getMe"),
        (f"/bot{BOT.replace(':', '%3A')}/getMe?a=1", f"/bot{BOT_TOKEN}/getMe?a=1"),
        (f"/x?api_key={PLACEHOLDER}&b=%2F", f"/x?api_key={TOKEN}&b=%2F"),
        (f"/x?token={BOT.replace(':', '%3a')}", f"/x?token={quote(BOT_TOKEN, safe='')}"),
        (f"/x?q=why+{PLACEHOLDER}", f"/x?q=why+{PLACEHOLDER}"),
        (f"/{FOREIGN}?a={FOREIGN}", f"/{FOREIGN}?a={FOREIGN}"),
    ],
)
def test_in_the_target(told: Proxy, api_server: ApiServer, target: str, sent: str):
    """In a path and a query; on a connection's first request and on those that follow. Another provider's stays."""
    with told.open(HOST, api_server.port) as wire_:
        for _ in range(3):
            assert wire_.request("GET", target, f"Host: {HOST}:{api_server.port}").status == 200
    assert [request.target for request in api_server.requests] == [sent] * 3


def test_in_headers(told: Proxy, api_server: ApiServer):
    """Under names that the provider does not take its own credential by; those are gone, as ever."""
    # SEC-154
    lines = (
        f"X-Auth: Token {PLACEHOLDER}",
        f"Private-Token: {BOT}",
        f"X-Other: {FOREIGN}",
        f"Authorization: Bearer {PLACEHOLDER}",
        f"X-Api-Key: {PLACEHOLDER}",
    )
    with told.open(HOST, api_server.port) as wire_:
        assert wire_.request("GET", "/", f"Host: {HOST}:{api_server.port}", *lines).status == 200
    (request,) = api_server.requests
    assert (request.header("x-auth"), request.header("private-token")) == (f"Token {TOKEN}", BOT_TOKEN)
    assert (request.header("x-other"), request.header("x-own")) == (FOREIGN, "own")
    assert request.all("authorization") == request.all("x-api-key") == ()


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "Basic"])
def test_where_the_credential_is_in_no_header(told: Proxy, api_server: ApiServer, daemon_fake: DaemonApi, scheme: str):
    """With one in the query, say, what the child shows in Authorization goes out with the real value in it."""
    stand_in(daemon_fake, query=[["key", "k"]])
    credential = daemon_fake.credentials[HOST]
    assert isinstance(credential, dict)
    credential["set"] = []
    texts = [f"{user}:{password}" for user, password in (("me", PLACEHOLDER), ("me", TOKEN))]
    shown, wanted = (base64.b64encode(text.encode()).decode() for text in texts)
    if scheme != "Basic":
        shown, wanted = PLACEHOLDER, TOKEN
    with told.open(HOST, api_server.port) as wire_:
        host = f"Host: {HOST}:{api_server.port}"
        assert wire_.request("GET", "/", host, f"Authorization: {scheme} {shown}").status == 200
        assert wire_.request("GET", "/", host, "Authorization: Bearer mine").status == 200
    assert [request.all("authorization") for request in api_server.requests] == [(f"{scheme} {wanted}",), ()]
    assert {request.target for request in api_server.requests} == {"/?key=k"}


FORM, JSON = "application/x-www-form-urlencoded", "application/json"
REPLACED = {PLACEHOLDER: TOKEN, BOT: BOT_TOKEN}
BODIES = {
    "json": (JSON, f'{{"token":"{PLACEHOLDER}", "n" :[1.0, "{BOT}"]}}\n', True),
    "json with a charset": (f"{JSON}; charset=utf-8", f'{{"a" :"{PLACEHOLDER}"}}', True),
    "form": (FORM, f"client_id=a&client_secret={PLACEHOLDER}", True),
    "a text that quotes it": (JSON, f'{{"text": "it is {PLACEHOLDER}"}}', False),
    "another provider's": (JSON, f'{{"other":"{FOREIGN}", "u":"\\u00e9", "n": 1e2}}', False),
    "plain": ("text/plain", PLACEHOLDER, False),
    "multipart": ("multipart/form-data; boundary=x", f"--x\r\n\r\n{PLACEHOLDER}\r\n--x--", False),
}


@pytest.mark.parametrize("name", BODIES)
def test_in_bodies(told: Proxy, api_server: ApiServer, name: str):
    """A form and JSON, with their new length; whatever holds none, and all other types, arrive as they were sent."""
    # SEC-178
    kind, body, is_replaced = BODIES[name]
    sent = body
    for placeholder, value in REPLACED.items() if is_replaced else ():
        sent = sent.replace(placeholder, value)
    with told.open(HOST, api_server.port) as wire_:
        lines = (f"Host: {HOST}:{api_server.port}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
        for _ in range(3):
            assert wire_.request("POST", "/", *lines, body=body.encode()).status == 200
        head = "".join(f"{line}\r\n" for line in ("POST / HTTP/1.1", *lines, ""))
        for piece in (head, body[:5], body[5:9], body[9:]):  # as it may come, too
            wire_.send(piece)
            time.sleep(0.05)
        assert wire_.answer("POST").status == 200
    assert [request.body.decode() for request in api_server.requests] == [sent] * 4
    assert [request.header("content-length") for request in api_server.requests] == [str(len(sent))] * 4


DOCUMENT = b'{"token": "%b"}' % PLACEHOLDER.encode()
LARGE = DOCUMENT.ljust(placeholders.LARGEST_BODY + 1)
STREAMED = {
    "chunks": ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(DOCUMENT), DOCUMENT)),
    "a coding": (f"Content-Encoding: x-own\r\nContent-Length: {len(DOCUMENT)}", DOCUMENT),
    "large": (f"Content-Length: {len(LARGE)}", LARGE),
}


@pytest.mark.parametrize("name", STREAMED)
def test_what_is_not_bounded_and_plain_streams_through(told: Proxy, api_server: ApiServer, name: str):
    """In chunks, in a coding, or larger than a MiB: the placeholder goes out as it is, and never the secret."""
    # SEC-165
    framing, body = STREAMED[name]
    with told.open(HOST, api_server.port) as wire_:
        host = f"Host: {HOST}:{api_server.port}"
        assert wire_.request("POST", "/", host, "Content-Type: application/json", framing, body=body).status == 200
    (request,) = api_server.requests
    assert request.length == len(LARGE if name == "large" else DOCUMENT)
    assert not holds_secrets(api_server)


def test_a_child_that_waits_to_be_asked_for_its_body_is_asked(told: Proxy, api_server: ApiServer):
    """`Expect: 100-continue`, with a body that is looked through."""
    # SEC-177
    body = json.dumps({"token": PLACEHOLDER})
    with told.open(HOST, api_server.port) as wire_:
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
        head = "".join(f"{line}\r\n" for line in ("POST / HTTP/1.1", f"Host: {HOST}:{api_server.port}", *lines, ""))
        for _ in range(2):
            assert wire_.send(head).answer("POST").status == 100
            assert wire_.send(body).answer("POST").status == 200
    assert [json.loads(request.body) for request in api_server.requests] == [{"token": TOKEN}] * 2


def test_a_refused_request_is_refused_before_its_body(told: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """Without a credential nothing is waited for, and nothing sent."""
    # SEC-162
    del daemon_fake.credentials[HOST]
    with told.open(HOST, api_server.port) as wire_:
        wire_.send(
            f"POST / HTTP/1.1\r\nHost: {HOST}:{api_server.port}\r\nContent-Type: application/json\r\n"
            "Content-Length: 1000\r\n\r\n"
        )
        assert wire_.answer("POST").status == 424
    assert api_server.requests == []


def test_a_child_that_goes_before_its_body_is_whole(runner: Runner, authority: Authority):
    """The server gets nothing of it, and the proxy goes on."""
    # SEC-173
    stand_in(runner.daemon)
    with (
        scripted(runner, authority, lambda connection, _: send(connection, OK)) as server,
        runner.proxy() as proxy,
    ):
        head = f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Type: application/json\r\n"
        with proxy.open(HOST, server.port) as wire_:
            wire_.send(f'{head}Content-Length: 100\r\n\r\n{{"token": "{PLACEHOLDER}"')
        with proxy.open(HOST, server.port) as wire_:
            assert wire_.request("GET", "/", f"Host: {HOST}:{server.port}").body == b"ok"
    assert [line.split()[0] for line in server.heads] == [b"GET"]


def test_a_server_that_ends_while_a_body_is_waited_for_is_dialled_anew(runner: Runner, authority: Authority):
    """Nothing was sent yet, so nothing can have arrived."""
    stand_in(runner.daemon)
    ended: list[bool] = []

    def answer(connection: wire.Connection, head: bytes) -> None:
        send(connection, OK)
        if head.startswith(b"GET"):
            connection.socket.shutdown(2)
            ended.append(True)

    body = json.dumps({"token": PLACEHOLDER})
    with (
        scripted(runner, authority, answer) as server,
        runner.proxy() as proxy,
        proxy.open(HOST, server.port) as wire_,
    ):
        host = f"Host: {HOST}:{server.port}"
        assert wire_.request("GET", "/", host).body == b"ok"
        assert eventually(lambda: ended)
        wire_.send(
            f"POST / HTTP/1.1\r\n{host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        assert wire_.send(body).answer("POST").body == b"ok"


def sha256(body: str) -> str:
    """A digest as RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}:"


def post(wire_: Wire, body: str, *lines: str) -> Answer:
    """Send a JSON."""
    there = (*lines, "Content-Type: application/json", f"Content-Length: {len(body)}")
    return wire_.request("POST", "/", *there, body=body.encode())


def test_a_digest_of_a_body_is_right_when_it_arrives(told: Proxy, api_server: ApiServer):
    """It was of the placeholder, and is of what is sent; a body without one keeps what it came with."""
    # SEC-178
    host = f"Host: {HOST}:{api_server.port}"
    bodies = [json.dumps({"token": value}) for value in (PLACEHOLDER, "none")]
    with told.open(HOST, api_server.port) as wire_:
        for body in bodies * 2:
            assert post(wire_, body, host, f"Content-Digest: {sha256(body)}").status == 200
    assert {request.header("content-digest") for request in api_server.requests[::2]} == {
        sha256(json.dumps({"token": TOKEN}))
    }
    assert {request.header("content-digest") for request in api_server.requests[1::2]} == {sha256(bodies[1])}
    for request in api_server.requests:
        assert request.header("content-digest") == sha256(request.body.decode())
        assert request.header("content-length") == str(len(request.body))


def test_a_signed_body_is_not_changed(told: Proxy, api_server: ApiServer):
    """A signature of a body with a placeholder would be wrong: the child is told, and nothing is sent of it."""
    # SEC-178
    host, signature = f"Host: {HOST}:{api_server.port}", "Signature: sig1=:YQ==:"
    bodies = [json.dumps({"token": value}) for value in ("none", PLACEHOLDER, "none")]
    with told.open(HOST, api_server.port) as wire_:
        answers = [post(wire_, body, host, signature) for body in bodies * 2]
    assert [answer.status for answer in answers] == [200, 400, 200] * 2
    refused = answers[1].json()
    assert refused["detail"] == "signature signs the body as it was before a placeholder in it was replaced"
    assert "in a header" in str(refused["hint"])
    assert [request.body.decode() for request in api_server.requests] == ["".join(bodies[:1])] * 4
    assert not holds_secrets(api_server)


NAMED = {"header": ["x-auth"], "query": ["token"], "form": ["token"], "path": ["/tokens/"]}


def test_where_a_definition_names_the_places(told: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """There, and in nothing that an API may show to others; request by request of a kept connection."""
    # SEC-163
    stand_in(daemon_fake, replaced_in=NAMED)
    host = f"Host: {HOST}:{api_server.port}"
    form, document = f"text={PLACEHOLDER}&token={PLACEHOLDER}", json.dumps({"token": PLACEHOLDER, "text": PLACEHOLDER})
    with told.open(HOST, api_server.port) as wire_:
        for _ in range(3):
            for kind, body in ((FORM, form), (JSON, document), (FORM, document)):
                lines = (host, f"X-Auth: {PLACEHOLDER}", f"X-Note: {PLACEHOLDER}", f"Content-Type: {kind}")
                target = f"/tokens/{BOT}/a/{BOT}?token={PLACEHOLDER}&q={PLACEHOLDER}"
                answer = wire_.request("POST", target, *lines, f"Content-Length: {len(body)}", body=body.encode())
                assert answer.status == 200
    assert {request.target for request in api_server.requests} == {
        f"/tokens/{BOT_TOKEN}/a/{BOT}?token={TOKEN}&q={PLACEHOLDER}"
    }
    shown = [(each.header("x-auth"), each.header("x-note"), each.body.decode()) for each in api_server.requests]
    assert (
        shown == [(TOKEN, PLACEHOLDER, body) for body in (f"text={PLACEHOLDER}&token={TOKEN}", document, document)] * 3
    )


def test_where_a_definition_names_none(told: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """Nothing is replaced, should there be placeholders all the same."""
    # SEC-163
    stand_in(daemon_fake, replaced_in={})
    with told.open(HOST, api_server.port) as wire_:
        assert put_everywhere(wire_, f"{HOST}:{api_server.port}") == 200
    assert not holds_secrets(api_server)


# ---- nowhere else ------------------------------------------------------------------------------------------

EVERYWHERE = (
    f"/bot{BOT}/x?key={PLACEHOLDER}",
    (f"X-Auth: {PLACEHOLDER}", f"Authorization: Bearer {PLACEHOLDER}", "Content-Type: application/json"),
    json.dumps({"token": PLACEHOLDER, "bot": BOT}).encode(),
)


def put_everywhere(wire_: Wire, host: str, *, url: str = "", lines: tuple[str, ...] = ()) -> int:
    """Send placeholders in every place there is."""
    target, fields, body = EVERYWHERE
    sent = (f"Host: {host}", *fields, *lines, f"Content-Length: {len(body)}")
    return wire_.request("POST", f"{url}{target}", *sent, body=body).status


def holds_secrets(server: ApiServer) -> bool:
    """Whether a server was sent any that a placeholder stands for."""
    got = b"".join(request.head + request.body for request in server.requests)
    return TOKEN.encode() in got or BOT_TOKEN.encode() in got


def test_never_to_another_host(told: Proxy, api_server: ApiServer, authority: Authority):
    """Through a tunnel, and to a host that lies about its name: the placeholder goes out as it is, or nothing does."""
    # SEC-151
    assert not api_server.requests
    with api.serve(leaf=authority.issue(OTHER_HOST)) as other:
        tunnel = told.tunnel(f"{OTHER_HOST}:{other.port}").secure(authority.client_context(), OTHER_HOST)
        with tunnel as wire_:
            assert put_everywhere(wire_, f"{OTHER_HOST}:{other.port}") == 200
        assert (other.requests[0].target, other.requests[0].body) == (EVERYWHERE[0], EVERYWHERE[2])
    with told.open(HOST, api_server.port) as wire_:
        assert put_everywhere(wire_, f"{OTHER_HOST}:{api_server.port}") == 421
    with suppress(ssl.SSLError, OSError), told.open(HOST, api_server.port, server_name=OTHER_HOST) as wire_:
        assert put_everywhere(wire_, f"{HOST}:{api_server.port}") == 421
    assert api_server.requests == []


def test_never_in_clear_text(told: Proxy):
    """To the same host over http, also where it was sent the secret over TLS before."""
    # SEC-152
    with api.serve() as plain, told.connect() as wire_:
        there = f"{HOST}:{plain.port}"
        assert put_everywhere(wire_, there, url=f"http://{there}", lines=(told.authorization,)) == 200
        assert (plain.requests[0].path, plain.requests[0].body) == (EVERYWHERE[0].partition("?")[0], EVERYWHERE[2])
        assert not holds_secrets(plain)


def test_never_to_a_server_that_proves_nothing(runner: Runner, rogue: Authority):
    """A certificate that does not verify: no byte of the request."""
    # SEC-158
    stand_in(runner.daemon)
    with api.serve(leaf=rogue.issue(HOST)) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        with runner.proxy() as proxy, proxy.open(HOST, server.port) as wire_:
            assert put_everywhere(wire_, f"{HOST}:{server.port}") == 502
        assert server.requests == []


def test_never_on_a_path_of_nobodys(runner: Runner):
    """On a host that is opened for other paths, a request without a route passes as it is."""
    # SEC-171
    stand_in(runner.daemon)
    runner.daemon.routes[0]["path_prefix"] = "/mine/"
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire_:
        assert put_everywhere(wire_, f"{HOST}:{runner.server.port}") == 200
    (request,) = runner.server.requests
    assert (request.target, request.body) == (EVERYWHERE[0], EVERYWHERE[2])
    assert not holds_secrets(runner.server)


def test_never_after_a_redirect(runner: Runner, authority: Authority):
    """The child asks the second host with what it has: a placeholder."""
    # SEC-153
    stand_in(runner.daemon)
    with api.serve(leaf=authority.issue(OTHER_HOST)) as other:
        to = quote(other.url(f"/there?key={PLACEHOLDER}", host=OTHER_HOST), safe="")
        url = runner.server.url(f"/redirect?status=307&to={to}", host=HOST)
        body = f"client_secret={PLACEHOLDER}"
        runner.output("curl", "-sS", "--fail", "-L", "-d", body, "-H", f"X-Auth: {PLACEHOLDER}", url)
        (request,) = other.requests
        assert (request.target, request.body) == (f"/there?key={PLACEHOLDER}", body.encode())
        assert not holds_secrets(other)


def test_an_echo_of_it_is_scrubbed(told: Proxy, api_server: ApiServer):
    """What was put in comes back as a placeholder of that length."""
    # SEC-163
    body = json.dumps({"token": PLACEHOLDER, "bot": BOT})
    with told.open(HOST, api_server.port) as wire_:
        lines = (f"Host: {HOST}:{api_server.port}", "Content-Type: application/json", f"Content-Length: {len(body)}")
        answer = wire_.request("POST", f"/bot{BOT}/me", *lines, body=body.encode())
    assert api_server.requests[0].target == f"/bot{BOT_TOKEN}/me"
    assert TOKEN.encode() not in answer.body
    assert BOT_TOKEN.encode() not in answer.body
    assert b"authsome-placeholder-" in answer.body


# ---- by real clients ---------------------------------------------------------------------------------------


@pytest.fixture
def clients(runner: Runner) -> Runner:
    """A runner whose children have placeholders that stand for something at `HOST`, where nothing is in a header."""
    credential = daemon_api.bearer(TOKEN, placeholders=PAIRS, secrets=[TOKEN, BOT_TOKEN], query=[["own", "1"]])
    runner.daemon.credentials[HOST] = {**credential, "set": []}
    runner.daemon.environment = {"EXAMPLE_API_KEY": PLACEHOLDER, "BOT_TOKEN": BOT}
    return runner


CURL = {
    "user": ("/x", "-u", f"me:{PLACEHOLDER}"),
    "header": ("/x", "-H", f"PRIVATE-TOKEN: {PLACEHOLDER}"),
    "data": ("/x", "-d", f"a=1&client_secret={PLACEHOLDER}"),
    "urlencode": ("/x", "--data-urlencode", f"t={BOT}"),
    "json": ("/x", "--json", f'{{"key": "{PLACEHOLDER}"}}'),
    "expect": ("/x", "--json", f'{{"key": "{PLACEHOLDER}"}}', "-H", "Expect: 100-continue"),
    "query": (f"/x?key={PLACEHOLDER}",),
    "bot": (f"/bot{BOT}/getMe",),
}
"""The path and the options."""
ARRIVES = {
    "user": "Authorization: Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode(),
    "header": f"PRIVATE-TOKEN: {TOKEN}",
    "data": f"a=1&client_secret={TOKEN}",
    "urlencode": "t=" + quote(BOT_TOKEN, safe=""),
    "json": f'{{"key": "{TOKEN}"}}',
    "expect": f'{{"key": "{TOKEN}"}}',
    "query": f"/x?key={TOKEN}&own=1 ",
    "bot": f"/bot{BOT_TOKEN}/getMe?own=1 ",
}
"""What the server is sent."""


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("name", CURL)
def test_curl(clients: Runner, name: str, version: str):
    """Curl, by each option that shows a credential."""
    # CLIENT curl
    path, *options = CURL[name]
    clients.output("curl", "-sS", "--fail", version, *options, clients.server.url(path, host=HOST))
    (request,) = clients.server.requests
    assert ARRIVES[name].lower() in (request.head + request.body).decode().lower()


REQUESTS = """
import os, sys, requests
key, bot, url = os.environ["EXAMPLE_API_KEY"], os.environ["BOT_TOKEN"], sys.argv[1].rstrip("/")
s = requests.Session()
for answer in (
    s.get(url + "/user", auth=("me", key)),
    s.get(url + "/query", params={"api_key": key, "q": "what is " + key}),
    s.post(url + "/form", data={"client_id": "a", "client_secret": key}),
    s.post(url + "/json", json={"api_key": key, "text": "my key is " + key}),
    s.post(url + "/bot" + bot + "/sendMessage", json={"chat_id": 1, "text": "hello"}),
    s.post(url + "/files", files={"file": b"content"}, data={"token": key}),
):
    answer.raise_for_status()
    assert "REAL" not in answer.text
"""


def test_requests(clients: Runner):
    """Python's requests: what shows a credential is filled, what speaks of one is not."""
    # CLIENT requests
    clients.output(clients.python, "-c", REQUESTS.replace("REAL", TOKEN), clients.server.url(host=HOST))
    user, query, form, document, bot, files = clients.server.requests
    assert user.header("authorization") == "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    assert query.target == f"/query?api_key={TOKEN}&q=what+is+{PLACEHOLDER}&own=1"
    assert form.body == f"client_id=a&client_secret={TOKEN}".encode()
    assert json.loads(document.body) == {"api_key": TOKEN, "text": f"my key is {PLACEHOLDER}"}
    assert bot.target == f"/bot{BOT_TOKEN}/sendMessage?own=1"
    assert PLACEHOLDER.encode() in files.body


HTTP2 = """
import base64, hashlib, os, sys, httpx
key, bot, url = os.environ["EXAMPLE_API_KEY"], os.environ["BOT_TOKEN"], sys.argv[1]
document = ('{"k":"%s","t":"a %s"}' % (key, key)).encode()
digest = "sha-256=:%s:" % base64.b64encode(hashlib.sha256(document).digest()).decode()
headers = {"x-auth": key, "content-type": "application/json", "content-digest": digest}
with httpx.Client(http1=False, http2=True) as client:
    for _ in range(2):
        client.post(url + "/bot" + bot + "/x", params={"k": key}, headers=headers, content=document)
    print(client.post(url, headers={**headers, "signature": "s=:YQ==:"}, content=document).status_code)
    print(client.post(url + "/plain", content=key, headers={"content-type": "text/plain"}).http_version)
"""


def test_http2(clients: Runner, authority: Authority):
    """Over HTTP/2 on both sides, with whichever engine: the same places, new length and digest, a refusal."""
    with h2_server.serve(authority.issue(HOST)) as server:
        clients.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        out = clients.output(clients.python, "-c", HTTP2, f"https://{HOST}:{server.port}")
    assert out == b"400\nHTTP/2\n"
    body = f'{{"k":"{TOKEN}","t":"a {PLACEHOLDER}"}}'
    wanted = len(body)
    for request in server.requests[:2]:
        assert isinstance(request["headers"], list)
        headers = dict(request["headers"])
        assert headers[":path"] == f"/bot{BOT_TOKEN}/x?k={TOKEN}&own=1"
        assert (headers["x-auth"], headers["content-length"], request["length"]) == (TOKEN, str(wanted), wanted)
        assert headers["content-digest"] == sha256(body)
    assert server.requests[2]["length"] == len(PLACEHOLDER)
