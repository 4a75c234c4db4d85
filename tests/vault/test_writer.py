"""Group commit: who waits for whom, what a failure takes with it, and what is synced."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from authsome.errors import AuthsomeError, DaemonUnavailable, StorageFailed
from authsome.vault.writer import Transaction, Writer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def statements() -> list[str]:
    """What the writer's connection was told."""
    return []


@pytest.fixture
def writer(tmp_path: Path, statements: list[str]):
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE notes (number INTEGER PRIMARY KEY, text TEXT)")
    connection.set_trace_callback(statements.append)
    writer = Writer(connection)
    yield writer
    writer.close()


def note(transaction: Transaction, number: int, text: str = "") -> None:
    transaction.execute("INSERT INTO notes (number, text) VALUES (?, ?)", (number, text))


def numbers(tmp_path: Path) -> list[int]:
    """What another connection sees."""
    connection = sqlite3.connect(tmp_path / "store.db")
    found = [number for (number,) in connection.execute("SELECT number FROM notes ORDER BY number")]
    connection.close()
    return found


class Queue:
    """Bodies that are certain to queue up: the first one holds the turn until all others wait for it."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.bodies: list[Callable[[Transaction], None]] = []
        self.outcomes: dict[int, Exception | None] = {}

    def run(self, *, durable: bool = True) -> None:
        """Run the bodies, each in a thread; what became of them is in `outcomes`."""
        others: list[threading.Thread] = []

        def one(number: int, body: Callable[[Transaction], None]) -> None:
            try:
                with self.writer.transaction(durable=durable) as transaction:
                    if number == 0:
                        for each in others:
                            each.start()
                        while len(self.writer._waiting) < len(others):
                            time.sleep(0.001)
                    body(transaction)
                self.outcomes[number] = None
            except Exception as error:  # noqa: BLE001  # the outcome, whatever it is
                self.outcomes[number] = error

        others += [
            threading.Thread(target=one, args=(number, body)) for number, body in enumerate(self.bodies[1:], start=1)
        ]
        one(0, self.bodies[0])
        for thread in others:
            thread.join()


def test_what_returned_is_committed(writer, tmp_path):
    with writer.transaction(durable=True) as transaction:
        note(transaction, 1)
        assert numbers(tmp_path) == []
    assert numbers(tmp_path) == [1]


def test_bodies_that_queue_share_one_commit(writer, statements, tmp_path):  # SEC-186
    queue = Queue(writer)
    queue.bodies = [lambda transaction, n=n: note(transaction, n) for n in range(20)]
    queue.run()
    assert numbers(tmp_path) == list(range(20))
    assert list(queue.outcomes.values()) == [None] * 20
    assert statements.count("COMMIT") == 1
    assert statements.count("BEGIN IMMEDIATE") == 1


def test_a_batch_has_a_limit(writer, statements, tmp_path):  # SEC-186
    """So that it ends although the queue never does."""
    queue = Queue(writer)
    queue.bodies = [lambda transaction, n=n: note(transaction, n) for n in range(100)]
    queue.run()
    assert numbers(tmp_path) == list(range(100))
    assert statements.count("COMMIT") == 2


def test_bodies_that_need_not_be_durable_wait_for_nobody(writer, statements, tmp_path):
    queue = Queue(writer)
    queue.bodies = [lambda transaction, n=n: note(transaction, n) for n in range(5)]
    queue.run(durable=False)
    assert numbers(tmp_path) == list(range(5))
    assert statements.count("COMMIT") == 5
    assert "PRAGMA synchronous = FULL" not in statements


def test_failing_body_takes_back_only_its_own(writer, tmp_path):
    """Wherever in the batch it stands."""
    queue = Queue(writer)

    def body(transaction: Transaction, n: int) -> None:
        note(transaction, n)
        if n % 3 == 0:
            raise KeyError(n)

    queue.bodies = [lambda transaction, n=n: body(transaction, n) for n in range(10)]
    queue.run()
    assert numbers(tmp_path) == [1, 2, 4, 5, 7, 8]
    assert {n for n, outcome in queue.outcomes.items() if isinstance(outcome, KeyError)} == {0, 3, 6, 9}
    assert {n for n, outcome in queue.outcomes.items() if outcome is None} == {1, 2, 4, 5, 7, 8}


def test_fault_of_ours_is_not_dressed_up(writer, tmp_path):
    with writer.transaction(durable=True) as transaction:
        note(transaction, 1)
    with pytest.raises(sqlite3.IntegrityError), writer.transaction(durable=True) as transaction:
        transaction.execute("INSERT INTO notes (number) VALUES (2), (1)")
    assert numbers(tmp_path) == [1]


def fill_up(writer: Writer) -> None:
    """Let the database grow no further: SQLite then says, as for a full disk, SQLITE_FULL."""
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages}")


def test_full_database_fails_every_member_of_the_batch_and_keeps_the_old_state(writer, tmp_path):  # SEC-133
    """SQLite takes back the whole transaction itself, so those who had finished hear of it too."""
    with writer.transaction(durable=True) as transaction:
        note(transaction, 100)
    fill_up(writer)
    queue = Queue(writer)
    queue.bodies = [lambda transaction, n=n: note(transaction, n, "x" * 2000 * n) for n in range(6)]
    queue.run()
    kept = {n for n, outcome in queue.outcomes.items() if outcome is None}
    assert set(numbers(tmp_path)) == kept | {100}
    failed = [outcome for outcome in queue.outcomes.values() if outcome is not None]
    assert failed
    assert all(isinstance(outcome, StorageFailed) and outcome.hint for outcome in failed)
    assert len({id(outcome) for outcome in failed}) == len(failed)
    writer._connection.execute("PRAGMA max_page_count = 1000000")
    with writer.transaction(durable=True) as transaction:
        note(transaction, 200)
    assert 200 in numbers(tmp_path)


def test_failing_commit_fails_every_member(writer, tmp_path):
    """A deferred constraint makes COMMIT itself fail."""
    connection = writer._connection
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE pages (note INTEGER REFERENCES notes (number) DEFERRABLE INITIALLY DEFERRED)")
    queue = Queue(writer)
    queue.bodies = [lambda transaction, n=n: note(transaction, n) for n in range(4)]
    queue.bodies[2] = lambda transaction: transaction.execute("INSERT INTO pages (note) VALUES (77)") and None
    queue.run()
    assert numbers(tmp_path) == []
    assert all(isinstance(outcome, StorageFailed) for outcome in queue.outcomes.values())
    with writer.transaction(durable=True) as transaction:
        note(transaction, 1)
    assert numbers(tmp_path) == [1]


def test_body_that_hides_a_lost_transaction_fails_all_the_same(writer, tmp_path):
    """Who catches an error inside the body cannot report success when SQLite has taken the transaction back."""

    def body() -> None:
        with writer.transaction(durable=True) as transaction:
            note(transaction, 1)
            writer._connection.execute("ROLLBACK")  # what SQLite does by itself at some errors

    with pytest.raises(AuthsomeError):
        body()
    assert numbers(tmp_path) == []


def test_transaction_inside_a_transaction_is_refused(writer, tmp_path):
    with pytest.raises(RuntimeError), writer.transaction(durable=True), writer.transaction(durable=True):
        pass
    with writer.transaction(durable=True) as transaction:
        note(transaction, 1)
    assert numbers(tmp_path) == [1]


def test_closed_writer_refuses(writer):
    writer.close()
    with pytest.raises(DaemonUnavailable), writer.transaction(durable=True):
        pass


def test_64_threads_lose_nothing(writer, tmp_path):
    """Each keeps what it was told is kept, and nothing of what it took back, durable or not."""
    kept: list[int] = []

    def work(thread: int) -> None:
        for turn in range(30):
            number = thread * 1000 + turn
            try:
                with writer.transaction(durable=turn % 3 == 0) as transaction:
                    note(transaction, number)
                    if turn % 7 == 0:
                        raise KeyError(number)  # noqa: TRY301  # from inside the body
                kept.append(number)
            except KeyError:
                pass

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 64 * 25
    assert numbers(tmp_path) == sorted(kept)
    assert not writer._waiting


SYNCED = """
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from authsome.home import Home
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
database = Database.open(HomeLock.acquire(Home(Path(sys.argv[1]))), clock=lambda: datetime.now(UTC))
for turn in range(20):
    os.write(2, b"MARK True" if turn % 2 == 0 else b"MARK False")
    with database.transaction(durable=turn % 2 == 0) as transaction:
        transaction.execute("INSERT INTO replay (expires_at, jti_hash) VALUES (?, ?)", (turn, b""))
os.write(2, b"MARK end")
"""


def test_durable_bodies_are_synced_and_others_are_not(paths, tmp_path):
    """Seen from the kernel: an fsync or fdatasync of the log between begin and return, or none."""
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write"
    subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", trace, sys.executable, "-c", SYNCED, paths.root],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    _, *turns = trace.read_text().split('"MARK ')
    assert len(turns) == 21
    for turn in turns[:-1]:
        synced = [line for line in turn.splitlines() if "sync(" in line]
        assert any("store.db-wal" in line for line in synced) == turn.startswith("True"), turn


def test_readers_are_told_of_what_they_can_see(writer, tmp_path):
    """Told before the COMMIT, a reader may answer as before it: so the last word comes when all see the change."""
    seen: list[list[int]] = []
    writer.on_change = lambda: seen.append(numbers(tmp_path))
    with writer.transaction(durable=True) as transaction:
        note(transaction, 1)
    assert seen == [[], [1]]
    with writer.transaction(durable=False, only_logs=True) as transaction:
        note(transaction, 2)
    assert len(seen) == 2


def test_once_lasts_as_long_as_its_transaction(database):
    """What bodies of one transaction share is made once; the next one, and one that may change it, makes its own."""
    made: list[str] = []

    def making(name: str):
        def make() -> str:
            made.append(name)
            return name

        return lambda tx: tx.once("key", make)

    for name in ("first", "second"):
        assert database.combined_all([making(name), making("another")]) == [name, name]
    assert made == ["first", "second"]
    with database.transaction() as tx:
        assert [making(name)(tx) for name in ("third", "fourth")] == ["third", "fourth"]
    with database.read() as reader:
        assert [making(name)(reader) for name in ("fifth", "sixth")] == ["fifth", "sixth"]
