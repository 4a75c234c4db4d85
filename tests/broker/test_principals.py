"""Principals: let in by admins alone, once; and gone at once with all that is theirs."""

import threading
from datetime import timedelta

import pytest

from authsome.broker import routing
from authsome.broker.logins import Wanted
from authsome.broker.principals import INVITATION_LIFETIME
from authsome.errors import AuthenticationFailed, LoginNotFound, NotAllowed, NotFound, RequestInvalid, VaultUnusable
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.principal import Caller, Role
from authsome.secret import Secret
from authsome.vault import identities, principals


def accept(house, token, name="Ada"):
    with house.context.database.transaction() as tx:
        return house.broker.principals.accept(tx, token, name=name)


def member(house, email="ada@example.com", role=Role.USER, handle="ada"):
    """A principal that was invited, acting by an identity of its own."""
    made = accept(house, house.broker.principals.invite(house.owner, email, role).token)
    with house.context.database.transaction() as tx:
        identities.add(tx, handle=handle, did=f"did:key:z{handle}", now=house.clock())
        identities.claim(tx, handle=handle, principal_id=made.id)
    return caller(house, handle)


def caller(house, handle):
    with house.context.database.read() as reader:
        return house.broker.identities.caller(reader, handle)


def test_an_invitation_is_good_once(house):
    """It makes one principal, of the role and address that it names. # SEC-206"""
    invited = house.broker.principals.invite(house.owner, "Ada@Example.com", Role.ADMIN)
    made = accept(house, invited.token)
    assert (made.email, made.name, made.role) == ("ada@example.com", "Ada", Role.ADMIN)
    assert made.vault_id != house.owner.vault_id
    with pytest.raises(NotFound):
        accept(house, invited.token)
    with pytest.raises(NotAllowed, match="principal already"):
        house.broker.principals.invite(house.owner, "ada@example.com")
    assert [each.entry.principal for each in house.events(Event.JOIN)] == [made.id]


def test_an_invitation_ends(house):
    """By its time, by a later one, and by being withdrawn. # SEC-206"""
    broker, owner = house.broker, house.owner
    first, second = (broker.principals.invite(owner, "ada@example.com") for _ in range(2))
    assert [each.id for each in broker.principals.list_invitations(owner)] == [second.invitation.id]
    with pytest.raises(NotFound):
        accept(house, first.token)
    broker.principals.withdraw(owner, second.invitation.id)
    with pytest.raises(NotFound):
        accept(house, second.token)
    with pytest.raises(NotFound):
        broker.principals.withdraw(owner, second.invitation.id)
    third = broker.principals.invite(owner, "ada@example.com")
    house.clock.advance(INVITATION_LIFETIME)
    with pytest.raises(NotFound):
        accept(house, third.token)
    assert broker.principals.list_invitations(owner) == []
    assert accept(house, broker.principals.invite(owner, "ada@example.com").token)


def test_an_invitation_is_worth_what_its_host_is(house):
    """Who is no admin any more lets nobody in, and so not themselves once more; nor does who is gone. # SEC-206"""
    ada = member(house, role=Role.ADMIN)
    invited = house.broker.principals.invite(ada, "again@example.com", Role.ADMIN)
    house.broker.principals.set_role(house.owner, "ada@example.com", Role.USER)
    with pytest.raises(NotFound):
        accept(house, invited.token)
    house.broker.principals.set_role(house.owner, "ada@example.com", Role.ADMIN)
    house.broker.principals.remove(house.owner, "ada@example.com")
    with pytest.raises(NotFound):
        accept(house, invited.token)


def test_an_invitation_that_fails_is_not_used_up(house):
    """A name that cannot be shown leaves the link as it was."""
    invited = house.broker.principals.invite(house.owner, "ada@example.com")
    with pytest.raises(RequestInvalid):
        accept(house, invited.token, name="\x1b[31m")
    assert accept(house, invited.token)


def test_twenty_first_accounts_make_one(house):
    """Who is first is the admin; the others are told to ask for an invitation. # SEC-206"""
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE identities SET principal_id = NULL")
        tx.execute("DELETE FROM principals")
    begin, made, refused = threading.Barrier(20), [], []

    def sign_up(number):
        begin.wait()
        try:
            with house.context.database.transaction() as tx:
                made.append(house.broker.principals.create_first(tx, email=f"u{number}@example.com", name=f"u{number}"))
        except NotAllowed as error:
            refused.append(error)

    threads = [threading.Thread(target=sign_up, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (len(made), len(refused)) == (1, 19)
    with house.context.database.read() as reader:
        assert principals.list_all(reader) == made
    assert made[0].role is Role.ADMIN


def test_only_admins_let_in_and_out(house):
    """A user, and an identity of an admin that is limited in any way, do nothing of it. # SEC-199"""
    user = member(house)
    ways = (
        limits.parse(methods=["GET"]),
        limits.parse(connections=["*"]),
        limits.parse(expires_at=house.clock() + timedelta(days=1)),
    )
    limited = []
    for number, each in enumerate(ways):
        with house.context.database.transaction() as tx:
            identities.add(tx, handle=f"ci-{number}", did=f"did:key:zci{number}", now=house.clock())
            identities.claim(tx, handle=f"ci-{number}", principal_id=house.owner.principal.id)
            identities.limit(tx, handle=f"ci-{number}", limits=each)
        limited.append(caller(house, f"ci-{number}"))
    group = house.broker.principals
    for who in (user, *limited):
        for act in (
            group.list_all,
            group.list_invitations,
            lambda who: group.invite(who, "x@example.com"),
            lambda who: group.withdraw(who, "x"),
            lambda who: group.add(who, "x"),
            lambda who: group.set_role(who, "owner", Role.USER),
            lambda who: group.remove(who, "ada@example.com"),
            lambda who: house.broker.identities.list_all(who, everybody=True),
        ):
            with pytest.raises(NotAllowed):
                act(who)
    assert {each.name for each in group.list_all(house.owner)} == {"owner", "Ada"}


def test_there_is_always_an_admin(house):
    """The last one is neither removed nor made a user."""
    group = house.broker.principals
    for act in (lambda: group.remove(house.owner, "owner"), lambda: group.set_role(house.owner, "owner", Role.USER)):
        with pytest.raises(NotAllowed, match="has to be an admin"):
            act()
    ada = member(house)
    assert group.set_role(house.owner, "Ada", Role.ADMIN).role is Role.ADMIN
    assert group.set_role(house.owner, "Ada", Role.ADMIN).role is Role.ADMIN
    assert caller(house, "ada").is_admin
    assert group.set_role(caller(house, "ada"), "owner", Role.USER).role is Role.USER
    with pytest.raises(NotAllowed):
        group.list_all(caller(house, "owner"))
    assert [each.entry.detail for each in house.events(Event.ROLE)] == ["ada@example.com is admin", "owner is user"]
    assert ada.principal.role is Role.USER  # as it was looked up before


def test_a_principal_is_found_by_what_is_its_own(house):
    """By id, address or name; a name that several have decides nothing."""
    group, owner = house.broker.principals, house.owner
    ada, other = (member(house, f"{name}@example.com", handle=name) for name in ("ada", "other"))  # both named Ada
    with house.context.database.read() as reader:
        assert group.find(reader, ada.principal.id) == ada.principal
        assert group.find(reader, "Other@Example.com") == other.principal
        assert group.find(reader, "owner") == owner.principal
        with pytest.raises(NotAllowed, match="several"):
            group.find(reader, "Ada")
        with pytest.raises(NotFound):
            group.find(reader, "nobody")
    group.add(owner, "robot")
    with pytest.raises(NotAllowed, match="already"):
        group.add(owner, "robot")


def test_who_is_removed_is_gone_at_once(house):
    """Identities, runs, logins, connections and the vault's key: from the next request on. # SEC-208"""
    ada = member(house)
    broker = house.broker
    login = broker.logins.begin(ada, Wanted(provider="openai", variables={}, verify=False))
    broker.logins.submit(login, {"api_key": Secret("sk-" + "a1B2" * 12)})
    pending = broker.logins.begin(ada, Wanted(provider="anthropic", variables={}))
    begun = broker.runs.begin(ada, routing.DEFAULT_CHOICE)
    copy = house.home.server / "store.db.before-3"  # of an upgrade: the vault's key is in it
    copy.touch(mode=0o600)
    left = broker.principals.remove(house.owner, "ada@example.com")
    assert not copy.exists()
    assert (left.principal, left.connections, left.identities, left.runs) == (ada.principal, 1, 1, 1)
    assert caller(house, "ada") is None
    with house.context.database.read() as reader, pytest.raises(AuthenticationFailed):
        broker.runs.prove(reader, begun.run.id, begun.secret)
    with pytest.raises(LoginNotFound):
        broker.logins.get(ada, pending.request.id)
    with pytest.raises(VaultUnusable):
        house.context.sealers.for_vault(ada.vault_id)
    assert broker.credentials.list_all(ada) == []
    with pytest.raises(VaultUnusable):  # what was begun before does not bring it back
        broker.logins.begin(
            Caller(identity=ada.identity, principal=ada.principal),
            Wanted(provider="openai", variables={}, verify=False),
        )
    assert broker.credentials.list_all(house.owner) == []
    assert house.events(Event.PRINCIPAL_REMOVED)[0].entry.detail == "ada@example.com: 1 connections, 1 identities"
    assert house.context.database.check() == ()
    with pytest.raises(NotFound):
        broker.principals.remove(house.owner, "ada@example.com")
