"""The tests' own tools do what the tests rely on: a fake that is too kind would let anything pass."""

import base64
import hashlib
import http.client
import importlib.util
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from authsome.models.provider import parse_definition
from browser import chromium
from conftest import LONGEST
from fakes import api, endpoint, network, nginx, oidc, ports, terminal
from fakes import program as programs
from fakes.patience import eventually, is_running

ROOT: Final = Path(__file__).resolve().parents[1]
CALLBACK: Final = "http://127.0.0.1:7998/auth/callback/oauth"
VERIFIER: Final = "a-code-verifier-of-more-than-forty-three-characters"


# ---- the runner --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runner():
    """tests/__main__.py as a module."""
    spec = importlib.util.spec_from_file_location("runner", ROOT / "tests" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["runner"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["runner"]


@pytest.mark.parametrize(
    ("arguments", "only", "rest"),
    [
        ([], ("format", "lint", "types", "tests", "archive"), ()),
        (["--only", "lint,types"], ("lint", "types"), ()),
        (["-k", "refresh and not slow"], ("tests",), ("-k", "refresh and not slow")),
        (["tests/oauth", "-x"], ("tests",), ("tests/oauth", "-x")),
        (["--only", "lint,tests", "-k", "x"], ("lint", "tests"), ("-k", "x")),
    ],
)
def test_runner_arguments(runner, arguments, only, rest):
    """Without arguments everything runs; what is not the runner's own goes to pytest."""
    options = runner.parse(arguments)
    assert set(options.only) == set(only)
    assert options.pytest == rest


def test_runner_status(runner, capsys):
    """The run ends with 0 only if something ran and nothing failed, and says so in a last line that CI can read."""
    outcome = runner.Outcome
    assert runner.summary([outcome("lint", 1, 1, 0), outcome("tests", 1, 40, 0)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "41 passed, 0 failed"
    assert runner.summary([outcome("lint", 1, 1, 0), outcome("tests", 1, 39, 1)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "40 passed, 1 failed"
    assert runner.summary([]) == 1


def test_requirements_agree():
    """What the tests install beside requirements.lock never replaces what that pins."""

    def pins(path: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, version in re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", (ROOT / path).read_text()):
            found.setdefault(name, set()).add(version)
        return found

    product, tests = pins("requirements.lock"), pins("tests/requirements.txt")
    assert {name: (product[name], tests[name]) for name in product.keys() & tests if product[name] != tests[name]} == {}


def test_environment_is_scrubbed():
    """No test sees the developer's home, proxy, certificates or Authsome settings."""
    leaks = [
        name
        for name in os.environ
        if re.search(r"(?i)^AUTHSOME_|_PROXY$|CERT|CA_BUNDLE|CA_?INFO|^PIP_|^NPM_|^XDG_|TOKEN|SECRET|_KEY$", name)
    ]
    assert leaks == []
    assert Path.home().name.startswith("home-of-tests-")


def test_what_takes_longest_begins_first():
    """A run ends when its last file does; the others stay in the order of their names."""
    assert all((ROOT / "tests" / name).is_file() for name in LONGEST)
    files = ("crash/test_refresh.py", "crash/test_registering.py", "crash/test_rekeying.py", "identity/test_did.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *files],
        cwd=ROOT / "tests",
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    collected = dict.fromkeys(line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line)
    order = (2, 0, 1, 3)
    assert list(collected) == [f"tests/{files[number]}" for number in order]


LEAVES_OPEN: Final = """
import socket
import pytest

@pytest.fixture(scope="module")
def owner():
    class Owner:
        pair = socket.socketpair()
    return Owner  # a class refers to itself: only the collector finds it

def test_that_it_is_there(owner):
    assert owner.pair
"""


def test_a_module_that_leaves_something_open_fails_itself(tmp_path):
    """Not whichever comes after it."""
    (tmp_path / "test_leaves.py").write_text(LEAVES_OPEN)
    (tmp_path / "test_later.py").write_text("def test_nothing():\n    pass\n")
    options = ("-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, "-p", "conftest", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_leaves.py", "test_later.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert [line.split()[1] for line in lines if line.startswith("ERROR")] == ["test_leaves.py::test_that_it_is_there"]
    assert "2 passed, 1 error" in lines[-1]


# ---- certificates ------------------------------------------------------------------------------------------


def handshake(port: int, host: str, trust: ssl.SSLContext) -> str | None:
    """Shake hands as a client; the reason why it refused, or None."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            trust.wrap_socket(plain, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def test_certificates(authority, rogue):
    """A leaf is good for its own names, while it is valid, to those who trust its issuer: and to nobody else."""
    cases = [
        (authority.issue("api.example.localhost", "127.0.0.1"), "api.example.localhost", None),
        (authority.issue("api.example.localhost", "127.0.0.1"), "127.0.0.1", None),
        (authority.issue("*.example.localhost"), "api.example.localhost", None),
        (authority.issue("other.example.localhost"), "api.example.localhost", "Hostname mismatch"),
        (authority.issue("api.example.localhost", expired=True), "api.example.localhost", "expired"),
        (rogue.issue("api.example.localhost"), "api.example.localhost", "self-signed"),
    ]
    for leaf, host, refusal in cases:
        with api.serve(leaf=leaf) as server:
            said = handshake(server.port, host, authority.client_context())
            assert (refusal in said) if refusal and said else said == refusal
            assert server.requests == []


# ---- the API server ----------------------------------------------------------------------------------------


def test_api_records_requests_as_they_came(plain_api_server):
    """Order, spelling and doubles of headers, the target and the body are on record byte for byte."""
    head = (
        b"POST /a//b?x=1&x=2 HTTP/1.1\r\nhost: h\r\nX-One:  1\r\nx-one: 2\r\nContent-Length: 3\r\nConnection: close\r\n"
    )
    with socket.create_connection(("127.0.0.1", plain_api_server.port)) as client, client.makefile("rb") as answer:
        client.sendall(head + b"\r\nabc")
        body = answer.read().partition(b"\r\n\r\n")[2]
    (request,) = plain_api_server.requests
    assert request.head == head
    assert request.target == "/a//b?x=1&x=2"
    assert request.all("X-One") == ("1", "2")
    assert request.body == b"abc"
    assert json.loads(body)["headers"][1:3] == [["X-One", "1"], ["x-one", "2"]]


def test_api_answers(api_server, authority, tmp_path):
    """Each path answers what its line in the module's docstring says."""
    (tmp_path / "file.txt").write_bytes(b"a file")
    api_server.files = tmp_path
    api_server.protected["/files/"] = ("authorization", "Bearer right")
    api_server.answers["/made"] = api.Answer(status=202, headers=(("X-Made", "1"),), body=b"made")
    with httpx.Client(verify=authority.client_context(), base_url=api_server.url()) as client:
        assert client.get("/status/418").status_code == 418
        assert client.get("/redirect?to=/elsewhere").headers["location"] == "/elsewhere"
        assert client.get("/download?bytes=100000").content == b"".join(api.pattern(100_000))
        assert client.get("/download?bytes=100000&chunked=1").content == b"".join(api.pattern(100_000))
        assert client.get("/gzip").headers["content-encoding"] == "gzip"
        assert client.get("/gzip").json()["target"] == "/gzip"
        assert client.head("/x").content == b""
        assert client.get("/made").text == "made"
        assert client.get("/files/file.txt").status_code == 401
        assert client.get("/files/file.txt", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/files/file.txt", headers={"Authorization": "Bearer right"}).text == "a file"
        upload = client.post("/any", content=iter([b"a" * 70_000, b"b" * 70_000])).json()
        assert upload["sha256"] == hashlib.sha256(b"a" * 70_000 + b"b" * 70_000).hexdigest()
        events = [line for line in client.get("/sse?events=3&interval=0.01").iter_lines() if line]
        assert [json.loads(line.removeprefix("data: "))["event"] for line in events] == [0, 1, 2]
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/cut?bytes=10")
    assert api_server.to("/any")[0].length == 140_000


# ---- the hostile endpoint ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", endpoint.SCRIPTS)
def test_every_script_plays(name):
    """A script sends what it has to a client that reads on, and ends when the test does; the request is recorded."""
    with endpoint.serve(endpoint.SCRIPTS[name]) as server:
        silent = name in {"nothing", "hang"}
        with socket.create_connection(("127.0.0.1", server.port), timeout=2 if silent else 30) as client:
            body = "grant_type=refresh_token&refresh_token=r"
            client.sendall(f"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            blocks = [b"first"]
            with suppress(TimeoutError):
                while blocks[-1] and len(blocks) < 5:
                    blocks.append(client.recv(65536))
        (request,) = server.requests
        assert request.form == {"grant_type": "refresh_token", "refresh_token": "r"}
        assert bool(b"".join(blocks[1:])) is not silent


def test_token_answers(hostile):
    """The endpoint answers good tokens until the test sets another script."""
    good = httpx.post(hostile.url(), data={"a": "b"}, trust_env=False).json()
    assert good == {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 3600}
    hostile.script = endpoint.tokens(access_token="another")
    assert httpx.post(hostile.url(), trust_env=False).json()["access_token"] == "another"
    hostile.script = endpoint.redirect("http://127.0.0.1:1/", 308)
    assert httpx.post(hostile.url(), trust_env=False).status_code == 308


# ---- nginx -------------------------------------------------------------------------------------------------


def test_nginx(authority, tmp_path):
    """The server answers by TLS 1.3 with the certificate it was given."""
    leaf = authority.issue("api.example.localhost", "127.0.0.1")
    with (
        nginx.serve(tmp_path, leaf) as port,
        socket.create_connection(("127.0.0.1", port)) as plain,
        authority.client_context().wrap_socket(plain, server_hostname="api.example.localhost") as client,
    ):
        assert client.version() == "TLSv1.3"
        client.sendall(b"GET /json HTTP/1.1\r\nHost: api.example.localhost\r\nConnection: close\r\n\r\n")
        assert client.makefile("rb").read().endswith(nginx.JSON.encode())


def test_a_machine_beside_this_one(authority, tmp_path):
    """It reaches nginx here by a name of its own, which passes on what is for one name alone; then all is gone."""
    leaf = authority.issue("vault.example.test", "api.example.test")
    with (
        network.beside(["vault.example.test", "api.example.test", "other.example.test"]) as cable,
        api.serve() as server,
    ):
        upstream = f"127.0.0.1:{server.port}"
        with nginx.forward(
            tmp_path, leaf, address=cable.here, name="vault.example.test", upstream=upstream, apis=["api.example.test"]
        ) as credentials:

            def ask(name: str) -> str:
                command = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: x"]
                line = cable.command(*command, f"https://{name}/")
                return subprocess.run(line, capture_output=True, text=True, check=True).stdout

            assert [ask(f"{name}.example.test") for name in ("vault", "api", "other")] == ["200", "200", "421"]
            (request,) = server.requests
            assert (request.header("host"), request.header("x-forwarded-for")) == ("vault.example.test", cable.there)
            assert credentials.read_text() == "x\n"
    assert cable.namespace not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert not (Path("/etc/netns") / cable.namespace).exists()


# ---- the OAuth server --------------------------------------------------------------------------------------


def authorization(server: oidc.OidcServer, client: oidc.Client, **changes: str | None) -> str:
    """An authorization request's URL."""
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    parameters = {
        "client_id": client.id,
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "openid offline_access",
        "state": "a-state",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        **changes,
    }
    query = urllib.parse.urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{server.authorization_url}?{query}"


def ask_token(server, trust, client, **form: str) -> httpx.Response:
    """A token request, the client authenticated by its own method."""
    headers = {}
    if client.method == "client_secret_basic":
        pair = ":".join(urllib.parse.quote_plus(text) for text in (client.id, client.secret))
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form["client_id"] = client.id
    if client.method == "client_secret_post":
        form["client_secret"] = client.secret
    with httpx.Client(verify=trust, trust_env=False, timeout=20) as http_client:
        return http_client.post(server.token_url, data=form, headers=headers)


def callback_query(url: str) -> dict[str, str]:
    """The callback's parameters."""
    assert url.startswith(f"{CALLBACK}?")
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def log_in(server, trust, client) -> dict[str, object]:
    """A whole login; the token answer."""
    code = callback_query(server.approve(authorization(server, client)))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    answer = ask_token(server, trust, client, **form)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module", params=["http", "https"])
def oauth(request, authority):
    """A server by both schemes, and the context that trusts it."""
    leaf = authority.issue("127.0.0.1") if request.param == "https" else None
    trust = authority.client_context()
    with oidc.serve(redirect_uris=[CALLBACK], leaf=leaf, trust=trust) as server:
        yield server, trust


@pytest.mark.parametrize("client", [oidc.PUBLIC, oidc.BASIC, oidc.POST], ids=lambda client: client.method)
def test_oauth_login(oauth, client):
    """Every kind of client logs in, gets tokens that the API takes, and refreshes; each request is on record."""
    server, trust = oauth
    server.clear_log()
    tokens = log_in(server, trust, client)
    with httpx.Client(verify=trust, trust_env=False) as http_client:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert http_client.get(server.api_url, headers=headers).json()["login"] == "octocat"
        assert http_client.get(server.api_url, headers={"Authorization": "Bearer wrong"}).status_code == 401
    again = ask_token(server, trust, client, grant_type="refresh_token", refresh_token=tokens["refresh_token"]).json()
    assert again["refresh_token"] != tokens["refresh_token"]
    (recorded,) = server.token_requests("refresh_token")
    assert recorded.form["refresh_token"] == tokens["refresh_token"]
    assert recorded.answer["refresh_token"] == again["refresh_token"]
    assert recorded.status == 200


def test_oauth_server_is_strict(oauth):
    """What a careless client does wrong is refused: no PKCE, a wrong verifier, secret, redirect URI; a spent token."""
    server, trust = oauth
    callback = callback_query(server.approve(authorization(server, oidc.POST)))
    assert callback["state"] == "a-state"
    assert callback["iss"] == server.issuer
    form = {"grant_type": "authorization_code", "code": callback["code"], "redirect_uri": CALLBACK}
    wrong = ask_token(server, trust, oidc.POST, **form, code_verifier=VERIFIER[::-1])
    assert wrong.json()["error"] == "invalid_grant"
    stranger = oidc.Client(id="post", method="client_secret_post", secret="wrong")
    assert ask_token(server, trust, stranger, **form).json()["error"] == "invalid_client"
    without = authorization(server, oidc.PUBLIC, code_challenge=None, code_challenge_method=None)
    assert callback_query(server.approve(without))["error"] == "invalid_request"
    with pytest.raises(AssertionError, match="redirect_uri"):
        server.approve(authorization(server, oidc.PUBLIC, redirect_uri=CALLBACK.replace("127.0.0.1", "localhost")))
    assert (
        callback_query(server.approve(authorization(server, oidc.PUBLIC), decision="deny"))["error"] == "access_denied"
    )


def test_oauth_reuse_of_a_refresh_token_ends_the_login(oauth):
    """A spent refresh token kills the whole grant, the newer token too: a client that refreshes twice loses."""
    server, trust = oauth
    first = log_in(server, trust, oidc.PUBLIC)["refresh_token"]
    refresh = {"grant_type": "refresh_token"}
    second = ask_token(server, trust, oidc.PUBLIC, **refresh, refresh_token=first).json()["refresh_token"]
    assert ask_token(server, trust, oidc.PUBLIC, **refresh, refresh_token=first).json()["error"] == "invalid_grant"
    assert ask_token(server, trust, oidc.PUBLIC, **refresh, refresh_token=second).json()["error"] == "invalid_grant"


def test_oauth_plans(oauth):
    """A planned failure happens once, in order, and is on record; then the server behaves again."""
    server, trust = oauth
    refresh_token = log_in(server, trust, oidc.PUBLIC)["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    server.clear_log()
    server.plan("/token", status=503, body="<h1>busy</h1>", headers={"retry-after": "7", "content-type": "text/html"})
    server.plan_error("invalid_scope")
    server.plan("/token", drop="before")
    busy = ask_token(server, trust, oidc.PUBLIC, **form)
    assert (busy.status_code, busy.headers["retry-after"], busy.text) == (503, "7", "<h1>busy</h1>")
    assert ask_token(server, trust, oidc.PUBLIC, **form).json()["error"] == "invalid_scope"
    with pytest.raises(httpx.HTTPError):
        ask_token(server, trust, oidc.PUBLIC, **form)
    assert ask_token(server, trust, oidc.PUBLIC, **form).status_code == 200
    assert [entry.status for entry in server.token_requests()] == [503, 400, None, 200]


def test_oauth_answer_that_never_arrives(oauth):
    """`drop="after"`: the token is spent, and the client never hears of it."""
    server, trust = oauth
    form = {"grant_type": "refresh_token", "refresh_token": log_in(server, trust, oidc.PUBLIC)["refresh_token"]}
    server.plan("/token", drop="after")
    with pytest.raises(httpx.HTTPError):
        ask_token(server, trust, oidc.PUBLIC, **form)
    assert ask_token(server, trust, oidc.PUBLIC, **form).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("hold", ["before", "after"])
def test_oauth_held_requests(oauth, hold):
    """A held request waits until it is released, however long the test takes."""
    server, trust = oauth
    form = {"grant_type": "refresh_token", "refresh_token": log_in(server, trust, oidc.PUBLIC)["refresh_token"]}
    server.plan("/token", hold=hold)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask_token(server, trust, oidc.PUBLIC, **form)))
    thread.start()
    server.wait_held()
    assert answers == []
    server.release()
    thread.join(60)
    assert [answer.status_code for answer in answers] == [200]


def test_oauth_metadata_and_registration(oauth):
    """Metadata names the endpoints that `OidcServer` names, and a client can register itself (RFC 8414, 7591)."""
    server, trust = oauth
    with httpx.Client(verify=trust, trust_env=False) as client:
        metadata = client.get(f"{server.issuer}/.well-known/openid-configuration").json()
        assert metadata["issuer"] == server.issuer
        assert metadata["authorization_endpoint"] == server.authorization_url
        assert metadata["token_endpoint"] == server.token_url
        assert metadata["registration_endpoint"] == server.registration_endpoint
        assert metadata["revocation_endpoint"] == server.revocation_url
        assert metadata["introspection_endpoint"] == server.introspection_url
        assert metadata["device_authorization_endpoint"] == server.device_authorization_url
        assert metadata["code_challenge_methods_supported"] == ["S256"]
        wanted = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", "client_name": "Test"}
        registered = client.post(server.registration_endpoint, json=wanted)
        assert registered.status_code == 201
        device = client.post(server.device_authorization_url, data={"client_id": "public", "scope": "openid"}).json()
        assert device["user_code"]
    me = oidc.Client(id=registered.json()["client_id"], method="none")
    assert callback_query(server.approve(authorization(server, me, scope="openid")))["code"]


@pytest.mark.parametrize("client", [oidc.PUBLIC, oidc.BASIC, oidc.POST], ids=lambda client: client.method)
def test_oauth_definition(oauth, client):
    """The provider definition that the server hands out is one that the product takes."""
    server, _ = oauth
    provider = parse_definition(server.definition("acme", client=client), source="acme.json")
    assert provider.oauth is not None
    assert provider.oauth.token_url == server.token_url


def test_oauth_settings(authority):
    """Short-lived tokens, no rotation, no refresh tokens, other scopes: as the test asks."""
    trust = authority.client_context()
    with oidc.serve(redirect_uris=[CALLBACK], access_token_ttl=3, rotate=False, granted_scope="openid") as server:
        tokens = log_in(server, trust, oidc.PUBLIC)
        assert tokens["expires_in"] == 3
        assert tokens["scope"] == "openid"
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        assert ask_token(server, trust, oidc.PUBLIC, **form).json()["refresh_token"] == tokens["refresh_token"]
        server.lifetime(60)
        assert ask_token(server, trust, oidc.PUBLIC, **form).json()["expires_in"] == 60
    with oidc.serve(redirect_uris=[CALLBACK], refresh_tokens=False) as server:
        assert "refresh_token" not in log_in(server, trust, oidc.PUBLIC)


def test_oauth_server_ends_with_its_block():
    """Nothing listens any more when the block has ended."""
    with oidc.serve(redirect_uris=[CALLBACK]) as server:
        port = urllib.parse.urlsplit(server.issuer).port
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        connection.request("GET", "/")


# ---- ports and waiting -------------------------------------------------------------------------------------


def test_ports_are_nobody_elses():
    """The kernel hands out none of them, none comes twice soon, and another process of the tests has others."""
    low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ours = {ports.free_port() for _ in range(100)}
    assert len(ours) == 100
    assert not any(low <= port <= high for port in ours) or (low, high) == (1024, 65535)
    code = "from fakes.ports import free_port; print(*(free_port() for _ in range(100)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True, check=True)
    assert ours.isdisjoint(map(int, done.stdout.split()))
    with socket.create_server(("127.0.0.1", min(ours))):
        assert min(ours) not in {ports.free_port() for _ in range(300)}


def test_a_process_runs_until_its_last_thread_has_ended():
    """Its first one may be gone long before, and its sockets with none but the last."""
    code = (
        "import ctypes, os, sys, threading\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()\n"
        "print('ready', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert eventually(lambda: " Z " in Path(f"/proc/{process.pid}/stat").read_text())
        assert is_running(process.pid)
        process.stdin.close()
        assert eventually(lambda: not is_running(process.pid))  # though nobody has waited for it yet
        assert process.wait() == 0
    assert not is_running(process.pid)


# ---- terminal and program ----------------------------------------------------------------------------------


BARE: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@contextmanager
def python(code: str):
    """A Python program on a terminal."""
    with terminal.spawn([sys.executable, "-c", code], environment=BARE) as running:
        yield running


def test_terminal_prompts():
    """A prompt that hides what is typed is seen to, and the answer arrives."""
    code = "import getpass; key = getpass.getpass('Key: '); name = input('Name: '); print(len(key), name.upper())"
    with python(code) as running:
        running.expect("Key: ")
        assert not running.echoes()
        running.send_line("correct horse")
        running.expect("Name: ")
        assert running.echoes()
        running.send_line("octocat")
        assert running.expect(r"(\d+) OCTOCAT")[1] == "13"
        assert running.wait() == 0
        assert "correct horse" not in running.transcript


def test_terminal_signals():
    """Ctrl-C is SIGINT to the foreground process, a resize SIGWINCH, and the exit status is the program's."""
    code = (
        "import signal, os, time\n"
        "signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b'size %d\\n' % os.get_terminal_size().columns))\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    raise SystemExit(7)"
    )
    with python(code) as running:
        running.expect("ready")
        running.resize(20, 55)
        running.expect("size 55")
        running.interrupt()
        assert running.wait() == 7


def test_terminal_says_what_it_shows():
    """A text that does not come fails with what came instead."""
    with python("print('something else')") as running, pytest.raises(AssertionError, match="something else"):
        running.expect("Key: ")


SHOW: Final = (
    "import json, os, sys; "
    "print(json.dumps({'args': sys.argv[1:], 'env': dict(os.environ), 'stdin': sys.stdin.read(), 'cwd': os.getcwd()}))"
)


def test_program_environment(tmp_path):
    """The program sees its own home and nothing of the tests' environment; a test may add and take away."""
    command = [sys.executable, "-c", SHOW]
    with programs.installed(tmp_path / "user", command=command, variables={"AUTHSOME_LOG_LEVEL": "debug"}) as program:
        seen = json.loads(program("list", "-v", input="typed", env={"EXTRA": "1", "BROWSER": None}).stdout)
    environment = seen["env"]
    assert seen["args"] == ["list", "-v"]
    assert seen["stdin"] == "typed"
    assert environment["AUTHSOME_HOME"] == str(program.home)
    assert environment["AUTHSOME_PORT"] == str(program.port)
    assert environment["AUTHSOME_LOG_LEVEL"] == "debug"
    assert environment["EXTRA"] == "1"
    assert environment["HTTPS_PROXY"] == programs.NOWHERE
    names = {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "AUTHSOME_HOME",
        "AUTHSOME_PORT",
        "AUTHSOME_LOG_LEVEL",
        "HTTPS_PROXY",
        "EXTRA",
    }
    assert environment.keys() - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == names
    assert not program.home.exists()


def test_program_browser(tmp_path):
    """What the program opens in a browser is written down, whole."""
    code = "import webbrowser, sys; sys.exit(not webbrowser.open(sys.argv[1]))"
    url = "http://127.0.0.1:7998/a?b=c&d=$e;f='g'"
    with programs.installed(tmp_path / "user", command=[sys.executable, "-c", code]) as program:
        assert program.opened == []
        assert program(url).returncode == 0
        assert program.wait_opened() == url


def test_program_leaves_no_process(tmp_path):
    """A process that outlives the block is found, ended, and fails the test that left it."""
    code = (
        "import subprocess, sys\n"
        "if sys.argv[1:] != ['daemon', 'stop']:\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True,\n"
        "        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    )
    block = programs.installed(tmp_path / "user", command=[sys.executable, "-c", code], patience=0.2)
    program = block.__enter__()
    program("login")
    assert len(program.processes()) == 1
    with pytest.raises(AssertionError, match="left after `daemon stop`"):
        block.__exit__(None, None, None)
    assert program.wait_gone() == {}


# ---- the browser -------------------------------------------------------------------------------------------


def html(body: str, *headers: tuple[str, str]) -> api.Answer:
    """A page."""
    document = f"<!doctype html><html lang=en><meta charset=utf-8><title>A page</title><body>{body}</body></html>"
    return api.Answer(headers=(("Content-Type", "text/html"), *headers), body=document.encode())


def test_browser_logs_in(page, authority, plain_api_server):
    """A user's way through a login by OAuth: type, click, and arrive at the callback."""
    callback = plain_api_server.url("/callback")
    with oidc.serve(redirect_uris=[callback], leaf=authority.issue("127.0.0.1")) as server:
        page.open(authorization(server, oidc.PUBLIC, redirect_uri=callback))
        for login in ("octocat", "hubot"):  # the second replaces the first
            page.fill("#login", login)
            assert page.value("#login") == login
        page.click("#allow")
        page.wait_for_url(f"{callback}?code=")
    assert plain_api_server.to("/callback")[0].query["state"] == "a-state"


def test_browser_sees_what_a_page_does(page, plain_api_server):
    """Dialogs, console messages, exceptions, cookies and requests are on record."""
    script = "<script>alert('hello'); console.log('said', 1); throw new Error('thrown')</script><p>shown"
    plain_api_server.answers["/"] = html(script, ("Set-Cookie", "a=b; HttpOnly; SameSite=Strict"))
    page.open(plain_api_server.url())
    assert page.title == "A page"
    assert page.text() == "shown"
    assert eventually(lambda: page.dialogs == ["hello"])
    assert eventually(lambda: "log: said 1" in page.console)
    assert eventually(lambda: any("Error: thrown" in line for line in page.console))
    (cookie,) = page.cookies()
    assert (cookie["name"], cookie["value"], cookie["httpOnly"], cookie["sameSite"]) == ("a", "b", True, "Strict")
    assert page.requests[0].url == plain_api_server.url()


def test_browser_sees_violations(page, plain_api_server):
    """What a content security policy blocks is on record; a page that keeps to it has none."""
    policy = ("Content-Security-Policy", "default-src 'none'; style-src 'self'")
    blocked = "<script>alert(1)</script><p style='color: red'>x<img src=/picture.png>"
    plain_api_server.answers["/bad"] = html(blocked, policy)
    plain_api_server.answers["/good"] = html("<p>x", policy)
    page.open(plain_api_server.url("/bad"))
    blocked_by = {"script-src-elem", "style-src-attr", "img-src"}
    assert eventually(lambda: {line.partition(":")[0] for line in page.violations} == blocked_by), page.violations
    assert page.dialogs == []


MOVES: Final = """
<p onclick="this.textContent = 'pressed'">not pressed</p><button onclick="this.textContent = 'pressed'">x</button>
<script>
const [other, button] = document.body.children;
other.style = button.style = "display: block; width: 100px; height: 50px";
const where = button.getBoundingClientRect;
button.getBoundingClientRect = () => {
  const place = where.call(button);
  button.after(other);
  delete button.getBoundingClientRect;
  return place;
};
</script>
"""
"""A page that moves its button to elsewhere, and something else to there, once somebody has looked where it is."""


def test_browser_presses_what_has_moved(page, plain_api_server):
    """What a live page moves between the look and the press is pressed where it is then, and what came there is not."""
    plain_api_server.answers["/"] = html(MOVES)
    page.open(plain_api_server.url())
    page.click("button")
    page.wait_until("document.querySelector('button').textContent === 'pressed'")
    assert page.text("p") == "not pressed"


@pytest.mark.parametrize("doctype", ["", "<!doctype html>"])
@pytest.mark.parametrize(
    "element", ["<button>x</button>", "<label>x</label>", "<a href=#x>x</a>", "<span>x</span>", "<input type=submit>"]
)
def test_browser_presses_whatever_the_page(page, plain_api_server, doctype, element):
    """A press is known as one on every page, also on one without a doctype, and no script is needed for that."""
    body = f"{doctype}<body onclick='document.title += event.target.localName'>{element}"
    plain_api_server.answers["/"] = api.Answer(headers=(("Content-Type", "text/html"),), body=body.encode())
    page.open(plain_api_server.url())
    tag = re.split(r"\W", element)[1]
    page.click(tag)
    assert page.title == tag
    page.disable_javascript()
    page.open(plain_api_server.url())
    page.click(tag)
    assert page.title == ""


def test_browser_does_not_press_through_what_lies_above(page, plain_api_server):
    """What a user cannot reach is not pressed, and the failure shows the page."""
    above = "<div style='position: fixed; inset: 0'>above</div>"
    plain_api_server.answers["/"] = html(f"<button onclick=\"document.title = 'pressed'\">x</button>{above}")
    page.open(plain_api_server.url())
    with pytest.raises(chromium.BrowserError, match=r"button cannot be pressed; the page shows:\nx\nabove"):
        page.click("button", seconds=0.2)
    assert page.title == "A page"


def test_browser_without_javascript(page, plain_api_server):
    """With scripts disabled a page is what its HTML says."""
    plain_api_server.answers["/"] = html("<p>before<script>document.body.textContent = 'after'</script>")
    page.open(plain_api_server.url())
    assert page.text() == "after"
    page.disable_javascript()
    page.open(plain_api_server.url())
    assert page.text() == "before"


def test_browser_profiles_are_apart(chromium_browser, plain_api_server):
    """Another profile is another user's browser: no cookie of one is in the other."""
    plain_api_server.answers["/"] = html("x", ("Set-Cookie", "a=b"))
    with chromium_browser.profile() as one, chromium_browser.profile() as other:
        first, second = one.new_page(), other.new_page()
        first.open(plain_api_server.url())
        assert [cookie["name"] for cookie in first.cookies()] == ["a"]
        assert second.cookies() == []


def test_browser_stays_on_this_machine(page):
    """No name outside this machine resolves."""
    with pytest.raises(chromium.BrowserError, match="ERR_NAME_NOT_RESOLVED"):
        page.open("http://www.example.com/")


def test_browser_trusts_the_tests_authority_only(page, authority, rogue):
    """TLS by the tests' authority is good, a rogue's is not."""
    for issuer, good in ((authority, True), (rogue, False)):
        with api.serve(leaf=issuer.issue("api.example.localhost")) as server:
            server.answers["/"] = html("<p>reached")
            if good:
                page.open(server.url(host="api.example.localhost"))
                assert page.text() == "reached"
            else:
                with pytest.raises(chromium.BrowserError, match="ERR_CERT_AUTHORITY_INVALID"):
                    page.open(server.url(host="api.example.localhost"))


def test_browser_takes_pictures(page, plain_api_server, tmp_path):
    """A screenshot is a PNG as wide as asked for."""
    plain_api_server.answers["/"] = html("<p>shown")
    page.open(plain_api_server.url())
    picture = page.screenshot(tmp_path / "page.png", width=400).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20]) == 400


def test_a_launched_browser_may_know_more_hosts(tmp_path, plain_api_server):
    """A test of DNS rebinding maps a foreign name to this machine."""
    plain_api_server.answers["/"] = html("<p>rebound")
    with (
        chromium.launch(tmp_path, hosts={"evil.test": "127.0.0.1"}) as browser,
        browser.profile() as profile,
    ):
        page = profile.new_page()
        page.open(plain_api_server.url(host="evil.test"))
        assert page.text() == "rebound"


def test_runner_refuses_unknown_checks():
    """A check that does not exist is a usage error before anything is set up."""
    command = [sys.executable, str(ROOT / "tests"), "--only", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "no check is named nonsense" in done.stderr
