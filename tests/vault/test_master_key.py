"""The master key: one contract for every source, and no key ever put in another one's place."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import keyring
import pytest
from keyring import backend, errors
from keyring.backends import chainer, fail, null

from authsome.crypto import aead, kdf
from authsome.errors import AuthsomeError, MasterKeyMismatch, StorageFailed, UnsafeFile, UsageError, VaultUnusable
from authsome.home import Settings, settings_from, write_config, write_private
from authsome.secret import Secret
from authsome.vault import master_key, principals, vaults
from authsome.vault.database import Database
from authsome.vault.key_sources.system_keyring import KeyringKey

KEY = bytes(range(200, 232))
OTHER = bytes(32)
TEXT = Secret("what was sealed with it")


class Keeping(backend.KeyringBackend):
    """A keyring as good as any, in memory."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Source:
    """One source as its user sees it: a setting, and a place that he can change."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.passphrase: Secret[str] | None = None

    def prepare(self) -> None:
        """Choose this source for a new vault."""

    def put(self, text: str) -> None:
        """Put a key there, as text."""
        raise NotImplementedError

    def remove(self) -> None:
        """Take the key away."""
        raise NotImplementedError

    def look(self) -> str | None:
        """What is there."""
        raise NotImplementedError


class InEnvironment(Source):
    makes_keys = False

    def put(self, text: str) -> None:
        environ = {"AUTHSOME_HOME": str(self.settings.home.root), "AUTHSOME_MASTER_KEY": text}
        self.settings = settings_from(environ)

    def remove(self) -> None:
        self.settings = self.settings._replace(master_key=None)

    def look(self) -> str | None:
        key = self.settings.master_key
        return None if key is None else base64.b64encode(key.reveal()).decode()


class InNamedFile(Source):
    makes_keys = False

    def prepare(self) -> None:
        self.settings = self.settings._replace(master_key_file=self.settings.home.root / "elsewhere.key")

    @property
    def path(self) -> Path:
        assert self.settings.master_key_file is not None
        return self.settings.master_key_file

    def put(self, text: str) -> None:
        write_private(self.path, text.encode())

    def remove(self) -> None:
        self.path.unlink()

    def look(self) -> str | None:
        return self.path.read_text() if self.path.exists() else None


class InFile(InNamedFile):
    makes_keys = True

    def prepare(self) -> None:
        pass

    @property
    def path(self) -> Path:
        return self.settings.home.master_key


class InKeyring(Source):
    makes_keys = True

    def prepare(self) -> None:
        write_config(self.settings.home, {"master_key": "keyring"})
        self.keyring = Keeping()
        keyring.set_keyring(self.keyring)

    def put(self, text: str) -> None:
        if self.keyring.kept:
            self.keyring.kept = dict.fromkeys(self.keyring.kept, text)
        else:
            self.waiting = text

    def remove(self) -> None:
        self.keyring.kept.clear()

    def look(self) -> str | None:
        return next(iter(self.keyring.kept.values()), None)


class InSomebodysMind(Source):
    makes_keys = False

    def prepare(self) -> None:
        write_config(self.settings.home, {"master_key": "passphrase"})

    def put(self, text: str) -> None:
        self.passphrase = Secret(text)

    def remove(self) -> None:
        self.passphrase = None

    def look(self) -> str | None:
        return None if self.passphrase is None else self.passphrase.reveal()


@pytest.fixture
def settings(paths, lock) -> Settings:
    assert lock.held
    return settings_from({"AUTHSOME_HOME": str(paths.root)})


@pytest.fixture(autouse=True)
def same_keyring_after() -> Iterator[None]:
    """Leave the process's keyring as it was."""
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


@pytest.fixture(params=[InEnvironment, InNamedFile, InFile, InKeyring, InSomebodysMind])
def source(request, settings) -> Source:
    source = request.param(settings)
    source.prepare()
    return source


class Vault:
    """Starts of the daemon, as far as the vault knows them."""

    def __init__(self, open_database: Callable[[], Database], now) -> None:
        self.open_database = open_database
        self.now = now
        self.vault_id = ""
        self.sealed = b""

    def first(self, source: Source) -> None:
        """The first start: something gets sealed."""
        database = self.open_database()
        sealers = vaults.unlock(database, source.settings, clock=lambda: self.now, passphrase=source.passphrase)
        with database.transaction() as transaction:
            self.vault_id = principals.create_owner(transaction, sealers, now=self.now).vault_id
        self.sealed = sealers.for_vault(self.vault_id).seal("p", "c", "f", 1, TEXT)
        database.close()

    def again(self, source: Source) -> Secret[str]:
        """A later start: what was sealed is opened."""
        database = self.open_database()
        try:
            sealers = vaults.unlock(database, source.settings, clock=lambda: self.now, passphrase=source.passphrase)
            return sealers.for_vault(self.vault_id).open("p", "c", "f", 1, self.sealed)
        finally:
            database.close()

    def record(self) -> master_key.Record | None:
        database = self.open_database()
        with database.read() as reader:
            record = master_key.read_record(reader)
        database.close()
        return record

    def refused(self, source: Source, kind: type[AuthsomeError] = VaultUnusable) -> AuthsomeError:
        """A start that is refused: the place and the database stay as they were, and nothing new appears."""
        database = source.settings.home.database
        before = (source.look(), database.read_bytes(), sorted(source.settings.home.root.rglob("*")))
        with pytest.raises(kind) as caught:
            self.again(source)
        assert (source.look(), database.read_bytes(), sorted(source.settings.home.root.rglob("*"))) == before
        assert caught.value.hint
        assert caught.value.message.isprintable()
        assert base64.b64encode(KEY).decode() not in caught.value.message
        return caught.value


@pytest.fixture
def vault(open_database, now) -> Vault:
    return Vault(open_database, now)


class TestEverySource:
    """What holds whichever source was chosen."""

    @pytest.fixture(autouse=True)
    def first_start(self, source, vault):
        if not source.makes_keys:
            source.put(base64.b64encode(KEY).decode())
        vault.first(source)

    def test_what_was_sealed_opens_after_a_restart(self, source, vault):
        assert vault.again(source) == TEXT

    def test_source_is_recorded(self, source, vault):
        expected = {InFile: "file", InKeyring: "keyring", InSomebodysMind: "passphrase"}.get(
            type(source), "environment"
        )
        assert vault.record().source == expected
        assert vault.record().parameters.memory_kib == 65536

    def test_key_that_is_missing_is_refused_and_none_made(self, source, vault):  # SEC-114
        source.remove()
        vault.refused(source)

    def test_other_key_is_refused(self, source, vault):  # SEC-114
        source.put(base64.b64encode(OTHER).decode())
        vault.refused(source, MasterKeyMismatch)

    def test_truncated_key_is_refused(self, source, vault):  # SEC-114
        text = source.look()
        for cut in (0, 10, 40):
            try:
                source.put(text[:cut])
            except UsageError:  # from the variable already when it is read
                assert isinstance(source, InEnvironment)
            else:
                vault.refused(source)

    def test_changed_setting_changes_nothing(self, source, vault):
        """The choice was recorded; config.json speaks for new vaults only."""
        write_config(source.settings.home, {"master_key": "file" if isinstance(source, InKeyring) else "keyring"})
        assert vault.again(source) == TEXT

    def test_weakened_derivation_is_refused(self, source, vault):  # SEC-116
        database = vault.open_database()
        with database.transaction() as transaction:
            transaction.execute("UPDATE master_key SET time_cost = 1")
        database.close()
        vault.refused(source)

    def test_lost_record_of_a_vault_in_use_is_refused(self, source, vault):  # SEC-114
        database = vault.open_database()
        with database.transaction() as transaction:
            transaction.execute("DELETE FROM master_key")
        database.close()
        vault.refused(source)

    def test_key_without_a_record_is_used(self, source, vault):
        """As a first start leaves it that was killed between making the key and recording it."""
        text = source.look()
        database = vault.open_database()
        with database.transaction() as transaction:
            for table in ("principals", "vaults", "master_key"):
                transaction.execute(f"DELETE FROM {table}")
        database.close()
        vault.first(source)
        assert source.look() == text
        assert vault.again(source) == TEXT


# ---- the environment ---------------------------------------------------------------------------------------


def test_environment_that_fits_opens_a_vault_of_another_source(settings, vault):
    """So that a home whose file was lost can be opened with a copy of the key."""
    source = InFile(settings)
    vault.first(source)
    rescue = InEnvironment(settings)
    rescue.put(source.path.read_text().strip())
    source.path.unlink()
    assert vault.again(rescue) == TEXT
    assert vault.record().source == "file"


def test_environment_that_does_not_fit_is_refused_though_the_file_would(settings, vault):
    """What the user gives on purpose is not silently passed over."""
    vault.first(InFile(settings))
    wrong = InEnvironment(settings)
    wrong.put(base64.b64encode(OTHER).decode())
    assert "file" in (vault.refused(wrong, MasterKeyMismatch).hint or "")


def test_named_file_that_others_can_read_is_refused(settings, vault):  # SEC-119
    source = InNamedFile(settings)
    source.prepare()
    source.put(base64.b64encode(KEY).decode())
    source.path.chmod(0o644)
    with pytest.raises(UnsafeFile):
        vault.first(source)


def test_named_file_that_is_missing_is_no_reason_to_make_a_key(settings, vault):
    source = InNamedFile(settings)
    source.prepare()
    with pytest.raises(VaultUnusable):
        vault.first(source)
    assert not settings.home.master_key.exists()
    assert vault.record() is None


# ---- the file ----------------------------------------------------------------------------------------------


def test_key_file_is_private_and_random(settings, vault):  # SEC-118
    before = os.umask(0)
    try:
        vault.first(InFile(settings))
    finally:
        os.umask(before)
    path = settings.home.master_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(path.read_bytes(), validate=False)) == 32


def test_key_file_that_others_can_read_is_refused(settings, vault):  # SEC-119
    vault.first(InFile(settings))
    settings.home.master_key.chmod(0o640)
    with pytest.raises(UnsafeFile):
        vault.again(InFile(settings))


def test_key_file_that_is_a_link_is_refused(settings, vault, tmp_path):  # SEC-119
    vault.first(InFile(settings))
    settings.home.master_key.rename(tmp_path / "moved.key")
    settings.home.master_key.symlink_to(tmp_path / "moved.key")
    with pytest.raises(UnsafeFile):
        vault.again(InFile(settings))


def test_unwritable_key_file_leaves_no_record(settings, vault):
    """The key has to be durable before the record is."""
    settings.home.master_key.mkdir()
    with pytest.raises((StorageFailed, VaultUnusable)):
        vault.first(InFile(settings))
    assert vault.record() is None


@pytest.mark.parametrize("wish", ["environment", "password", "", None, 7, ["file"]])
def test_unknown_source_in_the_settings_is_refused(settings, vault, wish):
    write_config(settings.home, {"master_key": wish})
    with pytest.raises(UsageError, match="master_key"):
        vault.first(InFile(settings))
    assert not settings.home.master_key.exists()


# ---- the keyring -------------------------------------------------------------------------------------------


class Locked(Keeping):
    def get_password(self, *_: str) -> str | None:
        raise errors.KeyringLocked("canary-locked")

    def set_password(self, *_: str) -> None:
        raise errors.KeyringLocked("canary-locked")


class Forgetful(Keeping):
    def set_password(self, *_: str) -> None:
        pass


class Plain(Keeping):
    """As keyrings.alt's, which keep what they are given in a file."""

    priority = 0.5  # type: ignore[assignment]


class Renamed(Keeping):
    """One of that family, whatever priority it was given."""


Renamed.__module__ = "keyrings.alt.file"


class Broken(Keeping):
    def get_password(self, *_: str) -> str | None:
        raise RuntimeError("org.freedesktop.DBus canary-broken")


class Chain(chainer.ChainerBackend):
    """A chain of keyrings of which none is to be trusted."""

    backends = [Plain(), Renamed()]  # noqa: RUF012  # keyring's own shape


@pytest.mark.parametrize("kind", [fail.Keyring, null.Keyring, Locked, Forgetful, Plain, Renamed, Broken, Chain])
def test_keyring_that_cannot_be_trusted_is_refused(settings, vault, kind):  # SEC-127
    """No key falls back to a file, and the message says what to do, not what was asked."""
    source = InKeyring(settings)
    source.prepare()
    keyring.set_keyring(kind())
    with pytest.raises(VaultUnusable) as caught:
        vault.first(source)
    assert caught.value.hint
    assert "canary" not in caught.value.message + caught.value.hint
    assert not settings.home.master_key.exists()
    assert vault.record() is None


def test_trusted_keyring_of_a_chain_is_taken(settings, vault):
    source = InKeyring(settings)
    source.prepare()
    chain = Chain()
    chain.backends = [Plain(), source.keyring]
    keyring.set_keyring(chain)
    vault.first(source)
    assert source.look() is not None
    assert not chain.backends[0].kept
    assert vault.again(source) == TEXT


def test_keyring_that_hangs_is_given_up():  # SEC-127
    free = threading.Event()

    class Hanging(Keeping):
        def get_password(self, *_: str) -> str | None:
            free.wait()
            return None

    keyring.set_keyring(Hanging())
    try:
        with pytest.raises(VaultUnusable, match="did not answer"):
            KeyringKey("store", patience=timedelta(milliseconds=50)).read()
    finally:
        free.set()


def test_two_homes_have_two_keys_in_one_keyring():
    keyring.set_keyring(Keeping())
    first, second = KeyringKey("one").create(), KeyringKey("two").create()
    assert first != second
    assert KeyringKey("one").read() == first


# ---- what it costs -----------------------------------------------------------------------------------------

UNLOCK = """
import json, sys
from datetime import UTC, datetime
from authsome.home import settings_from
from authsome.vault import vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
settings = settings_from({"AUTHSOME_HOME": sys.argv[1]})
def clock():
    return datetime.now(UTC)
database = Database.open(HomeLock.acquire(settings.home), clock=clock)
before = sorted(sys.modules)
vaults.unlock(database, settings, clock=clock)
with open("/proc/self/statm") as statm:
    resident = int(statm.read().split()[1]) * 4096
print(json.dumps({"before": before, "after": sorted(sys.modules), "mebibytes": resident // 2**20}))
"""


def test_unlocking_imports_no_more_than_it_needs_and_gives_its_memory_back(paths):
    """An idle daemon has 45 MiB for everything; argon2's 64 are gone again, and keyring is never loaded for a file."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", UNLOCK, paths.root], cwd=root, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert "argon2" not in seen["before"]
    assert "argon2" in seen["after"]
    assert not {name for name in seen["after"] if name.partition(".")[0] == "keyring"}
    assert seen["mebibytes"] < 40


def test_derivation_is_done_for_a_random_key_too(settings, vault):
    """So every source has one format, and a passphrase can take any one's place later."""
    vault.first(InFile(settings))
    record = vault.record()
    key = base64.b64decode(settings.home.master_key.read_bytes())
    kek = kdf.derive(Secret(key), record.parameters)
    assert aead.open_(kek, record.check, aead.associate("check")) == b""
