"""How values lie in columns; a row that cannot be read back is damage, and says so."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from authsome.errors import VaultDamaged

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
ASTRAY: Final = timedelta(minutes=1)
"""As far as a clock goes back by itself, and as one act that was begun before another may be written down after it."""


def from_moment(at: datetime) -> int:
    """Microseconds since the epoch: exact, ordered, and cheap to read back."""
    return (at - _EPOCH) // _MICROSECOND


def latest(now: datetime) -> int:
    """The latest that something can have happened: what lies ahead of it is from before the clock was set back."""
    return from_moment(now + ASTRAY)


def to_moment(value: int) -> datetime:
    """The moment, aware, in UTC."""
    return _EPOCH + timedelta(microseconds=value)


def from_optional_moment(at: datetime | None) -> int | None:
    """As `from_moment`; None stays None."""
    return None if at is None else from_moment(at)


def to_optional_moment(value: int | None) -> datetime | None:
    """As `to_moment`; None stays None."""
    return None if value is None else to_moment(value)


def from_words(words: tuple[str, ...]) -> str:
    """A JSON array of strings."""
    return json.dumps(words) if words else "[]"


def to_words(text: str) -> tuple[str, ...]:
    """The strings of a JSON array."""
    if text == "[]":
        return ()
    words = json.loads(text)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError("not an array of strings")
    return tuple(words)


def from_names(names: Mapping[str, str]) -> str:
    """A JSON object of strings."""
    return json.dumps(dict(names), sort_keys=True) if names else "{}"


def to_names(text: str) -> dict[str, str]:
    """The strings of a JSON object by name."""
    if text == "{}":
        return {}
    names = json.loads(text)
    if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        raise TypeError("not an object of strings")
    return names


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn whatever a damaged row makes the conversions raise into `VaultDamaged`, naming what it was."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, LookupError) as error:
        raise VaultDamaged(f"the record of {what} is damaged", hint="run `authsome doctor`") from error
