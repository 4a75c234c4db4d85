"""The log as a whole: checked, exported, and kept within what the settings allow.

Rule: an export is on record before it begins, and what is signed ends with that very entry.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import record
from authsome.broker.context import Context
from authsome.home import Home, read_config
from authsome.identity.did import did_from_public_key
from authsome.models import log_export
from authsome.models.audit import Event
from authsome.models.chain import Checkpoint, Place, Reason
from authsome.models.notice import Notice
from authsome.models.principal import Caller
from authsome.models.retention import retention
from authsome.vault import audit, chain, checkpoints, pruning
from authsome.vault.chain import Progress
from authsome.vault.columns import from_moment
from authsome.vault.database import Reader

_KEEPING: Final = timedelta(hours=1)
_EVEN: Final = timedelta(minutes=15)
"""A machine that starts with a wrong clock has asked for the time by then."""
_DRIFT: Final = timedelta(minutes=1)

_log: Final = logging.getLogger("authsome.broker")

PAGE: Final = 1000
"""Entries of an export in one answer: half a megabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was begun to be exported."""

    store: str
    public: bytes
    begins: Place
    ends: Place
    checkpoint: Checkpoint | None
    """None: the caller gets the entries of its own vault, which are no chain."""

    @property
    def header(self) -> log_export.Header:
        """The first line."""
        return log_export.Header(
            store=self.store,
            key=did_from_public_key(self.public),
            begins=self.begins,
            is_whole=self.checkpoint is not None,
        )


class AuditLog:
    """The use cases around the log."""

    def __init__(self, context: Context, home: Home) -> None:
        self._context = context
        self._home = home
        self._even_since = (context.clock(), context.steady())
        """Since when the two clocks have gone alike: what one said when the other said that."""
        self._kept_at: float | None = None

    def keep(self) -> None:
        """Sign how far the log has come, and let go of what the settings do not want kept; once an hour.

        Raises:
            UsageError: the settings cannot be read.
            StorageFailed: nothing can be written.
        """
        context, steady = self._context, self._context.steady()
        trusted = self._trusts_clock()
        if self._kept_at is not None and steady - self._kept_at < _KEEPING.total_seconds():
            return
        keep = retention(read_config(self._home))
        waits = keep.age is not None and not trusted
        if waits:
            if self._kept_at is None and keep.entries is None:
                return  # soon
            keep = replace(keep, age=None)
        self._kept_at = None if waits else steady
        chain.checkpoint(context.database, Reason.INTERVAL, now=context.clock())
        pruned = pruning.prune(context.database, keep, now=context.clock())
        if pruned.flaw is not None:
            _log.warning("the log is damaged, so nothing of it is removed: %s", pruned.flaw.problem)
            self._context.notify(Notice.of_log(pruned.flaw.problem))

    def _trusts_clock(self) -> bool:
        """Whether the clock has gone evenly for a while: one that was just set, or waits for that, ages nothing."""
        now, steady = self._context.clock(), self._context.steady()
        since, steady_since = self._even_since
        lived = steady - steady_since
        if abs((now - since).total_seconds() - lived) > _DRIFT.total_seconds():
            self._even_since = (now, steady)
            return False
        return lived >= _EVEN.total_seconds()

    @property
    def public(self) -> bytes:
        """The public half of the key that signs checkpoints."""
        notary = self._context.database.notary
        assert notary is not None
        return notary.public

    def verify(self, after: int | None) -> Progress:
        """Check the chain, one stride of it, from the entry that was reached before."""
        return chain.verify(self._context.database, after=after)

    def mark_of(self, number: int) -> str | None:
        """What tells the entry of this number from any other that might have stood there; None: it is gone."""
        return chain.mark_of(self._context.database, number)

    def begin_export(self, caller: Caller, since: datetime | None) -> Export:
        """Write down that the log is exported, and sign it up to there.

        Args:
            caller: an admin gets all of it, anybody else what is theirs, a limited identity what it did itself.
            since: begin with the first entry of that time or later; what lies behind it is all in the export.
        """
        database, now = self._context.database, self._context.clock()
        notary = database.notary
        assert notary is not None
        with database.transaction(durable=True) as tx:
            begins = checkpoints.beginning(tx, notary.store)
            if since is not None:
                begins = _before(tx, begins, from_moment(since))
            detail = f"from entry {begins.id + 1} on"
            ends = audit.append(tx, record.by_caller(Event.LOG_EXPORTED, caller, now, detail=detail))
            checkpoint = chain.sign_export(tx, notary, begins, ends, now=now) if caller.is_admin else None
        return Export(store=notary.store, public=notary.public, begins=begins, ends=ends, checkpoint=checkpoint)

    def export_page(self, caller: Caller, *, after: int, upto: int, limit: int) -> list[Mapping[str, object]]:
        """The lines of the entries that follow one, up to another."""
        with self._context.database.read() as reader:
            if not caller.is_admin:
                limited_to = None if caller.limits.is_none else caller.handle
                own = audit.lines_of(
                    reader,
                    caller.vault_id,
                    limited_to,
                    after=after,
                    upto=upto,
                    limit=limit,
                    tells_decoys=not caller.limits.is_narrow,
                )
                return [log_export.entry_to_json(line, None) for line in own]
            found: list[Mapping[str, object]] = []
            previous = audit.place_of(reader, after) or checkpoints.beginning(reader, self._store)
            digest: bytes | None = previous.hash
            for line, _ in audit.lines(reader, after=after, limit=limit):
                if line.id > upto:
                    break
                found.append(log_export.entry_to_json(line, digest))
                digest = line.hash
            return found

    @property
    def _store(self) -> str:
        notary = self._context.database.notary
        assert notary is not None
        return notary.store


def _before(reader: Reader, begins: Place, moment: int) -> Place:
    """The place before the first entry of a time or later."""
    least = max(begins.id, checkpoints.last_before(reader, moment))
    first = audit.first_since(reader, moment, after=least)
    if first is None:  # none is that young: begin with what is written down now
        return audit.last_place(reader)
    return audit.place_of(reader, first - 1) or begins
