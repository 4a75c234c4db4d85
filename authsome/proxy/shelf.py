"""What the daemon has answered for one run, kept for the next request of the same kind.

Rule 1: it counts while the daemon would say the same: nothing has changed since before it was asked, it is there to
say if something had, and the time that it named is not over, by either clock.
Rule 2: each use is written down first (`spool`). Where that cannot be done, nothing is used, and the daemon is asked.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsome import clock
from authsome.errors import AuthsomeError
from authsome.models import use
from authsome.models.route import RouteTable
from authsome.models.use import Codes
from authsome.proxy.changes import NOBODY, Changes
from authsome.proxy.inject import Credential
from authsome.proxy.rules import Question, Target
from authsome.proxy.spool import Spool, Teller
from authsome.secret import Secret

log = logging.getLogger(__name__)

MOST: Final = 256
"""Answers of one run; of more, those of all are asked for again."""
ROUTES_SECONDS: Final = 5.0
"""How long routes count that nobody has been told to have changed, as an edit of a definition by hand does not tell."""
_MICRO: Final = 1_000_000

_Key = tuple[str, str, int, str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a run's uses are to be written down, as the daemon says."""

    run: str
    key: Secret[bytes]
    first: int
    show: Callable[[], None]
    """Has the daemon see the file, so that it misses one that is taken away; raises AuthsomeError."""
    tell: Callable[[], None]
    """Has the daemon take in what there is; blocks, and raises nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """An answer, and until when it counts."""

    credential: Credential
    epoch: int
    since: int
    until: int
    steady_until: float


class Shelf:
    """One run's answers."""

    def __init__(self, directory: Path, changes: Changes, teller: Teller) -> None:
        """Take where uses are written down, who hears of changes, and who tells the daemon of uses."""
        self._directory = directory
        self._changes = changes
        self._teller = teller
        self._by_key: dict[_Key, _Kept] = {}
        self._routes: tuple[int, float, RouteTable] | None = None
        self._spool: Spool | None = None
        self._is_spool_wanted = False
        """Whether a second request has come: most runs make one."""
        self._has_spool_failed = False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether anything can be kept, and used."""
        return not self._has_spool_failed

    def use(self, method: str, target: Target, path: str, connection: str | None) -> Credential | None:
        """An answer that counts, its use written down; None: there is none."""
        by_key, spool = self._by_key, self._spool
        if not by_key:
            return None
        host, port = target.host, target.port
        kept = by_key.get((method, host, port, connection, "")) or by_key.get((method, host, port, connection, path))
        if kept is None or kept.epoch != self._changes.epoch():
            return None
        if spool is None:
            self._is_spool_wanted = True
            return None
        at = clock.microseconds()
        if not kept.since <= at < kept.until or clock.steady() >= kept.steady_until:
            return None
        credential = kept.credential
        rest = use.rest_of(method, host, path, credential.provider, credential.connection)
        if rest is None or not spool.write(at, rest):
            return None
        return credential

    def routes(self, ask: Callable[[], RouteTable]) -> RouteTable:
        """The routes as of now: as they were asked for before, while nothing has changed since, or as `ask` says."""
        kept = self._routes
        if kept is not None and kept[0] == self._changes.epoch() and clock.steady() < kept[1]:
            return kept[2]
        epoch, until = self._changes.listen(), clock.steady() + ROUTES_SECONDS
        table = ask()
        if epoch != NOBODY:
            self._routes = epoch, until, table
        return table

    def before_asking(self, open_spool: Callable[[], Opening]) -> int:
        """The epoch that an answer to what is asked now will be kept with; `NOBODY`: it will not."""
        if self._is_spool_wanted and self._spool is None and not self._has_spool_failed:
            self._open(open_spool)
        return NOBODY if self._has_spool_failed else self._changes.listen()

    def _open(self, open_spool: Callable[[], Opening]) -> None:
        with self._lock:
            if self._spool is not None or self._has_spool_failed:
                return
            spool: Spool | None = None
            try:
                opening = open_spool()
                spool = Spool(
                    self._directory,
                    opening.run,
                    Codes(opening.key),
                    opening.first,
                    on_news=lambda: self._teller.tell_soon(opening.tell),
                )
                opening.show()
            except (OSError, AuthsomeError, ValueError) as error:
                self._has_spool_failed = True
                if spool is not None:
                    spool.stop()
                log.warning("uses cannot be written down, so each request is asked for: %s", error)
            self._spool = spool  # only now: nothing is written into a file that the daemon has not seen

    def keep(self, credential: Credential, question: Question, *, epoch: int) -> None:
        """Keep an answer for as long as it says; `epoch` is what `before_asking` said before."""
        if credential.reusable_seconds <= 0 or credential.path is not None:
            return
        since = clock.microseconds()
        kept = _Kept(
            credential=credential,
            epoch=epoch,
            since=since,
            until=since + int(credential.reusable_seconds * _MICRO),
            steady_until=clock.steady() + credential.reusable_seconds,
        )
        if len(self._by_key) >= MOST:
            self._by_key = {}
        place = "" if credential.is_for_any_path else question.path
        target = question.target
        self._by_key[question.method, target.host, target.port, question.connection, place] = kept

    def clear(self) -> int:
        """Forget all answers; what comes now is not to be kept."""
        self._by_key = {}
        return NOBODY

    def count(self) -> int:
        """How many uses have been written down."""
        return 0 if self._spool is None else self._spool.count()

    def stop(self) -> bool:
        """Use nothing any more; whether uses may have been written down."""
        self.clear()
        with self._lock:
            self._has_spool_failed = True
            if self._spool is not None:
                self._spool.stop()
            return self._spool is not None

    def close(self) -> None:
        """Let go of what they were written to, once the daemon knows how many they are."""
        if self._spool is not None:
            self._spool.close()
