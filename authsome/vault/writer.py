"""The writer: transactions with group commit (docs/decisions/0003-group-commit.md).

Rules:
1. One connection writes. A transaction's body runs while its thread holds the turn; bodies never overlap.
2. Durable bodies that queue up share one COMMIT, and so one sync: a body that ends while others wait leaves the COMMIT
   to them, and whoever ends with nobody waiting commits for all. Nobody waits for a timer; a lone writer waits for
   nobody. A body that need not be durable commits at once, unless it joined a batch that is: its COMMIT is a write to
   the page cache, cheaper than to wake another thread.
3. `transaction()` returns only when the COMMIT that carries its body has succeeded; a failed COMMIT fails each of them.
4. A body that fails takes back its own writes and nobody else's.
5. Whoever keeps elsewhere what a body has answered is told (`on_change`) before each COMMIT of a body that does more
   than log, with the turn in hand: whatever asks after that has its body run after the COMMIT. A reader takes no turn,
   and may yet see what was: so all are told once more after the COMMIT.
6. What a body that `only_logs` recalls is what it would read: it is forgotten before any other body runs, after a
   failed COMMIT, and when SQLite says that another program has written (`PRAGMA data_version`).
7. The log's end is what the table says. What is kept of it here is what this process wrote last: by that it is seen
   when somebody else has written (`Transaction.written`). The notary is told after the COMMIT, with the turn in hand,
   and so is `on_damage`, where the body has written down that the log was damaged.
"""

import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar, cast

from authsome.errors import DaemonUnavailable, StorageFailed
from authsome.models.chain import Place
from authsome.vault import faults
from authsome.vault.notary import Notary

Value = str | int | bytes | None
Found = TypeVar("Found")

_MOST_MEMBERS: Final = 64
"""As many threads as the daemon has; so a batch ends even when the queue never does."""
_MOST_KNOWN: Final = 512
"""Reads that are kept: some for each caller and host that is in use."""


class Reader:
    """Runs SELECTs in one snapshot of the database."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: tuple[Value, ...] = ()) -> sqlite3.Cursor:
        """Run one statement; text that comes from outside goes into `parameters`, never into `sql`."""
        return self._connection.execute(sql, parameters)

    def recall(self, key: Hashable, read: Callable[[], Found | None]) -> Found | None:  # noqa: ARG002  # see Transaction
        """What `read` finds, which may be known already; then it equals what it would find now.

        Args:
            key: names what is read; nothing else has the same.
            read: reads it, and nothing but this database.
        """
        return read()

    def once(self, key: Hashable, make: Callable[[], Found]) -> Found:  # noqa: ARG002  # see Transaction
        """What `make` makes of what is read here; it may be what it made before in this very transaction.

        Args:
            key: names what it is made of, and stays what it is.
            make: reads nothing but this database, and writes nothing.
        """
        return make()


class Transaction(Reader):
    """Runs SELECTs and writes; what it writes is kept or undone as a whole."""

    __slots__ = ("_known", "_made", "damage", "has_logged", "notary", "then", "written")

    def __init__(
        self,
        connection: sqlite3.Connection,
        known: dict[Hashable, object] | None,
        notary: Notary | None,
        written: Place | None,
    ) -> None:
        """Args: the connection; what was read and has not changed, None when this one may change it; see below."""
        super().__init__(connection)
        self._known = known
        self._made: dict[Hashable, object] = {}
        self.notary = notary
        """Who seals what is logged; None before the store is unlocked."""
        self.written = written
        """The log's end as this process wrote it last; None before it wrote any of it."""
        self.has_logged = False
        self.damage: str | None = None
        """What this transaction has found wrong with the log, and written down."""

        self.then: Callable[[], None] | None = None
        """What follows the COMMIT in memory, before any other body runs; such a body does not wait for others."""

    def logged(self, place: Place) -> None:
        """Note the log's end as this transaction has written it."""
        self.written = place
        self.has_logged = True

    def recall(self, key: Hashable, read: Callable[[], Found | None]) -> Found | None:
        """As `Reader.recall`; what is not there is not remembered, so that nobody can fill the memory with it."""
        if self._known is None:
            return read()
        known = self._known.get(key)
        if known is None:
            known = read()
            if known is not None:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = known
        return cast("Found | None", known)

    def once(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """As `Reader.once`: made once for all bodies that share this transaction, and forgotten with it."""
        if self._known is None:
            return make()
        if key not in self._made:
            self._made[key] = make()
        return cast("Found", self._made[key])


class _Batch:
    """The bodies that one COMMIT carries."""

    __slots__ = ("damage", "durable", "ended", "failure", "is_change", "members", "written")

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self.is_change = False
        self.members = 0
        self.ended: threading.Event | None = None
        self.failure: Exception | None = None
        self.written: Place | None = None
        self.damage: str | None = None


class Writer:
    """The one connection that writes, and the queue before it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take over a connection in autocommit mode (isolation_level None)."""
        self._connection = connection
        self._turn = threading.Lock()
        self._waiting: list[None] = []  # its length counts; append and pop are atomic
        self._owner: int | None = None
        self._batch: _Batch | None = None
        self._syncs: bool | None = None
        self._known: dict[Hashable, object] = {}
        self._known_at = 0  # the data_version
        self._written: Place | None = None
        self.notary: Notary | None = None
        self._closed = False
        self.on_change: Callable[[], None] = _tell_nobody
        """Called with the turn in hand, so it is quick, and raises nothing."""
        self.on_damage: Callable[[str], None] = self._keep_damage
        """Told what is wrong with the log; as `on_change`. Until somebody wants to know it is kept."""
        self.damage: str | None = None
        """What was found before anybody wanted to know."""
        self.on_commit: Callable[[], None] = _tell_nobody
        """Called after each COMMIT that changed or logged anything; as `on_change`."""

    @contextmanager
    def transaction(self, *, durable: bool, only_logs: bool = False) -> Iterator[Transaction]:
        """Run a body in a transaction: committed on leaving, undone when the body raises.

        The body must be short and do no I/O of its own: everybody else waits for it.

        Args:
            durable: on return the writes survive a loss of power, not only the end of the process.
            only_logs: the body writes to tables that nobody recalls anything from: the log, the replay memory, and
                when an identity was last used.

        Raises:
            StorageFailed: disk full, I/O error or read-only storage; nothing of the body was kept.
            DaemonBusy: another program holds the database.
            VaultUnusable: the database is damaged.
            DaemonUnavailable: the vault was closed.
        """
        self._take_turn()
        try:
            batch = self._begin(durable=durable)
            batch.is_change = batch.is_change or not only_logs
            try:
                known = self._what_is_known(only_logs=only_logs)
                body = Transaction(self._connection, known, self.notary, batch.written or self._written)
                yield body
                if batch.members:
                    self._connection.execute("RELEASE body")
            except BaseException as error:
                self._undo(batch, error)
                raise
            batch.members += 1
            if body.has_logged:
                batch.written = body.written
                batch.damage = body.damage or batch.damage
            if body.then is not None:
                self._commit()
                if batch.failure is None:
                    body.then()
        except sqlite3.Error as error:
            if (better := faults.meaning(error)) is None:
                raise
            raise better from error
        finally:
            self._end_turn()
        if batch.ended is not None:
            batch.ended.wait()
        if batch.failure is not None:
            raise _failed(batch.failure) from batch.failure

    def close(self) -> None:
        """Refuse further transactions, and close the connection once the present one has ended."""
        self._take_turn()
        try:
            self._closed = True
            self._commit()
            self._connection.close()
            if self.notary is not None:
                self.notary.close()
        finally:
            self._end_turn()

    def _take_turn(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError("a transaction inside a transaction would wait for itself")
        self._waiting.append(None)
        try:
            self._turn.acquire()
        finally:
            self._waiting.pop()
        self._owner = me

    def _end_turn(self) -> None:
        """Pass the turn on; the COMMIT too, when somebody is there to do it."""
        batch = self._batch
        if batch is not None:
            if batch.durable and self._waiting and batch.members < _MOST_MEMBERS:
                batch.ended = batch.ended or threading.Event()
            else:
                self._commit()
        self._owner = None
        self._turn.release()

    def _begin(self, *, durable: bool) -> _Batch:
        """Join the batch that is open, or begin one that is as durable as asked."""
        if self._closed:
            raise DaemonUnavailable("the vault is closed: the daemon is stopping")
        if self._batch is not None:  # a durable one: no other outlives its body
            self._connection.execute("SAVEPOINT body")
            return self._batch
        if self._syncs is not durable:
            self._connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._syncs = durable
        self._connection.execute("BEGIN IMMEDIATE")
        self._batch = _Batch(durable=durable)
        return self._batch

    def _what_is_known(self, *, only_logs: bool) -> dict[Hashable, object] | None:
        if not only_logs:
            self._known.clear()
            return None
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._known_at:
            self._known.clear()
            self._known_at = version
        return self._known

    def _undo(self, batch: _Batch, error: BaseException) -> None:
        """Take back one body; the whole batch, where SQLite has done so already (disk full, I/O error)."""
        if batch.members and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK TO body")
                self._connection.execute("RELEASE body")
            except sqlite3.Error as worse:
                self._abandon(batch, worse)
        else:
            self._abandon(batch, error)

    def _commit(self) -> None:
        """Commit the batch, if there is one, and tell its members; never raises for them."""
        batch = self._batch
        if batch is None:
            return
        if batch.is_change:
            self.on_change()
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._abandon(batch, error)
        else:
            if batch.is_change:
                self.on_change()
            if batch.written is not None:
                self._written = batch.written
                if self.notary is not None:
                    self.notary.note(batch.written)
            if batch.damage is not None:
                self.on_damage(batch.damage)
            if batch.is_change or batch.written is not None:
                self.on_commit()
            self._finish(batch)

    def _keep_damage(self, problem: str) -> None:
        self.damage = problem

    def _abandon(self, batch: _Batch, error: BaseException) -> None:
        batch.failure = error if isinstance(error, Exception) else StorageFailed()
        self._known.clear()
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):  # the next BEGIN tells
                self._connection.execute("ROLLBACK")
        self._finish(batch)

    def _finish(self, batch: _Batch) -> None:
        self._batch = None
        if batch.ended is not None:
            batch.ended.set()


def _tell_nobody() -> None:
    """Nobody keeps anything."""


def _failed(cause: Exception) -> Exception:
    """A member's own copy of what befell its batch."""
    better = faults.meaning(cause) if isinstance(cause, sqlite3.Error) else None
    return better or StorageFailed("the vault could not be written")
