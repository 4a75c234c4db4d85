"""Pruning: the oldest entries of the log go, and a signed checkpoint stands for them.

Rules:
1. What goes is the beginning of the log, up to one entry. By age it ends before the first entry that is not old, by its
   own time: an entry that a clock dated ahead keeps all behind it, and one that was dated back takes nothing along.
2. What goes was found to be whole first. A log that is not stays as it is: it is evidence.
3. The checkpoint and the entry that tells of it are there before the first row is gone; a crash leaves rows that the
   next pruning removes, and that nobody counts.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.models.audit import Entry, Event
from authsome.models.chain import Flaw, Place, Reason
from authsome.models.retention import Retention
from authsome.vault import audit, chain, checkpoints
from authsome.vault.columns import from_moment
from authsome.vault.database import Database, Reader

STRIDE: Final = 500
"""Rows that go in one transaction: nobody waits longer for them than some milliseconds."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of it."""

    entries: int
    flaw: Flaw | None = None
    """Why nothing was removed, where something was to be."""


def prune(database: Database, keep: Retention, *, now: datetime) -> Pruned:
    """Remove what is not to be kept.

    Args:
        database: the store's.
        keep: what is; an age counts only where the clock can be trusted, which the caller decides.
        now: the current time.
    """
    notary = database.notary
    if notary is None or not database.is_writable:
        return Pruned(0)
    _sweep(database)
    with database.read() as reader:
        begins = checkpoints.beginning(reader, notary.store)
        target = _target(reader, begins, keep, now)
    if target <= begins.id:
        return Pruned(0)
    if (flaw := _flaw(database, target)) is not None:
        return Pruned(0, flaw)
    with database.transaction() as tx:
        place = audit.place_of(tx, target)
        assert place is not None  # it was walked over just now
        detail = f"entries {begins.id + 1} to {target}: {_why(keep)}"
        audit.append(tx, Entry(event=Event.LOG_PRUNED, at=now, detail=detail))
        checkpoints.take(tx, notary, Reason.RETENTION, place, at=from_moment(now))
    _sweep(database)
    return Pruned(target - begins.id)


def _target(reader: Reader, begins: Place, keep: Retention, now: datetime) -> int:
    """The last entry that goes; the newest always stays, and one more will tell of it."""
    newest = audit.last_place(reader).id
    target = begins.id
    if keep.entries is not None:
        target = max(target, newest + 1 - keep.entries)
    if keep.age is not None:
        moment = from_moment(now - keep.age)
        old = max(begins.id, checkpoints.last_before(reader, moment))
        first = audit.first_since(reader, moment, after=old)
        target = max(target, (newest if first is None else first) - 1)
    return min(target, newest - 1)


def _flaw(database: Database, target: int) -> Flaw | None:
    """What is wrong with the entries that are to go."""
    reached: int | None = None
    while reached is None or reached < target:
        progress = chain.verify(database, after=reached)
        if progress.flaw is not None or progress.is_done:
            return progress.flaw
        reached = progress.reached
    return None


def _why(keep: Retention) -> str:
    limits = [f"{keep.age.days} days"] if keep.age is not None else []
    limits += [f"{keep.entries} entries"] if keep.entries is not None else []
    return f"no more than {' or '.join(limits)} are kept"


def _sweep(database: Database) -> None:
    """Remove the rows that a checkpoint stands for."""
    notary = database.notary
    assert notary is not None
    with database.read() as reader:
        upto = checkpoints.beginning(reader, notary.store).id
    while upto:
        with database.transaction(durable=False) as tx:
            if not audit.remove(tx, upto=upto, limit=STRIDE):
                return
