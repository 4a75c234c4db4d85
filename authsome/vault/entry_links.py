"""One-time links into the dashboard; of the token in a link only the hash is kept."""

from datetime import datetime

from authsome.crypto import token
from authsome.secret import Secret
from authsome.vault.columns import from_moment, latest
from authsome.vault.database import Reader, Transaction


def create(transaction: Transaction, key: Secret[str], *, identity: str, now: datetime, expires_at: datetime) -> None:
    """Store a link for the identity that asked for it."""
    transaction.execute(
        "INSERT INTO entry_links (token_hash, identity, created_at, expires_at) VALUES (?, ?, ?, ?)",
        (token.hash_of(key), identity, from_moment(now), from_moment(expires_at)),
    )


def find(reader: Reader, key: Secret[str], *, now: datetime) -> str | None:
    """The identity whose link this is, if it is still good; one from before the clock was set back is not."""
    row = reader.execute(
        "SELECT identity FROM entry_links WHERE token_hash = ? AND expires_at > ? AND created_at <= ?",
        (token.hash_of(key), from_moment(now), latest(now)),
    ).fetchone()
    return None if row is None else str(row[0])


def spend(transaction: Transaction, key: Secret[str], *, now: datetime) -> str | None:
    """As `find`; the link is good no more."""
    identity = find(transaction, key, now=now)
    transaction.execute("DELETE FROM entry_links WHERE token_hash = ?", (token.hash_of(key),))
    return identity


def purge(transaction: Transaction, *, now: datetime) -> int:
    """Forget those that are not good any more; how many they were."""
    gone = transaction.execute(
        "DELETE FROM entry_links WHERE expires_at <= ? OR created_at > ?", (from_moment(now), latest(now))
    )
    return gone.rowcount
