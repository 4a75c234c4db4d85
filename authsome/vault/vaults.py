"""Vaults and their keys: what is sealed in one names where it belongs, and opens nowhere else.

Rule: no two writes of secrets in a vault share a revision, so a row taken from an older state of the vault, or from a
connection that was deleted and made anew, does not open either.
"""

import secrets
from datetime import datetime
from typing import Final

from authsome.clock import Clock
from authsome.crypto import aead, envelope
from authsome.errors import VaultDamaged, VaultUnusable
from authsome.home import Settings
from authsome.secret import Secret
from authsome.vault import master_key
from authsome.vault.columns import from_moment
from authsome.vault.database import Database, Transaction

_MOST_REVISIONS: Final = 2**28
"""Each seals a handful of fields, and 2^32 seals are the limit for one key (SP 800-38D §8.3)."""


class Sealer:
    """Seals and opens what belongs to one vault."""

    __slots__ = ("_dek", "vault_id")

    def __init__(self, vault_id: str, dek: Secret[bytes]) -> None:
        self.vault_id = vault_id
        self._dek = dek

    def seal(self, provider: str, connection: str, field: str, revision: int, value: Secret[str]) -> bytes:
        """Seal one field of one connection, as written by one revision."""
        return aead.seal_text(self._dek, value, self._field(provider, connection, field, revision))

    def open(self, provider: str, connection: str, field: str, revision: int, sealed: bytes) -> Secret[str]:
        """Open what `seal` made for exactly this place and revision.

        Raises:
            VaultDamaged: it was changed, or belongs elsewhere; the message names the connection.
        """
        try:
            return aead.open_text(self._dek, sealed, self._field(provider, connection, field, revision))
        except VaultDamaged as error:
            name = f"{provider}/{connection}" if connection else provider
            raise VaultDamaged(
                f"the stored {field} of {name} is damaged", hint=f"log in again: authsome login {provider} --force"
            ) from error

    def seal_login(self, login_id: str, text: Secret[str]) -> bytes:
        """Seal the record of a login in flight."""
        return aead.seal_text(self._dek, text, self._login(login_id))

    def open_login(self, login_id: str, sealed: bytes) -> Secret[str]:
        """Open what `seal_login` made for this login.

        Raises:
            VaultDamaged: it was changed, or is another login's.
        """
        try:
            return aead.open_text(self._dek, sealed, self._login(login_id))
        except VaultDamaged as error:
            raise VaultDamaged("the record of this login is damaged", hint="start the login again") from error

    def seal_issuer(self, issuer: str, fetched_at: int, document: Secret[str]) -> bytes:
        """Seal what an issuer said of itself at a time: it is no secret, and says where secrets go."""
        return aead.seal_text(self._dek, document, self._issuer(issuer, fetched_at))

    def open_issuer(self, issuer: str, fetched_at: int, sealed: bytes) -> Secret[str]:
        """Open what `seal_issuer` made for this issuer and time.

        Raises:
            VaultDamaged: it was changed, or is another issuer's or an older one.
        """
        return aead.open_text(self._dek, sealed, self._issuer(issuer, fetched_at))

    def _field(self, provider: str, connection: str, field: str, revision: int) -> bytes:
        return aead.associate("field", self.vault_id, provider, connection, field, str(revision))

    def _issuer(self, issuer: str, fetched_at: int) -> bytes:
        return aead.associate("issuer", self.vault_id, issuer, str(fetched_at))

    def _login(self, login_id: str) -> bytes:
        return aead.associate("login", self.vault_id, login_id)


class Sealers:
    """The unlocked store: the key-encryption key, and each vault's sealer once it was asked for."""

    def __init__(self, database: Database, kek: Secret[bytes]) -> None:
        self._database = database
        self._kek = kek
        self._sealers: dict[str, Sealer] = {}

    def for_vault(self, vault_id: str) -> Sealer:
        """The sealer of a vault.

        Raises:
            VaultDamaged: its key was changed.
            VaultUnusable: there is no such vault.
        """
        sealer = self._sealers.get(vault_id)
        if sealer is None:
            with self._database.read() as reader:
                row = reader.execute("SELECT wrapped_key FROM vaults WHERE id = ?", (vault_id,)).fetchone()
            if row is None:
                raise VaultUnusable("there is no such vault")
            sealer = Sealer(vault_id, envelope.unwrap(self._kek, row[0], vault_id))
            self._sealers[vault_id] = sealer
        return sealer

    def create_vault(self, transaction: Transaction, *, now: datetime) -> Sealer:
        """Make a vault with a key of its own."""
        vault_id = f"vault_{secrets.token_hex(12)}"
        dek = envelope.new_dek()
        transaction.execute(
            "INSERT INTO vaults (id, wrapped_key, revision, created_at) VALUES (?, ?, 0, ?)",
            (vault_id, envelope.wrap(self._kek, dek, vault_id), from_moment(now)),
        )
        sealer = Sealer(vault_id, dek)
        self._sealers[vault_id] = sealer  # should the transaction fail, nothing will ever ask for this name
        return sealer

    def forget(self, vault_id: str) -> None:
        """Drop the key of a vault that is no more."""
        self._sealers.pop(vault_id, None)

    def wrap_own(self, key: Secret[bytes], name: str) -> bytes:
        """Seal a key that is the server's own, under a name that no vault has."""
        return envelope.wrap(self._kek, key, name)

    def unwrap_own(self, wrapped: bytes, name: str) -> Secret[bytes]:
        """Open what `wrap_own` sealed.

        Raises:
            VaultDamaged: it was changed, or is another key.
        """
        return envelope.unwrap(self._kek, wrapped, name)

    def subkey(self, purpose: str) -> Secret[bytes]:
        """A key for another purpose than sealing (form tokens, …), the same after each restart."""
        return envelope.subkey(self._kek, purpose)


def unlock(database: Database, settings: Settings, *, clock: Clock) -> Sealers:
    """Unlock the store with its master key; a new store gets one, from the source that the settings choose.

    Raises:
        MasterKeyMismatch: the key is missing or another one; nothing was changed.
        VaultUnusable: the source cannot be asked, or the record is damaged.
        UsageError: config.json names no such source.
    """
    with database.read() as reader:
        unlocked = master_key.unlock(reader, settings)
        store = master_key.store_id(reader)
    if unlocked is None:
        unlocked = master_key.initialise(settings, store, now=clock())
        with database.transaction() as transaction:
            master_key.keep(transaction, unlocked[0])
    return Sealers(database, unlocked[1])


def source(database: Database) -> str:
    """Where the master key of this store comes from, in a word."""
    with database.read() as reader:
        record = master_key.read_record(reader)
    return "none" if record is None else record.source.value


def next_revision(transaction: Transaction, vault_id: str) -> int:
    """A revision that this vault has not had before.

    Raises:
        VaultUnusable: the vault is gone, or its key was used too often.
    """
    transaction.execute("UPDATE vaults SET revision = revision + 1 WHERE id = ?", (vault_id,))
    row = transaction.execute("SELECT revision FROM vaults WHERE id = ?", (vault_id,)).fetchone()
    if row is None:
        raise VaultUnusable("there is no such vault")
    revision = int(row[0])
    if revision > _MOST_REVISIONS:
        raise VaultUnusable("this vault's key was used too often", hint="move its logins to a new vault")
    return revision
