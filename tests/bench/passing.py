"""Requests through the proxy of `run`, in turn with other proxies that put a header on them: how late, and how many.

The peers are those that are installed: mitmdump (PyPI, mitmproxy) and squid (Debian, squid-openssl). Each verifies the
server, opens TLS and sets a header; ours also asks the daemon, which writes each request down, and looks through the
answer.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final, TypedDict

from ours import bare_python
from report import Row, Samples
from subject import cpu

from fakes import nginx
from fakes.authority import Authority
from fakes.ports import free_port
from fakes.program import Program, installed
from proxy import HOST, connect

REQUESTS: Final = 1500  # a round, of each kind
CLIENTS: Final = (8, 32)
SECONDS: Final = 1.0
"""How long rates are taken for, at least."""
OURS: Final = "ours"
DIRECT: Final = "direct"
_CLIENT: Final = Path(__file__).with_name("request_client.py")
_WAIT_SECONDS: Final = 20.0

_SQUID: Final = Template("""\
http_port 127.0.0.1:$port ssl-bump generate-host-certificates=on tls-cert=$directory/authority.pem \
dynamic_cert_mem_cache_size=4MB
sslcrtd_program $certgen -s $directory/certificates -M 4MB
sslcrtd_children 1
acl all_steps at_step SslBump1
ssl_bump peek all_steps
ssl_bump $act all
tls_outgoing_options cafile=$directory/trust.pem
request_header_access Authorization deny all
request_header_add Authorization "Bearer bench-key"
http_access allow all
cache deny all
access_log none
cache_log $directory/squid.log
pid_filename none
coredump_dir $directory
shutdown_lifetime 0 seconds
pinger_enable off
netdb_filename none
""")


class _Figures(TypedDict):
    """What `request_client.py` prints."""

    opened: float
    """Milliseconds from nothing to the first answer."""
    one: float
    """Milliseconds from a request to its answer, on one kept connection."""
    many: dict[str, float]
    """Requests per second, by how many are under way at the same time."""
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A way to the server."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    processes: tuple[int, ...] = ()
    """Whose processor time is counted."""


def measure(archive: Path, directory: Path, rounds: int, *, with_peers: bool) -> list[Row]:
    """Each way in turn, round by round."""
    directory.mkdir()
    authority = Authority.create(directory / "authority")
    files = directory / "server"
    files.mkdir()
    with ExitStack() as stack:
        port = stack.enter_context(nginx.serve(files, authority.issue(HOST, "localhost")))
        ways = {DIRECT: _plain_way(port, {"SSL_CERT_FILE": str(authority.certificate)})}
        variables = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
        command = (bare_python(), str(archive))
        program = stack.enter_context(installed(directory / "user", command=command, variables=variables))
        connect(program, f"https://{HOST}:{port}/")
        ways[OURS] = _our_way(program, port)
        if with_peers:
            for name, start in (("mitmdump", _mitmdump), ("squid", squid)):
                peer = stack.enter_context(start(directory / name, authority, port))
                if peer is not None:
                    ways[name] = peer
        return _rows(ways, rounds)


def _rows(ways: Mapping[str, _Way], rounds: int) -> list[Row]:
    opened, one, cost = Samples(), Samples(), Samples()
    many = {clients: Samples() for clients in CLIENTS}
    for _ in range(rounds):
        for name, way in ways.items():
            before = sum(cpu(pid) for pid in way.processes)
            figures = _client(way)
            used = sum(cpu(pid) for pid in way.processes) - before
            opened.add(name, figures["opened"])
            one.add(name, figures["one"])
            cost.add(name, used / figures["requests"] * 1e6)
            for clients in CLIENTS:
                many[clients].add(name, figures["many"][str(clients)])
    return [_latency(one, cost), *(_throughput(clients, many[clients]) for clients in CLIENTS), _opening(opened)]


def _latency(one: Samples, cost: Samples) -> Row:
    direct = one.median(DIRECT)
    others = [
        f"{name}: +{one.median(name) - direct:.2f} ms ({cost.median(name):,.0f} µs CPU)"
        for name in one.by_name
        if name not in {DIRECT, OURS}
    ]
    return Row(
        name="a request through the proxy, kept connection",
        ours=f"+{one.median(OURS) - direct:.2f} ms ({cost.median(OURS):,.0f} µs CPU, the daemon's with it)",
        others=", ".join([f"direct: {direct:.2f} ms", *others]),
        target="≤ squid's",
        met=one.median(OURS) <= one.median("squid") if "squid" in one.by_name else None,
    )


def _throughput(clients: int, rates: Samples) -> Row:
    ours = rates.median(OURS)
    wanted = [rates.median("squid")] if "squid" in rates.by_name else []
    wanted += [15 * rates.median("mitmdump")] if "mitmdump" in rates.by_name else []
    return Row(
        name=f"requests through the proxy, {clients} at a time",
        ours=f"{ours:,.0f}/s",
        others=rates.others("/s", but=OURS),
        target="≥ squid's, ≥ 15 x mitmdump's",
        met=all(ours >= each for each in wanted) if wanted else None,
    )


def _opening(opened: Samples) -> Row:
    ours = opened.median(OURS)
    return Row(
        name="a new connection through the proxy",
        ours=f"{ours:.1f} ms",
        others=", ".join(f"{name}: {opened.median(name):.1f} ms" for name in opened.by_name if name != OURS),
        target="≤ 0.5 x mitmdump's",
        met=ours <= opened.median("mitmdump") / 2 if "mitmdump" in opened.by_name else None,
    )


def _client(way: _Way) -> _Figures:
    done = subprocess.run(way.command, env=dict(way.environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    figures: _Figures = json.loads(done.stdout)
    return figures


def request_words(host: str, port: int, requests: int, *clients: int, seconds: float = 0.0) -> tuple[str, ...]:
    """The client that makes requests: so many on one connection, and as many, for so long at least, on some at once."""
    numbers = (str(requests), str(seconds), *(str(each) for each in clients))
    return (sys.executable, str(_CLIENT), f"https://{host}:{port}/json", *numbers)


def _plain_way(port: int, environment: Mapping[str, str], *processes: int) -> _Way:
    return _Way(
        command=request_words("localhost", port, REQUESTS, *CLIENTS, seconds=SECONDS),
        environment=environment,
        processes=processes,
    )


def _our_way(program: Program, port: int) -> _Way:
    """Behind `authsome run`, from a first one on, so that the proxy and the daemon are there."""
    way = _Way(
        command=tuple(program.argv("run", "--", *request_words(HOST, port, REQUESTS, *CLIENTS, seconds=SECONDS))),
        environment=program.environment(None),
    )
    _client(way)
    ours = [pid for pid, command in program.processes().items() if "proxy-worker" in command or "serve" in command]
    return _Way(command=way.command, environment=way.environment, processes=tuple(ours))


@contextmanager
def _mitmdump(directory: Path, authority: Authority, port: int) -> Iterator[_Way | None]:
    """The command of mitmproxy, with streaming on and as little else as it can be told."""
    program = Path(sys.executable).with_name("mitmdump")
    if not program.exists():
        yield None
        return
    directory.mkdir()
    own = free_port()
    settings = {
        "confdir": directory,
        "ssl_verify_upstream_trusted_ca": authority.certificate,
        "stream_large_bodies": "1",
        "store_streamed_bodies": "false",
        "flow_detail": "0",
    }
    options = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    header = ("--modify-headers", "/~q/Authorization/Bearer bench-key")
    command = [str(program), "-q", "--listen-host", "127.0.0.1", "-p", str(own), *options, *header]
    with _running(command, own) as process:
        trust = directory / "mitmproxy-ca-cert.pem"
        yield _plain_way(port, {"HTTPS_PROXY": f"http://127.0.0.1:{own}", "SSL_CERT_FILE": str(trust)}, process.pid)


@contextmanager
def squid(directory: Path, authority: Authority, port: int, *, splices: bool = False) -> Iterator[_Way | None]:
    """A squid with ssl-bump, one worker, no cache; `splices`: it looks into nothing."""
    program = shutil.which("squid", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    certgen = Path(program or "").resolve().parents[1] / "lib" / "squid" / "security_file_certgen"
    if program is None or not certgen.exists():
        yield None
        return
    own, bumping = free_port(), Authority.create(directory)
    # Started by root it becomes another user, who is to find all of it.
    with tempfile.TemporaryDirectory(prefix="authsome-bench-squid-") as name:
        place = Path(name)
        (place / "authority.pem").write_bytes(bumping.certificate.read_bytes() + bumping.key_pem())
        (place / "trust.pem").write_bytes(authority.certificate.read_bytes())
        subprocess.run([certgen, "-c", "-s", place / "certificates", "-M", "4MB"], check=True, capture_output=True)
        (place / "squid.conf").write_text(
            _SQUID.substitute(port=own, directory=place, certgen=certgen, act="splice" if splices else "bump")
        )
        for path in (place, *place.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        with _running([program, "-N", "-f", str(place / "squid.conf")], own) as process:
            trust = {"SSL_CERT_FILE": str(bumping.certificate)}
            yield _plain_way(port, {"HTTPS_PROXY": f"http://127.0.0.1:{own}", **trust}, process.pid)


@contextmanager
def _running(command: list[str], port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A peer that listens."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + _WAIT_SECONDS
            while time.monotonic() < deadline and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        yield process
                        return
                time.sleep(0.05)
            raise RuntimeError(f"{Path(command[0]).name} did not start")
        finally:
            process.terminate()
