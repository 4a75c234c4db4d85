"""Starting a command from the archive, in multiples of starting Python at all."""

import subprocess
import time
from collections.abc import Mapping, Sequence

from ours import Ours
from report import Row, Samples

ROUNDS = 40
_BARE, _VERSION, _WHOAMI = "python -c pass", "--version", "whoami"


def measure(ours: Ours, rounds: int) -> list[Row]:
    """`--version`, and `whoami` with the daemon running."""
    commands = {
        _BARE: (ours.python, "-c", "pass"),
        _VERSION: ours.argv("--version"),
        _WHOAMI: ours.argv("whoami"),
    }
    ours("daemon", "start")
    samples = Samples()
    try:
        for command in commands.values():
            milliseconds(command, ours.environment)
        for _ in range(rounds * ROUNDS // 5):
            for name, command in commands.items():
                samples.add(name, milliseconds(command, ours.environment))
    finally:
        ours("daemon", "stop")
    bare = samples.median(_BARE)
    rows = []
    for name, most in ((_VERSION, 2), (_WHOAMI, 5)):
        took = samples.median(name)
        rows.append(
            Row(
                name=f"`{name}`",
                ours=f"{took:.1f} ms ({took / bare:.2f} x)",
                others=f"{_BARE}: {bare:.1f} ms",
                target=f"≤ {most} x",
                met=took <= most * bare,
            )
        )
    return rows


def milliseconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a command takes that has to succeed.

    In its home: upstream starts its daemon by `python -m`, and from a checkout of ours would find our package.
    """
    quiet = subprocess.DEVNULL
    started = time.perf_counter()
    subprocess.run(command, env=environment, cwd=environment["HOME"], check=True, stdin=quiet, stdout=quiet)
    return (time.perf_counter() - started) * 1000
