"""Moments in words for people, and to the second for those who want to know and for machines."""

from datetime import datetime, timedelta
from typing import Final

from authsome.daemon.dashboard import html
from authsome.daemon.dashboard.html import Html

_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"))
_SHORT: Final = 0.05  # of a unit, so that what was given seven days does not end in six


def moment(at: datetime, now: datetime) -> Html:
    """`3 hours ago`, or `in 2 days`; the exact time is in its attributes."""
    distance = at - now
    is_ahead = distance > timedelta(0)
    words = _amount(abs(distance), short=_SHORT if is_ahead else 0)
    shown = "just now" if words is None else f"in {words}" if is_ahead else f"{words} ago"
    return html.render("time", exact=f"{at:%Y-%m-%dT%H:%M:%SZ}", title=f"{at:%Y-%m-%d %H:%M:%S} UTC", shown=shown)


def _amount(duration: timedelta, *, short: float) -> str | None:
    """The whole ones of its largest unit, where the next one may fall short by a part of it."""
    seconds = duration.total_seconds()
    for size, unit in _UNITS:
        if number := int(seconds / size + short):
            return html.counted(number, unit)
    return None
