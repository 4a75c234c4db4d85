"""Principals: each with a vault of its own, and nothing of it left when it goes."""

import sqlite3
from contextlib import closing

import pytest

from authsome.errors import NotAllowed, RequestInvalid, VaultDamaged, VaultUnusable
from authsome.models.audit import Entry, Event
from authsome.models.connection import Kind
from authsome.models.principal import Role, checked_name, normal_email
from authsome.models.run import Run
from authsome.secret import Secret
from authsome.vault import audit, clients, connections, identities, principals, runs

OF_NO_VAULT = {"audit"}
"""Tables with a `vault_id` whose rows stay when the vault goes."""


def test_owner_is_an_admin_with_a_vault(store):
    with store.database.read() as reader:
        assert principals.owner(reader) == store.owner
        assert principals.by_id(reader, store.owner.id) == store.owner
        assert principals.by_id(reader, "nobody") is None
        assert principals.of_vault(reader, store.owner.vault_id) == store.owner
        assert principals.count(reader) == 1
    assert store.owner.role is Role.ADMIN
    assert store.sealers.for_vault(store.owner.vault_id).vault_id == store.owner.vault_id


def test_new_store_has_no_owner(database):
    with database.read() as reader:
        assert principals.owner(reader) is None
        assert principals.count(reader) == 0


def add(store, now, name="ada", role=Role.USER, email=None):
    with store.database.transaction() as transaction:
        return principals.create(transaction, store.sealers, now=now, name=name, role=role, email=email)


def test_an_address_belongs_to_one_principal(store, now):
    ada = add(store, now, email="ada@example.com")
    with pytest.raises(NotAllowed, match="already"):
        add(store, now, "other", email="ada@example.com")
    bea = add(store, now, "bea")
    with store.database.transaction() as transaction:
        with pytest.raises(NotAllowed, match="already"):
            principals.set_email(transaction, bea.id, "ada@example.com")
        principals.set_email(transaction, ada.id, "ada@example.com")
        principals.set_email(transaction, bea.id, "bea@example.com")
        assert principals.by_email(transaction, "ada@example.com") == ada
        assert principals.by_email(transaction, "bea@example.com").id == bea.id
        assert principals.by_email(transaction, "ADA@example.com") is None
    with store.database.read() as reader:
        assert {each.name for each in principals.list_all(reader)} == {"owner", "ada", "bea"}
        assert principals.count(reader, Role.ADMIN) == 1


@pytest.mark.parametrize("text", ["", "ada", "@example.com", "ada@", "a b@example.com", "ada@exa_mple", "a@b@c"])
def test_what_is_no_address(text):
    with pytest.raises(RequestInvalid):
        normal_email(text)


def test_an_address_has_one_spelling():
    assert normal_email(" Ada.Lovelace+x@Example.COM ") == "ada.lovelace+x@example.com"


@pytest.mark.parametrize("text", ["", "  ", "x" * 65, "a\nb", "a\x1b[31m"])
def test_what_is_no_name(text):
    with pytest.raises(RequestInvalid):
        checked_name(text)


def test_a_role_changes(store, now):
    ada = add(store, now)
    with store.database.transaction() as transaction:
        principals.set_role(transaction, ada.id, Role.ADMIN)
        assert principals.by_id(transaction, ada.id).role is Role.ADMIN
        assert principals.count(transaction, Role.ADMIN) == 2


def test_nothing_of_a_vault_outlives_its_principal(store, now):  # SEC-208
    """Every table with a `vault_id` is emptied of it, the key is gone, and what is another's stays."""
    ada = add(store, now)
    sealer = store.sealers.for_vault(ada.vault_id)
    with store.database.transaction() as transaction:
        for owner in (ada, store.owner):
            connections.put(
                transaction,
                store.sealers.for_vault(owner.vault_id),
                provider="acme",
                name="default",
                kind=Kind.API_KEY,
                secrets={"api_key": Secret("k")},
                now=now,
            )
        clients.put(transaction, sealer, provider="acme", client_id="c", client_secret=None, now=now)
        identities.add(transaction, handle="me", did="did:key:z1", now=now)
        identities.claim(transaction, handle="me", principal_id=ada.id)
        runs.create(
            transaction,
            Run(
                id="run",
                secret_hash=b"x",
                vault_id=ada.vault_id,
                identity="me",
                pinned={},
                only=frozenset(),
                created_at=now,
                expires_at=None,
                ended_at=None,
            ),
        )
        audit.append(transaction, Entry(event=Event.CLAIM, at=now, vault_id=ada.vault_id))
        assert runs.count_live(transaction, ada.vault_id, now=now) == 1
        assert identities.revoke_all(transaction, ada.id, now=now) == 1
        principals.delete(transaction, ada)
    store.sealers.forget(ada.vault_id)
    with pytest.raises(VaultUnusable):
        store.sealers.for_vault(ada.vault_id)
    with closing(sqlite3.connect(store.database.path)) as raw:
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        of_vaults = [
            table for table in tables if any(row[1] == "vault_id" for row in raw.execute(f"PRAGMA table_info({table})"))
        ]
        assert {"connections", "secrets", "clients", "logins", "runs", "refreshes"} <= set(of_vaults)
        for table in of_vaults:
            left = raw.execute(f"SELECT count(*) FROM {table} WHERE vault_id = ?", (ada.vault_id,)).fetchone()[0]
            assert left == (1 if table in OF_NO_VAULT else 0), table
        assert raw.execute("SELECT count(*) FROM connections").fetchone() == (1,)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    with store.database.read() as reader:
        gone = identities.by_handle(reader, "me")
        assert (gone.principal_id, gone.revoked_at) == (None, now)
        assert principals.list_all(reader) == [store.owner]


def test_damaged_principal_says_so(store):
    with store.database.transaction() as transaction:
        transaction.execute("UPDATE principals SET role = 'god'")
    with store.database.read() as reader, pytest.raises(VaultDamaged):
        principals.by_id(reader, store.owner.id)
