"""What was tried in vain: how often, and when last, for each who tried and what was tried on."""

from datetime import datetime

from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction


def count(reader: Reader, bucket: bytes) -> tuple[int, datetime] | None:
    """How many there were, and when the last one was; None for none."""
    row = reader.execute("SELECT failures, last_at FROM attempts WHERE bucket = ?", (bucket,)).fetchone()
    if row is None:
        return None
    with readable("attempts to sign in"):
        return int(row[0]), to_moment(row[1])


def put(transaction: Transaction, bucket: bytes, failures: int, *, now: datetime) -> None:
    """Set how many there were, the last one now; none are forgotten."""
    if failures <= 0:
        transaction.execute("DELETE FROM attempts WHERE bucket = ?", (bucket,))
        return
    transaction.execute(
        "INSERT INTO attempts (bucket, failures, last_at) VALUES (?, ?, ?)"
        " ON CONFLICT (bucket) DO UPDATE SET failures = excluded.failures, last_at = excluded.last_at",
        (bucket, failures, from_moment(now)),
    )


def purge(transaction: Transaction, *, before: datetime) -> int:
    """Forget what was last tried before a moment; how many these were."""
    return transaction.execute("DELETE FROM attempts WHERE last_at < ?", (from_moment(before),)).rowcount
