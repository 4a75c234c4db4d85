"""Refreshes under way: who may ask a provider for new tokens just now, and what became of the last one who did.

Rules:
1. A row is written before the provider is asked and goes with the transaction that stores its answer. So a row that
   is found tells of a refresh whose answer never came: who holds it is at it, was killed over it, or lost the network.
2. The lease is a claim by an owner until a moment, in the database: of all processes that share one, one refreshes a
   connection. It ends by itself, for its owner may be dead.
3. It costs no sync: what a loss of power takes with it is only the knowledge that somebody had begun.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.models.connection import Connection
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction

LENGTH: Final = timedelta(seconds=60)
"""Longer than a request to a provider may take (30 s) and its answer's way to the disk; what a killed one costs."""

_KEY: Final = "vault_id = ? AND provider = ? AND connection = ?"
_STOPPED: Final = "the daemon was stopped before the provider's answer was stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A refresh whose answer never came."""

    at: datetime
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to refresh one revision of a connection."""

    connection: Connection
    owner: str
    began_at: datetime
    lost: Lost | None
    """An earlier attempt upon the same revision: its refresh token may be spent."""


def take(transaction: Transaction, connection: Connection, owner: str, *, now: datetime) -> Lease | None:
    """Claim a connection's refresh; None while somebody else has it. One's own claim is taken up again.

    A claim that ends later than any could is from before the clock was set back, and is void.
    """
    moment, end = from_moment(now), from_moment(now + LENGTH)
    taken = transaction.execute(
        "INSERT INTO refreshes (vault_id, provider, connection, revision, owner, began_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (vault_id, provider, connection) DO UPDATE SET"
        " lost_at = CASE WHEN refreshes.revision <> excluded.revision THEN NULL"
        " WHEN refreshes.owner IS NULL OR refreshes.owner = excluded.owner"
        " THEN refreshes.lost_at ELSE refreshes.began_at END,"
        " lost_how = CASE WHEN refreshes.revision <> excluded.revision THEN NULL"
        " WHEN refreshes.owner IS NULL OR refreshes.owner = excluded.owner"
        " THEN refreshes.lost_how ELSE ? END,"
        " revision = excluded.revision, owner = excluded.owner, began_at = excluded.began_at,"
        " expires_at = excluded.expires_at"
        " WHERE refreshes.owner IS NULL OR refreshes.owner = excluded.owner OR refreshes.expires_at <= ?"
        " OR refreshes.expires_at > ?",
        (*_key(connection), connection.revision, owner, moment, end, _STOPPED, moment, end),
    )
    if taken.rowcount != 1:
        return None
    row = transaction.execute(f"SELECT lost_at, lost_how FROM refreshes WHERE {_KEY}", _key(connection)).fetchone()
    with readable(f"a refresh of {connection.provider}/{connection.name}"):
        lost_at, lost_how = row
        lost = None if lost_at is None else Lost(at=to_moment(lost_at), how=str(lost_how))
    return Lease(connection=connection, owner=owner, began_at=now, lost=lost)


def is_taken(reader: Reader, connection: Connection, *, now: datetime) -> bool:
    """Whether somebody is refreshing a connection."""
    row = reader.execute(f"SELECT owner, expires_at FROM refreshes WHERE {_KEY}", _key(connection)).fetchone()
    if row is None or row[0] is None:
        return False
    return from_moment(now) < int(row[1]) <= from_moment(now + LENGTH)


def end(transaction: Transaction, lease: Lease) -> None:
    """Give a claim back: the provider has answered, and there is nothing more to know."""
    transaction.execute(f"DELETE FROM refreshes WHERE {_KEY} AND owner = ?", (*_key(lease.connection), lease.owner))


def leave(transaction: Transaction, lease: Lease, lost: Lost) -> None:
    """Give a claim back, and keep in mind that an answer is missing."""
    transaction.execute(
        f"UPDATE refreshes SET owner = NULL, lost_at = ?, lost_how = ? WHERE {_KEY} AND owner = ?",
        (from_moment(lost.at), lost.how, *_key(lease.connection), lease.owner),
    )


def abandon_all(transaction: Transaction) -> int:
    """Void every claim: for a process that is alone on the database, so that whoever had one is dead."""
    return transaction.execute(
        "UPDATE refreshes SET lost_at = began_at, lost_how = ?, owner = NULL WHERE owner IS NOT NULL", (_STOPPED,)
    ).rowcount


def _key(connection: Connection) -> tuple[str, str, str]:
    return (connection.vault_id, connection.provider, connection.name)
