"""Identities: seen, limited and revoked by their own principal and by admins, and by nobody else."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.broker import routing
from authsome.broker.identities import OF_ADDRESS, UNCLAIMED_LIMIT, describe
from authsome.errors import AuthenticationFailed, LimitsChanged, NotAllowed, NotFound, TooManyAttempts
from authsome.identity.key import generate
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.limits import UNLIMITED
from authsome.models.principal import Caller, Role
from authsome.secret import Secret
from authsome.vault import identities, passwords, principals


def claimed(house, handle, principal=None, given=UNLIMITED):
    """An identity of a principal, the owner if none is named, that acts within limits."""
    with house.context.database.transaction() as tx:
        identities.add(tx, handle=handle, did=f"did:key:z{handle}", now=house.clock())
        identities.claim(tx, handle=handle, principal_id=(principal or house.owner.principal).id)
        identities.limit(tx, handle=handle, limits=given)
    return caller(house, handle)


def caller(house, handle):
    with house.context.database.read() as reader:
        return house.broker.identities.caller(reader, handle)


def handles(house, who, **options):
    return [each.identity.handle for each in house.broker.identities.list_all(who, **options)]


def test_a_revoked_identity_and_its_runs_end_at_once(house):
    """The next request of it and of its children is refused; those of other identities go on. # SEC-17"""
    agent = claimed(house, "agent")
    mine, its = (house.broker.runs.begin(who, routing.DEFAULT_CHOICE) for who in (house.owner, agent))
    revoked = house.broker.identities.revoke(house.owner, "agent")
    assert revoked.revoked_at == house.clock()
    assert caller(house, "agent") is None
    with house.context.database.read() as reader:
        with pytest.raises(AuthenticationFailed) as refused:
            house.broker.runs.prove(reader, its.run.id, its.secret)
        assert house.broker.runs.prove(reader, mine.run.id, mine.secret)[1] == house.owner
    assert refused.value.reason == "the run has ended"
    assert house.broker.identities.revoke(house.owner, "agent") == revoked  # once more changes nothing
    assert [each.entry.detail for each in house.events(Event.IDENTITY_REVOKED)] == ["agent: runs ended: 1"]


@pytest.mark.parametrize("others", [None, "limited", "revoked", "stranger"])
def test_nobody_is_locked_out_by_mistake(house, others):
    """The last identity without limits stays so, unless that is meant, or its principal can sign in by a password."""
    if others == "stranger":
        with house.context.database.transaction() as tx:
            bob = principals.create(tx, house.context.sealers, name="bob", role=Role.USER, now=house.clock())
        claimed(house, "agent", bob)
    elif others:
        claimed(house, "agent", given=limits.parse(methods=["GET"]) if others == "limited" else UNLIMITED)
    if others == "revoked":
        house.broker.identities.revoke(house.owner, "agent")
    soon = limits.parse(expires_at=house.clock() + timedelta(days=1))
    acts = (
        lambda **given: house.broker.identities.limit(house.owner, "owner", soon, **given),
        lambda **given: house.broker.identities.revoke(house.owner, "owner", **given),
    )
    for act in acts:
        with pytest.raises(NotAllowed, match="the identity owner is the last to act for you without limits"):
            act()
    assert house.broker.identities.limit(house.owner, "owner", UNLIMITED).limits.is_none
    assert caller(house, "owner") == house.owner
    if others is None:
        with house.context.database.transaction() as tx:
            passwords.put(tx, house.owner.principal.id, passwords.prepare(Secret("a good password")), now=house.clock())
        acts[1]()
    else:
        acts[1](last=True)
    assert caller(house, "owner") is None


def test_the_last_identity_of_others_and_one_of_several_go(house):
    """An admin claims another for them; and whoever has another lets that act."""
    with house.context.database.transaction() as tx:
        bob = principals.create(tx, house.context.sealers, name="bob", role=Role.USER, now=house.clock())
    claimed(house, "bobs", bob)
    assert house.broker.identities.revoke(house.owner, "bobs").revoked_at
    claimed(house, "agent")
    assert house.broker.identities.revoke(house.owner, "owner").revoked_at


def test_why_a_limited_identity_of_an_admin_is_no_admin(house):
    """It is told of the limits, not of a role that its principal has."""
    agent = claimed(house, "agent", given=limits.parse(methods=["GET"]))
    with pytest.raises(NotAllowed, match="the identity agent is limited"):
        agent.require_admin()


def test_who_waits_since_before_the_clock_was_set_back_keeps_nobody_out(house):
    """Else all places would be taken until that time has come. # SEC-19 # SEC-84"""
    house.clock.advance(timedelta(days=900))
    with house.context.database.transaction() as tx:
        for number in range(UNCLAIMED_LIMIT):
            identities.add(tx, handle=f"agent-{number}", did=f"did:key:z{number}", now=house.clock())
    register = house.broker.identities.register
    with pytest.raises(NotAllowed, match="too many"):
        register(name="new", key=generate().did, bootstrap=None)
    house.clock.advance(-timedelta(days=900))
    assert register(name="new", key=generate().did, bootstrap=None)[0].handle == "new"


def test_an_identity_ends_by_its_time(house):
    """At its expiry, also where what is known of it was kept. # SEC-17"""
    end = house.clock() + timedelta(hours=1)
    agent = claimed(house, "agent", given=limits.parse(expires_at=end))
    begun = house.broker.runs.begin(agent, routing.DEFAULT_CHOICE)
    for moment, there in ((end - timedelta(seconds=1), True), (end, False)):
        house.clock.moment = moment
        found = house.context.database.combined(lambda tx: house.broker.identities.caller(tx, "agent"))
        assert (found is not None) is there
        assert (caller(house, "agent") is not None) is there
    with house.context.database.read() as reader, pytest.raises(AuthenticationFailed):
        house.broker.runs.prove(reader, begun.run.id, begun.secret)


def test_whose_identities_one_may_touch(house):
    """One's own, and an admin everybody's; those of others are not there. # SEC-199"""
    robot = house.broker.principals.add(house.owner, "robot")
    its, other = claimed(house, "its", robot), claimed(house, "other")
    acts = house.broker.identities
    for name in ("other", "owner", "nobody"):
        with pytest.raises(NotFound, match="there is no identity"):
            acts.revoke(its, name)
        with pytest.raises(NotFound, match="there is no identity"):
            acts.limit(its, name, UNLIMITED)
    assert handles(house, its) == ["its"]
    assert sorted(handles(house, house.owner)) == ["other", "owner"]
    assert sorted(handles(house, house.owner, everybody=True)) == ["its", "other", "owner"]
    assert acts.limit(house.owner, "its", limits.parse(methods=["GET"])).limits.methods == {"GET"}
    assert acts.revoke(house.owner, "its").revoked_at
    assert caller(house, "other") == other


def test_limits_cannot_be_shed(house):
    """A limited identity sees itself alone, revokes itself alone, and changes no limit."""
    for given in (
        limits.parse(methods=["GET"]),
        limits.parse(connections=["*"]),
        limits.parse(expires_at=house.clock() + timedelta(days=1)),
    ):
        agent = claimed(house, "agent", given=given)
        assert handles(house, agent) == ["agent"]
        for act in (
            lambda agent: house.broker.identities.limit(agent, "agent", UNLIMITED),
            lambda agent: house.broker.identities.limit(agent, "owner", UNLIMITED),
            lambda agent: house.broker.identities.revoke(agent, "owner"),
        ):
            with pytest.raises(NotAllowed, match="is limited"):
                act(agent)
        assert caller(house, "agent").limits == given
    assert house.broker.identities.revoke(agent, "agent").revoked_at


def test_limits_that_somebody_else_has_set(house):
    """Take the place of no others than those that were seen."""
    claimed(house, "agent")
    seen = house.broker.identities.get(house.owner, "agent").identity.limits
    first, second = limits.parse(connections=["github"]), limits.parse(connections=["gitlab"])
    house.broker.identities.limit(house.owner, "agent", first, seen=seen)
    with pytest.raises(LimitsChanged):
        house.broker.identities.limit(house.owner, "agent", second, seen=seen)
    assert caller(house, "agent").limits == first
    assert len(house.events(Event.IDENTITY_LIMITED)) == 1


def test_the_principal_itself_may(house):
    """In a browser that is signed in there is no identity, and no limit."""
    claimed(house, "agent")
    signed_in = Caller(identity=None, principal=house.owner.principal)
    given = limits.parse(connections=["github", "*/ci"], methods=["get"], expires_at=house.clock())
    assert house.broker.identities.limit(signed_in, "agent", given).limits == given
    assert house.broker.identities.revoke(signed_in, "agent").revoked_at
    entry = house.events(Event.IDENTITY_LIMITED)[0].entry
    assert (entry.identity, entry.detail) == (None, f"agent: {describe(given)}")
    assert describe(given) == "connections github, */ci; methods GET; until 2026-06-01T12:00:00Z"
    assert describe(UNLIMITED) == "no limits"


def test_one_identity_is_looked_at(house):
    """By its principal, and by itself although it is limited; others are told that there is none.

    # SEC-199
    """
    claimed(house, "agent")
    look = house.broker.identities.get
    assert look(house.owner, "agent").identity.handle == "agent"
    narrow = limits.parse(connections=["github"])
    itself = replace(house.owner, identity=house.broker.identities.limit(house.owner, "agent", narrow))
    assert look(itself, "agent").identity.limits == narrow
    foreign = replace(house.owner.principal, id="principal_b", role=Role.USER)
    for caller, name in (
        (itself, house.owner.handle),
        (Caller(identity=None, principal=foreign), "agent"),
        (house.owner, "nobody"),
    ):
        with pytest.raises(NotFound, match=f"there is no identity {name}"):
            look(caller, name)


def test_what_an_admin_does_is_recorded_with_its_proof(house):
    """Acts upon identities and principals can be found again in the log of whoever signed them, as all others can."""
    # SEC-181
    claimed(house, "agent")
    signed = replace(house.owner, proof="the-jti-of-the-proof")
    house.broker.identities.limit(signed, "agent", limits.parse(connections=["github"]))
    house.broker.identities.revoke(signed, "agent")
    house.broker.principals.invite(signed, "ada@example.com", Role.USER)
    for event in (Event.IDENTITY_LIMITED, Event.IDENTITY_REVOKED, Event.INVITE):
        assert [each.entry.proof for each in house.events(event)] == ["the-jti-of-the-proof"]


def test_registrations_from_elsewhere_are_counted(house):
    """By address, so that nobody fills the places of others; this machine has the one limit for all. # SEC-19"""

    def register(address):
        key = generate()
        house.broker.identities.register(
            name=f"n{key.public_bytes.hex()[:20]}", key=key.did, bootstrap=None, address=address
        )

    for _ in range(OF_ADDRESS):
        register("192.0.2.1")
    with pytest.raises(TooManyAttempts):
        register("192.0.2.1")
    register("192.0.2.2")
    for _ in range(OF_ADDRESS + 5):
        register(None)
    house.clock.advance(timedelta(hours=2))
    register("192.0.2.1")


def test_identities_page_by_page(house):
    """Those that may act come first, the last used before the others; what is another's is an admin's to ask for."""
    robot = house.broker.principals.add(house.owner, "robot")
    for handle in ("first", "second", "ended", "revoked"):
        claimed(
            house, handle, given=limits.parse(expires_at=house.clock() + timedelta(seconds=1 + (handle != "ended")))
        )
        house.clock.advance(timedelta(milliseconds=10))
        with house.context.database.transaction() as tx:
            identities.note_use(tx, handle, now=house.clock())
    claimed(house, "its", robot)
    house.broker.identities.revoke(house.owner, "revoked")
    house.clock.advance(timedelta(seconds=1))
    page = house.broker.identities.page
    found, number = page(house.owner, limit=9)
    assert [each.identity.handle for each in found] == ["second", "first", "owner", "revoked", "ended"]
    assert (number, found[2].last_used_at, found[0].principal) == (5, None, house.owner.principal)
    assert [each.identity.handle for each in page(house.owner, limit=2, offset=1)[0]] == ["first", "owner"]
    assert page(house.owner, everybody=True, limit=1)[1] == 6
    user = Caller(identity=None, principal=robot)
    assert [each.identity.handle for each in page(user, limit=9)[0]] == ["its"]
    with pytest.raises(NotAllowed):
        page(user, everybody=True, limit=9)
    with pytest.raises(NotAllowed):
        page(claimed(house, "limited", given=limits.parse(methods=["GET"])), limit=9)
