"""The master key: where it comes from, and whether it is the one that this vault was made with.

Rules:
1. The source is chosen once, when the vault is made, and recorded in it; a setting that changes later changes nothing.
2. A vault whose key is missing or does not fit is refused. No key is ever made for a vault that has a record.
3. A key is durable at its source before the record is. So a first start that was killed in between leaves a key
   without a record, which the next start finds and uses.
"""

import base64
import binascii
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from authsome.crypto import aead, envelope, kdf
from authsome.errors import AuthsomeError, MasterKeyMismatch, UsageError, VaultUnusable
from authsome.home import Home, Settings, decode_key, read_config, read_private, write_private
from authsome.secret import Secret
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.writer import Reader, Transaction

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a vault knows of its master key: the source, the derivation, and a value that only its KEK opens."""

    source: Source
    parameters: kdf.Parameters
    check: bytes
    created_at: datetime


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
        write_private(self._path, base64.b64encode(key.reveal()) + b"\n")
        return key


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
        text = base64.b64encode(key.reveal()).decode()
        self._ask(lambda backend: backend.set_password(_KEYRING_SERVICE, self._store_id, text))
        if self.read() != key:
            raise VaultUnusable("the keyring does not keep what it is given", hint=_KEYRING_HINT)
        return key

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


def _parse(data: bytes, *, what: str) -> Secret[bytes]:
    try:
        return decode_key(data.decode("ascii"), what=what)
    except (UsageError, UnicodeDecodeError, binascii.Error):
        raise VaultUnusable(
            f"{what} is not a master key: 32 bytes of base64", hint="restore it; nothing was changed"
        ) from None


def source_of(kind: Source, settings: Settings, store_id: str) -> KeySource:
    """The source of that kind."""
    match kind:
        case Source.ENVIRONMENT:
            return EnvironmentKey(settings)
        case Source.FILE:
            return FileKey(settings.home)
        case Source.KEYRING:
            return KeyringKey(store_id)


def choose(settings: Settings) -> Source:
    """Where a new vault's key is to lie: the environment when it gives one, else what config.json says, else a file.

    Raises:
        UsageError: config.json names no such source.
    """
    if settings.master_key is not None or settings.master_key_file is not None:
        return Source.ENVIRONMENT
    wish = read_config(settings.home).get("master_key", Source.FILE.value)
    if wish not in (Source.FILE.value, Source.KEYRING.value):  # not a set: it may be unhashable
        raise UsageError(f"{settings.home.config}: master_key is {wish!r}", hint='one of "file", "keyring"')
    return Source(wish)


def unlock(database_reader: Reader, settings: Settings) -> tuple[Record, Secret[bytes]] | None:
    """The record of this vault and the KEK that fits it; None when no key was ever set.

    Raises:
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
    source = source_of(record.source, settings, store_id(database_reader))
    master = source.read()
    if master is None:
        raise MasterKeyMismatch(f"the master key of this vault is missing: {_place(source, settings)}", hint=_MISSING)
    kek = kdf.derive(master, record.parameters)
    if not envelope.fits(kek, record.check):
        raise MasterKeyMismatch(f"the master key does not fit this vault: {_place(source, settings)}", hint=_MISSING)
    return record, kek


_MISSING: Final = "restore the key that the vault was made with; nothing was changed, and no new key is made"


def _place(source: KeySource, settings: Settings) -> str:
    match source.kind:
        case Source.ENVIRONMENT:
            return "AUTHSOME_MASTER_KEY"
        case Source.FILE:
            return str(settings.home.master_key)
        case Source.KEYRING:
            return "the system's keyring"


def initialise(settings: Settings, store: str, *, now: datetime) -> tuple[Record, Secret[bytes]]:
    """Choose a source for a new vault, take the key that is there or make one, and derive the KEK.

    The record is the caller's to keep, with `keep`, before anything is sealed.
    """
    source = source_of(choose(settings), settings, store)
    master = source.read() or source.create()
    parameters = kdf.new_parameters()
    kek = kdf.derive(master, parameters)
    return Record(source=source.kind, parameters=parameters, check=envelope.new_check(kek), created_at=now), kek


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
        "SELECT source, salt, time_cost, memory_kib, lanes, check_value, created_at FROM master_key"
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
        )


def keep(transaction: Transaction, record: Record) -> None:
    """Record the key of a new vault."""
    transaction.execute(
        "INSERT INTO master_key (id, source, salt, time_cost, memory_kib, lanes, check_value, created_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.source.value,
            record.parameters.salt,
            record.parameters.time_cost,
            record.parameters.memory_kib,
            record.parameters.lanes,
            record.check,
            from_moment(record.created_at),
        ),
    )
