"""Rekeying: what was stored opens as before, with new keys alone; and nobody has to stop working for it."""

import base64
import re
import threading
from dataclasses import dataclass
from datetime import timedelta

import keyring
import pytest

from authsome.crypto import aead, envelope, kdf
from authsome.errors import (
    MasterKeyMismatch,
    PassphraseRefused,
    StorageFailed,
    UsageError,
    VaultDamaged,
    VaultLocked,
    VaultUnusable,
)
from authsome.home import Settings, settings_from
from authsome.models.connection import Kind
from authsome.secret import Secret
from authsome.vault import (
    chain,
    clients,
    connections,
    issuers,
    key_sources,
    master_key,
    principals,
    rekeying,
    schema,
    vaults,
)
from authsome.vault.key_sources.source import Source
from authsome.vault.rekeying import Target
from vault.test_master_key import Keeping

PASSPHRASE = Secret("correct horse battery staple")
KEY = Secret(bytes(range(32)))
TARGETS = {
    "file": Target(source=Source.FILE),
    "keyring": Target(source=Source.KEYRING),
    "environment": Target(source=Source.ENVIRONMENT, key=KEY),
    "passphrase": Target(source=Source.PASSPHRASE, passphrase=PASSPHRASE),
}


@dataclass
class House:
    """A home with a file key, and something in it."""

    settings: Settings
    open_database: object
    now: object

    def __post_init__(self):
        self.database = self.open_database()
        self.sealers = vaults.unlock(self.database, self.settings, clock=lambda: self.now)
        with self.database.transaction() as tx:
            self.owner = principals.create_owner(tx, self.sealers, now=self.now)
        self.put("first")

    def put(self, name):
        with self.database.transaction() as tx:
            sealer = self.sealers.for_vault(self.owner.vault_id)
            secrets = {"api_key": Secret(f"key of {name}"), "other": Secret("x")}
            connections.put(tx, sealer, provider="acme", name=name, kind=Kind.API_KEY, secrets=secrets, now=self.now)
            clients.put(tx, sealer, provider=name, client_id="id", client_secret=Secret(f"of {name}"), now=self.now)
            clients.put(
                tx, sealer, provider=name, server="https://s", client_id="id", client_secret=Secret("s"), now=self.now
            )
            issuers.put(tx, sealer, f"https://{name}", "{}", now=self.now)

    def change(self, target, note=lambda _tx, _record: None):
        return rekeying.change_master_key(
            self.database, self.sealers, self.settings.home, target, now=self.now + timedelta(days=1), note=note
        )

    def renew(self, tell=lambda _done, _damaged: None):
        rekeying.renew_vault(self.database, self.sealers, self.owner.vault_id, now=self.now, tell=tell)

    def restart(self, passphrase=None, **given):
        """As the next daemon finds it."""
        self.database.close()
        self.settings = self.settings._replace(**given)
        self.database = self.open_database()
        self.sealers = vaults.unlock(self.database, self.settings, clock=lambda: self.now, passphrase=passphrase)

    def opened(self):
        """All that is stored, opened."""
        sealer = self.sealers.for_vault(self.owner.vault_id)
        with self.database.read() as reader:
            found = {
                each.name: connections.secrets(reader, sealer, each)["api_key"].reveal()
                for each in connections.list_all(reader, self.owner.vault_id)
            }
            for name in found:
                assert clients.get(reader, sealer, name).client_secret.reveal() == f"of {name}"
                assert clients.get(reader, sealer, name, "https://s").client_secret.reveal() == "s"
                assert issuers.get(reader, sealer, f"https://{name}", now=self.now) == "{}"
        return found

    def bytes_on_disk(self):
        return b"".join(path.read_bytes() for path in sorted(self.settings.home.server.iterdir()))

    def rows(self, query):
        with self.database.read() as reader:
            return reader.execute(query).fetchall()


@pytest.fixture
def house(paths, open_database, now):
    before = keyring.get_keyring()
    keyring.set_keyring(Keeping())
    yield House(settings_from({"AUTHSOME_HOME": str(paths.root)}), open_database, now)
    keyring.set_keyring(before)


# ---- the master key ----------------------------------------------------------------------------------------


def given_to(name):
    """What the next start has to be given after a move there."""
    return {"environment": {"master_key": KEY}, "passphrase": {"passphrase": PASSPHRASE}}.get(name, {})


@pytest.mark.parametrize("second", TARGETS)
@pytest.mark.parametrize("first", TARGETS)
def test_every_way_from_one_source_to_another(house, first, second):
    """Nothing stored is touched by it; the key before opens nothing, and lies nowhere any more. # SEC-117"""
    house.change(TARGETS[first])
    house.restart(**given_to(first))
    sealed = house.rows("SELECT sealed FROM secrets")
    (old,) = house.rows("SELECT salt, check_value FROM master_key")
    record = house.change(TARGETS[second])
    assert record.source == second
    assert house.opened() == {"first": "key of first"}
    assert house.rows("SELECT sealed FROM secrets") == sealed
    (new,) = house.rows("SELECT salt, check_value FROM master_key")
    assert new[0] != old[0]
    assert house.settings.home.master_key.exists() is (second == "file")
    assert not house.settings.home.next_master_key.exists()
    assert len(keyring.get_keyring().kept) == (second == "keyring")
    house.restart(**{"master_key": None, **given_to(second)})
    assert house.opened() == {"first": "key of first"}
    assert house.rows("SELECT former FROM master_key") == [(None,)]


def test_the_key_before_opens_nothing_at_once(house):  # SEC-117
    """Neither with the old record nor with the new one: what is wrapped has changed with it."""
    old = Secret(base64.b64decode(house.settings.home.master_key.read_bytes()))
    old_kek = house.sealers._kek
    house.change(TARGETS["file"])
    (row,) = house.rows("SELECT wrapped_key FROM vaults")
    with pytest.raises(VaultDamaged):
        envelope.unwrap(old_kek, row[0], house.owner.vault_id)
    with house.database.read() as reader:
        record = master_key.read_record(reader)
    assert not envelope.fits(kdf.derive(old, record.parameters), record.check)
    house.database.close()
    house.settings.home.master_key.write_bytes(base64.b64encode(old.reveal()))
    with pytest.raises(MasterKeyMismatch):
        house.restart()


def test_a_passphrase_is_asked_for_and_no_other_opens(house):  # SEC-116 SEC-117
    house.change(TARGETS["passphrase"])
    with pytest.raises(VaultLocked) as caught:
        house.restart()
    assert "daemon unlock" in caught.value.hint
    for wrong in ("correct horse battery stapl", "", "Correct horse battery staple"):
        with pytest.raises(PassphraseRefused):
            vaults.unlock(house.database, house.settings, clock=lambda: house.now, passphrase=Secret(wrong))
    house.restart(passphrase=PASSPHRASE)
    assert house.opened()
    other = Secret("another passphrase than before")
    house.change(Target(source=Source.PASSPHRASE, passphrase=other))
    with pytest.raises(PassphraseRefused):
        house.restart(passphrase=PASSPHRASE)
    house.restart(passphrase=other)
    (derivation,) = house.rows("SELECT time_cost, memory_kib, lanes, length(salt) FROM master_key")
    assert derivation == (3, 64 * 1024, 4, 16)  # RFC 9106 §4, the second choice
    assert PASSPHRASE.reveal().encode() not in house.bytes_on_disk()


def test_a_passphrase_counts_however_it_is_typed(house):
    """A keyboard may compose an é, or send two characters for it."""
    house.change(Target(source=Source.PASSPHRASE, passphrase=Secret("caf\u00e9 caf\u00e9 caf\u00e9")))
    house.restart(passphrase=Secret("cafe\u0301 cafe\u0301 cafe\u0301"))
    assert house.opened()


@pytest.mark.parametrize(
    "target",
    [
        Target(source=Source.PASSPHRASE),
        Target(source=Source.PASSPHRASE, passphrase=Secret("too short")),
        Target(source=Source.PASSPHRASE, passphrase=Secret("e\u0301" * 11)),
        Target(source=Source.ENVIRONMENT),
    ],
)
def test_a_key_that_is_not_given_or_weak_changes_nothing(house, target):
    def state():
        keys = {path.name: path.read_bytes() for path in house.settings.home.server.glob("*.key*")}
        return keys, house.rows("SELECT * FROM master_key")

    before = state()
    with pytest.raises(UsageError) as caught:
        house.change(target)
    assert caught.value.hint
    assert state() == before


def test_a_keyring_that_keeps_nothing_changes_nothing(house):
    class Forgetful(Keeping):
        def set_password(self, *_: str) -> None:
            pass

    keyring.set_keyring(Forgetful())
    with pytest.raises(VaultUnusable):
        house.change(TARGETS["keyring"])
    house.restart()
    assert house.opened() == {"first": "key of first"}


def test_a_change_that_cannot_be_written_down_is_none(house):
    """The record, what is wrapped and the entry in the log are one transaction; memory follows it."""

    def note(_tx, _record):
        raise VaultUnusable("no")

    with pytest.raises(VaultUnusable):
        house.change(TARGETS["file"], note)
    house.put("second")
    house.restart()
    assert set(house.opened()) == {"first", "second"}


def test_a_second_change_does_not_write_over_the_key_that_the_first_could_not_put_in_its_place(house):
    """After a change that could not be finished the only key that opens anything lies under the second name."""
    path, aside = house.settings.home.master_key, house.settings.home.root / "aside"
    path.rename(aside)
    path.mkdir()
    with pytest.raises(StorageFailed, match="could not be written: is a directory") as failed:
        house.change(TARGETS["file"])
    assert "the new key is the one from now on" in failed.value.hint
    path.rmdir()

    def note(_tx, _record):
        raise VaultUnusable("no")

    with pytest.raises(VaultUnusable):
        house.change(TARGETS["file"], note)
    house.restart()
    assert house.opened() == {"first": "key of first"}


@pytest.mark.parametrize("target", ["file", "keyring"])
@pytest.mark.parametrize("step", ["before the commit", "after it", "half promoted"])
def test_a_start_finds_the_key_that_fits(house, target, step):
    """Wherever a change was cut off: of the two keys one opens, and gets the first name."""
    house.change(TARGETS[target])
    kept = key_sources.keeper(Source(target), house.settings.home, house.rows("SELECT id FROM store")[0][0])
    old, new = kept.read(), aead.new_key()
    kept.put_next(new)
    if step != "before the commit":
        record, kek = master_key.derived(Source(target), new, now=house.now)
        with house.database.transaction() as tx, house.sealers.change_kek(tx, kek):
            master_key.keep(tx, record)
    if step == "half promoted":
        kept.promote()
        kept.put_next(new)
    house.restart()
    assert house.opened() == {"first": "key of first"}
    assert kept.read() == (old if step == "before the commit" else new)
    house.restart()
    assert house.opened()


def test_a_source_that_was_not_left_yet_is_left_at_the_next_start(house):
    """Killed between the commit and the removal of the file, which opens older copies of the vault."""
    record, kek = master_key.derived(Source.ENVIRONMENT, KEY, now=house.now)
    with house.database.transaction() as tx, house.sealers.change_kek(tx, kek):
        master_key.keep(tx, record)
        tx.execute("UPDATE master_key SET former = 'file'")
    assert house.settings.home.master_key.exists()
    house.restart(master_key=KEY)
    assert not house.settings.home.master_key.exists()
    assert house.rows("SELECT former FROM master_key") == [(None,)]
    assert house.opened()


def test_what_else_is_derived_outlives_a_rekey(house):
    """The keys by which live runs tell their uses, and the log's seals: they come from the server's own secret."""
    chain.begin(house.database, house.settings.home, house.sealers, now=house.now)
    before = house.sealers.subkey("uses")
    house.change(TARGETS["file"])
    house.renew()
    assert house.sealers.subkey("uses") == before
    house.restart()
    chain.begin(house.database, house.settings.home, house.sealers, now=house.now)
    assert house.sealers.subkey("uses") == before


# ---- the vaults' keys --------------------------------------------------------------------------------------


def test_everything_is_sealed_with_the_new_key_alone(house):
    """No value is left that the old key opens, in the file or in its log; the old key is gone."""
    house.put("second")
    old = house.sealers.for_vault(house.owner.vault_id)._keys[0]
    sealed = [each for (each,) in house.rows("SELECT sealed FROM secrets UNION SELECT client_secret FROM clients")]
    (wrapped,) = house.rows("SELECT wrapped_key FROM vaults")[0]
    told = []
    house.renew(lambda done, damaged: told.append((done, damaged)))
    assert sum(done for done, _ in told) == 10
    assert not sum(damaged for _, damaged in told)
    disk = house.bytes_on_disk()
    assert not [each for each in [*sealed, wrapped] if each in disk]
    assert house.rows("SELECT retired_key, renewed_revision - revision FROM vaults") == [(None, 0)]
    assert house.opened() == {"first": "key of first", "second": "key of second"}
    house.restart()
    assert house.opened() == {"first": "key of first", "second": "key of second"}
    assert old not in house.sealers.for_vault(house.owner.vault_id)._keys


def test_the_retired_key_leaves_memory_once_nobody_can_need_it(house):
    """Whoever reads in a snapshot from before goes on; two looks later the key is gone."""
    sealer = house.sealers.for_vault(house.owner.vault_id)
    with house.database.read() as reader:
        (connection,) = connections.list_all(reader, house.owner.vault_id)
        house.renew()
        assert connections.secrets(reader, sealer, connection)["api_key"].reveal() == "key of first"
        house.sealers.drop_spent()
        assert connections.secrets(reader, sealer, connection)["api_key"].reveal() == "key of first"
    house.sealers.drop_spent()
    assert len(sealer._keys) == 1
    house.sealers.drop_spent()
    assert house.opened() == {"first": "key of first"}


def test_a_renewal_that_was_cut_off_is_finished(house):
    """The next start opens what either key sealed; the walk is begun again and ends."""
    for number in range(5):
        house.put(f"n{number}")
    with house.database.transaction() as tx:
        house.sealers.renew_vault(tx, house.owner.vault_id, now=house.now)
    house.put("late")
    house.restart()
    assert len(house.opened()) == 7
    with house.database.read() as reader:
        assert rekeying.unfinished(reader) == [house.owner.vault_id]
    rekeying.finish_vault(house.database, house.sealers, house.owner.vault_id, tell=lambda _done, _damaged: None)
    with house.database.read() as reader:
        assert rekeying.unfinished(reader) == []
    house.restart()
    assert len(house.opened()) == 7


def test_renewing_a_vault_whose_renewal_was_cut_off_loses_nothing(house):
    with house.database.transaction() as tx:
        house.sealers.renew_vault(tx, house.owner.vault_id, now=house.now)
    house.restart()
    house.renew()
    house.restart()
    assert house.opened() == {"first": "key of first"}


def test_a_damaged_value_is_counted_and_left_as_it_is(house):
    """It was lost before; it keeps nothing else from being renewed."""
    house.put("second")
    with house.database.transaction() as tx:
        tx.execute("UPDATE secrets SET sealed = zeroblob(40) WHERE connection = 'first' AND field = 'other'")
    told = []
    house.renew(lambda done, damaged: told.append((done, damaged)))
    assert (sum(done for done, _ in told), sum(damaged for _, damaged in told)) == (10, 1)
    assert house.rows("SELECT hex(sealed) FROM secrets WHERE connection = 'first' AND field = 'other'") == [
        ("00" * 40,)
    ]
    with pytest.raises(VaultDamaged):
        house.opened()


def test_long_walks_take_several_strides(house, monkeypatch):
    monkeypatch.setattr(rekeying, "STRIDE", 3)
    for number in range(10):
        house.put(f"n{number}")
    told = []
    house.renew(lambda done, _damaged: told.append(done))
    assert sum(told) == 55
    assert max(told) == 3
    house.restart()
    assert len(house.opened()) == 11


def test_others_write_and_read_meanwhile(house, monkeypatch):
    """Threads that store and read all the time meet no damage, while both kinds of keys change again and again."""
    monkeypatch.setattr(rekeying, "STRIDE", 2)
    ended, troubles, written = threading.Event(), [], []

    def write(thread):
        number = 0
        try:
            while not ended.is_set():
                name = f"{thread}-{number % 7}"
                house.put(name)
                written.append(name)
                number += 1
        except Exception as error:  # noqa: BLE001  # told below
            troubles.append(error)

    def read():
        try:
            while not ended.is_set():
                assert all(value == f"key of {name}" for name, value in house.opened().items())
        except Exception as error:  # noqa: BLE001  # told below
            troubles.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        house.change(TARGETS["file"])
        house.renew()
    ended.set()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert written
    house.restart()
    assert set(house.opened()) >= set(written)


def test_a_key_that_comes_while_an_old_one_is_dropped_stays(house):
    """Upkeep drops a retired key in the very moment in which the next rekey begins."""
    house.put("before")
    house.renew()
    house.sealers.drop_spent()
    renewing = threading.Thread(target=house.renew)

    class Late(tuple):
        __slots__ = ()

        def __getitem__(self, place):
            if isinstance(place, slice) and not renewing.ident:
                renewing.start()
                renewing.join(0.5)
            return super().__getitem__(place)

    sealer = house.sealers.for_vault(house.owner.vault_id)
    sealer._keys = Late(sealer._keys)
    house.sealers.drop_spent()
    renewing.join(60)
    house.put("after")
    house.restart()
    assert {"before", "after"} <= set(house.opened())


def test_a_key_that_was_used_often_is_as_good_as_new_after_it(house):  # SEC-115
    with house.database.transaction() as tx:
        tx.execute("UPDATE vaults SET revision = ?", (2**28,))
    with pytest.raises(VaultUnusable, match="too often") as caught:
        house.put("second")
    assert "rekey" in caught.value.hint
    house.renew()
    house.put("second")
    assert set(house.opened()) == {"first", "second"}


HASHES = {"salt", "state_hash", "secret_hash", "jti_hash", "token_hash", "key_hash", "digest", "bucket"}
CHAIN = {"hash", "seal", "begins_hash", "ends_hash", "signature"}
"""Columns of bytes that no key of ours has to do with."""


def test_every_column_of_bytes_is_renewed_or_no_ones_secret():
    """A table that gets a sealed or wrapped column has to be walked through by a rekey, or this says so."""
    found = set()
    for migration in schema.MIGRATIONS:
        for statement in migration.statements:
            table = re.search(r"TABLE (\w+)", statement)
            found |= {(table[1], column) for column in re.findall(r"(\w+) BLOB", statement)}
    found = {(table, column) for table, column in found if column not in HASHES | CHAIN}
    found = {("clients" if table == "clients_of_servers" else table, column) for table, column in found}
    sealed = {
        ("secrets", "sealed"),
        ("logins", "sealed"),
        ("issuers", "sealed"),
        *(("clients", column) for column in clients.SEALED),
    }
    assert {table for table, _ in sealed} == set(rekeying._WALKS)
    assert found == sealed | {(table, column) for table, column, _ in vaults._WRAPPED} | {("master_key", "check_value")}
