"""Principals and identities: first bindings stay, claims happen once, and revocation is seen at once."""

from datetime import timedelta

import pytest

from authsome.errors import AuthenticationFailed, NotAllowed, VaultDamaged
from authsome.models.principal import Identity, Role
from authsome.vault import principals


def add(store, now, handle="me", did="did:key:z1"):
    with store.database.transaction() as transaction:
        return principals.add_identity(transaction, handle=handle, did=did, now=now)


def caller(store, handle="me"):
    with store.database.read() as reader:
        return principals.caller(reader, handle)


def test_owner_is_an_admin_with_a_vault(store):
    with store.database.read() as reader:
        assert principals.owner(reader) == store.owner
        assert principals.principal_by_id(reader, store.owner.id) == store.owner
        assert principals.principal_by_id(reader, "nobody") is None
        assert principals.count(reader) == 1
    assert store.owner.role is Role.ADMIN
    assert store.sealers.for_vault(store.owner.vault_id).vault_id == store.owner.vault_id


def test_new_store_has_no_owner(database):
    with database.read() as reader:
        assert principals.owner(reader) is None
        assert principals.count(reader) == 0


def test_identity_is_unclaimed_until_it_is_claimed(store, now):
    identity = add(store, now)
    assert identity == Identity(handle="me", did="did:key:z1", principal_id=None, created_at=now, revoked_at=None)
    assert caller(store) == (identity, None)
    assert caller(store, "other") is None
    with store.database.transaction() as transaction:
        principals.claim_identity(transaction, handle="me", principal_id=store.owner.id)
    found, principal = caller(store)
    assert found.principal_id == store.owner.id
    assert principal == store.owner
    with store.database.read() as reader:
        assert principals.identities(reader, store.owner.id) == [found]


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
            principals.claim_identity(transaction, handle="me", principal_id=store.owner.id)
    with pytest.raises(NotAllowed), store.database.transaction() as transaction:
        principals.claim_identity(transaction, handle="me", principal_id=stranger.id)
    assert caller(store)[1] == store.owner
    with pytest.raises(AuthenticationFailed), store.database.transaction() as transaction:
        principals.claim_identity(transaction, handle="nobody", principal_id=store.owner.id)


def test_revocation_is_seen_by_the_next_reader_and_cannot_be_claimed_away(store, now):  # SEC-17
    add(store, now)
    with store.database.transaction() as transaction:
        assert principals.revoke_identity(transaction, handle="me", now=now)
        assert not principals.revoke_identity(transaction, handle="me", now=now)
    assert caller(store)[0].revoked_at == now
    with pytest.raises(AuthenticationFailed), store.database.transaction() as transaction:
        principals.claim_identity(transaction, handle="me", principal_id=store.owner.id)


def test_unclaimed_identities_are_counted_and_forgotten(store, now):  # SEC-19
    for number in range(3):
        add(store, now - timedelta(hours=number), f"agent-{number}", f"did:key:z{number}")
    with store.database.transaction() as transaction:
        principals.claim_identity(transaction, handle="agent-2", principal_id=store.owner.id)
        assert principals.count_unclaimed(transaction) == 2
        assert principals.purge_unclaimed(transaction, before=now) == 1
        assert principals.count_unclaimed(transaction) == 1
        assert principals.identity_by_handle(transaction, "agent-2") is not None


def test_damaged_identity_says_so(store, now):
    add(store, now)
    with store.database.transaction() as transaction:
        transaction.execute("UPDATE identities SET created_at = 'yesterday'")
    with pytest.raises(VaultDamaged):
        caller(store)
