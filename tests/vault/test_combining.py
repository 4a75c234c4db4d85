"""Combining: bodies of many threads in one transaction, each with its own result."""

import threading
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
