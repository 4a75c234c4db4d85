"""The proxy of `run` over a long time: as light after 100,000 requests as before, and with many streams at once.

And what a tunnel costs, beside a squid that splices. Tunnels of the product do not lead to this machine, so that one is
measured on the worker of the checkout, which the tests start with a door open.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from ours import bare_python
from passing import request_words, squid
from report import Row, Samples
from subject import cpu, rss

from fakes import api, daemon_api, nginx
from fakes.authority import Authority
from fakes.program import Program, installed
from proxy import HOST, connect

REQUESTS: Final = 50_000  # on one connection, and as many again on eight
STREAMS: Final = 64
_EVENTS: Final = 20
_MOST: Final = 60.0  # MiB
_GROWTH: Final = 4.0
_TUNNELLED: Final = 3000
_START_RUN: Final = Path(__file__).parents[1] / "proxy" / "start_run.py"
_STREAM_CLIENT: Final = Path(__file__).with_name("stream_client.py")


def measure(archive: Path, directory: Path, rounds: int, *, with_peers: bool) -> list[Row]:
    """Requests for a long time, streams at once, tunnels."""
    directory.mkdir()
    authority = Authority.create(directory / "authority")
    return [*_light(archive, directory, authority), *_tunnels(directory, authority, rounds, with_peers=with_peers)]


def _light(archive: Path, directory: Path, authority: Authority) -> list[Row]:
    variables = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
    command = (bare_python(), str(archive))
    files = directory / "server"
    files.mkdir()
    with (
        nginx.serve(files, authority.issue(HOST)) as port,
        installed(directory / "user", command=command, variables=variables) as program,
    ):
        connect(program, f"https://{HOST}:{port}/")
        _run(program, *request_words(HOST, port, 2000, 8))
        worker = _worker(program)
        before = rss(worker)
        _run(program, *request_words(HOST, port, REQUESTS, 8))
        after = rss(worker)
    name = f"proxy: {2 * REQUESTS:,} requests"
    rows = [
        Row(
            name=f"{name}, memory",
            ours=f"{after:.1f} MiB ({after - before:+.1f} MiB)",
            target=f"≤ {_MOST:.0f} MiB, ≤ +{_GROWTH:.0f} MiB",
            met=after <= _MOST and after - before <= _GROWTH,
        )
    ]
    with (
        api.serve(leaf=authority.issue(HOST)) as server,
        installed(directory / "streams", command=command, variables=variables) as program,
    ):
        connect(program, server.url("/", host=HOST))
        url = server.url(f"/sse?events={_EVENTS}&interval=0.2", host=HOST)
        with program.start("run", "--", sys.executable, str(_STREAM_CLIENT), "together", url, str(STREAMS)) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            came = int(child.stdout.readline() or 0)
            resident = rss(_worker(program), peak=True)
            child.stdin.close()
    rows.append(
        Row(
            name=f"proxy: {STREAMS} streams at once, peak memory",
            ours=f"{resident:.1f} MiB, {came:,} of {STREAMS * _EVENTS:,} events",
            target=f"≤ {_MOST:.0f} MiB, all events",
            met=resident <= _MOST and came == STREAMS * _EVENTS,
        )
    )
    return rows


def _tunnels(directory: Path, authority: Authority, rounds: int, *, with_peers: bool) -> list[Row]:
    cost = Samples()
    files = directory / "tunnel"
    files.mkdir()
    with ExitStack() as stack:
        port = stack.enter_context(nginx.serve(files, authority.issue("localhost")))
        daemon = stack.enter_context(daemon_api.serve())
        words = request_words("localhost", port, _TUNNELLED, 8)
        splicing = (
            stack.enter_context(squid(directory / "squid", authority, port, splices=True)) if with_peers else None
        )
        for _ in range(rounds):
            with _tunnelling(directory, daemon, authority) as (start, worker_of):
                start(*request_words("localhost", port, 100, 1))
                worker = worker_of()
                before = cpu(worker)
                start(*words)
                cost.add("ours", (cpu(worker) - before) / (2 * _TUNNELLED) * 1e6)
            if splicing is not None:
                environment = {**splicing.environment, "SSL_CERT_FILE": str(authority.certificate)}
                before = sum(cpu(pid) for pid in splicing.processes)
                subprocess.run(words, env=environment, capture_output=True, check=True)
                used = sum(cpu(pid) for pid in splicing.processes) - before
                cost.add("squid", used / (2 * _TUNNELLED) * 1e6)
    ours, theirs = cost.median("ours"), cost.median("squid") if "squid" in cost.by_name else None
    return [
        Row(
            name="a request in a tunnel, processor time",
            ours=f"{ours:.0f} µs" + (f" ({ours / theirs:.1f} x)" if theirs else ""),
            others=f"squid, spliced: {theirs:.0f} µs" if theirs else "",
            target="≤ 2 x squid's",
            met=ours <= 2 * theirs if theirs else None,
        )
    ]


@contextmanager
def _tunnelling(
    directory: Path, daemon: daemon_api.DaemonApi, authority: Authority
) -> Iterator[tuple[Callable[..., None], Callable[[], int]]]:
    """Runs of the checkout's worker, whose tunnels may lead to this machine."""
    home = directory / "tunnel home"
    home.mkdir(mode=0o700, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "AUTHSOME_HOME": str(home),
        "AUTHSOME_CA_BUNDLE": str(authority.certificate),
    }

    def start(*command: str) -> None:
        plan = {
            "command": command,
            "daemon_url": daemon.url,
            "answer": dict(daemon.call("POST", "/proxy/runs", {})),
            "worker_options": ["--open-tunnels"],
            "unmatched": "tunnel",
        }
        path = directory / "plan.json"
        path.write_text(json.dumps(plan))
        subprocess.run([sys.executable, _START_RUN, path], env=environment, stdout=subprocess.DEVNULL, check=True)

    def worker() -> int:
        return next(pid for pid in _processes() if b"start_worker.py" in _command(pid) and _is_of(pid, home))

    yield start, worker
    for pid in _processes():
        if b"start_worker.py" in _command(pid) and _is_of(pid, home):
            os.kill(pid, 15)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_of(pid: int, home: Path) -> bool:
    try:
        return os.fsencode(home) in Path(f"/proc/{pid}/environ").read_bytes() or any(
            os.fsencode(home) in os.fsencode(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()
        )
    except OSError:
        return False


def _run(program: Program, *command: str) -> None:
    done = program("run", "--", *command, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)


def _worker(program: Program) -> int:
    (worker,) = [pid for pid, command in program.processes().items() if "proxy-worker" in command]
    return worker
