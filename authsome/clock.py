"""The one place that asks what time it is.

Everything else is handed `now`, or a `Clock` where it has to ask again later.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
Steady = Callable[[], float]


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def steady() -> float:
    """Seconds since some moment: nobody sets them, and they go on while the machine sleeps, where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
