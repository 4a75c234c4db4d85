"""Combining: bodies of many threads in one transaction, each with its own result."""

import itertools
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from authsome.errors import DaemonUnavailable, NotAllowed
from authsome.vault import replay
from authsome.vault.database import Database

THREADS = 32


def together(database: Database, bodies):
    """Run the bodies while the first one of them holds the lead, so that the others share a transaction."""
    ready = threading.Barrier(len(bodies))

    def run(body):
        ready.wait()
        try:
            return database.combined(body)
        except NotAllowed as error:
            return error

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(run, bodies))


def remembering(number: int):
    return lambda tx: (number, replay.remember(tx, 1000, number.to_bytes(16)))


def count(database: Database) -> int:
    with database.read() as reader:
        return reader.execute("SELECT count(*) FROM replay").fetchone()[0]


def test_each_gets_its_own_result(database):
    """Nothing is lost, doubled or handed to another thread."""
    for block in range(20):
        numbers = range(block * THREADS, (block + 1) * THREADS)
        assert together(database, [remembering(number) for number in numbers]) == [(each, True) for each in numbers]
    assert count(database) == 20 * THREADS


def test_the_same_proof_succeeds_once(database):
    """Of many threads with one proof, one is told that it was new. # SEC-8"""
    outcomes = together(database, [remembering(7)] * THREADS)
    assert [fresh for _, fresh in outcomes].count(True) == 1


def test_a_body_that_fails_fails_alone(database):
    """Its own writes are undone, and everybody else's are kept."""

    def failing(number: int):
        def body(tx):
            replay.remember(tx, 1000, number.to_bytes(16))
            raise NotAllowed(str(number))

        return body

    for block in range(20):
        first = block * THREADS
        bodies = [failing(first + each) if each % 5 == 0 else remembering(first + each) for each in range(THREADS)]
        outcomes = together(database, bodies)
        for each, outcome in enumerate(outcomes):
            if each % 5 == 0:
                assert isinstance(outcome, NotAllowed)
                assert outcome.message == str(first + each)
            else:
                assert outcome == (first + each, True)
    assert count(database) == 20 * (THREADS - len(range(0, THREADS, 5)))


def test_a_lone_caller_waits_for_nobody(database):
    """One after another, in one thread, each is committed when it returns."""
    for number in range(50):
        assert database.combined(remembering(number)) == (number, True)
        assert count(database) == number + 1


def test_nobody_is_passed_over_while_commits_are_slow(database):  # SEC-186
    """Each COMMIT takes until all others queue again: few are made, and each caller is in the next but one."""
    callers, rounds = 64, 6
    combiner, connection = database._combiner, database._writer._connection
    commits: list[str] = []
    carried: list[int] = []
    done: list[int] = []
    turns: dict[int, list[int]] = {caller: [] for caller in range(callers)}

    def slowly(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(statement)
            while len(combiner._queue) + len(carried) < callers - len(done):
                time.sleep(0.001)
            carried.clear()

    def call(caller: int) -> None:
        def body(tx):
            carried.append(caller)
            turns[caller].append(len(commits))
            return replay.remember(tx, 1000, (caller * rounds + len(turns[caller])).to_bytes(16))

        for _ in range(rounds):
            assert database.combined(body)
        done.append(caller)

    connection.set_trace_callback(slowly)
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    connection.set_trace_callback(None)
    assert count(database) == callers * rounds
    assert [len(each) for each in turns.values()] == [rounds] * callers
    assert len(commits) <= callers * rounds / 16
    assert max(after - before for each in turns.values() for before, after in itertools.pairwise(each)) <= 3


def test_the_lead_is_passed_on_after_an_error(database):
    """An error of any kind in one caller leaves the queue in working order."""

    def exiting(_):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        database.combined(exiting)
    assert database.combined(remembering(1)) == (1, True)


def test_a_closed_vault_refuses(database):
    """After the end nothing is taken."""
    database.close()
    with pytest.raises(DaemonUnavailable):
        database.combined(remembering(1))


# ---- what is recalled --------------------------------------------------------------------------------------


def name_of(tx):
    """The first principal's name, as it is recalled, and as it is."""
    read = lambda: tx.execute("SELECT name FROM principals").fetchone()[0]  # noqa: E731  # a query with a name
    return tx.recall("name", read), read()


def test_what_is_recalled_is_read_once(store):
    """Bodies that only log, one after another and together, ask the database once."""
    reads = []

    def body(tx):
        return tx.recall("answer", lambda: reads.append(1) or 42)

    assert [store.database.combined(body) for _ in range(10)] == [42] * 10
    assert together(store.database, [body] * THREADS) == [42] * THREADS
    assert len(reads) == 1


def test_what_is_recalled_is_what_is_there(store):
    """Every other transaction's write is seen by the next body, and so is another program's."""
    database = store.database
    assert database.combined(name_of) == ("owner", "owner")
    for durable in (True, False):
        with database.transaction(durable=durable) as tx:
            tx.execute("UPDATE principals SET name = ?", (f"durable {durable}",))
        assert database.combined(name_of) == (f"durable {durable}",) * 2
    with sqlite3.connect(database.path) as other:
        other.execute("UPDATE principals SET name = 'other'")
    other.close()
    assert database.combined(name_of) == ("other", "other")
    with database.transaction() as tx:
        assert tx.recall("name", lambda: "read anew") == "read anew"


def test_what_was_taken_back_is_not_recalled(store):
    """Neither a body that fails nor one that shares its transaction leaves a wrong memory."""
    database = store.database

    def failing(tx):
        name_of(tx)
        raise NotAllowed

    def undone():
        with database.transaction() as tx:
            tx.execute("UPDATE principals SET name = 'undone'")
            raise NotAllowed

    with pytest.raises(NotAllowed):
        undone()
    assert database.combined(name_of) == ("owner", "owner")
    outcomes = together(database, [failing if each % 3 == 0 else name_of for each in range(THREADS)])
    assert [each for each in outcomes if not isinstance(each, NotAllowed)] == [("owner", "owner")] * 21


def test_what_is_not_there_is_not_remembered(store):
    """Questions without an answer fill no memory, and those with one only so much."""
    database = store.database
    assert database.combined(lambda tx: tx.recall("nobody", lambda: None)) is None
    assert not database._writer._known
    for number in range(2000):
        database.combined(lambda tx, number=number: tx.recall(number, lambda: number + 1))
    assert len(database._writer._known) <= 512


def test_a_reader_recalls_nothing(store):
    """Outside of transactions everything is read."""
    with store.database.read() as reader:
        assert reader.recall("x", lambda: 1) == 1
        assert reader.recall("x", lambda: 2) == 2


def test_all_of_one_caller_share_a_transaction(database):
    """Each has its result, and all are committed by one COMMIT."""
    seen = []

    def body(number: int):
        def run(tx):
            seen.append(tx)
            return remembering(number)(tx)

        return run

    assert database.combined_all([body(number) for number in range(5)]) == [(number, True) for number in range(5)]
    assert len(set(map(id, seen))) == 1
    assert count(database) == 5
    assert database.combined_all([]) == []


def test_of_all_that_one_caller_asks_the_failing_ones_fail_alone(database):
    """What was asked twice succeeds once, in whichever order; a mistake keeps nobody's write back. # SEC-8"""

    def failing(tx):
        replay.remember(tx, 1000, (99).to_bytes(16))
        raise NotAllowed("no")

    outcomes = database.combined_all([remembering(1), failing, remembering(2), remembering(1)])
    assert outcomes[0] == (1, True)
    assert isinstance(outcomes[1], NotAllowed)
    assert outcomes[2:] == [(2, True), (1, False)]
    assert count(database) == 2
