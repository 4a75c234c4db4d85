"""The way out through a company's proxy, and what it does not change."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from fakes import api, daemon_api, wire
from fakes.authority import Authority
from proxy.support import TOKEN, Runner

HOST = "api.example.test"
"""A name that only the company's proxy can look up."""


@dataclass(slots=True, kw_only=True)
class CompanyProxy:
    """A proxy that leads every CONNECT to one server, or answers a status."""

    to: int
    port: int = 0
    status: int = 200
    heads: list[bytes] = field(default_factory=list)

    def serve(self, connection: wire.Connection) -> None:
        """Serve one connection."""
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := connection.socket.recv(1)):
            head += byte
        self.heads.append(head)
        connection.socket.sendall(f"HTTP/1.1 {self.status} As planned\r\n\r\n".encode())
        if self.status == 200:
            with socket.create_connection(("127.0.0.1", self.to)) as server:
                back = threading.Thread(target=pump, args=(server, connection.socket), daemon=True)
                back.start()
                pump(connection.socket, server)
                back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until either side ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def company(to: int) -> Iterator[CompanyProxy]:
    """Run the proxy on a free port of 127.0.0.1 until the block ends."""
    proxy = CompanyProxy(to=to)
    with wire.listen(proxy.serve) as proxy.port:
        yield proxy


@pytest.mark.parametrize("is_routed", [True, False])
def test_the_callers_proxy_is_the_way_out(runner: Runner, authority: Authority, is_routed):
    """HTTPS_PROXY of the caller is where our connections go, with its credential; the child knows only our proxy."""
    with api.serve(leaf=authority.issue(HOST)) as server, company(server.port) as proxy:
        runner.environ["HTTPS_PROXY"] = f"http://user:pass@127.0.0.1:{proxy.port}"
        route = daemon_api.route(HOST, port=server.port, allow_private_addresses=False)
        runner.daemon.routes = [route] if is_routed else []
        runner.daemon.credentials[HOST] = daemon_api.bearer(TOKEN)
        runner.output("curl", "-sS", "--fail", server.url("/echo", host=HOST))
        (head,) = proxy.heads
        assert head.startswith(f"CONNECT {HOST}:{server.port} HTTP/1.1\r\n".encode())
        assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head
        wanted = (f"Bearer {TOKEN}",) if is_routed else ()
        assert server.requests[0].all("authorization") == wanted


def test_a_proxy_that_leads_nowhere_is_told(runner: Runner):
    """What the company's proxy refuses is a 502 that names it."""
    with company(0) as proxy:
        proxy.status = 407
        runner.environ["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        runner.daemon.routes = [daemon_api.route(HOST)]
        out = runner.output("curl", "-sS", f"https://{HOST}/")
    assert f"the proxy 127.0.0.1:{proxy.port} answered 407".encode() in out
    assert b"HTTPS_PROXY names it" in out


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "localhost", "2130706433"])
def test_it_does_not_lead_to_this_machine(runner: Runner, host: str):
    """What can be told of a host without looking it up is checked before the company's proxy is asked."""
    # SEC-160
    runner.worker_options = []
    with company(0) as proxy:
        runner.environ["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        with runner.proxy() as ours, ours.connect() as client:
            answer = client.request("CONNECT", f"{host}:443", f"Host: {host}", ours.authorization)
        assert answer.status in {403, 502}
        assert proxy.heads == []


def test_exempt_hosts_go_straight(runner: Runner):
    """NO_PROXY of the caller holds for us as it did for its programs."""
    with company(0) as proxy:
        runner.environ |= {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": ".example.test"}
        runner.daemon.routes = [daemon_api.route(HOST)]
        out = runner.output("curl", "-sS", f"https://{HOST}/")
        assert b"no such host" in out
        assert proxy.heads == []


def test_each_run_has_its_own_way_out(runner: Runner, authority: Authority):
    """Two shells with different proxies share a worker, and neither's requests go the other's way."""
    # SEC-170
    with api.serve(leaf=authority.issue(HOST)) as server, company(server.port) as first, company(server.port) as second:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port, allow_private_addresses=False)]
        runner.daemon.credentials[HOST] = daemon_api.bearer(TOKEN)
        for proxy in (first, second, first):
            runner.environ["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
            runner.output("curl", "-sS", "--fail", server.url("/echo", host=HOST))
        assert (len(first.heads), len(second.heads)) == (2, 1)
    assert len(runner.workers()) == 1


def test_each_run_has_its_own_roots(runner: Runner, rogue: Authority):
    """What one shell's SSL_CERT_FILE trusts, another's does not, in the same worker."""
    # SEC-159 SEC-170
    usual = runner.environ["AUTHSOME_CA_BUNDLE"]
    name = "rogue.example.localhost"
    with api.serve(leaf=rogue.issue(name)) as server:
        runner.daemon.routes = [daemon_api.route(name, port=server.port)]
        runner.daemon.credentials[name] = daemon_api.bearer(TOKEN)
        for roots, status in ((usual, b"502"), (str(rogue.certificate), b"200"), (usual, b"502")):
            runner.environ["SSL_CERT_FILE"] = roots
            command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", server.url("/echo", host=name))
            assert runner.output(*command) == status
        assert len(server.requests) == 1
    assert len(runner.workers()) == 1


def test_a_run_in_a_run_goes_out_as_the_outer_one_does(runner: Runner, authority: Authority):
    """Its environment names the outer run's proxy, which leads nowhere for us; the company's is still the way."""
    with api.serve(leaf=authority.issue(HOST)) as server, company(server.port) as proxy:
        runner.environ["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port, allow_private_addresses=False)]
        runner.daemon.credentials[HOST] = daemon_api.bearer(TOKEN)
        inner = runner.plan("curl", "-sS", "--fail", server.url("/echo", host=HOST))
        runner.output(*inner)
        assert len(proxy.heads) == 1
