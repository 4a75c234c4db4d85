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

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.crypto import envelope, kdf
from authsome.errors import MasterKeyMismatch, PassphraseRefused, StorageFailed, VaultLocked, VaultUnusable
from authsome.home import Home, Settings
from authsome.secret import Secret
from authsome.vault import key_sources
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Database, Reader, Transaction
from authsome.vault.key_sources import passphrase as passphrases
from authsome.vault.key_sources.environment import EnvironmentKey
from authsome.vault.key_sources.source import KeptKey, KeySource, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a vault knows of its master key: the source, the derivation, and a value that only its KEK opens."""

    source: Source
    parameters: kdf.Parameters
    check: bytes
    created_at: datetime
    former: Source | None = None
    """A source that still holds the key before this one."""


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
    source = key_sources.source_of(record.source, settings, store, passphrase)
    kek_found = _fitting(record, source.read())
    kept = key_sources.keeper(record.source, settings.home, store)
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
        kept = key_sources.keeper(record.source, settings.home, store)
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
    kept = key_sources.keeper(former, home, store)
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
        passphrases.check_new(passphrase)
    source = key_sources.source_of(key_sources.choose(settings), settings, store, passphrase)
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
