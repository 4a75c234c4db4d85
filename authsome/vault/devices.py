"""Browsers that have signed in to an account before, so that strangers' guesses do not keep their owners out.

The idea is OWASP's device cookie: what is tried from such a browser is counted by itself.
"""

from datetime import datetime

from authsome.crypto import token
from authsome.secret import Secret
from authsome.vault.columns import from_moment
from authsome.vault.database import Reader, Transaction


def put(transaction: Transaction, key: Secret[str], *, principal_id: str, expires_at: datetime) -> None:
    """Note that a browser has signed in to a principal's account."""
    transaction.execute(
        "INSERT INTO devices (token_hash, principal_id, expires_at) VALUES (?, ?, ?)"
        " ON CONFLICT (token_hash) DO UPDATE SET expires_at = excluded.expires_at",
        (token.hash_of(key), principal_id, from_moment(expires_at)),
    )


def knows(reader: Reader, key: Secret[str], *, principal_id: str, now: datetime) -> bool:
    """Whether the browser that holds this key has signed in to this principal's account."""
    row = reader.execute(
        "SELECT 1 FROM devices WHERE token_hash = ? AND principal_id = ? AND expires_at > ?",
        (token.hash_of(key), principal_id, from_moment(now)),
    ).fetchone()
    return row is not None


def forget(transaction: Transaction, principal_id: str) -> int:
    """Forget all browsers of a principal; how many they were."""
    return transaction.execute("DELETE FROM devices WHERE principal_id = ?", (principal_id,)).rowcount


def purge(transaction: Transaction, *, now: datetime) -> int:
    """Forget those that were not used for long; how many they were."""
    return transaction.execute("DELETE FROM devices WHERE expires_at <= ?", (from_moment(now),)).rowcount
