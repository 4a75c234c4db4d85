"""Rekeying: a new master key, a new key for each vault, and all that was sealed with the old ones sealed anew.

Rules:
1. At every instant what is on disk opens with one master key that is where the record says, or beside it under its
   second name (see `master_key`): the record and what is wrapped change in one transaction.
2. A vault whose key changes keeps the one before, wrapped, until nothing is left that it sealed. Writers seal with the
   new one from the commit on; so one walk through the vault finds all that is left, and a walk that was cut off is
   begun again.
3. A value that neither key opens was damaged before; it is left as it is, and counted.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from authsome.crypto import aead
from authsome.errors import StorageFailed, UsageError, VaultDamaged, VaultUnusable
from authsome.home import Home
from authsome.secret import Secret
from authsome.vault import clients, key_sources, master_key
from authsome.vault.columns import to_optional_moment
from authsome.vault.database import Database, Reader, Transaction
from authsome.vault.key_sources import passphrase
from authsome.vault.key_sources.passphrase import PassphraseKey
from authsome.vault.key_sources.source import Source
from authsome.vault.master_key import Record
from authsome.vault.vaults import Sealer, Sealers

STRIDE: Final = 200
"""Rows that are sealed anew in one transaction: others wait for some 5 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the new master key is to lie, and the key itself where it is not ours to make."""

    source: Source
    key: Secret[bytes] | None = None
    passphrase: Secret[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the vaults' keys are renewed, in values that were sealed with them."""

    total: int
    done: int = 0
    damaged: int = 0


def change_master_key(  # noqa: PLR0913  # a change has these parts
    database: Database,
    sealers: Sealers,
    home: Home,
    target: Target,
    *,
    now: datetime,
    note: Callable[[Transaction, Record], None],
) -> Record:
    """Put a new master key in the place of the present one, which opens nothing from then on.

    Args:
        database: the store's.
        sealers: the unlocked store.
        home: where keys lie.
        target: where the new key is to lie.
        now: when this happens.
        note: writes down that it did, in the same transaction.

    Raises:
        UsageError: a key or passphrase that is not ours to make was not given, or is too weak.
        VaultUnusable: the place does not take keys.
        VaultDamaged: a vault's key does not open; nothing was changed.
        StorageFailed: it could not be written. Nothing was changed, or the hint says that the new key is the one
            already, and only lies under its second name, or beside the one before.
    """
    with database.read() as reader:
        before = master_key.read_record(reader)
        store = master_key.store_id(reader)
    kept = key_sources.keeper(target.source, home, store)
    master = _given(target) if kept is None else aead.new_key()
    record, kek = master_key.derived(target.source, master, now=now)
    if kept is not None:
        if before is not None and before.source is target.source:
            master_key.settle(kept, before)  # else the one key that fits might be written over
        kept.put_next(master)
    if before is not None:
        former = before.former if before.source is target.source else before.source
        record = replace(record, former=None if former is target.source else former)
    with ExitStack() as held, database.transaction() as tx:
        held.enter_context(sealers.change_kek(tx, kek))
        master_key.keep(tx, record)
        note(tx, record)
    try:
        if kept is not None:
            kept.promote()
        if record.former is not None:
            master_key.leave(database, record.former, home, store)
    except (StorageFailed, VaultUnusable) as error:
        error.hint = "the new key is the one from now on; the next start of the daemon does the rest"
        raise
    return record


def _given(target: Target) -> Secret[bytes]:
    if target.source is Source.PASSPHRASE:
        if target.passphrase is None:
            raise UsageError("there is no new passphrase", hint="type it when asked, or give it on standard input")
        passphrase.check_new(target.passphrase)
        master = PassphraseKey(target.passphrase).read()
    else:
        master = target.key
    if master is None:
        raise UsageError(
            "the environment's key is yours to make, and none was given",
            hint="make 32 random bytes, and give them in base64 on standard input",
        )
    return master


def vaults_of(reader: Reader) -> list[str]:
    """Every vault."""
    return [str(row[0]) for row in reader.execute("SELECT id FROM vaults ORDER BY id")]


def unfinished(reader: Reader) -> list[str]:
    """The vaults that still hold what was sealed with the key before their present one."""
    return [str(row[0]) for row in reader.execute("SELECT id FROM vaults WHERE retired_key IS NOT NULL ORDER BY id")]


def oldest_key(reader: Reader) -> datetime | None:
    """When the oldest of the vaults' keys was made."""
    (at,) = reader.execute("SELECT min(coalesce(renewed_at, created_at)) FROM vaults").fetchone()
    return to_optional_moment(at)


def measure(reader: Reader) -> Progress:
    """How much there is to be sealed anew."""
    return Progress(total=sum(int(reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in _WALKS))


def renew_vault(
    database: Database, sealers: Sealers, vault_id: str, *, now: datetime, tell: Callable[[int, int], None]
) -> None:
    """Give a vault a new key and seal with it all that is in the vault, while others work on.

    Args:
        database: the store's.
        sealers: the unlocked store.
        vault_id: which vault.
        now: when this happens.
        tell: is told how many values were done, and how many of them are damaged, since it was told last.

    Raises:
        VaultDamaged: the vault's own key does not open.
    """
    with database.read() as reader:
        was_cut_off = vault_id in unfinished(reader)
    if was_cut_off:
        finish_vault(database, sealers, vault_id, tell=lambda _done, _damaged: None)
    with database.transaction() as tx:
        sealers.renew_vault(tx, vault_id, now=now)
    finish_vault(database, sealers, vault_id, tell=tell)


def finish_vault(database: Database, sealers: Sealers, vault_id: str, *, tell: Callable[[int, int], None]) -> None:
    """Seal anew what is still sealed with the key before the vault's present one, and drop that key."""
    sealer = sealers.for_vault(vault_id)
    for walk in _WALKS.values():
        place: tuple[str, ...] = ("", "", "")
        while True:
            with database.transaction(durable=False) as tx:
                rows = list(walk(tx, sealer, place))
                for row in rows:
                    row.renew(tx, sealer)
            if not rows:
                break
            place = rows[-1].place
            tell(len(rows), sum(row.is_damaged for row in rows))
    with database.transaction() as tx:
        tx.execute("UPDATE vaults SET retired_key = NULL WHERE id = ?", (vault_id,))
    sealer.spend()
    database.settle_log()


@dataclass(slots=True, kw_only=True)
class _Row:
    """A row that holds sealed values."""

    place: tuple[str, ...]
    """By which the walk goes on."""
    update: str
    key: tuple[str, ...]
    sealed: tuple[bytes | None, ...]
    renewed: Callable[[Sealer, int, bytes], bytes | None]
    """What becomes of the value in a column, by its number; None when nothing has to."""
    is_damaged: bool = False

    def renew(self, tx: Transaction, sealer: Sealer) -> None:
        """Seal its values anew."""
        values = list(self.sealed)
        for number, sealed in enumerate(self.sealed):
            try:
                anew = None if sealed is None else self.renewed(sealer, number, sealed)
            except VaultDamaged:
                self.is_damaged = True
            else:
                values[number] = anew or sealed
        if tuple(values) != self.sealed:
            tx.execute(self.update, (*values, *self.key))


def _secrets(tx: Transaction, sealer: Sealer, after: tuple[str, ...]) -> Iterator[_Row]:
    rows = tx.execute(
        "SELECT s.provider, s.connection, s.field, c.revision, s.sealed FROM secrets s JOIN connections c"
        " ON c.vault_id = s.vault_id AND c.provider = s.provider AND c.name = s.connection"
        " WHERE s.vault_id = ? AND (s.provider, s.connection, s.field) > (?, ?, ?)"
        " ORDER BY s.provider, s.connection, s.field LIMIT ?",
        (sealer.vault_id, *after, STRIDE),
    )
    for provider, connection, field, revision, sealed in rows:
        place = (provider, connection, field)

        def renewed(
            sealer: Sealer, _: int, value: bytes, place: tuple[str, str, str] = place, revision: int = revision
        ) -> bytes | None:
            return sealer.renew(*place, revision, value)

        yield _Row(
            place=place,
            update="UPDATE secrets SET sealed = ? WHERE vault_id = ? AND provider = ? AND connection = ? AND field = ?",
            key=(sealer.vault_id, *place),
            sealed=(sealed,),
            renewed=renewed,
        )


def _clients(tx: Transaction, sealer: Sealer, after: tuple[str, ...]) -> Iterator[_Row]:
    rows = tx.execute(
        f"SELECT provider, server, revision, {', '.join(clients.SEALED)} FROM clients"
        " WHERE vault_id = ? AND (provider, server) > (?, ?) ORDER BY provider, server LIMIT ?",
        (sealer.vault_id, *after[:2], STRIDE),
    )
    for provider, server, revision, *sealed in rows:
        owner = (provider, clients.place(server))

        def renewed(
            sealer: Sealer, number: int, value: bytes, owner: tuple[str, str] = owner, revision: int = revision
        ) -> bytes | None:
            return sealer.renew(*owner, clients.SEALED[number], revision, value)

        columns = ", ".join(f"{column} = ?" for column in clients.SEALED)
        yield _Row(
            place=(provider, server),
            update=f"UPDATE clients SET {columns} WHERE vault_id = ? AND provider = ? AND server = ?",
            key=(sealer.vault_id, provider, server),
            sealed=tuple(sealed),
            renewed=renewed,
        )


def _issuers(tx: Transaction, sealer: Sealer, after: tuple[str, ...]) -> Iterator[_Row]:
    rows = tx.execute(
        "SELECT issuer, fetched_at, sealed FROM issuers WHERE vault_id = ? AND issuer > ? ORDER BY issuer LIMIT ?",
        (sealer.vault_id, after[0], STRIDE),
    )
    for issuer, fetched_at, sealed in rows:

        def renewed(
            sealer: Sealer, _: int, value: bytes, issuer: str = issuer, fetched_at: int = fetched_at
        ) -> bytes | None:
            return sealer.renew_issuer(issuer, fetched_at, value)

        yield _Row(
            place=(issuer,),
            update="UPDATE issuers SET sealed = ? WHERE vault_id = ? AND issuer = ?",
            key=(sealer.vault_id, issuer),
            sealed=(sealed,),
            renewed=renewed,
        )


def _logins(tx: Transaction, sealer: Sealer, after: tuple[str, ...]) -> Iterator[_Row]:
    rows = tx.execute(
        "SELECT id, sealed FROM logins WHERE vault_id = ? AND id > ? ORDER BY id LIMIT ?",
        (sealer.vault_id, after[0], STRIDE),
    )
    for login_id, sealed in rows:

        def renewed(sealer: Sealer, _: int, value: bytes, login_id: str = login_id) -> bytes | None:
            return sealer.renew_login(login_id, value)

        yield _Row(
            place=(login_id,),
            update="UPDATE logins SET sealed = ? WHERE id = ?",
            key=(login_id,),
            sealed=(sealed,),
            renewed=renewed,
        )


_WALKS: Final = {"secrets": _secrets, "clients": _clients, "logins": _logins, "issuers": _issuers}
"""Every table with values that a vault's key seals, and how it is walked through."""
