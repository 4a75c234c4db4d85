"""The engine over its bare socket: who is served, what is opened, what is injected and what never is."""

import json
import socket
import ssl
import sys
from pathlib import Path

import pytest

from fakes import api, daemon_api
from fakes.api import ApiServer
from fakes.authority import Authority
from fakes.daemon_api import DaemonApi, Problem
from proxy.conftest import ENGINES
from proxy.support import HOST, OTHER_HOST, PLACEHOLDER, TOKEN, Answer, Proxy, Runner, eventually

ECHO = "/echo"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both engines."""
    name: str = request.param
    return name


def sent(server: ApiServer) -> bytes:
    """Everything that a server was sent, for canaries."""
    return b"".join(request.head + request.body for request in server.requests)


# ---- who is served -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "Proxy-Authorization: Basic",
        "Proxy-Authorization: Basic bm90OnRoZSBydW4=",
        "Proxy-Authorization: Bearer bm90OnRoZSBydW4=",
        "Authorization: {right}",
        "Proxy-Authorization: {right}x",
        "Proxy-Authorization: {right}\r\nProxy-Authorization: {right}",
    ],
)
@pytest.mark.parametrize("is_connect", [True, False])
def test_nobody_but_the_child_is_served(proxy: Proxy, fresh_server: ApiServer, credential, is_connect):
    """Without exactly the run's credential there is a 407 that asks for it, and nothing is dialled."""
    # SEC-149
    right = proxy.authorization.partition(": ")[2]
    authority = f"{HOST}:{fresh_server.port}"
    lines = [credential.format(right=right)] if credential else []
    with proxy.connect() as wire:
        method, target = ("CONNECT", authority) if is_connect else ("GET", f"http://{authority}/")
        answer = wire.request(method, target, f"Host: {authority}", *lines)
    assert answer.status == 407
    assert answer.header("Proxy-Authenticate") == 'Basic realm="authsome run"'
    assert answer.json()["code"] == "authentication_failed"
    assert fresh_server.connections == 0


def test_the_407_leaves_the_connection_open_for_the_credential(proxy: Proxy, api_server: ApiServer):
    """A client that waits to be asked, as git does, may answer on the same connection."""
    authority = f"{HOST}:{api_server.port}"
    with proxy.connect() as wire:
        assert wire.request("CONNECT", authority, f"Host: {authority}").status == 407
        assert wire.request("CONNECT", authority, f"Host: {authority}", proxy.authorization).status == 200


def test_listens_on_loopback_only(proxy: Proxy):
    """What the kernel has listening at its port, in either family, is bound to 127.0.0.1."""
    # SEC-150
    places = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, place, _, state, *_ = line.split()
            address, _, port = place.partition(":")
            if state == "0A" and int(port, 16) == proxy.port:
                places.append(address)
    assert places == [f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"]  # as the kernel writes it


# ---- what is injected --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (f"Authorization: Bearer {PLACEHOLDER}",),
        (f"authorization: Bearer {PLACEHOLDER}", f"AUTHORIZATION: Basic {PLACEHOLDER}"),
        (f"X-Api-Key: {PLACEHOLDER}",),
        (f"x_api_key: {PLACEHOLDER}", f"X_Api-Key: {PLACEHOLDER}"),
        (f"Authorization: Bearer {PLACEHOLDER}", "Connection: authorization"),
        (f"Proxy-Authorization: Basic {PLACEHOLDER}", f"Proxy-Connection: {PLACEHOLDER}"),
        (f"X-Secret: {PLACEHOLDER}", "Connection: x-secret, keep-alive"),
    ],
)
def test_the_credential_takes_the_place_of_whatever_was_sent(proxy: Proxy, api_server: ApiServer, lines):
    """One Authorization, ours; no spelling of it or of its siblings, and nothing meant for the proxy, travels on."""
    # SEC-154 SEC-156
    with proxy.open(HOST, api_server.port) as wire:
        answer = wire.request("GET", ECHO, f"Host: {HOST}:{api_server.port}", *lines)
    assert answer.status == 200
    (request,) = api_server.requests
    assert request.all("authorization") == (f"Bearer {TOKEN}",)
    assert request.all("x-api-key") == request.all("x_api_key") == ()
    assert PLACEHOLDER.encode() not in sent(api_server)


def test_the_daemon_is_asked_with_the_run_secret_and_without_the_query(
    proxy: Proxy, api_server: ApiServer, daemon_fake
):
    """The question names method, host, port and path; the run's secret goes to the daemon only."""
    with proxy.open(HOST, api_server.port) as wire:
        wire.request(
            "POST", f"{ECHO}?key=secret-query", f"Host: {HOST}:{api_server.port}", "Content-Length: 2", body=b"hi"
        )
    assert daemon_fake.resolved == [{"method": "POST", "host": HOST, "port": api_server.port, "path": ECHO}]
    assert daemon_fake.secret.encode() not in sent(api_server)
    (request,) = api_server.requests
    assert (request.target, request.body) == (f"{ECHO}?key=secret-query", b"hi")


def test_companions_query_and_path(proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """Companion headers yield to the child's; a query parameter and a path take the place of the child's."""
    daemon_fake.credentials[HOST] = daemon_api.bearer(
        TOKEN, default=[["X-Version", "1"], ["X-Kept", "ours"]], query=[["key", "a/b c"]], path="/bot-secret/echo"
    )
    with proxy.open(HOST, api_server.port) as wire:
        wire.request(
            "GET", f"/bot0/echo?a=1&%6bey={PLACEHOLDER}&b=2", f"Host: {HOST}:{api_server.port}", "x-kept: theirs"
        )
    (request,) = api_server.requests
    assert request.target == "/bot-secret/echo?a=1&b=2&key=a%2Fb%20c"
    assert request.header("x-version") == "1"
    assert request.header("x-kept") == "theirs"


def test_a_path_outside_of_every_prefix_gets_nothing(runner: Runner):
    """A credential below /a is not for /ab, nor for anything that might be read as leaving /a."""
    # SEC-171
    runner.daemon.routes[0]["path_prefix"] = "/a/"
    server = runner.server
    outside = ("/ab", "/", "/a/../b", "/a/%2e%2e/b", "//a/x", "/A/x", "/a%2fx")
    with runner.proxy() as proxy, proxy.open(HOST, server.port) as wire:
        for path in (*outside, "/a/x"):
            assert wire.request("GET", path, f"Host: {HOST}:{server.port}").status == 200
    injected = [request.path for request in server.requests if request.all("authorization") == (f"Bearer {TOKEN}",)]
    assert injected == ["/a/x"]
    assert [question["path"] for question in runner.daemon.resolved] == ["/a/x"]


def test_two_equal_claims_get_nothing(runner: Runner):
    """A host that two connections claim equally is refused, not guessed."""
    # SEC-171
    runner.daemon.routes.append(daemon_api.route(HOST, port=runner.server.port, provider="second"))
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire:
        answer = wire.request("GET", ECHO, f"Host: {HOST}:{runner.server.port}")
    assert (answer.status, answer.json()["code"]) == (409, "route_ambiguous")
    assert "authsome run --only PROVIDER" in str(answer.json()["hint"])
    assert runner.server.requests == runner.daemon.resolved == []


def test_a_login_or_logout_takes_effect_on_the_next_request(
    proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi
):
    """The daemon is asked for each request of a kept tunnel; nothing is remembered."""
    # SEC-169
    with proxy.open(HOST, api_server.port) as wire:
        host = f"Host: {HOST}:{api_server.port}"
        assert wire.request("GET", ECHO, host).status == 200
        daemon_fake.credentials[HOST] = daemon_api.bearer("another", revision=2)
        assert wire.request("GET", ECHO, host).status == 200
        del daemon_fake.credentials[HOST]
        answer = wire.request("GET", ECHO, host)
        assert (answer.status, answer.json()["provider"]) == (424, "example")
        assert "authsome login example" in str(answer.json()["hint"])
    assert [request.header("authorization") for request in api_server.requests] == [f"Bearer {TOKEN}", "Bearer another"]


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (None, None),
        ("Authsome-Connection: work", "work"),
        ("AUTHSOME-connection:   me@example.com", "me@example.com"),
        ("authsome_connection: work", "work"),
        ("Authsome-Connection: work\r\nConnection: authsome-connection", "work"),
    ],
)
def test_a_request_may_choose_its_connection(proxy: Proxy, api_server: ApiServer, daemon_fake, line, asked):
    """The header is for us: the daemon is asked for that connection, and the server does not see it."""
    # SEC-171
    with proxy.open(HOST, api_server.port) as wire:
        lines = [line] if line else []
        assert wire.request("GET", ECHO, f"Host: {HOST}:{api_server.port}", *lines).status == 200
    assert [question.get("connection") for question in daemon_fake.resolved] == [asked]
    (request,) = api_server.requests
    assert b"authsome" not in request.head.lower().replace(b"_", b"-").replace(HOST.encode(), b"")


@pytest.mark.parametrize(
    "lines",
    [
        ("Authsome-Connection: work", "Authsome-Connection: work"),
        ("Authsome-Connection:",),
        ("Authsome-Connection: github=work",),
        ("Authsome-Connection: a b",),
        (f"Authsome-Connection: {'x' * 65}",),
    ],
)
def test_a_choice_that_is_none_is_refused(proxy: Proxy, api_server: ApiServer, daemon_fake, lines):
    """It is not guessed, and nothing is sent."""
    with proxy.open(HOST, api_server.port) as wire:
        answer = wire.request("GET", ECHO, f"Host: {HOST}:{api_server.port}", *lines)
    assert (answer.status, answer.json()["code"]) == (400, "request_invalid")
    assert api_server.requests == daemon_fake.resolved == []


def test_a_choice_solves_a_tie_and_a_wrong_one_says_what_to_do(runner: Runner):
    """With two claims to a host the daemon is asked for the one that was chosen; without it there is an answer."""
    # SEC-171
    runner.daemon.routes.append(daemon_api.route(HOST, port=runner.server.port, provider="second"))
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire:
        assert wire.request("GET", ECHO, host, "Authsome-Connection: work").status == 200
        del runner.daemon.credentials[HOST]
        answer = wire.request("GET", ECHO, host, "Authsome-Connection: work")
    assert (answer.status, answer.json()["code"]) == (424, "credential_unavailable")
    assert "authsome login example --connection work" in str(answer.json()["hint"])
    assert len(runner.server.requests) == 1


# ---- what is never injected --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host: evil.example.localhost:{port}",),
        ("Host: {host}.evil.example:{port}",),
        ("Host: evil-{host}:{port}",),
        ("Host: {host}@evil.example:{port}",),
        ("Host: {host}",),
        ("Host: {host}:1",),
        ("Host: {host}:{port}", "Host: evil.example"),
        ("Host: {host}.:{port}",),
        ("Host: {host}:{port} evil.example",),
    ],
)
def test_a_lie_about_the_host_gets_no_secret(proxy: Proxy, api_server: ApiServer, daemon_fake, headers):
    """CONNECT address and Host must name one host and port, exactly."""
    # SEC-151
    lines = [line.format(host=HOST, port=api_server.port) for line in headers]
    with proxy.open(HOST, api_server.port) as wire:
        answer = wire.request("GET", ECHO, *lines)
    assert answer.status in {400, 421}
    assert answer.status == 400 or answer.json()["provider"] == "example"
    assert TOKEN.encode() not in sent(api_server)
    assert api_server.requests == []
    assert daemon_fake.resolved == []


@pytest.mark.parametrize("server_name", ["evil.example.localhost", "example.localhost", None])
def test_a_lie_in_the_sni_gets_no_secret(proxy: Proxy, fresh_server: ApiServer, daemon_fake, server_name):
    """CONNECT address and SNI must name one host; the server is not even dialled."""
    # SEC-151
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with proxy.tunnel(f"{HOST}:{fresh_server.port}").secure(context, server_name) as wire:
        answer = wire.request("GET", ECHO, f"Host: {HOST}:{fresh_server.port}")
    assert (answer.status, answer.json()["code"]) == (421, "request_misdirected")
    assert fresh_server.connections == 0
    assert daemon_fake.resolved == []


@pytest.mark.parametrize(
    ("target", "status"), [("https://evil.example/echo", 421), ("http://evil.example/echo", 421), ("evil:1", 400)]
)
def test_an_absolute_url_inside_a_tunnel_is_checked(proxy: Proxy, api_server: ApiServer, target, status):
    """Absolute form is one more word about the host, and must agree."""
    # SEC-151
    with proxy.open(HOST, api_server.port) as wire:
        assert wire.request("GET", target, f"Host: {HOST}:{api_server.port}").status == status
    assert api_server.requests == []


def test_an_honest_absolute_url_inside_a_tunnel_passes(proxy: Proxy, api_server: ApiServer):
    """Absolute form that agrees is sent on in origin form."""
    authority = f"{HOST}:{api_server.port}"
    with proxy.open(HOST, api_server.port) as wire:
        assert wire.request("GET", f"https://{authority}/echo?x", f"Host: {authority}").status == 200
    assert api_server.requests[0].target == "/echo?x"


def test_clear_text_gets_no_secret(proxy: Proxy, plain_api_server: ApiServer, daemon_fake: DaemonApi):
    """A plain http request passes without a credential, to a routed host too, and is not upgraded."""
    # SEC-152
    daemon_fake.routes.append(daemon_api.route(HOST, port=plain_api_server.port))
    authority = f"{HOST}:{plain_api_server.port}"
    with proxy.connect() as wire:
        answer = wire.request("GET", f"http://{authority}/echo", "Host: lie.example", proxy.authorization)
    assert answer.status == 200
    (request,) = plain_api_server.requests
    assert request.target == "/echo"
    assert request.header("host") == authority
    assert request.all("authorization") == request.all("proxy-authorization") == ()
    assert daemon_fake.resolved == []


def test_https_by_absolute_url_is_refused(proxy: Proxy, fresh_server: ApiServer):
    """The proxy speaks no TLS on a client's behalf: that takes CONNECT."""
    with proxy.connect() as wire:
        answer = wire.request("GET", f"https://{HOST}:{fresh_server.port}/", f"Host: {HOST}", proxy.authorization)
    assert answer.status == 400
    assert fresh_server.connections == 0


def test_clear_text_in_a_tunnel_to_a_routed_host_gets_nothing(proxy: Proxy, api_server: ApiServer):
    """What is not TLS on a port where TLS is intercepted is cut."""
    with proxy.tunnel(f"{HOST}:{api_server.port}") as wire:
        wire.send(f"GET {ECHO} HTTP/1.1\r\nHost: {HOST}:{api_server.port}\r\n\r\n")
        assert wire.reader.readline() == b""
    assert api_server.requests == []


def test_a_redirect_to_another_host_carries_nothing(proxy: Proxy, api_server: ApiServer, authority: Authority):
    """The second host of a redirect sees no credential: it is not the child's to carry along."""
    # SEC-153
    with api.serve(leaf=authority.issue(OTHER_HOST)) as other:
        to = other.url(ECHO, host=OTHER_HOST)
        with proxy.open(HOST, api_server.port) as wire:
            answer = wire.request("GET", f"/redirect?to={to}", f"Host: {HOST}:{api_server.port}")
        assert (answer.status, answer.header("Location")) == (302, to)
        context = authority.client_context()
        with proxy.tunnel(f"{OTHER_HOST}:{other.port}").secure(context, OTHER_HOST) as wire:
            assert wire.request("GET", ECHO, f"Host: {OTHER_HOST}:{other.port}").status == 200
        assert TOKEN.encode() not in sent(other)


# ---- tunnels -----------------------------------------------------------------------------------------------


def test_an_unrouted_host_is_tunnelled_not_decrypted(proxy: Proxy, authority: Authority):
    """The client sees the server's own certificate, and the server what the client sent."""
    with api.serve(leaf=authority.issue(OTHER_HOST)) as other:
        context = authority.client_context()  # our own authority is not in it
        with proxy.tunnel(f"{OTHER_HOST}:{other.port}").secure(context, OTHER_HOST) as wire:
            answer = wire.request("GET", ECHO, f"Host: {OTHER_HOST}:{other.port}", "Authorization: mine")
        assert answer.status == 200
        assert other.requests[0].header("authorization") == "mine"


def test_another_port_of_a_routed_host_is_a_tunnel(proxy: Proxy, plain_api_server: ApiServer):
    """A route is for one port; at others bytes pass as they are."""
    # SEC-161
    with proxy.tunnel(f"{HOST}:{plain_api_server.port}") as wire:
        assert wire.request("GET", ECHO, "Host: anything").status == 200
    assert plain_api_server.requests[0].all("authorization") == ()


def test_a_refused_connect_says_why_in_its_status_line(runner: Runner):
    """Programs show that line, or its text, and no body."""
    runner.unmatched = "deny"
    code = (
        "import urllib.request\n"
        f"try: urllib.request.urlopen('https://{OTHER_HOST}/')\n"
        "except OSError as error: print(error)"
    )
    told = runner.output(sys.executable, "-c", code).decode()
    assert f"403 {OTHER_HOST} belongs to no connected provider" in told
    assert "--unmatched deny" in told


def test_denied_hosts(runner: Runner, plain_api_server: ApiServer):
    """With `--unmatched deny` only hosts of routes are reached."""
    runner.unmatched = "deny"
    authority = f"{OTHER_HOST}:{plain_api_server.port}"
    with runner.proxy() as proxy:
        with proxy.connect() as wire:
            answer = wire.request("CONNECT", authority, f"Host: {authority}", proxy.authorization)
        assert (answer.status, answer.json()["code"]) == (403, "not_allowed")
        with proxy.connect() as wire:
            assert wire.request("GET", f"http://{authority}/", "Host: x", proxy.authorization).status == 403
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", ECHO, f"Host: {HOST}:{runner.server.port}").status == 200
    assert plain_api_server.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "x.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "metadata",
    ],
)
@pytest.mark.parametrize("is_connect", [True, False])
def test_this_machine_and_metadata_are_not_reached_through_us(runner: Runner, host, is_connect):
    """No spelling of loopback, link-local or the metadata service is dialled, for a tunnel or in clear text."""
    # SEC-160
    runner.worker_options = []
    asked = len(runner.daemon.requests)
    with runner.proxy() as proxy, proxy.connect() as wire:
        authority = f"{host}:{runner.daemon.port}"
        method, target = ("CONNECT", authority) if is_connect else ("GET", f"http://{authority}/health")
        answer = wire.request(method, target, f"Host: {authority}", proxy.authorization)
    assert answer.status in {400, 403, 502}
    assert answer.json()["code"] in {"address_refused", "endpoint_unreachable", "request_invalid"}
    assert answer.json()["title"] == "authsome did not send this request"
    assert [request.path for request in runner.daemon.requests[asked:] if request.path == "/health"] == []


def test_neither_the_daemon_nor_the_proxy_is_reached_through_a_route(runner: Runner):
    """Even a definition that may lie on this machine does not lead to Authsome itself."""
    # SEC-160
    daemon = runner.daemon
    with runner.proxy() as proxy:
        for port in (daemon.port, proxy.port):
            host = f"p{port}.example.localhost"
            daemon.routes.append(daemon_api.route(host, port=port))
            daemon.credentials[host] = daemon_api.bearer(TOKEN)

            def answer(host: str = host, port: int = port) -> Answer | None:
                with proxy.connect() as wire:
                    opened = wire.request("CONNECT", f"{host}:{port}", f"Host: {host}", proxy.authorization)
                    if opened.status != 200:
                        return None  # the route is not known yet, and it was to be a tunnel
                    with wire.secure(proxy.context, host) as secure:
                        return secure.request("GET", "/health", f"Host: {host}:{port}")

            assert eventually(answer)
            found = answer()
            assert found is not None
            assert (found.status, found.json()["code"]) == (403, "address_refused")


# ---- failing closed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (
            Problem(status=424, code="login_required", detail="the login has expired", hint="authsome login example"),
            424,
        ),
        (Problem(status=503, code="refresh_failed", detail="could not be refreshed"), 503),
        (Problem(status=507, code="storage_failed", detail="the disk is full"), 502),
        (Problem(status=500, code="vault_damaged", detail="damaged"), 502),
        (Problem(status=401, code="authentication_failed", detail="no"), 403),
    ],
)
def test_without_a_credential_nothing_is_sent(proxy: Proxy, api_server: ApiServer, daemon_fake, problem, status):
    """The child gets the cause and what to do as its answer; the request does not leave, with or without its body."""
    # SEC-162
    daemon_fake.credentials[HOST] = problem
    with proxy.open(HOST, api_server.port) as wire:
        lines = (f"Host: {HOST}:{api_server.port}", f"Authorization: Bearer {PLACEHOLDER}", "Content-Length: 5")
        answer = wire.request("POST", ECHO, *lines, body=b"hello")
        assert answer.status == status
        assert answer.header("Content-Type") == "application/problem+json"
        told = answer.json()
        assert (told["host"], told["provider"]) == (f"{HOST}:{api_server.port}", "example")
        assert told["detail"]
        assert "authsome" in str(told["hint"])  # a command, whatever the cause
        # and the connection is as good as before
        daemon_fake.credentials[HOST] = daemon_api.bearer(TOKEN)
        assert wire.request("GET", ECHO, f"Host: {HOST}:{api_server.port}").status == 200
    assert [request.method for request in api_server.requests] == ["GET"]


def test_a_refused_upload_is_not_waited_for(proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """The refusal comes before the body, which is not asked for with 100-continue."""
    # SEC-162
    daemon_fake.credentials[HOST] = Problem(status=424, code="login_required", detail="expired")
    with proxy.open(HOST, api_server.port) as wire:
        host = f"Host: {HOST}:{api_server.port}"
        answer = wire.request("PUT", ECHO, host, "Content-Length: 1000000", "Expect: 100-continue")
        assert answer.status == 424
    assert api_server.requests == []


def test_a_dead_daemon_means_no_request(runner: Runner):
    """When the daemon is gone, routed hosts answer 502 and nothing is sent with the placeholder."""
    # SEC-136 SEC-162
    with daemon_api.serve() as daemon:
        daemon.routes, daemon.credentials = runner.daemon.routes, runner.daemon.credentials
        runner.daemon = daemon
        starting = runner.proxy()
        proxy = starting.__enter__()
    try:
        with proxy.open(HOST, runner.server.port) as wire:
            answer = wire.request("GET", ECHO, f"Host: {HOST}:{runner.server.port}", f"Authorization: {PLACEHOLDER}")
        assert (answer.status, answer.json()["code"]) == (502, "daemon_unavailable")
    finally:
        starting.__exit__(None, None, None)
    assert runner.server.requests == []


def test_an_untrusted_server_gets_no_byte_of_http(runner: Runner, authority: Authority, rogue: Authority):
    """Expired, for another host, or signed by a stranger: 502 with the cause, no question to the daemon, no HTTP."""
    # SEC-158 SEC-98
    leaves = {
        "expired": authority.issue(HOST, expired=True),
        "another": authority.issue(OTHER_HOST),
        "rogue": rogue.issue(HOST),
    }
    for name, leaf in leaves.items():
        with api.serve(leaf=leaf) as server:
            runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
            with runner.proxy() as proxy, proxy.open(HOST, server.port) as wire:
                answer = wire.request("GET", ECHO, f"Host: {HOST}:{server.port}")
            assert (answer.status, answer.json()["code"]) == (502, "endpoint_unreachable"), name
            assert str(answer.json()["detail"]).startswith(f"{HOST}:{server.port}: certificate verify failed: "), name
            assert "AUTHSOME_CA_BUNDLE" in str(answer.json()["hint"])
            assert answer.json()["provider"] == "example"
            assert server.requests == []
    assert runner.daemon.resolved == []


def test_extra_roots_are_what_makes_a_server_trusted(runner: Runner):
    """Without AUTHSOME_CA_BUNDLE the tests' own server is as untrusted as any stranger."""
    # SEC-159
    del runner.environ["AUTHSOME_CA_BUNDLE"]
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire:
        assert wire.request("GET", ECHO, f"Host: {HOST}:{runner.server.port}").status == 502
    assert runner.server.requests == []


def test_an_unreachable_server_is_named_with_its_cause(runner: Runner, free_port: int):
    """Nothing listens: 502 for a routed host inside TLS, for a tunnel as the answer to CONNECT."""
    runner.daemon.routes = [daemon_api.route(HOST, port=free_port)]
    with runner.proxy() as proxy:
        with proxy.open(HOST, free_port) as wire:
            answer = wire.request("GET", ECHO, f"Host: {HOST}:{free_port}")
        assert (answer.status, answer.json()["detail"]) == (502, f"{HOST}:{free_port}: connection refused")
        assert answer.json()["title"] == "authsome did not send this request"
        assert (answer.json()["provider"], "`authsome doctor`" in str(answer.json()["hint"])) == ("example", True)
        with proxy.connect() as wire:
            authority = f"{OTHER_HOST}:{free_port}"
            answer = wire.request("CONNECT", authority, f"Host: {authority}", proxy.authorization)
        assert (answer.status, answer.json()["code"]) == (502, "endpoint_unreachable")
    assert runner.daemon.resolved == []


# ---- malformed messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: 3, 3",),
        ("Content-Length: -1",),
        ("Content-Length: +3",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Authorization : Bearer x",),
        ("X-Folded: a\r\n b",),
        ("X-Nul: a\0b",),
        ("X-Return: a\rb",),
        ("No colon",),
        ("Connection: content-length", "Content-Length: 0"),
    ],
)
def test_what_two_parsers_may_read_two_ways_is_refused(proxy: Proxy, api_server: ApiServer, lines):
    """Ambiguous framing and malformed headers end with 400, and the server sees nothing."""
    # SEC-155
    with proxy.open(HOST, api_server.port) as wire:
        answer = wire.request("POST", ECHO, f"Host: {HOST}:{api_server.port}", *lines, body=b"abc")
    assert answer.status == 400
    assert answer.json()["code"] == "request_invalid"
    assert "option" not in str(answer.json()["detail"])  # of a program that the user has never heard of
    assert api_server.requests == []


def test_an_endless_head_is_cut(proxy: Proxy, api_server: ApiServer):
    """A head that does not end is answered with 431, before and after TLS."""
    head = b"GET / HTTP/1.1\r\nX: " + b"a" * 256 * 1024  # just above the limit, so that all of it is read
    with proxy.connect() as wire:
        assert wire.send(head).answer().status == 431
    with proxy.open(HOST, api_server.port) as wire:
        assert wire.send(head).answer().status == 431


# ---- 401 ---------------------------------------------------------------------------------------------------


def test_a_refused_credential_is_refreshed_once(proxy: Proxy, api_server: ApiServer, daemon_fake: DaemonApi):
    """A 401 is passed on, and has the daemon refresh the credential for the next request; one time per credential."""
    # SEC-88
    api_server.protected["/private"] = ("Authorization", "Bearer fresh")
    daemon_fake.refreshed[HOST] = daemon_api.bearer("fresh", revision=2)
    with proxy.open(HOST, api_server.port) as wire:
        host = f"Host: {HOST}:{api_server.port}"
        statuses = [wire.request("GET", "/private", host).status for _ in range(3)]
        assert statuses == [401, 200, 200]
        api_server.protected["/private"] = ("Authorization", "Bearer nobody has it")
        statuses = [wire.request("GET", "/private", host).status for _ in range(3)]
        assert statuses == [401, 401, 401]
    rejected = [question for question in daemon_fake.resolved if question.get("rejected")]
    assert len(rejected) == 2  # one for each credential that was refused


# ---- what the log tells ------------------------------------------------------------------------------------


def test_the_log_holds_no_secret_and_nothing_that_passed(runner: Runner):
    """Neither the credential, nor the run's secret, nor a header, body or query of a request, good or bad."""
    # SEC-143
    with runner.proxy() as proxy:
        with proxy.open(HOST, runner.server.port) as wire:
            host = f"Host: {HOST}:{runner.server.port}"
            wire.request(
                "POST", "/echo?q=canary-query", host, "X-A: canary-header", "Content-Length: 11", body=b"canary-body"
            )
            wire.send("canary-garbage\r\n\r\n").answer()
        with proxy.connect() as wire:
            wire.send("\x16\x03\x01canary-tls" + "\0" * 40)
        secret = runner.daemon.secret
    text = runner.log()
    assert "listening" in text
    assert "canary" not in text
    assert TOKEN not in text
    assert secret not in text
    assert json.dumps(runner.daemon.environment) not in text
