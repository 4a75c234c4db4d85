"""The audit log: appended in the transaction of the act it tells of, read newest first.

Rules:
1. One row a line. What comes from outside is cut and cleaned here, once, so that no reader has to mistrust it.
2. An entry follows the last one that the table has, whoever wrote it, and carries its hash (models/chain.py).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.models import chain
from authsome.models.audit import Entry, Event, Recorded
from authsome.models.chain import Flaw, Line, Place, Reason, Walk
from authsome.models.connection import HONEYTOKEN
from authsome.vault import checkpoints
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.notary import Notary

_COLUMNS: Final = (
    "at, event, vault_id, principal, identity, proof, provider, connection, method, host, path, run, detail, hash"
)
_LONGEST: Final = 512
"""Longer than any honest host, path or cause; a page of 1000 rows stays below the daemon's limit."""
_MOST_ROWS: Final = 1000
_PROBE: Final = 2000
"""Where several filters are given, the rarest leads: each is counted up to here."""
CHECKPOINT_EVERY: Final = 1000
"""Entries: a signature costs as much as a few of them; whoever looks for a time reads no more of them in vain."""

_Cell = str | None
_Row = tuple[
    int, int, str, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, bytes | None
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries are wanted; None asks for all."""

    event: Event | None = None
    provider: str | None = None
    identity: str | None = None
    since: datetime | None = None
    tells_decoys: bool = True
    """Whether entries about honeytokens are among them."""


EVERYTHING: Final = Filter()


def append(transaction: Transaction, entry: Entry) -> Place:
    """Add an entry at the end of the chain; committed with its act, and before a secret leaves the daemon.

    Returns:
        its place, which nobody else has.
    """
    before = end(transaction)
    at, number = from_moment(entry.at), before.id + 1
    texts: tuple[_Cell, ...] = (
        entry.principal, entry.identity, entry.proof, entry.provider, entry.connection, entry.method, entry.host,
        entry.path, entry.run, entry.detail,
    )  # fmt: skip
    if not _is_line("".join(filter(None, texts))):  # hardly ever, and dearer than to look at all of them at once
        texts = tuple(map(_line, texts))
    columns = (entry.event.value, entry.vault_id, *texts)
    place = Place(number, chain.entry_hash(before.hash, number, at, columns))
    notary = transaction.notary
    seal = notary.seal(place.hash) if notary is not None else None
    transaction.execute(
        f"INSERT INTO audit (id, {_COLUMNS}, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, at, *columns, place.hash, seal),
    )
    transaction.logged(place)
    if notary is not None and number % CHECKPOINT_EVERY == 0:
        checkpoints.take(transaction, notary, Reason.INTERVAL, place, at=at)
    return place


def end(transaction: Transaction) -> Place:
    """Where the log ends, as the table says; what is wrong there is on record first, if it is not as we left it."""
    written = transaction.written
    if transaction.has_logged:
        assert written is not None
        return written
    found = last_place(transaction)
    if written is not None and found != written:
        transaction.logged(found)  # it is looked at once
        if (flaw := foreign(transaction, written)) is not None:
            return append_damage(transaction, flaw, at=_newest(transaction))
    return found


def last_place(reader: Reader) -> Place:
    """The place of the newest entry; the genesis where there is none."""
    row = reader.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    if row is None:
        return chain.genesis(str(reader.execute("SELECT id FROM store").fetchone()[0]))
    return Place(row[0], row[1] if isinstance(row[1], bytes) else b"")


def place_of(reader: Reader, number: int) -> Place | None:
    """The place of one entry; None when it is not there."""
    row = reader.execute("SELECT id, hash FROM audit WHERE id = ?", (number,)).fetchone()
    return None if row is None else Place(row[0], row[1] if isinstance(row[1], bytes) else b"")


def foreign(transaction: Transaction, written: Place) -> Flaw | None:
    """What others than this server have done to the end of the log since it was at a place; other daemons of it may."""
    notary = transaction.notary
    if notary is None:
        return None
    place = last_place(transaction)
    if place.id < written.id:
        gone = f"entry {written.id} is" if written.id == place.id + 1 else f"entries {place.id + 1} to {written.id} are"
        return Flaw(place.id + 1, f"{gone} missing from the end of the log")
    if written.id > 0 and (there := place_of(transaction, written.id)) != written:
        return Flaw(written.id, f"entry {written.id} {'is missing' if there is None else 'was changed'}")
    walk = Walk(written)
    for line, seal in lines(transaction, after=written.id, limit=-1):
        if (flaw := walk.step(line) or unsealed(notary, line, seal)) is not None:
            return flaw
    return None


def lines(reader: Reader, *, after: int, limit: int) -> Iterator[tuple[Line, object]]:
    """The entries that follow one, in order, as they are hashed, with their seals; a limit of -1 is none."""
    rows = reader.execute(f"SELECT id, {_COLUMNS}, seal FROM audit WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
    for row in rows:
        yield Line(row[0], row[1], row[2:-2], row[-2]), row[-1]


def lines_of(  # noqa: PLR0913  # each by name
    reader: Reader,
    vault_id: str,
    identity: str | None,
    *,
    after: int,
    upto: int,
    limit: int,
    tells_decoys: bool = True,
) -> Iterator[Line]:
    """One vault's entries, or one identity's in it, after one and not after another, in order."""
    whose, values = ("vault_id = ?", (vault_id,)) if identity is None else (
        "identity = ? AND (vault_id || '') = ?", (identity, vault_id),
    )  # fmt: skip
    if not tells_decoys:
        whose, values = f"{whose} AND (event || '') <> ?", (*values, Event.HONEYTOKEN.value)
    rows = reader.execute(
        f"SELECT id, {_COLUMNS} FROM audit WHERE {whose} AND id > ? AND id <= ? ORDER BY id LIMIT ?",
        (*values, after, upto, limit),
    )
    for row in rows:
        yield Line(row[0], row[1], row[2:-1], row[-1])


def heads(reader: Reader, *, after: int, vault_id: str | None, limit: int) -> list[tuple[int, str | None, Event]]:
    """Entries after one, in order: the number of each, whose vault it concerns, and what happened.

    Args:
        reader: where to read.
        after: the last one that is known.
        vault_id: only this vault's; None: every vault's.
        limit: how many at most.
    """
    where, values = ("", ()) if vault_id is None else (" AND vault_id = ?", (vault_id,))
    rows = reader.execute(
        f"SELECT id, vault_id, event FROM audit WHERE id > ?{where} ORDER BY id LIMIT ?", (after, *values, limit)
    )
    with readable("an audit entry"):
        return [(number, whose, Event(event)) for number, whose, event in rows]


def last_of(reader: Reader, vault_id: str | None) -> int:
    """The number of the newest entry that concerns a vault, or any; 0 where there is none."""
    where, values = ("", ()) if vault_id is None else (" WHERE vault_id = ?", (vault_id,))
    row = reader.execute(f"SELECT max(id) FROM audit{where}", values).fetchone()
    return int(row[0] or 0)


def first_since(reader: Reader, moment: int, *, after: int) -> int | None:
    """The first entry after one that is of a time (in microseconds) or later."""
    row = reader.execute(
        "SELECT id FROM audit WHERE id > ? AND at >= ? ORDER BY id LIMIT 1", (after, moment)
    ).fetchone()
    return None if row is None else int(row[0])


def remove(transaction: Transaction, *, upto: int, limit: int) -> int:
    """Remove the oldest entries, up to one that a checkpoint of retention covers; how many they were."""
    gone = transaction.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id <= ? ORDER BY id LIMIT ?)", (upto, limit)
    )
    return gone.rowcount


def unsealed(notary: Notary, line: Line, seal: object) -> Flaw | None:
    """The flaw of an entry that this server has not written."""
    if line.hash is None or seal != notary.seal(line.hash):
        return Flaw(line.id, f"entry {line.id} was not written by this server")
    return None


def append_damage(transaction: Transaction, flaw: Flaw, *, at: datetime) -> Place:
    """Write down where the log was found to be damaged, and have it told once that is committed."""
    transaction.damage = flaw.problem
    return append(transaction, Entry(event=Event.LOG_DAMAGED, at=at, detail=flaw.problem))


def _newest(reader: Reader) -> datetime:
    """The time of the newest entry."""
    (at,) = reader.execute("SELECT max(at) FROM (SELECT at FROM audit ORDER BY id DESC LIMIT 1)").fetchone()
    return to_moment(at or 0)


def page(
    reader: Reader,
    vault_id: str | None,
    filters: Filter = EVERYTHING,
    *,
    before_id: int | None = None,
    limit: int = 50,
) -> list[Recorded]:
    """The newest entries that match, newest first; `before_id`, the last id of a page, asks for the next one.

    Args:
        reader: where to read.
        vault_id: only this vault's entries; None means every vault's, and is for admins.
        filters: which entries are wanted.
        before_id: only entries before this one.
        limit: how many at most; 1000 are the most.
    """
    equal = {
        "vault_id": vault_id,
        "event": filters.event.value if filters.event is not None else None,
        "provider": filters.provider,
        "identity": filters.identity,
    }
    chosen = {column: value for column, value in equal.items() if value is not None}
    lead = _rarest(reader, chosen) if len(chosen) > 1 else None
    wanted: list[tuple[str, str | int]] = [
        # no index holds an expression, so that none but the leading one is used
        (f"{column} = ?{_rare(column, value)}" if lead in {None, column} else f"({column} || '') = ?", value)
        for column, value in chosen.items()
    ]
    if not filters.tells_decoys:
        wanted.append(("(event || '') <> ?", Event.HONEYTOKEN.value))
    if before_id is not None:
        wanted.append(("id < ?", before_id))
    if filters.since is not None:
        since = from_moment(filters.since)
        wanted += (("id > ?", checkpoints.last_before(reader, since)), ("at >= ?", since))
    where = f" WHERE {' AND '.join(condition for condition, _ in wanted)}" if wanted else ""
    rows = reader.execute(
        f"SELECT id, {_COLUMNS} FROM audit{where} ORDER BY id DESC LIMIT ?",
        (*(value for _, value in wanted), max(1, min(limit, _MOST_ROWS))),
    )
    return [_recorded(row) for row in rows]


def last_uses_of_honeytokens(
    reader: Reader, vault_id: str, providers: Collection[str]
) -> dict[tuple[str, str], datetime]:
    """When these providers' honeytokens were used last since they were planted, by provider and name."""
    marks = ", ".join("?" * len(providers))
    rows = reader.execute(
        "SELECT c.provider, c.name, (SELECT a.at FROM audit a WHERE a.event = ? AND a.event <> 'resolve'"
        " AND (a.vault_id || '') = c.vault_id AND (a.provider || '') = c.provider AND a.connection = c.name"
        " AND a.at >= c.created_at ORDER BY a.id DESC LIMIT 1)"
        f" FROM connections c WHERE c.vault_id = ? AND c.flow = ? AND c.provider IN ({marks})",
        (Event.HONEYTOKEN.value, vault_id, HONEYTOKEN, *providers),
    )
    return {(provider, name): to_moment(at) for provider, name, at in rows if at is not None}


def _rarest(reader: Reader, chosen: Mapping[str, str]) -> str:
    """The column whose value the fewest entries have: by its index the page is found with the least reading."""
    counted = dict.fromkeys(chosen, _PROBE)
    for column, value in chosen.items():
        if value != Event.RESOLVE:  # which nearly every entry is
            query = f"SELECT count(*) FROM (SELECT 1 FROM audit WHERE {column} = ?{_rare(column, value)} LIMIT ?)"
            (counted[column],) = reader.execute(query, (value, _PROBE)).fetchone()
    return min(counted, key=lambda column: counted[column])


def _rare(column: str, value: str) -> str:
    """Said of an event, because an index over the rare ones is used only where the query shows that it may be."""
    return " AND event <> 'resolve'" if column == "event" and value != Event.RESOLVE else ""


def _recorded(row: _Row) -> Recorded:
    with readable("an audit entry"):
        (
            number, at, event, vault_id, principal, identity, proof, provider, connection, method, host, path, run,
            detail, digest,
        ) = row  # fmt: skip
        return Recorded(
            id=number,
            hash=digest,
            entry=Entry(
                at=to_moment(at),
                event=Event(event),
                vault_id=vault_id,
                principal=principal,
                identity=identity,
                proof=proof,
                provider=provider,
                connection=connection,
                method=method,
                host=host,
                path=path,
                run=run,
                detail=detail,
            ),
        )


def _line(text: str | None) -> str | None:
    """One line of printable characters: control characters and line ends would forge rows and steer terminals."""
    if text is None or _is_line(text):
        return text
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)


def _is_line(text: str) -> bool:
    return len(text) <= _LONGEST and text.isprintable()
