"""The master key: where it comes from, and whether it is the one that this vault was made with.

Rules:
1. The source is chosen once, when the vault is made, and recorded in it; a setting that changes later changes nothing.
2. A vault whose key is missing or does not fit is refused. No key is ever made for a vault that has a record.
3. A key is durable at its source before the record is. So a first start that was killed in between leaves a key
   without a record, which the next start finds and uses.
4. A key that takes another one's place is put under a second name first, then the record is committed, then it gets
   the first name. So at every instant one of the two fits the record, and a start looks which. What a source that is
   left behind holds is dropped last; the record remembers it until that is done.
"""

import base64
import binascii
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from authsome.crypto import aead, envelope, kdf
from authsome.errors import (
    AuthsomeError,
    MasterKeyMismatch,
    PassphraseRefused,
    StorageFailed,
    UsageError,
    VaultLocked,
    VaultUnusable,
)
from authsome.home import Home, Settings, decode_key, read_config, read_private, sync_directory, write_private
from authsome.secret import Secret
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Database, Reader, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyring.backend import KeyringBackend

_KEYRING_SERVICE: Final = "authsome"
_KEYRING_PATIENCE: Final = timedelta(seconds=30)
"""A keyring may ask its user for a password; one whose bus hangs must not hang us."""
_PLAINTEXT_FAMILY: Final = "keyrings.alt"  # back ends that keep values in files, some in clear
_SAFE_PRIORITY: Final = 1  # keyring's own threshold: below it a back end is not recommended


class Source(StrEnum):
    """Where a master key can lie."""

    ENVIRONMENT = "environment"
    FILE = "file"
    KEYRING = "keyring"
    PASSPHRASE = "passphrase"  # noqa: S105  # the name of a source


LEAST_PASSPHRASE: Final = 12
"""Characters of a new passphrase: four short words are more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a vault knows of its master key: the source, the derivation, and a value that only its KEK opens."""

    source: Source
    parameters: kdf.Parameters
    check: bytes
    created_at: datetime
    former: Source | None = None
    """A source that still holds the key before this one."""


class KeySource(Protocol):
    """One place where a master key can lie."""

    kind: Source

    def read(self) -> Secret[bytes] | None:
        """The key that is there, or None.

        Raises:
            VaultUnusable: the place cannot be asked, or holds something that is no key.
        """

    def create(self) -> Secret[bytes]:
        """Put a new key there, durably.

        Raises:
            VaultUnusable: this place does not take keys.
            StorageFailed: it could not be written.
        """


class KeptKey(KeySource, Protocol):
    """A place that we keep keys in ourselves, so that one can take another one's place."""

    def put_next(self, key: Secret[bytes]) -> None:
        """Keep a key under the second name, durably.

        Raises:
            VaultUnusable, StorageFailed: it cannot be kept there.
        """

    def read_next(self) -> Secret[bytes] | None:
        """The key under the second name."""

    def promote(self) -> None:
        """Give the key under the second name the first one."""

    def drop(self) -> None:
        """Keep no key any more, under neither name."""


class EnvironmentKey:
    """AUTHSOME_MASTER_KEY, or the file that AUTHSOME_MASTER_KEY_FILE names; the user's to make and keep."""

    kind = Source.ENVIRONMENT

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self) -> Secret[bytes] | None:
        """The key that the environment gives; the variable goes before the file."""
        if self._settings.master_key is not None:
            return self._settings.master_key
        path = self._settings.master_key_file
        if path is None:
            return None
        try:
            return _parse(read_private(path), what=str(path))
        except OSError as error:
            raise VaultUnusable(
                f"AUTHSOME_MASTER_KEY_FILE cannot be read: {error.strerror}: {path}", hint="put the key there"
            ) from error

    def create(self) -> Secret[bytes]:
        """Not ours to make."""
        raise VaultUnusable(
            "the environment gives no master key", hint="set AUTHSOME_MASTER_KEY or AUTHSOME_MASTER_KEY_FILE"
        )


class FileKey:
    """`server/master.key`, in base64."""

    kind = Source.FILE

    def __init__(self, home: Home) -> None:
        self._path = home.master_key
        self._next = home.next_master_key

    def read(self) -> Secret[bytes] | None:
        """The key in the file."""
        try:
            return _parse(read_private(self._path), what=str(self._path))
        except VaultUnusable as error:
            if (self._path.parent / "kv_store").is_dir():
                raise VaultUnusable(
                    f"{self._path.parent.parent} is a home of upstream authsome",
                    hint="move it aside, then take it over from there: authsome admin import-upstream DIR",
                ) from error
            raise
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultUnusable(
                f"{self._path} cannot be read: {error.strerror}", hint="mend its owner and mode, or restore it"
            ) from error

    def create(self) -> Secret[bytes]:
        """Write a new key."""
        key = aead.new_key()
        write_private(self._path, as_text(key).encode() + b"\n")
        return key

    def put_next(self, key: Secret[bytes]) -> None:
        """Write a key beside the present one."""
        write_private(self._next, as_text(key).encode() + b"\n")

    def read_next(self) -> Secret[bytes] | None:
        """The key beside the present one."""
        try:
            return _parse(read_private(self._next), what=str(self._next))
        except FileNotFoundError:
            return None

    def promote(self) -> None:
        """Put it in the present one's place."""
        with _storing(self._next):
            self._next.replace(self._path)
            sync_directory(self._path.parent)

    def drop(self) -> None:
        """Remove both files; on a disk that writes elsewhere than where it wrote before, their bytes may last."""
        with _storing(self._path):
            for path in (self._next, self._path):
                path.unlink(missing_ok=True)
            sync_directory(self._path.parent)


class KeyringKey:
    """The keyring of the operating system."""

    kind = Source.KEYRING

    def __init__(self, store_id: str, *, patience: timedelta = _KEYRING_PATIENCE) -> None:
        self._store_id = store_id
        self._patience = patience

    def read(self) -> Secret[bytes] | None:
        """The key under this store's name."""
        text = self.read_text()
        return None if text is None else _parse(text.reveal().encode(), what="the key in the keyring")

    def read_text(self) -> Secret[str] | None:
        """The same as it lies there, for a store whose key has another form."""
        text = self._ask(lambda backend: backend.get_password(_KEYRING_SERVICE, self._store_id))
        return None if text is None else Secret(text)

    def create(self) -> Secret[bytes]:
        """Put a new key there, and see that it can be had back."""
        key = aead.new_key()
        self._put(self._store_id, key)
        return key

    def put_next(self, key: Secret[bytes]) -> None:
        """Put a key under the second name."""
        self._put(self._next, key)

    def read_next(self) -> Secret[bytes] | None:
        """The key under the second name."""
        text = self._ask(lambda backend: backend.get_password(_KEYRING_SERVICE, self._next))
        return None if text is None else _parse(text.encode(), what="the next key in the keyring")

    def promote(self) -> None:
        """Put it under the first name, and nothing under the second."""
        key = self.read_next()
        if key is not None:
            self._put(self._store_id, key)
            self._remove(self._next)

    def drop(self) -> None:
        """Remove both."""
        for name in (self._next, self._store_id):
            self._remove(name)

    @property
    def _next(self) -> str:
        return f"{self._store_id} next"

    def _put(self, name: str, key: Secret[bytes]) -> None:
        text = as_text(key)
        self._ask(lambda backend: backend.set_password(_KEYRING_SERVICE, name, text))
        if self._ask(lambda backend: backend.get_password(_KEYRING_SERVICE, name)) != text:
            raise VaultUnusable("the keyring does not keep what it is given", hint=_KEYRING_HINT)

    def _remove(self, name: str) -> None:
        def remove(backend: "KeyringBackend") -> str | None:
            if backend.get_password(_KEYRING_SERVICE, name) is not None:
                backend.delete_password(_KEYRING_SERVICE, name)
            return None

        self._ask(remove)

    def _ask(self, question: "Callable[[KeyringBackend], str | None]") -> str | None:
        """Put a question to the keyring, in a thread of its own: one that hangs is left behind."""
        answers: list[str | Exception | None] = []

        def ask() -> None:
            try:
                answers.append(question(_keyring_backend()))
            except Exception as error:  # noqa: BLE001  # back ends raise whatever their libraries do
                answers.append(error)

        thread = threading.Thread(target=ask, name="keyring", daemon=True)
        thread.start()
        thread.join(self._patience.total_seconds())
        if not answers:
            raise VaultUnusable(
                f"the keyring did not answer within {self._patience.total_seconds():.0f} seconds",
                hint="unlock it, then try again",
            )
        answer = answers[0]
        if isinstance(answer, AuthsomeError):
            raise answer
        if isinstance(answer, Exception):  # its text may hold what was asked: only its kind is told
            raise VaultUnusable(
                f"the keyring refused ({type(answer).__name__})", hint="unlock it, then try again"
            ) from None
        return answer


_KEYRING_HINT: Final = 'set up the system\'s keyring, or say "master_key": "file" in config.json before the first start'


def _keyring_backend() -> "KeyringBackend":
    """The system's keyring; never one that keeps nothing, or keeps it in clear."""
    import keyring  # noqa: PLC0415  # 64 ms and some MiB, for those who chose it
    from keyring.backends.chainer import ChainerBackend  # noqa: PLC0415

    chosen = keyring.get_keyring()
    candidates = chosen.backends if isinstance(chosen, ChainerBackend) else [chosen]
    for backend in candidates:
        if backend.priority >= _SAFE_PRIORITY and not type(backend).__module__.startswith(_PLAINTEXT_FAMILY):
            return backend
    raise VaultUnusable(f"there is no keyring to trust here (found: {chosen.name})", hint=_KEYRING_HINT)


class PassphraseKey:
    """What somebody knows; it is kept nowhere."""

    kind = Source.PASSPHRASE

    def __init__(self, given: Secret[str] | None) -> None:
        """Take the passphrase, once somebody has given it."""
        self._given = given

    def read(self) -> Secret[bytes] | None:
        """The passphrase in the one form in which it counts, however it was typed (NFC, as RFC 8265 §4.2)."""
        if self._given is None:
            return None
        return Secret(unicodedata.normalize("NFC", self._given.reveal()).encode())

    def create(self) -> Secret[bytes]:
        """Not ours to make."""
        raise VaultLocked("this vault has no passphrase yet", hint="give it one: authsome daemon unlock")


def check_new_passphrase(given: Secret[str]) -> None:
    """Refuse a passphrase that anybody could guess by trying.

    Raises:
        UsageError: it is too short.
    """
    if len(unicodedata.normalize("NFC", given.reveal())) < LEAST_PASSPHRASE:
        raise UsageError(
            f"the passphrase is shorter than {LEAST_PASSPHRASE} characters",
            hint="take four words that nobody would guess",
        )


def as_text(key: Secret[bytes]) -> str:
    """A key as it lies in a file or a keyring: in base64."""
    return base64.b64encode(key.reveal()).decode()


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error.strerror}") from error


def _parse(data: bytes, *, what: str) -> Secret[bytes]:
    try:
        return decode_key(data.decode("ascii"), what=what)
    except (UsageError, UnicodeDecodeError, binascii.Error):
        raise VaultUnusable(
            f"{what} is not a master key: 32 bytes of base64", hint="restore it; nothing was changed"
        ) from None


def source_of(kind: Source, settings: Settings, store_id: str, passphrase: Secret[str] | None = None) -> KeySource:
    """The source of that kind."""
    if kind is Source.ENVIRONMENT:
        return EnvironmentKey(settings)
    return keeper(kind, settings.home, store_id) or PassphraseKey(passphrase)


def keeper(kind: Source, home: Home, store_id: str) -> KeptKey | None:
    """The place of that kind, where it is one that we keep keys in."""
    if kind is Source.FILE:
        return FileKey(home)
    return KeyringKey(store_id) if kind is Source.KEYRING else None


def choose(settings: Settings) -> Source:
    """Where a new vault's key is to lie: the environment when it gives one, else what config.json says, else a file.

    Raises:
        UsageError: config.json names no such source.
    """
    if settings.master_key is not None or settings.master_key_file is not None:
        return Source.ENVIRONMENT
    wish = read_config(settings.home).get("master_key", Source.FILE.value)
    if wish not in _WISHES:  # a tuple: it may be unhashable
        words = ", ".join(f'"{each}"' for each in _WISHES)
        raise UsageError(f"{settings.home.config}: master_key is {wish!r}", hint=f"one of {words}")
    return Source(wish)


_WISHES: Final = (Source.FILE.value, Source.KEYRING.value, Source.PASSPHRASE.value)


def unlock(
    database_reader: Reader, settings: Settings, passphrase: Secret[str] | None = None
) -> tuple[Record, Secret[bytes]] | None:
    """The record of this vault and the KEK that fits it; None when no key was ever set.

    Raises:
        VaultLocked: the key is a passphrase, and none was given.
        PassphraseRefused: it is another one.
        MasterKeyMismatch: the key at the recorded source is missing, or another one.
        VaultUnusable: the source cannot be asked, or the record is damaged.
    """
    record = read_record(database_reader)
    if record is None:
        return None
    given = EnvironmentKey(settings).read()
    if given is not None:
        kek = kdf.derive(given, record.parameters)
        if envelope.fits(kek, record.check):
            return record, kek
        raise MasterKeyMismatch(
            "the master key in the environment does not fit this vault",
            hint=f"this vault's key was made with source {record.source}: "
            "give that key, or unset AUTHSOME_MASTER_KEY and AUTHSOME_MASTER_KEY_FILE; nothing was changed",
        )
    store = store_id(database_reader)
    source = source_of(record.source, settings, store, passphrase)
    kek_found = _fitting(record, source.read())
    kept = keeper(record.source, settings.home, store)
    if kek_found is None and kept is not None:
        kek_found = _fitting(record, kept.read_next())  # the record was committed, and then we were killed
    if kek_found is not None:
        return record, kek_found
    if record.source is Source.PASSPHRASE:
        raise VaultLocked if passphrase is None else PassphraseRefused
    place = _place(source, settings)
    if source.read() is None:
        raise MasterKeyMismatch(f"the master key of this vault is missing: {place}", hint=_MISSING)
    raise MasterKeyMismatch(f"the master key does not fit this vault: {place}", hint=_MISSING)


def _fitting(record: Record, master: Secret[bytes] | None) -> Secret[bytes] | None:
    """The KEK that comes of a master key, if it is this vault's."""
    if master is None:
        return None
    kek = kdf.derive(master, record.parameters)
    return kek if envelope.fits(kek, record.check) else None


def tidy(database: Database, record: Record, settings: Settings, store: str) -> None:
    """Finish the change of a master key that was cut off after its commit; the vault was unlocked.

    Whatever cannot be finished now, as on read-only storage, is for the next start.
    """
    with suppress(StorageFailed):
        kept = keeper(record.source, settings.home, store)
        if kept is not None and EnvironmentKey(settings).read() is None:
            settle(kept, record)
        if record.former is not None:
            leave(database, record.former, settings.home, store)


def settle(kept: KeptKey, record: Record) -> None:
    """Give the present key the first name, where a change was cut off before that.

    Raises:
        VaultUnusable, StorageFailed: it has only the second one still.
    """
    if _fitting(record, kept.read_next()) is not None:
        kept.promote()


def leave(database: Database, former: Source, home: Home, store: str) -> None:
    """Drop the key before the present one where it lay, and then what the record says of it."""
    kept = keeper(former, home, store)
    if kept is not None:
        kept.drop()
    with database.transaction() as transaction:
        transaction.execute("UPDATE master_key SET former = NULL")


_MISSING: Final = "restore the key that the vault was made with; nothing was changed, and no new key is made"


def _place(source: KeySource, settings: Settings) -> str:
    match source.kind:
        case Source.ENVIRONMENT:
            return "AUTHSOME_MASTER_KEY"
        case Source.FILE:
            return str(settings.home.master_key)
        case Source.KEYRING:
            return "the system's keyring"
        case Source.PASSPHRASE:
            return "a passphrase"


def initialise(
    settings: Settings, store: str, passphrase: Secret[str] | None = None, *, now: datetime
) -> tuple[Record, Secret[bytes]]:
    """Choose a source for a new vault, take the key that is there or make one, and derive the KEK.

    The record is the caller's to keep, with `keep`, before anything is sealed.

    Raises:
        VaultLocked: the key is to be a passphrase, and none was given.
        UsageError: the passphrase is too short.
    """
    if passphrase is not None:
        check_new_passphrase(passphrase)
    source = source_of(choose(settings), settings, store, passphrase)
    return derived(source.kind, source.read() or source.create(), now=now)


def derived(source: Source, master: Secret[bytes], *, now: datetime) -> tuple[Record, Secret[bytes]]:
    """The record of a new master key, and the KEK that comes of it."""
    parameters = kdf.new_parameters()
    kek = kdf.derive(master, parameters)
    return Record(source=source, parameters=parameters, check=envelope.new_check(kek), created_at=now), kek


def store_id(reader: Reader) -> str:
    """The name of this store, for its key in the keyring."""
    row = reader.execute("SELECT id FROM store").fetchone()
    if row is None:
        raise VaultUnusable
    return str(row[0])


def read_record(reader: Reader) -> Record | None:
    """What this vault knows of its master key; None in a new one.

    Raises:
        VaultUnusable: damaged; a vault that has a key in use but no record is that too.
    """
    row = reader.execute(
        "SELECT source, salt, time_cost, memory_kib, lanes, check_value, created_at, former FROM master_key"
    ).fetchone()
    if row is None:
        if reader.execute("SELECT 1 FROM vaults").fetchone():
            raise VaultUnusable("the vault's record of its master key is missing", hint="restore it from a backup")
        return None
    with readable("the master key"):
        return Record(
            source=Source(row[0]),
            parameters=kdf.Parameters(salt=bytes(row[1]), time_cost=row[2], memory_kib=row[3], lanes=row[4]),
            check=bytes(row[5]),
            created_at=to_moment(row[6]),
            former=None if row[7] is None else Source(row[7]),
        )


def keep(transaction: Transaction, record: Record) -> None:
    """Record the key of a vault, in place of the one before."""
    transaction.execute("DELETE FROM master_key")
    transaction.execute(
        "INSERT INTO master_key (id, source, salt, time_cost, memory_kib, lanes, check_value, created_at, former)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.source.value,
            record.parameters.salt,
            record.parameters.time_cost,
            record.parameters.memory_kib,
            record.parameters.lanes,
            record.check,
            from_moment(record.created_at),
            None if record.former is None else record.former.value,
        ),
    )
