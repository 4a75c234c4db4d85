"""The chain of the log as a whole: begun when the store is unlocked, checked from its beginning to its end.

Rule: what is found to be wrong is written down and never mended: the entry about it stays a flaw as long as the log
has it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.crypto import aead
from authsome.crypto.signing import ServerKey
from authsome.errors import VaultDamaged
from authsome.home import Home
from authsome.models import chain
from authsome.models.audit import Event
from authsome.models.chain import Checkpoint, Flaw, Place, Reason, Walk
from authsome.vault import audit, checkpoints
from authsome.vault.columns import from_moment
from authsome.vault.database import Database, Reader, Transaction
from authsome.vault.notary import Notary
from authsome.vault.vaults import SERVER, Sealers

STRIDE: Final = 5000
"""Entries that are checked at once: some 50 ms."""
_PURPOSE: Final = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a check has come."""

    begins: int
    """The entry before the first that is there."""
    reached: int
    """The last entry that was found to be right."""
    mark: str
    """Its mark; see `chain.mark`."""
    last: int
    """The last entry that there is."""
    before_chain: int
    """The last entry that is older than the chain: up to it the entries are as they were found."""
    signed: int
    """How many checkpoints were found to be signed, and true, in this step."""
    is_done: bool
    flaw: Flaw | None


def begin(database: Database, home: Home, sealers: Sealers, *, now: datetime) -> None:
    """Engage the notary; what happened to the log while nobody watched is found, and written down.

    Where the store is new, or from before the chain, the chain begins: entries that are there get their place in it.
    """
    with database.read() as reader:
        store = str(reader.execute("SELECT id FROM store").fetchone()[0])
        row = reader.execute("SELECT sealed FROM server_key").fetchone()
    secret = aead.new_key() if row is None else sealers.unwrap_own(row[0], SERVER)
    sealers.derive_from(secret)
    notary = Notary(ServerKey(secret, _PURPOSE), store, home)
    database.engage(notary)
    if not database.is_writable:
        return
    flaw: Flaw | None
    with database.transaction() as tx:
        flaw = _adopt(tx, notary) if row is None else _seen(tx, notary)
        if row is None:
            tx.execute(
                "INSERT INTO server_key (id, sealed, created_at) VALUES (1, ?, ?)",
                (sealers.wrap_own(secret, SERVER), from_moment(now)),
            )
        place = audit.last_place(tx)
        notary.begin(place if row is None else None)
        tx.logged(place)
        if flaw is not None:
            place = audit.append_damage(tx, flaw, at=now)
        newest = checkpoints.last(tx, store)
        if newest is None or newest.ends.id < place.id:
            reason = Reason.BEGIN if newest is None else Reason.START
            checkpoints.take(tx, notary, reason, place, at=from_moment(now))


def close(database: Database, *, now: datetime) -> None:
    """Sign the log's end, where it has grown since the last checkpoint."""
    checkpoint(database, Reason.SHUTDOWN, now=now)


def checkpoint(database: Database, reason: Reason, *, now: datetime) -> None:
    """Take a checkpoint where the log has grown since the last one, durably."""
    notary = database.notary
    if notary is None or not database.is_writable:
        return
    with database.transaction() as tx:
        place = audit.end(tx)
        newest = checkpoints.last(tx, notary.store)
        if newest is None or newest.ends.id < place.id:
            checkpoints.take(tx, notary, reason, place, at=from_moment(now))
    notary.sync()


def sign_export(tx: Transaction, notary: Notary, begins: Place, ends: Place, *, now: datetime) -> Checkpoint:
    """Sign what lies between two places; the later one is the log's end."""
    return checkpoints.take(tx, notary, Reason.EXPORT, ends, at=from_moment(now), begins=begins)


def verify(database: Database, *, after: int | None, limit: int = STRIDE) -> Progress:
    """Check the chain, one stride of it.

    Args:
        database: the store's.
        after: the entry that was reached before; None begins.
        limit: how many entries at most.
    """
    notary = database.notary
    assert notary is not None
    written, damage = _written(notary)  # before the table is read: it is never ahead of that
    with database.read() as reader:
        last = audit.last_place(reader).id
        begins = checkpoints.beginning(reader, notary.store)
        old = checkpoints.before_chain(reader)
        start = begins if after is None or after <= begins.id else audit.place_of(reader, after)
        if start is None:
            gone = Flaw(after or 0, f"entry {after} is missing")
            return Progress(
                begins=begins.id,
                reached=begins.id,
                mark=chain.mark(begins),
                last=last,
                before_chain=old,
                signed=0,
                is_done=True,
                flaw=gone,
            )
        walk = Walk(start)
        signed, flaw = _stride(reader, notary, walk, limit, is_first=start == begins)
        reached = walk.place.id
        is_done = flaw is not None or reached >= last
        if flaw is None and is_done:
            flaw = damage or _end_flaw(reader, notary, walk.place, written)
    return Progress(
        begins=begins.id,
        reached=reached,
        mark=chain.mark(walk.place),
        last=last,
        before_chain=old,
        signed=signed,
        is_done=is_done,
        flaw=flaw,
    )


def mark_of(database: Database, number: int) -> str | None:
    """The mark of an entry; None where it is not there."""
    notary = database.notary
    assert notary is not None
    with database.read() as reader:
        begins = checkpoints.beginning(reader, notary.store)
        place = begins if number == begins.id else audit.place_of(reader, number)
    return None if place is None else chain.mark(place)


def _stride(reader: Reader, notary: Notary, walk: Walk, limit: int, *, is_first: bool) -> tuple[int, Flaw | None]:
    """Walk on; how many checkpoints were found to be true, and what is wrong."""
    ahead = list(checkpoints.of_places(reader, notary.store, walk.place.id - is_first, walk.place.id + limit))[::-1]
    signed = 0
    while ahead and ahead[-1].ends.id == walk.place.id:
        if (flaw := walk.check(ahead.pop(), notary.has_signed)) is not None:
            return signed, flaw
        signed += 1
    for line, seal in audit.lines(reader, after=walk.place.id, limit=limit):
        if (flaw := walk.step(line) or audit.unsealed(notary, line, seal)) is not None:
            return signed, flaw
        if line.columns[0] == Event.LOG_DAMAGED:
            return signed, Flaw(line.id, str(line.columns[-1]))
        while ahead and ahead[-1].ends.id == line.id:
            if (flaw := walk.check(ahead.pop(), notary.has_signed)) is not None:
                return signed, flaw
            signed += 1
    return signed, None


def _end_flaw(reader: Reader, notary: Notary, place: Place, written: Place | None) -> Flaw | None:
    """What is wrong with the end of a chain that is whole up to there."""
    newest = checkpoints.last(reader, notary.store)
    if newest is None or not checkpoints.is_whole(reader):
        return Flaw(place.id, "a checkpoint of the log is missing")
    for known, source in ((written, "the file beside the database"), (newest.ends, f"checkpoint {newest.number}")):
        if known is not None and known.id > place.id:
            first = place.id + 1
            gone = f"entry {first} is" if known.id == first else f"entries {first} to {known.id} are"
            return Flaw(first, f"{gone} missing from the end of the log, as {source} tells")
    if written is not None and written.id > 0 and audit.place_of(reader, written.id) not in {written, None}:
        return Flaw(written.id, f"entry {written.id} is not the one that was there")
    return None


def _written(notary: Notary) -> tuple[Place | None, Flaw | None]:
    try:
        return notary.read_end(), None
    except VaultDamaged as error:
        return None, Flaw(0, error.message)


def _adopt(tx: Transaction, notary: Notary) -> Flaw | None:
    """Begin the chain with what is there; a flaw, where one was begun before with a key that is gone."""
    place = chain.genesis(notary.store)
    since = _chained_since(tx)
    was_begun = checkpoints.last(tx, notary.store) is not None or (_has_owner(tx) and _written(notary) != (None, None))
    if was_begun and audit.last_place(tx) == place:
        return Flaw(0, "the log was begun before, and all of it is gone")
    for line, _ in audit.lines(tx, after=0, limit=-1):
        if line.hash is not None or was_begun or line.at > since:
            return Flaw(line.id, "the log was begun with another key, which is gone")
        place = Place(line.id, chain.entry_hash(place.hash, line.id, line.at, line.columns))
        tx.execute("UPDATE audit SET hash = ?, seal = ? WHERE id = ?", (place.hash, notary.seal(place.hash), line.id))
    return None


def _chained_since(reader: Reader) -> int:
    """From when on no entry is without a place in the chain."""
    (since,) = reader.execute("SELECT applied_at FROM migrations WHERE name = 'audit_chain'").fetchone()
    return int(since)


def _has_owner(reader: Reader) -> bool:
    """Whether somebody owns the store: a file beside one that is new may be another's."""
    return reader.execute("SELECT 1 FROM principals LIMIT 1").fetchone() is not None


def _seen(tx: Transaction, notary: Notary) -> Flaw | None:
    """What was done to the end of the log since we wrote it down."""
    written, damage = _written(notary)
    if damage is not None:
        return damage
    if written is None:
        return Flaw(0, "the file that tells how far the log had come is gone")
    return audit.foreign(tx, written)
