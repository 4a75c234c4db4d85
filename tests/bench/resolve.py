"""A credential for one request, each with a proof of its own, audited before it is answered."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from load import Job
from report import Row, Samples
from subject import OURS, Subject, cpu, descriptors, rss

CONNECTIONS = (1, 8, 64)
_JUDGED = 8  # connections
_LEAST = 6
"""Times upstream's rate."""
_REQUESTS = {OURS: 4000}
_OTHERS_REQUESTS = 640  # few, as they get slower the more they have answered
_BLOCKS, _BLOCK = 10, 10_000
_LOAD = Path(__file__).with_name("load.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one block of requests took."""

    rate: float
    """Answers a second."""
    cpu: float
    """Microseconds of the daemon's processor time, each."""
    median: float
    """Milliseconds."""
    p99: float
    resident: float
    """MiB after it."""
    descriptors: int


def send(subject: Subject, pid: int, *, connections: int, requests: int, blocks: int = 1) -> list[Block]:
    """Have client processes send blocks of requests, all connections at once; two processes, or one for one."""
    clients = min(connections, 2)
    identity = subject.identity
    job = Job(
        url=subject.url, target=subject.target, body=subject.body, seed=identity.seed, did=identity.did,
        handle=identity.handle, audience=identity.audience, type=identity.type,
        connections=connections // clients, requests=requests // clients, blocks=blocks,
    )  # fmt: skip
    found = []
    with ExitStack() as stack:
        pipe = subprocess.PIPE
        command = [sys.executable, str(_LOAD)]
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)) for _ in range(clients)
        ]
        for process in processes:
            _tell(process, job.to_json())
        for _ in range(blocks):
            for process in processes:
                _hear(process)
            before = cpu(pid)
            for process in processes:
                _tell(process, "go")
            figures = [json.loads(_hear(process)) for process in processes]
            found.append(
                Block(
                    rate=requests / max(each["seconds"] for each in figures),
                    cpu=(cpu(pid) - before) / requests * 1e6,
                    median=max(each["median"] for each in figures) * 1000,
                    p99=max(each["p99"] for each in figures) * 1000,
                    resident=rss(pid),
                    descriptors=descriptors(pid),
                )
            )
    return found


def measure(subjects: Sequence[Subject], rounds: int) -> list[Row]:
    """The rate at some numbers of connections, all daemons running and asked in turn."""
    rows = []
    with ExitStack() as stack:
        running = {subject.name: stack.enter_context(subject.running()) for subject in subjects}
        for subject in subjects:
            send(subject, running[subject.name].pid, connections=8, requests=400)
        for connections in CONNECTIONS:
            rate, used = Samples(), Samples()
            for _ in range(rounds):
                for subject in subjects:
                    requests = _REQUESTS.get(subject.name, _OTHERS_REQUESTS)
                    (block,) = send(subject, running[subject.name].pid, connections=connections, requests=requests)
                    rate.add(subject.name, block.rate)
                    used.add(subject.name, block.cpu)
            rows.append(_rate_row(connections, subjects, rate, used))
    return rows


def _rate_row(connections: int, subjects: Sequence[Subject], rate: Samples, used: Samples) -> Row:
    ours = rate.median(OURS)
    best = max((rate.median(subject.name) for subject in subjects if subject.name != OURS), default=None)
    judged = connections == _JUDGED
    times = f", {ours / best:.1f} x" if best else ""
    others = ", ".join(
        f"{name}: {rate.median(name):,.0f}/s ({used.median(name):,.0f} µs)" for name in rate.by_name if name != OURS
    )
    return Row(
        name=f"resolve, {connections} connection{'s' if connections > 1 else ''}",
        ours=f"{ours:,.0f}/s ({used.median(OURS):.0f} µs CPU{times})",
        others=others,
        target=f"≥ {_LEAST} x upstream's" if judged else "",
        met=ours >= _LEAST * best if judged and best else None,
    )


def measure_flatness(subject: Subject) -> list[Row]:
    """100,000 requests in one go: the last ones as fast as the first, memory and descriptors as before."""
    with subject.running() as process:
        send(subject, process.pid, connections=8, requests=2000)
        before = rss(process.pid)
        blocks = send(subject, process.pid, connections=8, requests=_BLOCK, blocks=_BLOCKS)
    rates, used = [block.rate for block in blocks], [block.cpu for block in blocks]
    # The machine may be slower in the second half for reasons of its own: processor time per request tells us apart.
    halves = sum(used[_BLOCKS // 2 :]) / sum(used[: _BLOCKS // 2])
    growth = blocks[-1].resident - before
    name = f"resolve, {_BLOCK * _BLOCKS:,} requests"
    return [
        Row(
            name=f"{name}: rate of each {_BLOCK:,}",
            ours=" ".join(f"{rate:,.0f}" for rate in rates),
            target="second half's CPU ≤ 1.15 x first's",
            met=halves <= 1.15,
            others=f"CPU {halves:.2f} x",
        ),
        Row(
            name=f"{name}: memory, descriptors",
            ours=f"{growth:+.1f} MiB, {blocks[0].descriptors} → {blocks[-1].descriptors}",
            target="≤ +8 MiB, no more descriptors",
            met=growth <= 8 and blocks[-1].descriptors <= blocks[0].descriptors,
        ),
    ]


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a client of the measurement ended; what it said is above")
    return line
