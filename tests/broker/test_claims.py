"""Claims: asked by an identity, answered by a signed-in principal; once, not for long, and for the key that asked."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.broker.claims import LIFETIME, ClaimState
from authsome.errors import NotAllowed, NotFound
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.principal import Role
from authsome.secret import Secret
from authsome.vault import claims, identities

TEN = timedelta(seconds=10)


def newcomer(house, handle="agent", did=None):
    """An identity that nobody has claimed."""
    with house.context.database.transaction() as tx:
        return identities.add(tx, handle=handle, did=did or f"did:key:z{handle}", now=house.clock())


def state(house, identity):
    with house.context.database.read() as reader:
        return house.broker.claims.state(reader, identity)


def caller(house, handle="agent"):
    with house.context.database.read() as reader:
        return house.broker.identities.caller(reader, handle)


def test_a_claim_binds_once(house):
    """A confirmed claim makes a caller, within the limits that were given; its link is then used up. # SEC-20"""
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    assert state(house, agent) is ClaimState.WAITING
    assert house.broker.claims.find(asked.token) == asked.claim
    assert caller(house) is None
    narrow = limits.parse(connections=["github"])
    house.broker.claims.confirm(house.owner.principal, asked.token, narrow)
    assert state(house, agent) is ClaimState.CLAIMED
    assert caller(house).principal == house.owner.principal
    assert caller(house).limits == narrow
    for again in (
        lambda: house.broker.claims.find(asked.token),
        lambda: house.broker.claims.confirm(house.owner.principal, asked.token),
        lambda: house.broker.claims.refuse(house.owner.principal, asked.token),
    ):
        with pytest.raises(NotFound):
            again()
    with pytest.raises(NotAllowed, match="claimed already"):
        house.broker.claims.ask(agent)
    entry = house.events(Event.CLAIM)[0].entry
    assert (entry.identity, entry.principal, entry.detail) == (
        "agent",
        house.owner.principal.id,
        "connections github",
    )
    assert entry.vault_id == house.owner.vault_id


def test_whatever_becomes_of_a_question_shows(house):
    """Asked, asked anew by whatever clock, answered, forgotten: what a page goes by is another thing each time."""
    first, second = newcomer(house), newcomer(house, "second")
    marks = []

    def look():
        with house.context.database.read() as reader:
            marks.append(claims.mark(reader))

    look()
    for asking in (first, second):
        house.clock.advance(TEN)
        house.broker.claims.ask(asking)
        look()
    house.clock.advance(-timedelta(hours=1))  # set back: the other one's is the newest still
    asked = house.broker.claims.ask(first)
    look()
    house.broker.claims.refuse(house.owner.principal, asked.token)
    look()
    with house.context.database.transaction() as tx:
        claims.delete(tx, "agent")
    look()
    assert len(set(marks)) == len(marks)


def test_a_claim_expires(house):
    """After its time a link is worth nothing, and whoever asked is told. # SEC-20"""
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    house.clock.advance(LIFETIME)
    assert state(house, agent) is ClaimState.EXPIRED
    with pytest.raises(NotFound):
        house.broker.claims.confirm(house.owner.principal, asked.token)
    assert caller(house) is None


def test_the_last_question_counts(house):
    """To ask again makes the earlier link worthless. # SEC-20"""
    agent = newcomer(house)
    first, second = house.broker.claims.ask(agent), house.broker.claims.ask(agent)
    with pytest.raises(NotFound):
        house.broker.claims.find(first.token)
    assert house.broker.claims.find(second.token) == second.claim


def test_a_claim_is_for_the_key_that_asked(house):
    """Should the handle be another key's by the time of the answer, nothing is bound. # SEC-20"""
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE identities SET did = 'did:key:zThief' WHERE handle = 'agent'")
    with pytest.raises(NotFound):
        house.broker.claims.confirm(house.owner.principal, asked.token)
    assert state(house, agent) is ClaimState.EXPIRED
    with pytest.raises(NotAllowed):
        house.broker.claims.ask(agent)


def test_a_refusal_is_told(house):
    """Whoever asked learns that the answer is no, and may ask again."""
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    house.broker.claims.refuse(house.owner.principal, asked.token)
    assert state(house, agent) is ClaimState.REFUSED
    with pytest.raises(NotFound):
        house.broker.claims.confirm(house.owner.principal, asked.token)
    assert [each.entry.identity for each in house.events(Event.CLAIM_REFUSED)] == ["agent"]
    house.broker.claims.ask(agent)
    assert state(house, agent) is ClaimState.WAITING


def test_a_revoked_identity_is_not_claimed(house):
    """Neither its open question nor a new one gets anywhere. # SEC-17"""
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    with house.context.database.transaction() as tx:
        identities.revoke(tx, handle="agent", now=house.clock())
    with pytest.raises(NotFound):
        house.broker.claims.confirm(house.owner.principal, asked.token)
    with pytest.raises(NotAllowed):
        house.broker.claims.ask(agent)


def test_a_claim_survives_a_restart(open_house):
    """It lies in the database. # SEC-20"""
    house = open_house()
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    house = open_house()
    assert state(house, agent) is ClaimState.WAITING
    house.broker.claims.confirm(house.owner.principal, asked.token)
    house = open_house()
    assert caller(house).principal == house.owner.principal


def test_no_other_token(house):
    """A token that was not given out opens nothing. # SEC-20"""
    asked = house.broker.claims.ask(newcomer(house))
    for guess in ("", asked.token.reveal()[:-1], asked.token.reveal() + "x", asked.token.reveal().swapcase()):
        with pytest.raises(NotFound):
            house.broker.claims.find(Secret(guess))


def test_who_waits_is_woken(house):
    """A wait ends with the answer, and long before its time."""
    agent = newcomer(house)
    asked = house.broker.claims.ask(agent)
    found = []
    thread = threading.Thread(target=lambda: found.append(house.broker.claims.wait(agent, TEN * 6, threading.Event())))
    thread.start()
    house.broker.claims.confirm(house.owner.principal, asked.token)
    thread.join(60)
    assert found == [ClaimState.CLAIMED]


def test_few_wait_at_once(house, monkeypatch):
    """One wait for each identity, and not too many altogether: strangers must not take all threads. # SEC-192"""
    agents = [newcomer(house, f"agent-{number}") for number in range(3)]
    for each in agents:
        house.broker.claims.ask(each)
    monkeypatch.setattr("authsome.broker.claims.MOST_WAITING", 2)
    stopping = threading.Event()
    threads = [
        threading.Thread(target=house.broker.claims.wait, args=(each, TEN * 60, stopping)) for each in agents[:2]
    ]
    for each in threads:
        each.start()
    while len(house.broker.claims._waiting) < 2:
        stopping.wait(0.01)
    assert house.broker.claims.wait(agents[0], TEN * 60, threading.Event()) is ClaimState.WAITING
    assert house.broker.claims.wait(agents[2], TEN * 60, threading.Event()) is ClaimState.WAITING
    stopping.set()
    for each in threads:
        each.join(60)
    assert house.broker.claims._waiting == set()


def test_a_wait_ends_by_its_time_or_the_daemons(house):
    agent = newcomer(house)
    house.broker.claims.ask(agent)
    stopping = threading.Event()
    assert house.broker.claims.wait(agent, timedelta(0), stopping) is ClaimState.WAITING
    stopping.set()
    assert house.broker.claims.wait(agent, TEN * 60, stopping) is ClaimState.WAITING


@pytest.mark.parametrize("by", [lambda principal: principal.id, lambda principal: principal.name])
def test_for_whom_an_identity_is_claimed(house, by):
    """Everybody for themselves; an admin also for principals of programs, and for no person. # SEC-199"""
    broker, owner = house.broker, house.owner
    robot = broker.principals.add(owner, "robot")
    overseer = broker.principals.add(owner, "overseer", Role.ADMIN)
    invited = broker.principals.invite(owner, "ada@example.com")
    with house.context.database.transaction() as tx:
        person = broker.principals.accept(tx, invited.token, name="Ada")
    assert broker.claims.candidates(owner.principal, limit=9) == [owner.principal, robot]
    assert broker.claims.candidates(person, limit=9) == [person]
    asked = broker.claims.ask(newcomer(house))
    for principal, wanted in (
        *((owner.principal, name) for each in (person, overseer) for name in (each.id, each.name)),
        *((person, name) for name in (robot.id, robot.name)),
        (owner.principal, "nobody"),
    ):
        with pytest.raises(NotAllowed):
            broker.claims.confirm(principal, asked.token, owner=wanted)
    assert caller(house) is None
    broker.claims.confirm(owner.principal, asked.token, owner=by(robot))
    assert caller(house).principal == robot
    assert house.events(Event.CLAIM)[0].entry.vault_id == robot.vault_id


def test_who_waits_is_an_admins_to_know(house):
    """Those without an answer, newest first, as long as their links are good."""
    claims = house.broker.claims
    for handle in ("first", "second", "third"):
        asked = claims.ask(newcomer(house, handle))
        house.clock.advance(timedelta(minutes=1))
        if handle == "second":
            claims.refuse(house.owner.principal, asked.token)
    assert [each.handle for each in claims.list_open(house.owner, limit=9)] == ["third", "first"]
    assert [each.handle for each in claims.list_open(house.owner, limit=1)] == ["third"]
    house.clock.advance(LIFETIME - timedelta(minutes=2))
    assert [each.handle for each in claims.list_open(house.owner, limit=9)] == ["third"]
    user = replace(house.owner, principal=replace(house.owner.principal, role=Role.USER))
    with pytest.raises(NotAllowed):
        claims.list_open(user, limit=9)
