"""What SQLite's errors become: one line with a hint, and never "database is locked"."""

import sqlite3

import pytest

from authsome.errors import DaemonBusy, StorageFailed, VaultUnusable
from authsome.vault import faults


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFailed),
        (sqlite3.SQLITE_IOERR, StorageFailed),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFailed),
        (sqlite3.SQLITE_READONLY, StorageFailed),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageFailed),
        (sqlite3.SQLITE_CANTOPEN, StorageFailed),
        (sqlite3.SQLITE_BUSY, DaemonBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DaemonBusy),
        (sqlite3.SQLITE_LOCKED, DaemonBusy),
        (sqlite3.SQLITE_NOMEM, DaemonBusy),
        (sqlite3.SQLITE_CORRUPT, VaultUnusable),
        (sqlite3.SQLITE_NOTADB, VaultUnusable),
        (sqlite3.SQLITE_CONSTRAINT, None),
        (sqlite3.SQLITE_ERROR, None),
        (None, None),
    ],
)
def test_meaning(code, kind):
    error = sqlite3.OperationalError("database is locked")
    if code is not None:
        error.sqlite_errorcode = code
    better = faults.meaning(error)
    if kind is None:
        assert better is None
        with pytest.raises(sqlite3.OperationalError), faults.explained():
            raise error
    else:
        assert type(better) is kind
        assert better.hint
        assert "locked" not in better.message
        with pytest.raises(kind) as caught, faults.explained():
            raise error
        assert caught.value.__cause__ is error


def test_locked_database_never_reaches_the_user(database, paths):  # SEC-195
    """Another program that holds the file makes us wait, then gets named as the cause."""
    intruder = sqlite3.connect(paths.database, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    database._writer._connection.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(DaemonBusy, match="another program"), database.transaction():
        pass
    intruder.execute("ROLLBACK")
    intruder.close()
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM replay")
