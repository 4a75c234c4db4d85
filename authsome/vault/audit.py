"""The audit log: appended in the transaction of the act it tells of, read newest first.

Rule: one row a line. What comes from outside is cut and cleaned here, once, so that no reader has to mistrust it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.models.audit import Entry, Event, Recorded
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = "at, event, vault_id, principal, identity, provider, connection, method, host, path, run, detail"
_LONGEST: Final = 512
"""Longer than any honest host, path or cause; a page of 1000 rows stays below the daemon's limit."""
_MOST_ROWS: Final = 1000

_Cell = str | None
_Row = tuple[
    int, int, str, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell, _Cell
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries are wanted; None asks for all."""

    event: Event | None = None
    provider: str | None = None
    identity: str | None = None
    since: datetime | None = None


EVERYTHING: Final = Filter()


def append(transaction: Transaction, entry: Entry) -> None:
    """Add an entry; committed with its act, and before a secret leaves the daemon."""
    transaction.execute(
        f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            from_moment(entry.at),
            entry.event.value,
            entry.vault_id,
            _line(entry.principal),
            _line(entry.identity),
            _line(entry.provider),
            _line(entry.connection),
            _line(entry.method),
            _line(entry.host),
            _line(entry.path),
            _line(entry.run),
            _line(entry.detail),
        ),
    )


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
    wanted: list[tuple[str, str | int]] = []
    if before_id is not None:
        wanted.append(("id < ?", before_id))
    if vault_id is not None:
        wanted.append(("vault_id = ?", vault_id))
    if filters.event is not None:
        # said twice, because an index over the rare events is used only where the query shows that it may be
        rare = "" if filters.event is Event.RESOLVE else " AND event <> 'resolve'"
        wanted.append((f"event = ?{rare}", filters.event.value))
    if filters.provider is not None:
        wanted.append(("provider = ?", filters.provider))
    if filters.identity is not None:
        wanted.append(("identity = ?", filters.identity))
    if filters.since is not None:
        wanted.append(("at >= ?", from_moment(filters.since)))
    where = f" WHERE {' AND '.join(condition for condition, _ in wanted)}" if wanted else ""
    rows = reader.execute(
        f"SELECT id, {_COLUMNS} FROM audit{where} ORDER BY id DESC LIMIT ?",
        (*(value for _, value in wanted), max(1, min(limit, _MOST_ROWS))),
    )
    return [_recorded(row) for row in rows]


def _recorded(row: _Row) -> Recorded:
    with readable("an audit entry"):
        number, at, event, vault_id, principal, identity, provider, connection, method, host, path, run, detail = row
        return Recorded(
            id=number,
            entry=Entry(
                at=to_moment(at),
                event=Event(event),
                vault_id=vault_id,
                principal=principal,
                identity=identity,
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
    if text is None or (len(text) <= _LONGEST and text.isprintable()):
        return text
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
