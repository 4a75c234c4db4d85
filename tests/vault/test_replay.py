"""Replay memory: one use, whoever comes first, restarts included, and no more room than what is still valid."""

import threading

from authsome.vault import replay

HASH = bytes(range(16))


def remember(database, expires_at=100, jti_hash=HASH, **rest):
    with database.transaction(durable=False) as transaction:
        return replay.remember(transaction, expires_at, jti_hash, **rest)


def count(database):
    with database.read() as reader:
        return reader.execute("SELECT count(*) FROM replay").fetchone()[0]


def test_a_proof_is_used_once(database):  # SEC-8
    assert remember(database)
    assert not remember(database)
    assert remember(database, 101)
    assert remember(database, 100, HASH[::-1])


def test_twenty_threads_use_it_once(database):  # SEC-8
    barrier = threading.Barrier(20)
    first: list[bool] = []

    def use() -> None:
        barrier.wait()
        first.append(remember(database))

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(first) == [False] * 19 + [True]


def test_restart_forgets_nothing(open_database):  # SEC-10
    database = open_database()
    assert remember(database)
    database.close()
    assert not remember(open_database())


def test_what_has_expired_is_forgotten_in_steps(database):
    for second in range(10):
        remember(database, second)
    with database.transaction() as transaction:
        assert replay.forget(transaction, 5, limit=3) == 3
        assert replay.forget(transaction, 5) == 2
        assert replay.forget(transaction, 5) == 0
    assert count(database) == 5
    assert not remember(database, 5)


def test_memory_stays_as_small_as_what_is_valid(database):  # SEC-9, SEC-193
    """At a steady rate it keeps to the proofs that have not expired, without anybody tidying up."""
    rate, lifetime = 100, 10
    most = 0
    for second in range(60):
        with database.transaction(durable=False) as transaction:
            for number in range(rate):
                jti_hash = bytes([number * 256 // rate]) + second.to_bytes(2, "big") + number.to_bytes(13, "big")
                assert replay.remember(transaction, second + lifetime, jti_hash, forget_before=second)
        most = max(most, count(database))
    assert most < rate * lifetime * 1.5


def test_forgetting_reads_only_what_it_forgets(database):  # SEC-193
    """The rows lie in the order in which they expire: no scan, however many there are."""
    with database.read() as reader:
        plan = reader.execute(
            "EXPLAIN QUERY PLAN SELECT expires_at, jti_hash FROM replay WHERE expires_at < 5"
            " ORDER BY expires_at, jti_hash LIMIT 9"
        ).fetchall()
    assert len(plan) == 1
    assert "USING PRIMARY KEY (expires_at<?)" in plan[0][3]
