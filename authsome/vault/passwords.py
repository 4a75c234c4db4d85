"""Passwords of principals: what Argon2id made of them, beside what it was told."""

from datetime import datetime
from typing import Final

from authsome.crypto import password as crypto
from authsome.crypto.kdf import Parameters
from authsome.crypto.password import Hashed
from authsome.secret import Secret
from authsome.vault.columns import from_moment, readable
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = "salt, time_cost, memory_kib, lanes, digest"

_Row = tuple[bytes, int, int, int, bytes]


def prepare(password: Secret[str]) -> Hashed:
    """What is to be kept of a password; takes about 0.1 s."""
    return crypto.hashed(password)


def fits(password: Secret[str], kept: Hashed) -> bool:
    """Whether this is the password that `kept` was made of."""
    return crypto.fits(password, kept)


def waste(password: Secret[str]) -> None:
    """Take as long as `fits` does, for an account that there is not."""
    crypto.waste(password)


def get(reader: Reader, principal_id: str) -> Hashed | None:
    """What is kept of a principal's password; None when it has none."""
    row: _Row | None = reader.execute(
        f"SELECT {_COLUMNS} FROM passwords WHERE principal_id = ?", (principal_id,)
    ).fetchone()
    if row is None:
        return None
    with readable("a password"):
        salt, time_cost, memory_kib, lanes, digest = row
        parameters = Parameters(salt=bytes(salt), time_cost=time_cost, memory_kib=memory_kib, lanes=lanes)
        return Hashed(parameters, bytes(digest))


def put(transaction: Transaction, principal_id: str, password: Hashed, *, now: datetime) -> None:
    """Set a principal's password."""
    parameters = password.parameters
    transaction.execute(
        f"INSERT INTO passwords (principal_id, {_COLUMNS}, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (principal_id) DO UPDATE SET salt = excluded.salt, time_cost = excluded.time_cost,"
        " memory_kib = excluded.memory_kib, lanes = excluded.lanes, digest = excluded.digest,"
        " changed_at = excluded.changed_at",
        (
            principal_id,
            parameters.salt,
            parameters.time_cost,
            parameters.memory_kib,
            parameters.lanes,
            password.digest,
            from_moment(now),
        ),
    )
