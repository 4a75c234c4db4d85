"""OAuth clients: stored per vault and provider, the secret sealed."""

import pytest

from authsome.errors import VaultDamaged
from authsome.secret import Secret
from authsome.vault import clients


def put(store, now, provider="github", secret="canary-client"):
    with store.database.transaction() as transaction:
        return clients.put(
            transaction,
            store.sealer,
            provider=provider,
            client_id=f"id of {provider}",
            client_secret=Secret(secret) if secret else None,
            now=now,
        )


def get(store, provider="github"):
    with store.database.read() as reader:
        return clients.get(reader, store.sealer, provider)


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
