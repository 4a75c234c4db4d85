"""Moments in words for people, and to the second for those who want to know and for machines."""

from datetime import datetime, timedelta
from typing import Final

from authsome.daemon.dashboard import html
from authsome.daemon.dashboard.html import Html

_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"))


def moment(at: datetime, now: datetime) -> Html:
    """`3 hours ago`, or `in 2 days`; the exact time is in its attributes."""
    distance = at - now
    words = _amount(abs(distance))
    shown = "just now" if words is None else f"in {words}" if distance > timedelta(0) else f"{words} ago"
    return html.render("time", exact=f"{at:%Y-%m-%dT%H:%M:%SZ}", title=f"{at:%Y-%m-%d %H:%M:%S} UTC", shown=shown)


def _amount(duration: timedelta) -> str | None:
    seconds = int(duration.total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            number = seconds // size
            return html.counted(number, unit)
    return None
