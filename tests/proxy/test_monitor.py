"""The full engine's process: started when it is needed, ends with its worker, and knows nothing that opens anything."""

import gc
import os
import signal
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import h2.events
import pytest

from authsome import clock
from authsome.address import AddressPolicy
from authsome.errors import RequestInvalid
from authsome.home import Home
from authsome.models.route import RouteTable
from authsome.proxy import apart, monitor
from authsome.proxy.authority import Issuer, create
from authsome.proxy.broker import Broker, Line
from authsome.proxy.exchange import Memory
from authsome.proxy.rules import Lease
from authsome.proxy.tenancy import Ground, Tenancy, Tenants
from authsome.secret import Secret
from fakes import daemon_api
from fakes.authority import Authority
from fakes.patience import PATIENCE, eventually, is_running
from proxy import h2_server
from proxy.h2_client import H2Client
from proxy.support import HOST, TOKEN, Proxy, Runner, children, resident

MIB = 1024 * 1024


@pytest.fixture
def server2(runner: Runner, authority: Authority):
    """An HTTP/2 server that a second route of the runner's leads to."""
    with h2_server.serve(authority.issue(HOST)) as server:
        runner.daemon.routes.append(daemon_api.route(HOST, port=server.port))
        yield server


@pytest.fixture
def dial() -> Iterator[Callable[[Proxy, h2_server.H2Server], H2Client]]:
    """Makes clients that speak HTTP/2 only, and closes them."""
    with ExitStack() as made:

        def connect(proxy: Proxy, server: h2_server.H2Server) -> H2Client:
            client = H2Client(proxy, HOST, server.port)
            made.callback(client.wire.close)
            return client

        yield connect


def call(client: H2Client, port: int) -> int:
    """One request over HTTP/2; its status."""
    events = client.events(client.headers(authority=f"{HOST}:{port}"))
    (headers,) = [event.headers for event in events if isinstance(event, h2.events.ResponseReceived)]
    return int(dict(headers)[":status"])


def has_ended(client: H2Client) -> bool:
    """Whether a connection ends, without a word."""
    client.wire.socket.settimeout(PATIENCE)
    try:
        return client.wire.socket.recv(65536) == b""
    except ConnectionError:
        return True


def full_engine(proxy: Proxy) -> int:
    """The process of the worker's full engine, once one that was ended is gone."""
    assert eventually(lambda: len(children(proxy.pid)) == 1), children(proxy.pid)
    (pid,) = children(proxy.pid)
    return pid


def test_it_is_started_when_it_is_needed(runner: Runner, server2: h2_server.H2Server, dial):
    """Not for HTTP/1.1; for the first child that speaks HTTP/2 only, and then for all of them."""
    with runner.proxy() as proxy:
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
        assert children(proxy.pid) == []
        for _ in range(2):
            assert call(dial(proxy, server2), server2.port) == 200
        pid = full_engine(proxy)
        assert resident(proxy.pid) < 60 * MIB
    with runner.proxy() as again:
        assert call(dial(again, server2), server2.port) == 200
        assert full_engine(again) == pid
    for request in server2.requests:
        headers = request["headers"]
        assert isinstance(headers, list)
        assert ("authorization", f"Bearer {TOKEN}") in [tuple(pair) for pair in headers]


def test_it_has_nothing_of_ours_around(runner: Runner, server2: h2_server.H2Server, dial):
    """Command line, environment, limits and descriptors hold no secret; it cannot be looked into, nor reached."""
    # SEC-129 SEC-141
    runner.environ["SECRET_OF_THE_CALLER"] = "canary"
    with runner.proxy() as proxy:
        client = dial(proxy, server2)
        assert call(client, server2.port) == 200
        process = Path(f"/proc/{full_engine(proxy)}")
        for name in ("cmdline", "environ"):
            text = process.joinpath(name).read_bytes()
            assert b"canary" not in text
            assert runner.daemon.secret.encode() not in text
            assert TOKEN.encode() not in text
        assert process.joinpath("limits").read_text().split("Max core file size")[1].split()[0] == "0"
        assert [process.joinpath("fd", str(number)).readlink() for number in (0, 1)] == [Path("/dev/null")] * 2
        mine = {str(link.readlink()) for link in process.joinpath("fd").iterdir()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert not [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine], "it listens"
        assert not [
            row for row in rows if row[2] == f"0100007F:{runner.daemon.port:04X}" and f"socket:[{row[9]}]" in mine
        ]
        if os.geteuid():  # root may look into everything
            with pytest.raises(PermissionError):
                process.joinpath("mem").open("rb")


def test_its_end_ends_its_connections_and_the_next_starts_it_anew(runner: Runner, server2: h2_server.H2Server, dial):
    """Killed: its children see their connections end, others none the worse; nothing goes out by itself."""
    # SEC-137
    with runner.proxy() as proxy:
        client = dial(proxy, server2)
        assert call(client, server2.port) == 200
        pid = full_engine(proxy)
        with proxy.open(HOST, runner.server.port) as wire:
            os.kill(pid, signal.SIGKILL)
            assert has_ended(client)
            assert call(dial(proxy, server2), server2.port) == 200
            assert full_engine(proxy) != pid
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
        assert eventually(lambda: "the full engine has ended with status -9" in runner.log())


@pytest.mark.parametrize("engine", ["full"])
def test_its_end_is_felt_by_all_that_it_serves(runner: Runner):
    """With `"engine": "full"` every connection ends with it, and the next starts it anew, on the same port."""
    # SEC-137
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as proxy:
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", host).status == 200
            pid = full_engine(proxy)
            os.kill(pid, signal.SIGKILL)
            assert wire.reader.read() == b""
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", host).status == 200
        assert full_engine(proxy) != pid


def test_a_hung_process_does_not_keep_a_run_alive(runner: Runner, server2: h2_server.H2Server, dial):
    """When the run ends its connections do, whatever has become of the process that serves them."""
    # SEC-138
    with runner.proxy() as other, runner.proxy() as proxy:
        clients = [dial(each, server2) for each in (proxy, other)]
        assert [call(client, server2.port) for client in clients] == [200, 200]
        pid = full_engine(proxy)
        os.kill(pid, signal.SIGSTOP)
        try:
            proxy.end()
            assert has_ended(clients[0])
        finally:
            os.kill(pid, signal.SIGCONT)
        assert call(clients[1], server2.port) == 200


@pytest.mark.parametrize("engine", ["full"])
def test_a_hung_process_is_replaced(runner: Runner):
    """One that does not listen any more holds nobody up for long: it is ended, and the next connection has another."""
    # SEC-137
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as proxy:
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", host).status == 200
        pid = full_engine(proxy)
        os.kill(pid, signal.SIGSTOP)
        with ExitStack() as opened:
            for _ in range(600):
                opened.enter_context(proxy.connect())
            assert eventually(lambda: pid not in children(proxy.pid))
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", host).status == 200


def test_the_end_of_a_run_ends_what_it_leads_to(runner: Runner, authority: Authority, dial):
    """The server's side of a connection ends with the child's, when the run does."""
    # SEC-138 SEC-173
    with h2_server.serve(authority.issue(HOST)) as server, runner.proxy() as other:
        runner.daemon.routes.append(daemon_api.route(HOST, port=server.port))
        with runner.proxy() as proxy:
            client = dial(proxy, server)
            assert call(client, server.port) == 200
            assert server.connections == 1
            proxy.end()
            assert has_ended(client)
        assert eventually(lambda: server.connections == 0)
        assert call(dial(other, server), server.port) == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_worker(runner: Runner, server2: h2_server.H2Server, number: signal.Signals, dial):
    """However the worker ends."""
    # SEC-137
    with runner.proxy() as proxy:
        client = dial(proxy, server2)
        assert call(client, server2.port) == 200
        pid = full_engine(proxy)
        os.kill(proxy.pid, number)
        assert eventually(lambda: not is_running(pid))
        assert has_ended(client)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_terminals_signals_do_not_reach_it(
    runner: Runner, server2: h2_server.H2Server, number: signal.Signals, dial
):
    """Interrupt and hang-up are the child's business."""
    with runner.proxy() as proxy:
        client = dial(proxy, server2)
        assert call(client, server2.port) == 200
        os.kill(full_engine(proxy), number)
        time.sleep(0.2)
        assert call(client, server2.port) == 200


def test_what_one_engine_has_sent_the_other_looks_for(runner: Runner, authority: Authority, dial):
    """There is one memory of what a host was sent: an answer over HTTP/2 does not tell what went over HTTP/1.1."""
    # SEC-163
    runner.daemon.routes[0]["path_prefix"] = "/v1/"
    with h2_server.serve(authority.issue(HOST)) as server, runner.proxy() as proxy:
        runner.daemon.routes.append(daemon_api.route(HOST, port=server.port, path_prefix="/v1/"))
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/v1/x", f"Host: {HOST}:{runner.server.port}").status == 200
        client = dial(proxy, server)
        number = client.headers(("x-back", TOKEN), authority=f"{HOST}:{server.port}", path="/echo")
        body = b"".join(event.data for event in client.events(number) if isinstance(event, h2.events.DataReceived))
        assert b"x-back" in body
        assert TOKEN.encode() not in body
    assert [question["path"] for question in runner.daemon.resolved] == ["/v1/x"]


def test_a_process_that_cannot_start_ends_the_connection(runner: Runner, server2: h2_server.H2Server, dial):
    """A child that needs it sees its connection end; the others are served as before."""
    runner.worker_options.append("--without=mitmproxy")
    with runner.proxy() as proxy:
        with pytest.raises(OSError):  # noqa: PT011  # a TLS handshake that is cut has many names
            dial(proxy, server2)
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
    assert eventually(lambda: "the full engine failed" in runner.log())


def test_a_connection_that_is_gone_is_nobodys(tmp_path: Path):
    """Its end may overtake the answer to whose it is: then no run keeps it until its own end."""
    # SEC-173
    lease = Lease(run="r", secret=Secret("s"), password=Secret("p"), expires_at=None)
    source = Broker(Line("http://127.0.0.1:9"), lease)
    ground = Ground(
        lease=lease, table=RouteTable(routes=()), source=source, trust=tmp_path, tunnel_policy=AddressPolicy()
    )
    run, tenants = Tenancy(ground), Tenants()
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    engine = monitor.Monitor(
        tenants, Issuer(create(clock.now())), clock=clock.now, memory=Memory(), home=Home(tmp_path), command=waits
    )
    ours, theirs = socket.socketpair()
    with ours:
        process = monitor._Process(waits, engine)
        process.lend(theirs, None, None)
        loan = process.loan(1)
        process.gone(1)
        with pytest.raises(RequestInvalid):
            loan.admit(run)
        left = weakref.ref(loan)
        del loan
        gc.collect()
        assert left() is None
        process.kill()
        process.end()


def test_it_is_started_from_the_files_that_the_worker_runs_from():
    """The command line names no archive, whose file may be another build's by now, and shows what it is."""
    words = apart.command()
    assert words[1] == "-I"
    assert str(Path(apart.__file__).parents[2]) in words
    assert "authsome-full-engine" in words
    assert not [word for word in words if word.endswith(".pyz")]
