"""The one place that asks what time it is.

Everything else is handed `now`, or a `Clock` where it has to ask again later.
"""

import time

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    Clock = Callable[[], datetime]
    Steady = Callable[[], float]
else:
    Clock = Steady = object  # at run time they only stand in annotations


def now() -> "datetime":
    """The current time, aware, in UTC."""
    import datetime as dt  # noqa: PLC0415  # the short road of `run` counts seconds; `from` would take thrice as long

    return dt.datetime.now(dt.UTC)


def steady() -> float:
    """Seconds since some moment: nobody sets them, and they go on while the machine sleeps, where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def seconds() -> int:
    """The current time in whole seconds since 1970 (POSIX)."""
    return int(time.time())


def microseconds() -> int:
    """The current time in microseconds since 1970 (POSIX), for what is asked for with every request."""
    return time.time_ns() // 1000
