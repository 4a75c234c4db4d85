"""The database: one SQLite file in WAL mode, opened by one process at a time.

Rules:
1. The file appears complete or not at all: it is made under another name, with its schema, and renamed. So a file that
   lacks anything was damaged, and is refused, never filled in.
2. An older schema is migrated in one transaction, after a copy was put beside the file; a newer one is refused.
3. Every file has mode 0600 from its first byte: SQLite gives `-wal` and `-shm` the mode of the file itself.
"""

import errno
import os
import secrets
import sqlite3
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from authsome.clock import Clock
from authsome.errors import DaemonUnavailable, StorageFailed, UnsafeFile, VaultUnusable, reason_of
from authsome.home import open_private, privacy_problem, sync_directory
from authsome.vault import faults, schema
from authsome.vault.columns import from_moment
from authsome.vault.combining import Combiner, Result
from authsome.vault.lock import HomeLock
from authsome.vault.notary import Notary
from authsome.vault.writer import Reader, Transaction, Writer

__all__ = ["Database", "Reader", "Transaction"]

_BUSY_SECONDS: Final = 10.0
"""How long another program (a backup, the sqlite3 shell) may keep us waiting."""
_SETTLE_MILLISECONDS: Final = 1000
"""How long writers wait at most for the log to be emptied, while somebody reads in it."""
_IDLE_READERS: Final = 8
_CHECKPOINT_PAGES: Final = 2000
"""A checkpoint costs two syncs: one per some hundred requests, while the log stays at 8 MiB."""
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_SMALL_TABLES: Final = (
    "migrations", "store", "master_key", "vaults", "principals", "identities", "connections", "secrets", "clients",
    "refreshes", "claims", "invitations", "issuers", "server_key",
)  # fmt: skip
"""Checked at each start; the others may be large, and a fault in them shows where it is met, or in `check()`."""
_SETTINGS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # what was deleted is overwritten, not only forgotten
    "PRAGMA temp_store = MEMORY",  # nothing outside our directory
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # on macOS only this reaches the disk
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {_CHECKPOINT_PAGES * 4096}",
)
_READER_SETTINGS: Final = (*_SETTINGS, "PRAGMA query_only = ON", "PRAGMA cache_size = -512")


class Database:
    """The open database: one writer with group commit, and pooled readers that it never blocks."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self._writable = writable
        self._readers: deque[sqlite3.Connection] = deque()
        self._closed = False
        self._writer = Writer(_connect(path, writable=writable))
        self._combiner = Combiner(lambda: self._transaction(durable=False, only_logs=True))

    @classmethod
    def open(
        cls, lock: HomeLock, *, clock: Clock, migrations: tuple[schema.Migration, ...] = schema.MIGRATIONS
    ) -> Self:
        """Open the home's database, made or migrated as need be; the home lock must be held until `close`.

        Raises:
            UnsafeFile: a file is a link, belongs to somebody else, or is open to others.
            VaultUnusable: damaged, made by a newer version, or no vault at all; the file is left as it was.
            StorageFailed: it cannot be made or migrated for want of space or rights.
        """
        if not lock.held:
            raise DaemonUnavailable("the home lock was given back")
        path = lock.home.database
        with faults.explained():
            if not _is_there(path):
                _create(path, migrations, clock)
            writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
            with closing(_connect(path, writable=writable)) as connection:
                _inspect(connection)
                if writable:
                    _migrate(path, connection, migrations, clock)
            return cls(path, writable=writable)

    @property
    def is_writable(self) -> bool:
        """Whether anything can be stored here at all."""
        return self._writable

    @property
    def notary(self) -> Notary | None:
        """Who seals the log; None before the store is unlocked."""
        return self._writer.notary

    def engage(self, notary: Notary) -> None:
        """From now on have the log sealed, and its end written down; the notary is closed with the database."""
        self._writer.notary = notary

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[Transaction]:
        """Run a body in a transaction; see `Writer.transaction`.

        Raises:
            StorageFailed: also at once, when the home is read-only.
        """
        return self._transaction(durable=durable)

    def _transaction(self, *, durable: bool, only_logs: bool = False) -> AbstractContextManager[Transaction]:
        if not self._writable:
            raise StorageFailed(
                "the vault cannot be written: its directory or file is read-only",
                hint=faults.READ_ONLY_HINT,
            )
        return self._writer.transaction(durable=durable, only_logs=only_logs)

    def announce_to(self, told: Callable[[], None]) -> None:
        """From now on call this before and after anything that may change an answer is committed, and at `announce`.

        Args:
            told: returns soon and raises nothing.
        """
        self._writer.on_change = told

    def tell_of_damage(self, told: Callable[[str], None]) -> None:
        """From now on, and for what was found before, call this with what is found wrong with the log.

        Args:
            told: returns soon and raises nothing.
        """
        self._writer.on_damage = told
        if self._writer.damage is not None:
            told(self._writer.damage)

    def report_to(self, told: Callable[[], None]) -> None:
        """From now on call this after each COMMIT that changed or logged anything.

        Args:
            told: returns soon and raises nothing.
        """
        self._writer.on_commit = told

    def announce(self) -> None:
        """Tell that something has changed which answers depend on, and which does not lie here."""
        self._writer.on_change()

    def combined(self, body: Callable[[Transaction], Result]) -> Result:
        """Run a body in a transaction that it may share with others of its kind; see `Combiner`. Not durable.

        It writes nothing but the log, the replay memory and identities' last uses; what it recalls need not be read
        again.

        Raises:
            StorageFailed: also at once, when the home is read-only.
        """
        return self._combiner.run(body)

    def combined_all(self, bodies: Sequence[Callable[[Transaction], Result]]) -> list[Result | Exception]:
        """Run bodies such as `combined` takes, all in one transaction: each one's result, or what it raised."""
        return self._combiner.run_all(bodies)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Read in one snapshot, neither blocked by writers nor blocking them.

        Raises:
            VaultUnusable: the database is damaged.
            DaemonUnavailable: the vault was closed.
        """
        if self._closed:
            raise DaemonUnavailable("the vault is closed: the daemon is stopping")
        with faults.explained():
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = _connect(self.path, writable=self._writable, settings=_READER_SETTINGS)
            try:
                connection.execute("BEGIN")
                yield Reader(connection)
            finally:
                self._put_back(connection)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            return
        if self._closed or len(self._readers) >= _IDLE_READERS:
            connection.close()
        else:
            self._readers.append(connection)

    def check(self) -> tuple[str, ...]:
        """Everything that SQLite finds wrong with the whole file, in its words; reads all of it."""
        found: list[str] = []
        try:
            with self.read() as reader:
                found += (str(row[0]) for row in reader.execute("PRAGMA integrity_check"))
                found += (f"broken reference from {row[0]}" for row in reader.execute("PRAGMA foreign_key_check"))
        except VaultUnusable as error:  # so badly that SQLite cannot go on looking
            found.append(error.message)
        return tuple(line for line in found if line != "ok")

    def copy_to(self, path: Path) -> None:
        """Put a consistent copy at a path that holds nothing yet, while work goes on.

        Raises:
            StorageFailed: there is something, or it cannot be written.
        """
        with faults.explained(), closing(_connect(self.path, writable=self._writable)) as connection:
            _copy(connection, path)

    def settle_log(self) -> bool:
        """Take the log into the database and empty it, so that what was deleted or overwritten lies in neither.

        False when somebody still reads in it, which others do not wait for; the next time does what this one did not.

        Raises:
            StorageFailed: it cannot be written.
        """
        with faults.explained(), closing(_connect(self.path, writable=self._writable)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {_SETTLE_MILLISECONDS}")
            (blocked, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not blocked

    def forget_copies(self) -> None:
        """Remove the copies from before migrations: they hold what was to be destroyed, under keys that were replaced.

        Raises:
            StorageFailed: they cannot be removed.
        """
        try:
            for copy in self.path.parent.glob(self.path.name + ".before-*"):
                copy.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path.parent, error) from error

    def close(self) -> None:
        """Wait for the transactions under way, then close; once is enough."""
        if self._closed:
            return
        self._closed = True
        while self._readers:
            with suppress(IndexError):
                self._readers.pop().close()
        self._writer.close()


def _connect(path: Path, *, writable: bool = True, settings: tuple[str, ...] = _SETTINGS) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?{_mode(path, writable=writable)}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # each connection has one user at a time; which thread that is changes
        cached_statements=256,
    )
    try:
        for setting in settings:
            connection.execute(setting)
    except sqlite3.Error:  # a damaged file shows already here
        connection.close()
        raise
    return connection


def _mode(path: Path, *, writable: bool) -> str:
    if writable:
        return "mode=rw"
    # without a log and without the right to make one, SQLite must be told that nobody writes
    log = path.with_name(path.name + "-wal")
    return "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"


def _is_there(path: Path) -> bool:
    """Whether there is a database; it and what SQLite keeps beside it must be private and plausible."""
    for suffix in _SIDE_FILES:
        side = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            status = side.lstat()
            if problem := "is a symbolic link" if stat.S_ISLNK(status.st_mode) else privacy_problem(status):
                raise UnsafeFile(f"{side} {problem}", hint=f"look what it is before you remove it: {side}")
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        _refuse_orphan(path)
        return False
    except OSError as error:
        raise StorageFailed(f"{path} cannot be opened: {reason_of(error)}") from error
    # Closing a descriptor of the file drops SQLite's own locks on it: this is before the first connection is made.
    try:
        empty = os.fstat(descriptor).st_size == 0
    finally:
        os.close(descriptor)
    if empty:
        raise VaultUnusable(f"{path} is empty", hint=faults.DAMAGED_HINT)
    return True


def _refuse_orphan(path: Path) -> None:
    """A log without its database holds what was stored last, and would be played into a new one."""
    log = path.with_name(path.name + "-wal")
    with suppress(FileNotFoundError):
        if log.stat().st_size:
            raise VaultUnusable(
                f"{path} is missing, but its log {log.name} is there",
                hint="put the database back from a backup, or move the log away to begin anew",
            )


def _create(path: Path, migrations: tuple[schema.Migration, ...], clock: Clock) -> None:
    draft = path.with_name(path.name + ".new")
    try:
        for leftover in (draft, *(draft.with_name(draft.name + suffix) for suffix in _SIDE_FILES)):
            leftover.unlink(missing_ok=True)  # of a first start that was killed; we hold the home lock
        _make_private_file(draft)
        with closing(_connect(draft)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(schema.LEDGER)
            _apply(connection, migrations, 0, clock)
            connection.execute("INSERT INTO store (id) VALUES (?)", (secrets.token_hex(16),))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        _sync(draft)
        draft.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    except sqlite3.Error:
        draft.unlink(missing_ok=True)
        raise


def _inspect(connection: sqlite3.Connection) -> None:
    """Refuse what is no sound vault."""
    tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "migrations" not in tables:
        raise VaultUnusable("server/store.db is not a vault of authsome", hint=faults.DAMAGED_HINT)
    for table in _SMALL_TABLES:
        # an SQLite older than 3.33 takes the name for a number and checks all of the file: slower, not weaker
        for (line,) in connection.execute(f"PRAGMA quick_check({table})") if table in tables else ():
            if line != "ok":
                raise VaultUnusable("the vault's database is damaged", hint=faults.DAMAGED_HINT)


def _migrate(
    path: Path, connection: sqlite3.Connection, migrations: tuple[schema.Migration, ...], clock: Clock
) -> None:
    applied = [str(row[0]) for row in connection.execute("SELECT name FROM migrations ORDER BY version")]
    known = [migration.name for migration in migrations]
    if applied == known:
        return
    if applied != known[: len(applied)]:
        raise VaultUnusable(
            "the vault was made by a newer version of authsome", hint="use that version; this one changed nothing"
        )
    backup = path.with_name(f"{path.name}.before-{len(applied) + 1}")
    draft = backup.with_name(backup.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        _copy(connection, draft)
        draft.rename(backup)
        sync_directory(path.parent)
    except OSError as error:
        raise _unwritable(backup, error) from error
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, migrations, len(applied), clock)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(
    connection: sqlite3.Connection, migrations: tuple[schema.Migration, ...], applied: int, clock: Clock
) -> None:
    for version, migration in enumerate(migrations[applied:], applied + 1):
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO migrations (version, name, applied_at) VALUES (?, ?, ?)",
            (version, migration.name, from_moment(clock())),
        )


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    try:
        _make_private_file(path)
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)) as copy:
            connection.backup(copy)
        _sync(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _make_private_file(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> StorageFailed:
    if error.errno == errno.ENOSPC:
        return StorageFailed(f"{path} could not be written: the disk is full")
    return StorageFailed(
        f"{path} could not be written: {reason_of(error)}", hint="check its directory's owner and mode"
    )
