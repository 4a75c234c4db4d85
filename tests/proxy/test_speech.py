"""Who speaks what: a server that knows HTTP/2 only is reached by programs that know it too, and by no others."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import api, daemon_api
from fakes.authority import Authority
from proxy import h2_server
from proxy.conftest import ENGINES
from proxy.support import HOST, TOKEN, Runner, children

NODE_SERVER = Path(__file__).with_name("h2_only.mjs")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """It holds for both engines."""
    name: str = request.param
    return name


@contextmanager
def refusing(authority: Authority) -> Iterator[int]:
    """A server that ends the handshake when it is not offered HTTP/2 (RFC 7301 §3.2), as Node's does."""
    leaf = authority.issue(HOST)
    command = ["node", str(NODE_SERVER), str(leaf.certificate), str(leaf.key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        try:
            yield int(program.stdout.readline())
        finally:
            program.kill()


@contextmanager
def silent(authority: Authority) -> Iterator[int]:
    """One that shakes hands about nothing then, and waits for HTTP/2 all the same."""
    with h2_server.serve(authority.issue(HOST)) as server:
        yield server.port


SERVERS = {"refusing": refusing, "silent": silent}
CLIENTS = {
    "curl": ["curl", "-sS", "--fail", "--http2"],
    "httpx": [
        shutil.which("python") or "python",
        "-c",
        "import sys, httpx; r = httpx.Client(http2=True).get(sys.argv[1]); print(r.text); assert r.status_code == 200",
    ],
}


@pytest.mark.parametrize("client", [*CLIENTS, "Go"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_speaks_http2_only(runner: Runner, authority: Authority, go_program: Path, server, client):
    """A program that offers HTTP/2 and HTTP/1.1 gets its answer, with the credential, each time."""
    # SEC-177
    with SERVERS[server](authority) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        command = CLIENTS.get(client, [str(go_program)])
        for _ in range(2):
            answer = runner.output(*command, f"https://{HOST}:{port}/echo").decode()
            headers = json.loads(answer)
            found = headers.get("authorization") or dict(headers["headers"])["authorization"]
            assert found == "Bearer authsome-placeholder-authsome"[: 7 + len(TOKEN)]  # it was sent, and scrubbed
    assert len(runner.daemon.resolved) == 2


@pytest.mark.parametrize("server", SERVERS)
def test_a_program_that_speaks_http1_only_is_told(runner: Runner, authority: Authority, server):
    """Where neither knows what the other speaks there is an answer that names the host, and no credential is asked."""
    with SERVERS[server](authority) as port:
        runner.daemon.routes = [daemon_api.route(HOST, port=port)]
        with runner.proxy() as proxy, proxy.open(HOST, port) as wire:
            wire.socket.settimeout(60)
            answer = wire.request("GET", "/", f"Host: {HOST}:{port}")
    assert (answer.status, answer.json()["code"]) == (502, "endpoint_unreachable")
    assert HOST in str(answer.json()["detail"])


@pytest.mark.parametrize("engine", ["auto"])
@pytest.mark.parametrize("alpn", [("http/1.1",), ("h2", "http/1.1"), ()])
def test_a_server_that_speaks_http1_too_is_served_by_express(runner: Runner, authority: Authority, alpn):
    """Whatever it says when hands are shaken: two handshakes the first time at most, and one for each later one."""
    with api.serve(leaf=replace(authority.issue(HOST), alpn=alpn)) as server, runner.proxy() as proxy:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        counts = []
        for _ in range(3):
            context = proxy.context
            context.set_alpn_protocols(["h2", "http/1.1"])
            with proxy.tunnel(f"{HOST}:{server.port}").secure(context, HOST) as wire:
                assert wire.request("GET", "/echo", f"Host: {HOST}:{server.port}").status == 200
            counts.append(server.connections)
        assert counts == ([1, 2, 3] if alpn else [2, 3, 4])
        assert children(proxy.pid) == []
