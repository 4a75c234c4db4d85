"""Claims: questions of identities to be bound to whoever answers them; of a token only the hash is kept.

Rule: an identity has one open question; the next one takes its place, and its answer removes it.
"""

import hashlib
from datetime import datetime
from typing import Final

from authsome.models.principal import Claim
from authsome.secret import Secret
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = "handle, did, created_at, expires_at, refused_at"

_Row = tuple[str, str, int, int, int | None]


def put(transaction: Transaction, claim: Claim, token: Secret[str]) -> None:
    """Store an identity's question in place of the one it had."""
    transaction.execute("DELETE FROM claims WHERE handle = ?", (claim.handle,))
    transaction.execute(
        "INSERT INTO claims (handle, did, token_hash, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
        (claim.handle, claim.did, hash_of(token), from_moment(claim.created_at), from_moment(claim.expires_at)),
    )


def by_token(reader: Reader, token: Secret[str]) -> Claim | None:
    """The question that this token belongs to, answered and expired ones too."""
    row = reader.execute(f"SELECT {_COLUMNS} FROM claims WHERE token_hash = ?", (hash_of(token),)).fetchone()
    return None if row is None else _claim(row)


def by_handle(reader: Reader, handle: str) -> Claim | None:
    """An identity's question."""
    row = reader.execute(f"SELECT {_COLUMNS} FROM claims WHERE handle = ?", (handle,)).fetchone()
    return None if row is None else _claim(row)


def list_open(reader: Reader, *, now: datetime, limit: int) -> list[Claim]:
    """The questions that wait for an answer, newest first."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM claims WHERE refused_at IS NULL AND expires_at > ?"
        " ORDER BY created_at DESC, handle LIMIT ?",
        (from_moment(now), limit),
    )
    return [_claim(row) for row in rows.fetchall()]


def mark(reader: Reader) -> str:
    """A text that is another one whenever a question was asked, answered or forgotten."""
    row = reader.execute("SELECT count(*), count(refused_at), sum(created_at) FROM claims").fetchone()
    return " ".join(str(each) for each in row)


def delete(transaction: Transaction, handle: str) -> None:
    """Forget an identity's question."""
    transaction.execute("DELETE FROM claims WHERE handle = ?", (handle,))


def refuse(transaction: Transaction, handle: str, *, now: datetime) -> None:
    """Note that the answer is no; the one who asked is told so until the question expires."""
    transaction.execute("UPDATE claims SET refused_at = ? WHERE handle = ?", (from_moment(now), handle))


def purge(transaction: Transaction, now: datetime) -> int:
    """Forget the questions that have expired; how many they were."""
    return transaction.execute("DELETE FROM claims WHERE expires_at <= ?", (from_moment(now),)).rowcount


def hash_of(token: Secret[str]) -> bytes:
    """What is stored of a token: drawn from 256 bits, so that nothing slower is needed."""
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).digest()


def _claim(row: _Row) -> Claim:
    with readable("a claim"):
        handle, did, created_at, expires_at, refused_at = row
        return Claim(
            handle=handle,
            did=did,
            created_at=to_moment(created_at),
            expires_at=to_moment(expires_at),
            was_refused=refused_at is not None,
        )
