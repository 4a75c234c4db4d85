"""Refreshing ahead of time, in the background, so that no request waits for a provider.

Rules:
1. Only what is in use is renewed: each token's first use puts it on the list, and one that is never used is left to
   end. So a connection that rests makes no requests, and a daemon that rests never wakes up.
2. The thread sleeps until the next token is due. What it cannot renew it tries again with the refresher's pauses, until
   an hour after the token's end; by then its next user tries.
3. It holds no lock while it asks a provider, and a request whose token is still valid never waits for it.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from authsome.broker.context import Context
from authsome.broker.freshness import Freshness, Key, key_of, margin
from authsome.broker.refresh import LONGEST_PAUSE, Refresher
from authsome.errors import AuthsomeError
from authsome.models.connection import Connection

PATIENCE: Final = timedelta(hours=1)
_LEAST: Final = timedelta(seconds=1)  # between two attempts that both failed
_LOOK: Final = 24 * 3600.0  # seconds: a token may end in some thousand years, and no lock waits for that

_log: Final = logging.getLogger("authsome.renewal")


@dataclass(slots=True)
class _Watched:
    """A token in use, and when it may be tried again (on the steady clock)."""

    connection: Connection
    not_before: float = 0.0


class Renewal:
    """The list of tokens in use, and the thread's work on it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._changed = threading.Condition()
        self._watched: dict[Key, _Watched] = {}
        self._is_over = False

    def watch(self, connection: Connection) -> None:
        """Put a token on the list, in place of the connection's earlier one."""
        with self._changed:
            self._watched[key_of(connection)] = _Watched(connection)
            self._changed.notify()

    def stop(self) -> None:
        """End `run`, after the request that it may be at."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def run(self, refresher: Refresher, freshness: Freshness) -> None:
        """Renew what falls due until `stop`."""
        while (watched := self._next(freshness)) is not None:
            pause = self._renew(refresher, watched.connection)
            with self._changed:
                key = key_of(watched.connection)
                if self._watched.get(key) is not watched:
                    continue  # logged in anew, or refreshed by a caller whose token is in use already
                left = freshness.left(watched.connection, self._context.clock())
                if pause is None or left < -PATIENCE:
                    del self._watched[key]
                else:
                    watched.not_before = self._context.steady() + max(pause, _LEAST).total_seconds()

    def _next(self, freshness: Freshness) -> _Watched | None:
        """Wait for the next token that is due; None at the end."""
        with self._changed:
            while not self._is_over:
                waits = [(self._wait(each, freshness), each) for each in self._watched.values()]
                seconds, first = min(waits, key=lambda pair: pair[0], default=(None, None))
                if seconds is not None and seconds <= 0:
                    return first
                self._changed.wait(None if seconds is None else min(seconds, _LOOK))
            return None

    def _wait(self, watched: _Watched, freshness: Freshness) -> float:
        connection = watched.connection
        due = freshness.left(connection, self._context.clock()) - margin(connection) * 2
        return max(due.total_seconds(), watched.not_before - self._context.steady())

    def _renew(self, refresher: Refresher, connection: Connection) -> timedelta | None:
        """Try one; the pause before it is tried again, None when there is nothing more to do."""
        try:
            return refresher.renew(connection)
        except AuthsomeError as error:
            _log.info("%s (%s): %s", connection.provider, connection.name, error.message)
            return None
        except Exception:  # noqa: BLE001  # a thread that ended silently would leave everything to expire
            _log.exception("%s (%s): could not be renewed", connection.provider, connection.name)
            return LONGEST_PAUSE
