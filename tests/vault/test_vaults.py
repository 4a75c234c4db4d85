"""Sealers: what belongs to one place opens there and nowhere else."""

import json
from pathlib import Path

import pytest

from authsome.crypto import aead
from authsome.errors import VaultDamaged, VaultUnusable
from authsome.models.principal import Role
from authsome.secret import Secret
from authsome.vault import principals, vaults
from authsome.vault.vaults import Sealer, Sealers

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "sealed.json").read_text())["sealer"]
TEXT = Secret("a token")
PLACE = ("github", "default", "access_token", 3)


@pytest.mark.parametrize(
    "other",
    [
        ("gitlab", "default", "access_token", 3),
        ("github", "work", "access_token", 3),
        ("github", "default", "refresh_token", 3),
        ("github", "default", "access_token", 2),
        ("githubd", "efault", "access_token", 3),
        ("", "github", "default", 3),
    ],
)
def test_sealed_value_opens_in_its_own_place_only(store, other):  # SEC-113
    sealed = store.sealer.seal(*PLACE, TEXT)
    assert store.sealer.open(*PLACE, sealed) == TEXT
    with pytest.raises(VaultDamaged) as caught:
        store.sealer.open(*other, sealed)
    assert caught.value.hint


def test_sealed_value_opens_in_its_own_vault_only(store, now):  # SEC-113
    with store.database.transaction() as transaction:
        other = store.sealers.create_vault(transaction, now=now)
    with pytest.raises(VaultDamaged):
        other.open(*PLACE, store.sealer.seal(*PLACE, TEXT))
    same_key = Sealer("vault_other", store.sealer._keys[0])
    with pytest.raises(VaultDamaged):
        same_key.open(*PLACE, store.sealer.seal(*PLACE, TEXT))


def test_login_and_field_are_not_exchanged(store):  # SEC-113
    with pytest.raises(VaultDamaged):
        store.sealer.open_login("login_1", store.sealer.seal(*PLACE, TEXT))
    with pytest.raises(VaultDamaged):
        store.sealer.open_login("login_2", store.sealer.seal_login("login_1", TEXT))


def test_vaults_are_found_again_by_their_wrapped_keys(store):
    sealed = store.sealer.seal(*PLACE, TEXT)
    later = Sealers(store.database, store.sealers._kek)
    assert later.for_vault(store.vault_id).open(*PLACE, sealed) == TEXT
    assert later.subkey("forms") == store.sealers.subkey("forms")
    assert later.subkey("forms") != store.sealers.subkey("other")


def test_one_damaged_key_damages_one_vault(store, now):  # SEC-112
    with store.database.transaction() as transaction:
        other = store.sealers.create_vault(transaction, now=now)
        transaction.execute("UPDATE vaults SET wrapped_key = zeroblob(61) WHERE id = ?", (other.vault_id,))
    later = Sealers(store.database, store.sealers._kek)
    with pytest.raises(VaultDamaged):
        later.for_vault(other.vault_id)
    assert later.for_vault(store.vault_id).vault_id == store.vault_id


def test_unknown_vault_is_refused(store):
    with pytest.raises(VaultUnusable):
        store.sealers.for_vault("vault_of_nobody")


def test_another_kek_opens_nothing(store):
    with pytest.raises(VaultDamaged):
        Sealers(store.database, aead.new_key()).for_vault(store.vault_id)


def test_revisions_grow_and_end_long_before_the_key_wears_out(store):  # SEC-115
    with store.database.transaction() as transaction:
        assert [vaults.next_revision(transaction, store.vault_id) for _ in range(3)] == [1, 2, 3]
        transaction.execute("UPDATE vaults SET revision = ?", (2**28,))
    with pytest.raises(VaultUnusable, match="too often"), store.database.transaction() as transaction:
        vaults.next_revision(transaction, store.vault_id)


@pytest.mark.parametrize("field", VECTOR["fields"], ids=lambda field: field["field"])
def test_released_fields_open(field):
    sealer = Sealer(VECTOR["vault_id"], Secret(bytes.fromhex(VECTOR["dek"])))
    place = (field["provider"], field["connection"], field["field"], field["revision"])
    assert sealer.open(*place, bytes.fromhex(field["sealed"])).reveal() == field["value"]


@pytest.mark.parametrize("login", VECTOR["logins"], ids=lambda login: login["id"])
def test_released_logins_open(login):
    sealer = Sealer(VECTOR["vault_id"], Secret(bytes.fromhex(VECTOR["dek"])))
    assert sealer.open_login(login["id"], bytes.fromhex(login["sealed"])).reveal() == login["text"]


def test_key_of_a_deleted_vault_is_in_no_file(store, now):
    """Not in the database's log either: copies of what was sealed with it can be opened by nobody."""
    with store.database.transaction() as transaction:
        other = principals.create(transaction, store.sealers, name="ada", role=Role.USER, now=now)
        (wrapped,) = transaction.execute("SELECT wrapped_key FROM vaults WHERE id = ?", (other.vault_id,)).fetchone()
    assert wrapped in store.everything()
    with store.database.transaction() as transaction:
        principals.delete(transaction, other)
    assert store.database.settle_log()
    assert wrapped not in store.everything()


def test_emptying_the_log_does_not_wait_for_who_reads_in_it(store, now):
    with store.database.read() as reader:
        assert principals.owner(reader)
        with store.database.transaction() as transaction:
            store.sealers.create_vault(transaction, now=now)
        assert not store.database.settle_log()  # or it would be waiting for this very thread
    assert store.database.settle_log()
