"""What SQLite's errors mean to a user.

Rule: "database is locked" and its kin never reach one; a fault of ours (a broken constraint, wrong SQL) is not
dressed up.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from authsome.errors import AuthsomeError, DaemonBusy, StorageFailed, VaultUnusable

DAMAGED_HINT: Final = (
    "it was left as it is: put a backup in its place (authsome admin restore FILE --force), or move it away"
)
READ_ONLY_HINT: Final = "make AUTHSOME_HOME writable for this user, then restart the daemon"

_MEANINGS: Final[Mapping[int, tuple[type[AuthsomeError], str, str | None]]] = {
    sqlite3.SQLITE_FULL: (StorageFailed, "the vault could not be written: the disk is full", None),
    sqlite3.SQLITE_IOERR: (
        StorageFailed,
        "the vault could not be read or written: the disk is full or faulty",
        "see that it has space and is sound, then try again; nothing that was stored is lost",
    ),
    **dict.fromkeys(
        (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN),
        (StorageFailed, "the vault cannot be written: its directory or file is read-only", READ_ONLY_HINT),
    ),
    **dict.fromkeys(
        (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
        (DaemonBusy, "another program keeps the vault busy", "close what has server/store.db open"),
    ),
    **dict.fromkeys(
        (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
        (VaultUnusable, "the vault's database is damaged", DAMAGED_HINT),
    ),
    sqlite3.SQLITE_NOMEM: (DaemonBusy, "there is not enough memory to use the vault", None),
}


def meaning(error: sqlite3.Error) -> AuthsomeError | None:
    """The error to raise in its place; None when it is a fault of this program."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int) or (known := _MEANINGS.get(code & 0xFF)) is None:  # the upper bits: more detail
        return None
    kind, message, hint = known
    return kind(message, hint=hint)


@contextmanager
def explained() -> Iterator[None]:
    """Raise what an SQLite error means in its place."""
    try:
        yield
    except sqlite3.Error as error:
        if (better := meaning(error)) is None:
            raise
        raise better from error
