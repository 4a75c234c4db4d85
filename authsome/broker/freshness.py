"""When an access token ends, told by two clocks; and which connections are in use.

Rule: the stored expiry is a time of day, and a time of day can be set. So what this process has seen of a token it
also measures by the clock that nobody sets: the token is over when either says so. Forgotten with the process; then a
token that was stored "in the future" shows that the clock was set back meanwhile, and is refreshed once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.clock import Steady
from authsome.models.connection import Connection

MARGIN: Final = timedelta(seconds=60)  # a request under way must still arrive with a valid token

Key = tuple[str, str, str]


def key_of(connection: Connection) -> Key:
    """What names a connection among all."""
    return (connection.vault_id, connection.provider, connection.name)


def margin(connection: Connection) -> timedelta:
    """How long before its end a token is refreshed: a minute, or a quarter of its life where that is shorter."""
    assert connection.expires_at is not None
    return min(MARGIN, max(timedelta(0), connection.expires_at - connection.updated_at) / 4)


@dataclass(slots=True)
class _Known:
    """What was measured of one revision of a connection."""

    revision: int
    ends: float
    """On the steady clock."""
    in_use: bool = False


class Freshness:
    """The tokens that this process has seen."""

    def __init__(self, steady: Steady, watch: Callable[[Connection], None]) -> None:
        """Take the clock that nobody sets, and who is told of the first use of each new token."""
        self._steady = steady
        self._watch = watch
        self._known: dict[Key, _Known] = {}

    def use(self, connection: Connection, now: datetime) -> bool:
        """Note that a connection is about to be used; whether its token is to be refreshed before."""
        if connection.expires_at is None or not connection.has_refresh_token:
            return False
        known = self._of(connection, now)
        if self._left(known, connection, now) <= margin(connection):
            return True
        if not known.in_use:
            known.in_use = True
            self._watch(connection)
        return False

    def is_due(self, connection: Connection, now: datetime, *, ahead: bool = False) -> bool:
        """Whether a token that can be refreshed is to be: within its margin; `ahead`: within twice that."""
        if connection.expires_at is None or not connection.has_refresh_token:
            return False
        before = margin(connection) * (2 if ahead else 1)
        return self.left(connection, now) <= before

    def lasts(self, connection: Connection, now: datetime, *, at_most: timedelta) -> timedelta:
        """How long a token stays as it is: until it is to be refreshed, or ends."""
        if connection.expires_at is None:
            return at_most
        before = margin(connection) if connection.has_refresh_token else timedelta(0)
        return max(timedelta(0), min(at_most, self.left(connection, now) - before))

    def is_usable(self, connection: Connection, now: datetime) -> bool:
        """Whether the token has not ended."""
        return connection.expires_at is None or self.left(connection, now) > timedelta(0)

    def left(self, connection: Connection, now: datetime) -> timedelta:
        """The time until a token ends, which is negative afterwards."""
        return self._left(self._of(connection, now), connection, now)

    def learn(self, connection: Connection, now: datetime) -> None:
        """Begin to measure a token that has just come."""
        self._of(connection, now)

    def _of(self, connection: Connection, now: datetime) -> _Known:
        key = key_of(connection)
        known = self._known.get(key)
        if known is None or known.revision != connection.revision:
            assert connection.expires_at is not None
            left = connection.expires_at - now
            if connection.updated_at > now + MARGIN:  # the clock was set back: who knows how much is left
                left = min(left, margin(connection))
            known = _Known(connection.revision, self._steady() + left.total_seconds())
            self._known[key] = known
        return known

    def _left(self, known: _Known, connection: Connection, now: datetime) -> timedelta:
        assert connection.expires_at is not None
        return min(connection.expires_at - now, timedelta(seconds=known.ends - self._steady()))
