"""The daemon: from its start to its first answer, and what it holds once nobody asks and it has nothing to do."""

import time
from collections.abc import Sequence

from report import Row, Samples
from subject import OURS, Subject, cpu, rss

_SETTLED = 1.0  # seconds without any work
_MOST_MIB = 45


def measure(subjects: Sequence[Subject], rounds: int) -> list[Row]:
    """All daemons in turn, each in a home that it has used before."""
    for subject in subjects:
        with subject.running():
            pass
    start, idle = Samples(), Samples()
    for _ in range(rounds):
        for subject in subjects:
            began = time.perf_counter()
            with subject.running() as process:
                start.add(subject.name, (time.perf_counter() - began) * 1000)
                _settle(process.pid)
                idle.add(subject.name, rss(process.pid))
    ours = start.median(OURS)
    best = min((start.median(subject.name) for subject in subjects if subject.name != OURS), default=None)
    held = idle.median(OURS)
    return [
        Row(
            name="daemon: start to `/health`",
            ours=f"{ours:.0f} ms" + (f" ({ours / best:.2f} x)" if best else ""),
            others=start.others("ms", but=OURS),
            target="≤ 0.25 x upstream's",
            met=ours <= best / 4 if best else None,
        ),
        Row(
            name="daemon: resident when idle",
            ours=f"{held:.1f} MiB",
            others=idle.others("MiB", but=OURS),
            target=f"≤ {_MOST_MIB} MiB",
            met=held <= _MOST_MIB,
        ),
    ]


def _settle(pid: int) -> None:
    """Wait until the process has used no processor for a while: the first answer may come before all is loaded."""
    used, since = cpu(pid), time.monotonic()
    while time.monotonic() - since < _SETTLED:
        time.sleep(0.05)
        if (now := cpu(pid)) != used:
            used, since = now, time.monotonic()
