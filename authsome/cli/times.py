"""Times in words: how long until, how long since, and since when somebody means."""

from datetime import UTC, datetime, timedelta

from authsome.errors import UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(value: object) -> datetime | None:
    """A time as the daemon's JSON has it (ISO 8601); None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def until(moment: datetime, now: datetime) -> str:
    """`in 3 h`, or `3 h ago`."""
    distance = moment - now
    words = amount(abs(distance))
    return f"in {words}" if distance >= timedelta(0) else f"{words} ago"


def amount(duration: timedelta) -> str:
    """A duration in its largest unit."""
    seconds = int(duration.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def parse_duration(text: str) -> timedelta | None:
    """`90s`, `15m`, `1h`, `2d`, `1w`; None when it is none of these."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()) or len(number) > 6:
        return None
    return timedelta(**{_UNITS[unit]: int(number)})


def parse_since(text: str, now: datetime) -> datetime:
    """A moment in the past: a duration before now, or an ISO 8601 date or time (local, unless it says otherwise).

    Raises:
        UsageError: it is neither.
    """
    try:
        if (duration := parse_duration(text)) is not None:
            return now - duration
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            "--since takes a duration or a date", hint="such as 1h, 2d, 2026-01-31 or 2026-01-31T12:00"
        ) from None
