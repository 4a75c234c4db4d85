"""Checkpoints: the server's signed word on how far the log had come, kept beside it.

Rule: one is added and none ever changed. Those of entries that were removed stay: they are what is left of them.
"""

from collections.abc import Iterator
from typing import Final

from authsome.models.chain import Checkpoint, Place, Reason, genesis
from authsome.vault.columns import readable
from authsome.vault.notary import Notary
from authsome.vault.writer import Reader, Transaction

_COLUMNS: Final = "number, begins_after, begins_hash, ends_at, ends_hash, latest, taken_at, reason, signature"


def take(  # noqa: PLR0913  # what it says
    transaction: Transaction,
    notary: Notary,
    reason: Reason,
    ends: Place,
    *,
    at: int,
    begins: Place | None = None,
) -> Checkpoint:
    """Sign the log up to a place.

    Args:
        transaction: where the place is.
        notary: who signs.
        reason: why.
        ends: the place, of an entry that is there.
        at: the time in microseconds.
        begins: the place before the first entry that is vouched for; None: of all that are there.
    """
    row = transaction.execute("SELECT max(number) FROM audit_checkpoints").fetchone()
    checkpoint = notary.sign(
        Checkpoint(
            number=(row[0] or 0) + 1,
            store=notary.store,
            begins=begins or beginning(transaction, notary.store),
            ends=ends,
            latest=_latest(transaction, ends.id),
            taken_at=at,
            reason=reason,
        )
    )
    transaction.execute(
        f"INSERT INTO audit_checkpoints ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            checkpoint.number,
            checkpoint.begins.id,
            checkpoint.begins.hash,
            ends.id,
            ends.hash,
            checkpoint.latest,
            at,
            reason.value,
            checkpoint.signature,
        ),
    )
    return checkpoint


def last(reader: Reader, store: str) -> Checkpoint | None:
    """The newest checkpoint."""
    return next(_read(reader, store, "ORDER BY number DESC LIMIT 1"), None)


def removed(reader: Reader, store: str) -> Checkpoint | None:
    """The checkpoint that stands for the entries that retention has removed; None where it has removed none."""
    return next(_read(reader, store, "WHERE reason = ? ORDER BY ends_at DESC LIMIT 1", Reason.RETENTION.value), None)


def beginning(reader: Reader, store: str) -> Place:
    """The place before the first entry that is there."""
    gone = removed(reader, store)
    return gone.ends if gone is not None else genesis(store)


def before_chain(reader: Reader) -> int:
    """The last entry that was there when the chain began; 0 where there was none."""
    row = reader.execute(
        "SELECT ends_at FROM audit_checkpoints WHERE reason = ? ORDER BY number LIMIT 1", (Reason.BEGIN.value,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def of_places(reader: Reader, store: str, after: int, upto: int) -> Iterator[Checkpoint]:
    """Those that end after one entry and not after another, in the order of their ends."""
    return _read(reader, store, "WHERE ends_at > ? AND ends_at <= ? ORDER BY ends_at, number", after, upto)


def is_whole(reader: Reader) -> bool:
    """Whether none is missing between the first and the last."""
    count, least, most = reader.execute(
        "SELECT count(*), coalesce(min(number), 1), coalesce(max(number), 0) FROM audit_checkpoints"
    ).fetchone()
    return bool(least == 1 and most == count)


def last_before(reader: Reader, moment: int) -> int:
    """An entry before which, itself included, none is of this moment or later; 0 where that is not known.

    A checkpoint says the greatest time before it, so this holds although a clock was set back in between.
    """
    row = reader.execute(
        "SELECT ends_at FROM audit_checkpoints WHERE latest < ? ORDER BY ends_at DESC LIMIT 1", (moment,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _latest(reader: Reader, number: int) -> int:
    """The greatest time of any entry up to this one."""
    row = reader.execute(
        "SELECT ends_at, latest FROM audit_checkpoints WHERE ends_at <= ? ORDER BY ends_at DESC LIMIT 1", (number,)
    ).fetchone()
    since, latest = (0, 0) if row is None else row
    (greatest,) = reader.execute("SELECT max(at) FROM audit WHERE id > ? AND id <= ?", (since, number)).fetchone()
    return max(int(latest), int(greatest or 0))


def _read(reader: Reader, store: str, rest: str, *values: str | int) -> Iterator[Checkpoint]:
    for row in reader.execute(f"SELECT {_COLUMNS} FROM audit_checkpoints {rest}", values):
        with readable("a checkpoint of the log"):
            number, begins_after, begins_hash, ends_at, ends_hash, latest, taken_at, reason, signature = row
            yield Checkpoint(
                number=number,
                store=store,
                begins=Place(begins_after, bytes(begins_hash)),
                ends=Place(ends_at, bytes(ends_hash)),
                latest=latest,
                taken_at=taken_at,
                reason=Reason(reason),
                signature=bytes(signature),
            )
