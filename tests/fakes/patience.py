"""Waiting for what other threads and processes do, however busy the machine is.

Rule: a test never counts on a moment being enough. It waits until something is so, and the limit is only there so that
what never comes fails instead of hanging.
"""

import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

PATIENCE: Final = 120.0
"""Seconds that anything may take which takes a moment where nobody else works."""

_PAUSE: Final = 0.02

Value = TypeVar("Value")


def eventually(condition: Callable[[], object], *, timeout: float = PATIENCE) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def wait(condition: Callable[[], object], what: str, *, timeout: float = PATIENCE) -> None:
    """Wait until something is so; `what` it is says the failure."""
    assert eventually(condition, timeout=timeout), f"waited in vain for {what}"


def settled(measure: Callable[[], Value], *, seconds: float = 1.0) -> Value:
    """What a measurement comes to once it has stayed the same for so many seconds."""
    deadline = time.monotonic() + PATIENCE
    value, since = measure(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(_PAUSE)
        if (later := measure()) != value:
            value, since = later, time.monotonic()
        assert time.monotonic() < deadline, f"it does not settle; at last it was {value}"
    return value


def ever_longer(first: float) -> Iterator[float]:
    """Spans of time, in seconds, for what has to be done within one: each is tried when the one before was too short.

    For a token or a lease that is to end during a test, though not before it was used.
    """
    for number in range(5):
        yield first * 4**number


def is_running(pid: int) -> bool:
    """Whether a process is there, up to its very end; one that only waits to be reaped is not (Linux).

    One that ends loses its memory (and command line) first, and its sockets last, with the last of its threads: its
    first one may look like a zombie long before.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        end = select.poll()
        end.register(descriptor, select.POLLIN)
        return not end.poll(0)
    finally:
        os.close(descriptor)


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used, which other processes' load does not change (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
