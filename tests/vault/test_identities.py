"""Identities: first bindings stay, claims happen once, and what is limited or revoked is so at once."""

from datetime import timedelta

import pytest

from authsome.errors import AuthenticationFailed, NotAllowed, VaultDamaged
from authsome.models import limits
from authsome.models.limits import UNLIMITED
from authsome.models.principal import Identity
from authsome.vault import identities, principals


def add(store, now, handle="me", did="did:key:z1"):
    with store.database.transaction() as transaction:
        return identities.add(transaction, handle=handle, did=did, now=now)


def caller(store, handle="me"):
    with store.database.read() as reader:
        return identities.caller(reader, handle)


def test_identity_is_unclaimed_until_it_is_claimed(store, now):
    identity = add(store, now)
    assert identity == Identity(handle="me", did="did:key:z1", principal_id=None, created_at=now, revoked_at=None)
    assert caller(store) == (identity, None)
    assert caller(store, "other") is None
    with store.database.transaction() as transaction:
        identities.claim(transaction, handle="me", principal_id=store.owner.id)
    found, principal = caller(store)
    assert found.principal_id == store.owner.id
    assert principal == store.owner
    with store.database.read() as reader:
        assert identities.of_principal(reader, store.owner.id) == [found]


def test_first_binding_stays(store, now):  # SEC-19
    first = add(store, now)
    assert add(store, now + timedelta(hours=1)) == first
    with pytest.raises(NotAllowed, match="another key"):
        add(store, now, did="did:key:z2")
    with pytest.raises(NotAllowed, match="another handle"):
        add(store, now, handle="you")
    assert caller(store) == (first, None)
    assert caller(store, "you") is None


def test_claim_is_for_good(store, now):  # SEC-20
    add(store, now)
    with store.database.transaction() as transaction:
        stranger = principals.create_owner(transaction, store.sealers, now=now, name="stranger")
        for _ in range(2):
            identities.claim(transaction, handle="me", principal_id=store.owner.id)
    with pytest.raises(NotAllowed), store.database.transaction() as transaction:
        identities.claim(transaction, handle="me", principal_id=stranger.id)
    assert caller(store)[1] == store.owner
    with pytest.raises(AuthenticationFailed), store.database.transaction() as transaction:
        identities.claim(transaction, handle="nobody", principal_id=store.owner.id)


def test_revocation_is_seen_by_the_next_reader_and_cannot_be_claimed_away(store, now):  # SEC-17
    add(store, now)
    with store.database.transaction() as transaction:
        assert identities.revoke(transaction, handle="me", now=now)
        assert not identities.revoke(transaction, handle="me", now=now)
    assert caller(store)[0].revoked_at == now
    with pytest.raises(AuthenticationFailed), store.database.transaction() as transaction:
        identities.claim(transaction, handle="me", principal_id=store.owner.id)


def test_unclaimed_identities_are_counted_and_forgotten(store, now):  # SEC-19
    for number in range(3):
        add(store, now - timedelta(hours=number), f"agent-{number}", f"did:key:z{number}")
    with store.database.transaction() as transaction:
        identities.claim(transaction, handle="agent-2", principal_id=store.owner.id)
        assert identities.count_unclaimed(transaction) == 2
        assert identities.revoke(transaction, handle="agent-1", now=now)  # SEC-19: its handle stays taken
        assert identities.purge_unclaimed(transaction, now=now, lifetime=timedelta(0)) == 0
        transaction.execute("UPDATE identities SET revoked_at = NULL")
        assert identities.purge_unclaimed(transaction, now=now, lifetime=timedelta(0)) == 1
        assert identities.count_unclaimed(transaction) == 1
        assert identities.by_handle(transaction, "agent-2") is not None


def test_damaged_identity_says_so(store, now):
    add(store, now)
    with store.database.transaction() as transaction:
        transaction.execute("UPDATE identities SET created_at = 'yesterday'")
    with pytest.raises(VaultDamaged):
        caller(store)


def test_limits_are_kept_and_taken_back(store, now):
    add(store, now)
    for given in (
        limits.parse(connections=["github", "*/ci"], methods=["get"], expires_at=now),
        limits.parse(methods=["GET", "HEAD"]),
        limits.parse(expires_at=now),
        UNLIMITED,
    ):
        with store.database.transaction() as transaction:
            identities.limit(transaction, handle="me", limits=given)
        assert caller(store)[0].limits == given


def test_damaged_limits_limit_everything(store, now):
    add(store, now)
    with store.database.transaction() as transaction:
        transaction.execute("UPDATE identities SET connections = 'github'")
    with pytest.raises(VaultDamaged):
        caller(store)


def test_the_last_use_is_noted(store, now):
    add(store, now)
    with store.database.transaction() as transaction:
        identities.claim(transaction, handle="me", principal_id=store.owner.id)
        assert identities.last_uses(transaction, store.owner.id) == {}
        identities.note_use(transaction, "me", now=now)
        identities.note_use(transaction, "me", now=now + timedelta(minutes=1))
        assert identities.last_uses(transaction, store.owner.id) == {"me": now + timedelta(minutes=1)}
        assert identities.last_uses(transaction, "somebody") == {}


def test_identities_of_one_who_leaves(store, now):
    for handle in ("me", "other"):
        add(store, now, handle, f"did:key:{handle}")
    with store.database.transaction() as transaction:
        identities.claim(transaction, handle="me", principal_id=store.owner.id)
        assert identities.revoke_all(transaction, store.owner.id, now=now) == 1
        assert identities.of_principal(transaction, store.owner.id) == []
    assert caller(store)[0].revoked_at == now
    assert caller(store, "other")[0].revoked_at is None
    with pytest.raises(NotAllowed, match="another key"):
        add(store, now, did="did:key:z9")
