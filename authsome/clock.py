"""The one place that asks what time it is.

Everything else is handed `now`, or a `Clock` where it has to ask again later.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)
