"""Runs: the children behind the proxy, as they are stored."""

from datetime import datetime
from typing import Final

from authsome.models.run import Run
from authsome.vault.columns import (
    from_moment,
    from_names,
    from_optional_moment,
    from_words,
    readable,
    to_moment,
    to_names,
    to_optional_moment,
    to_words,
)
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = (
    "id, secret_hash, vault_id, identity, pinned, only_providers, created_at, expires_at, ended_at, inside, command"
)

_Row = tuple[str, bytes, str, str, str, str, int, int | None, int | None, str | None, str | None]


def create(transaction: Transaction, run: Run) -> None:
    """Store a new run."""
    transaction.execute(
        f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.id,
            run.secret_hash,
            run.vault_id,
            run.identity,
            from_names(run.pinned),
            from_words(tuple(sorted(run.only))),
            from_moment(run.created_at),
            from_optional_moment(run.expires_at),
            from_optional_moment(run.ended_at),
            run.inside,
            run.command,
        ),
    )


def get(reader: Reader, run_id: str) -> Run | None:
    """The run of that id, ended ones too until they are purged."""
    row = reader.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()
    return None if row is None else _run(row)


def begun_in(reader: Reader, run_id: str) -> list[Run]:
    """The runs that were begun in this one, and have not ended."""
    rows = reader.execute(f"SELECT {_COLUMNS} FROM runs WHERE inside = ? AND ended_at IS NULL", (run_id,))
    return [_run(row) for row in rows.fetchall()]


def end(transaction: Transaction, run_id: str, *, now: datetime) -> bool:
    """Note that a run has ended; False when it had before, or there is none."""
    changed = transaction.execute(
        "UPDATE runs SET ended_at = ? WHERE id = ? AND ended_at IS NULL", (from_moment(now), run_id)
    )
    return changed.rowcount == 1


def end_of_identity(transaction: Transaction, handle: str, *, now: datetime) -> int:
    """Note that an identity's runs have ended; how many had not before."""
    return transaction.execute(
        "UPDATE runs SET ended_at = ? WHERE identity = ? AND ended_at IS NULL", (from_moment(now), handle)
    ).rowcount


def count_live(reader: Reader, vault_id: str, *, now: datetime) -> int:
    """How many runs of a vault may still get credentials."""
    row = reader.execute(
        "SELECT count(*) FROM runs WHERE vault_id = ? AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > ?)",
        (vault_id, from_moment(now)),
    ).fetchone()
    return int(row[0])


def list_live(reader: Reader, vault_id: str, *, now: datetime, limit: int, offset: int = 0) -> list[Run]:
    """Some of a vault's runs that may still get credentials, newest first."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM runs"
        " WHERE vault_id = ? AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > ?)"
        " ORDER BY created_at DESC, id LIMIT ? OFFSET ?",
        (vault_id, from_moment(now), limit, offset),
    )
    return [_run(row) for row in rows]


def purge(transaction: Transaction, *, before: datetime) -> int:
    """Forget the runs that ended or expired before a moment; how many they were."""
    moment = from_moment(before)
    return transaction.execute("DELETE FROM runs WHERE ended_at < ? OR expires_at < ?", (moment, moment)).rowcount


def _run(row: _Row) -> Run:
    with readable("a run"):
        run_id, secret_hash, vault_id, identity, pinned, only, created_at, expires_at, ended_at, inside, command = row
        return Run(
            id=run_id,
            secret_hash=bytes(secret_hash),
            vault_id=vault_id,
            identity=identity,
            pinned=to_names(pinned),
            only=frozenset(to_words(only)),
            created_at=to_moment(created_at),
            expires_at=to_optional_moment(expires_at),
            ended_at=to_optional_moment(ended_at),
            inside=inside,
            command=command,
        )
