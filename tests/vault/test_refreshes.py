"""The claim on a refresh: one owner at a time, never for ever, and what it leaves tells what became of it."""

from datetime import timedelta

import pytest

from authsome.models.connection import Kind
from authsome.secret import Secret
from authsome.vault import connections, refreshes

TOKENS = {"access_token": Secret("canary-access-1"), "refresh_token": Secret("canary-refresh-1")}
SECOND = timedelta(seconds=1)


@pytest.fixture
def put(store, now):
    """Store the connection, anew each time."""

    def stored():
        with store.database.transaction() as tx:
            return connections.put(
                tx, store.sealer, provider="acme", name="default", kind=Kind.OAUTH2, secrets=TOKENS, now=now
            )

    return stored


@pytest.fixture
def connection(put):
    """A connection to be refreshed."""
    return put()


@pytest.fixture
def take(store, now, connection):
    """Claim its refresh."""

    def taken(owner, *, after=timedelta(0), of=connection):
        with store.database.transaction(durable=False) as tx:
            return refreshes.take(tx, of, owner, now=now + after)

    return taken


@pytest.fixture
def is_taken(store, now, connection):
    """Whether somebody has it."""

    def answer(after=timedelta(0)):
        with store.database.read() as reader:
            return refreshes.is_taken(reader, connection, now=now + after)

    return answer


def test_one_owner_at_a_time(take, is_taken):  # SEC-91
    assert not is_taken()
    assert take("one")
    assert is_taken()
    assert take("other") is None
    assert take("other", after=refreshes.LENGTH - SECOND) is None


def test_a_claim_ends_by_itself(take, is_taken, now):  # SEC-91
    """Its owner may be dead; whoever takes it over learns that there was one."""
    take("one")
    assert not is_taken(refreshes.LENGTH)
    lease = take("other", after=refreshes.LENGTH)
    assert (lease.owner, lease.lost.at) == ("other", now)
    assert "stopped" in lease.lost.how


def test_ones_own_claim_is_taken_up_again(take):
    """It was left where the disk would not take its end: nobody was stopped over it."""
    take("one")
    assert take("one", after=SECOND).lost is None


def test_a_claim_from_before_the_clock_was_set_back_is_void(take, is_taken):  # SEC-84
    take("one")
    assert not is_taken(-timedelta(hours=1))
    assert take("other", after=-timedelta(hours=1))


def test_what_was_answered_leaves_nothing(store, take, is_taken):
    lease = take("one")
    with store.database.transaction() as tx:
        refreshes.end(tx, lease)
    assert not is_taken()
    assert take("other").lost is None


def test_what_was_not_answered_is_kept_in_mind(store, take, is_taken, now):
    """Also through a further attempt, until there is an answer."""
    lease, lost = take("one"), refreshes.Lost(at=now, how="no answer within 30 s")
    with store.database.transaction() as tx:
        refreshes.leave(tx, lease, lost)
    assert not is_taken()
    lease = take("other", after=SECOND)
    assert lease.lost == lost
    with store.database.transaction() as tx:
        refreshes.leave(tx, lease, lease.lost)
    assert take("one").lost == lost


def test_a_new_login_is_not_blamed(store, take, put, now):
    """What is known of a refresh is known of the revision that it was for."""
    lease = take("one")
    with store.database.transaction() as tx:
        refreshes.leave(tx, lease, refreshes.Lost(at=now, how="cut short"))
    assert take("one", of=put()).lost is None


def test_nobody_gives_back_anothers_claim(store, take, is_taken):
    late = take("one")
    take("other", after=refreshes.LENGTH)
    with store.database.transaction() as tx:
        refreshes.end(tx, late)
        refreshes.leave(tx, late, refreshes.Lost(at=late.began_at, how="late"))
    assert is_taken(refreshes.LENGTH)


def test_whoever_is_alone_voids_every_claim(store, take, is_taken):
    take("one")
    with store.database.transaction() as tx:
        assert refreshes.abandon_all(tx) == 1
    assert not is_taken()
    assert "stopped" in take("other").lost.how


def test_a_claim_goes_with_its_connection(store, take, connection):  # SEC-90
    take("one")
    with store.database.transaction() as tx:
        connections.delete(tx, connection)
        assert tx.execute("SELECT count(*) FROM refreshes").fetchone() == (0,)
