"""OAuth clients: stored per vault and provider, the secret sealed."""

import itertools

import pytest

from authsome.crypto import aead
from authsome.errors import VaultDamaged
from authsome.secret import Secret
from authsome.vault import clients, schema
from authsome.vault.vaults import Sealers


def put(store, now, provider="github", secret="canary-client", server=""):
    with store.database.transaction() as transaction:
        return clients.put(
            transaction,
            store.sealer,
            provider=provider,
            server=server,
            client_id=f"id of {provider}",
            client_secret=Secret(secret) if secret else None,
            now=now,
        )


def get(store, provider="github", server=""):
    with store.database.read() as reader:
        return clients.get(reader, store.sealer, provider, server)


def test_what_is_put_comes_back(store, now):
    assert get(store) is None
    assert put(store, now) == get(store)
    assert get(store).client_secret == Secret("canary-client")
    assert put(store, now, "public", None) == get(store, "public")
    assert get(store, "public").client_secret is None
    assert b"canary" not in store.everything()


def test_later_one_takes_the_place(store, now):
    put(store, now)
    assert put(store, now, secret="canary-other") == get(store)
    with store.database.transaction() as transaction:
        assert clients.delete(transaction, store.vault_id, "github")
        assert not clients.delete(transaction, store.vault_id, "github")
    assert get(store) is None


def test_secret_of_another_provider_or_an_earlier_one_does_not_open(store, now):  # SEC-113
    put(store, now)
    put(store, now, "gitlab")
    with store.database.transaction() as transaction:
        transaction.execute(
            "UPDATE clients SET client_secret = (SELECT c.client_secret FROM clients c WHERE c.provider = 'gitlab')"
            " WHERE provider = 'github'"
        )
    with pytest.raises(VaultDamaged):
        get(store)
    assert get(store, "gitlab") is not None


def test_vaults_do_not_see_each_other(store, now):
    put(store, now)
    with store.database.transaction() as transaction:
        other = store.sealers.create_vault(transaction, now=now)
        assert clients.get(transaction, other, "github") is None


def test_each_server_has_its_own(store, now):
    """Two servers of one provider are two; what is stored of one is found in no other's place, and goes alone."""
    one, two = "https://one.example", "https://two.example"
    assert put(store, now, secret="canary-one", server=one) == get(store, server=one)
    assert put(store, now, secret="canary-two", server=two) == get(store, server=two)
    assert get(store) is None
    with store.database.read() as reader:
        assert [each.server for each in clients.list_of(reader, store.sealer, "github")] == [one, two]
        assert clients.vaults_with(reader, "github") == [store.vault_id]
    with store.database.transaction() as transaction:
        assert clients.delete(transaction, store.vault_id, "github", one)
    assert (get(store, server=one), get(store, server=two).client_secret) == (None, Secret("canary-two"))


@pytest.mark.parametrize("moved", ["https://other.example", ""])
def test_a_client_that_was_moved_to_another_server_does_not_open(store, now, moved):  # SEC-113
    """Whoever may write the database cannot have a server's client secret sent to another one."""
    put(store, now, server="https://one.example")
    with store.database.transaction() as transaction:
        transaction.execute("UPDATE clients SET server = ?", (moved,))
    with pytest.raises(VaultDamaged):
        get(store, server=moved)


def test_clients_from_before_servers_were_told_apart_still_open(open_database, now):
    """The migration keeps them, sealed as they were."""
    before = open_database(migrations=BEFORE_SERVERS)
    sealers = Sealers(before, aead.new_key())
    with before.transaction() as transaction:
        sealer = sealers.create_vault(transaction, now=now)
        sealed = sealer.seal("gitlab", "", "client_secret", 7, Secret("canary-client"))
        transaction.execute(
            "INSERT INTO clients (vault_id, provider, client_id, client_secret, revision, created_at)"
            " VALUES (?, 'gitlab', 'our-client', ?, 7, 0)",
            (sealer.vault_id, sealed),
        )
    before.close()
    with open_database().read() as reader:
        found = clients.get(reader, sealer, "gitlab")
    assert found is not None
    assert (found.client_id, found.client_secret, found.server) == ("our-client", Secret("canary-client"), "")


BEFORE_SERVERS = tuple(itertools.takewhile(lambda migration: migration.name != "servers", schema.MIGRATIONS))
