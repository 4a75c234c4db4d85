"""How much each connection was used, and when last by whom: counted from the log afterwards, a piece at a time.

Rule: a request that gets a credential pays nothing for this. What the log holds beyond the mark is counted when
somebody looks, so the answer is exact as long as that is not more than `_TAIL` entries.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from authsome.vault.columns import from_moment, to_moment
from authsome.vault.database import Reader, Transaction

KEPT: Final = timedelta(days=90)
_PIECE: Final = 5_000  # entries counted in one transaction: some 10 ms, for which others wait
_TAIL: Final = 2_000  # entries counted while somebody waits: some 2 ms
_DAY: Final = 86_400_000_000  # microseconds
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class LastUse:
    """When a connection was last used, and by which identity: by the log's order, which no clock set back changes."""

    at: datetime
    identity: str | None


def count_up(transaction: Transaction) -> bool:
    """Count the next piece of the log; False when nothing is left."""
    mark, newest = _mark(transaction), _newest(transaction)
    if mark >= newest:
        return False
    end = min(mark + _PIECE, newest)
    transaction.execute(
        "INSERT INTO usage_days (vault_id, day, provider, connection, uses)"
        f" SELECT vault_id, at / {_DAY}, provider, connection, count(*) FROM audit"
        " WHERE id > ? AND id <= ? AND event = 'resolve' AND vault_id IS NOT NULL"
        " GROUP BY 1, 2, provider, connection"
        " ON CONFLICT (vault_id, day, provider, connection) DO UPDATE SET uses = usage_days.uses + excluded.uses",
        (mark, end),
    )
    transaction.execute(
        "INSERT INTO run_uses (run, provider, connection, uses)"
        " SELECT run, provider, connection, count(*) FROM audit"
        " WHERE id > ? AND id <= ? AND event = 'resolve' AND run IN (SELECT id FROM runs)"
        " GROUP BY run, provider, connection"
        " ON CONFLICT (run, provider, connection) DO UPDATE SET uses = run_uses.uses + excluded.uses",
        (mark, end),
    )
    for row in _last_rows(transaction, mark, end, None):
        transaction.execute(
            "INSERT INTO last_uses (vault_id, provider, connection, identity, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (vault_id, provider, connection)"
            " DO UPDATE SET identity = excluded.identity, at = excluded.at",
            row,
        )
    transaction.execute(
        "INSERT INTO usage_mark (id, audit_id) VALUES (1, ?) ON CONFLICT (id)"
        " DO UPDATE SET audit_id = excluded.audit_id",
        (end,),
    )
    return end < newest


def forget(transaction: Transaction, now: datetime) -> None:
    """Forget the days that nobody looks back to, and the vaults and runs that are gone: the log may name them still."""
    transaction.execute("DELETE FROM usage_days WHERE day < ?", (from_moment(now - KEPT) // _DAY,))
    transaction.execute("DELETE FROM last_uses WHERE vault_id NOT IN (SELECT id FROM vaults)")
    transaction.execute("DELETE FROM run_uses WHERE run NOT IN (SELECT id FROM runs)")


def per_day(
    reader: Reader, vault_id: str, *, since: date, provider: str | None = None, connection: str | None = None
) -> dict[date, int]:
    """How often a vault's connections, or one of them, were used on each day (in UTC) that they were."""
    first = (since - _EPOCH).days
    only = ""
    values: tuple[str, ...] = ()
    if provider is not None:
        only, values = " AND provider = ? AND connection = ?", (provider, connection or "")
    found: dict[int, int] = {}
    counted = reader.execute(
        f"SELECT day, sum(uses) FROM usage_days WHERE vault_id = ? AND day >= ?{only} GROUP BY day",
        (vault_id, first, *values),
    )
    mark = _begin_of_tail(reader)
    tail = reader.execute(
        f"SELECT at / {_DAY}, count(*) FROM audit"
        f" WHERE id > ? AND event = 'resolve' AND vault_id = ? AND at / {_DAY} >= ?{only} GROUP BY at / {_DAY}",
        (mark, vault_id, first, *values),
    )
    for day, number in [*counted, *tail]:
        found[int(day)] = found.get(int(day), 0) + int(number)
    return {_EPOCH + timedelta(days=day): number for day, number in found.items()}


def last_uses(reader: Reader, vault_id: str, providers: Collection[str]) -> dict[tuple[str, str], LastUse]:
    """When each of these providers' connections was last used, by provider and name."""
    marks = ", ".join("?" * len(providers))
    rows = reader.execute(
        f"SELECT provider, connection, identity, at FROM last_uses WHERE vault_id = ? AND provider IN ({marks})",
        (vault_id, *providers),
    )
    found = {(provider, name): LastUse(to_moment(at), identity) for provider, name, identity, at in rows}
    for _, provider, name, identity, at in _last_rows(reader, _begin_of_tail(reader), _newest(reader), vault_id):
        if provider in providers:
            found[provider, name] = LastUse(to_moment(at), identity)
    return found


def of_runs(reader: Reader, vault_id: str, runs: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
    """How often each of a vault's runs used which connections, by run; those that used none are not there."""
    marks = ", ".join("?" * len(runs))
    found: dict[str, dict[tuple[str, str], int]] = {}
    counted = reader.execute(
        "SELECT u.run, u.provider, u.connection, u.uses FROM run_uses u JOIN runs r ON r.id = u.run"
        f" WHERE r.vault_id = ? AND u.run IN ({marks})",
        (vault_id, *runs),
    )
    tail = reader.execute(
        "SELECT run, provider, connection, count(*) FROM audit"
        f" WHERE id > ? AND event = 'resolve' AND vault_id = ? AND run IN ({marks}) GROUP BY run, provider, connection",
        (_begin_of_tail(reader), vault_id, *runs),
    )
    for run, provider, name, number in [*counted, *tail]:
        of_run = found.setdefault(run, {})
        of_run[provider, name] = of_run.get((provider, name), 0) + int(number)
    return found


def _last_rows(
    reader: Reader, after: int, until: int, vault_id: str | None
) -> list[tuple[str, str, str, str | None, int]]:
    """For each connection the newest use among some entries of the log."""
    only = "vault_id IS NOT NULL" if vault_id is None else "vault_id = ?"
    rows = reader.execute(
        "SELECT vault_id, provider, connection, identity, at FROM audit WHERE id IN ("
        f"SELECT max(id) FROM audit WHERE id > ? AND id <= ? AND event = 'resolve' AND {only}"
        " GROUP BY vault_id, provider, connection)",
        (after, until) if vault_id is None else (after, until, vault_id),
    )
    return rows.fetchall()


def _begin_of_tail(reader: Reader) -> int:
    return max(_mark(reader), _newest(reader) - _TAIL)


def _mark(reader: Reader) -> int:
    row = reader.execute("SELECT audit_id FROM usage_mark WHERE id = 1").fetchone()
    return 0 if row is None else int(row[0])


def _newest(reader: Reader) -> int:
    return int(reader.execute("SELECT coalesce(max(id), 0) FROM audit").fetchone()[0])
