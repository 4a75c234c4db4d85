"""Vaults and their keys: what is sealed in one names where it belongs, and opens nowhere else.

Rule: no two writes of secrets in a vault share a revision, so a row taken from an older state of the vault, or from a
connection that was deleted and made anew, does not open either.
"""

import secrets
import threading
from contextlib import AbstractContextManager
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

SERVER: Final = "server"
"""The name of the server's own secret."""
_WRAPPED: Final[tuple[tuple[str, str, str | None], ...]] = (
    ("vaults", "wrapped_key", None),
    ("vaults", "retired_key", None),
    ("server_key", "sealed", SERVER),
)
"""Where keys lie that are wrapped with the key-encryption key, and each one's name; None: its row's id."""
_MOST_REVISIONS: Final = 2**28
"""Each seals a handful of fields, and 2^32 seals are the limit for one key (SP 800-38D §8.3)."""


class Sealer:
    """Seals and opens what belongs to one vault; while its key is renewed, it opens what either key sealed."""

    __slots__ = ("_changing", "_keys", "_spent", "vault_id")

    def __init__(self, vault_id: str, dek: Secret[bytes], retired: Secret[bytes] | None = None) -> None:
        """Take the key that seals, and the one before it while there may be something left that it sealed."""
        self.vault_id = vault_id
        self._keys: tuple[Secret[bytes], ...] = (dek,) if retired is None else (dek, retired)
        self._spent = 0
        self._changing = threading.Lock()

    def seal(self, provider: str, connection: str, field: str, revision: int, value: Secret[str]) -> bytes:
        """Seal one field of one connection, as written by one revision."""
        return aead.seal_text(self._keys[0], value, self._field(provider, connection, field, revision))

    def open(self, provider: str, connection: str, field: str, revision: int, sealed: bytes) -> Secret[str]:
        """Open what `seal` made for exactly this place and revision.

        Raises:
            VaultDamaged: it was changed, or belongs elsewhere; the message names the connection.
        """
        try:
            return self._open(sealed, self._field(provider, connection, field, revision))
        except VaultDamaged as error:
            name = f"{provider}/{connection}" if connection else provider
            raise VaultDamaged(
                f"the stored {field} of {name} is damaged", hint=f"log in again: authsome login {provider} --force"
            ) from error

    def seal_login(self, login_id: str, text: Secret[str]) -> bytes:
        """Seal the record of a login in flight."""
        return aead.seal_text(self._keys[0], text, self._login(login_id))

    def open_login(self, login_id: str, sealed: bytes) -> Secret[str]:
        """Open what `seal_login` made for this login.

        Raises:
            VaultDamaged: it was changed, or is another login's.
        """
        try:
            return self._open(sealed, self._login(login_id))
        except VaultDamaged as error:
            raise VaultDamaged("the record of this login is damaged", hint="start the login again") from error

    def seal_issuer(self, issuer: str, fetched_at: int, document: Secret[str]) -> bytes:
        """Seal what an issuer said of itself at a time: it is no secret, and says where secrets go."""
        return aead.seal_text(self._keys[0], document, self._issuer(issuer, fetched_at))

    def open_issuer(self, issuer: str, fetched_at: int, sealed: bytes) -> Secret[str]:
        """Open what `seal_issuer` made for this issuer and time.

        Raises:
            VaultDamaged: it was changed, or is another issuer's or an older one.
        """
        return self._open(sealed, self._issuer(issuer, fetched_at))

    def renew(self, provider: str, connection: str, field: str, revision: int, sealed: bytes) -> bytes | None:
        """What was sealed with the retired key, sealed with the present one; None for what already is.

        Raises:
            VaultDamaged: neither key opens it.
        """
        return self._renew(sealed, self._field(provider, connection, field, revision))

    def renew_login(self, login_id: str, sealed: bytes) -> bytes | None:
        """As `renew`, for the record of a login in flight."""
        return self._renew(sealed, self._login(login_id))

    def renew_issuer(self, issuer: str, fetched_at: int, sealed: bytes) -> bytes | None:
        """As `renew`, for what an issuer said of itself."""
        return self._renew(sealed, self._issuer(issuer, fetched_at))

    def expect(self, dek: Secret[bytes]) -> None:
        """Open what this key seals, too: whoever reads just after the commit may ask before `adopt`."""
        with self._changing:
            self._keys = (self._keys[0], dek)
            self._spent = 0

    def adopt(self, dek: Secret[bytes]) -> None:
        """Seal with this key from now on."""
        with self._changing:
            self._keys = (dek, self._keys[0])

    def spend(self) -> None:
        """Nothing that is stored needs the retired key any more; who reads in an older snapshot still may."""
        with self._changing:
            self._spent = len(self._keys) - 1

    def drop_spent(self) -> None:
        """Drop a retired key that was spent before the call before this one."""
        with self._changing:
            if self._spent == 1:
                self._spent = 2
            elif self._spent:
                self._keys, self._spent = self._keys[:1], 0

    def _open(self, sealed: bytes, associated: bytes) -> Secret[str]:
        first, *others = self._keys
        try:
            return aead.open_text(first, sealed, associated)
        except VaultDamaged:
            if not others:
                raise
        return aead.open_text(others[0], sealed, associated)

    def _renew(self, sealed: bytes, associated: bytes) -> bytes | None:
        dek, retired = self._keys
        try:
            aead.open_text(dek, sealed, associated)
        except VaultDamaged:
            return aead.seal_text(dek, aead.open_text(retired, sealed, associated), associated)
        return None

    def _field(self, provider: str, connection: str, field: str, revision: int) -> bytes:
        return aead.associate("field", self.vault_id, provider, connection, field, str(revision))

    def _issuer(self, issuer: str, fetched_at: int) -> bytes:
        return aead.associate("issuer", self.vault_id, issuer, str(fetched_at))

    def _login(self, login_id: str) -> bytes:
        return aead.associate("login", self.vault_id, login_id)


class Sealers:
    """The unlocked store: the key-encryption key, and each vault's sealer once it was asked for.

    There is one sealer for each vault, so that whoever has it seals with the vault's present key whenever that changes.
    """

    def __init__(self, database: Database, kek: Secret[bytes]) -> None:
        self._database = database
        self._kek = self._root = kek
        self._sealers: dict[str, Sealer] = {}
        self._guard = threading.Lock()

    def for_vault(self, vault_id: str) -> Sealer:
        """The sealer of a vault.

        Raises:
            VaultDamaged: its key was changed.
            VaultUnusable: there is no such vault.
        """
        sealer = self._sealers.get(vault_id)
        if sealer is None:
            with self._guard:
                sealer = self._sealers.get(vault_id) or self._unwrapped(vault_id)
                self._sealers[vault_id] = sealer
        return sealer

    def _unwrapped(self, vault_id: str) -> Sealer:
        with self._database.read() as reader:
            row = reader.execute("SELECT wrapped_key, retired_key FROM vaults WHERE id = ?", (vault_id,)).fetchone()
        if row is None:
            raise VaultUnusable("this vault is gone", hint="its principal was removed")
        retired = None if row[1] is None else envelope.unwrap(self._kek, row[1], vault_id)
        return Sealer(vault_id, envelope.unwrap(self._kek, row[0], vault_id), retired)

    def change_kek(self, transaction: Transaction, kek: Secret[bytes]) -> AbstractContextManager[object]:
        """Wrap every vault's key anew; what is returned is to be left after the transaction was committed.

        Raises:
            VaultDamaged: a key does not open; nothing is changed.
        """
        for table, column, known_as in _WRAPPED:
            rows = transaction.execute(f"SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
            for row_id, wrapped in rows:
                name = known_as or str(row_id)
                anew = envelope.wrap(kek, envelope.unwrap(self._kek, wrapped, name), name)
                transaction.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (anew, row_id))

        def adopt() -> None:
            self._kek = kek

        transaction.then = adopt
        return self._guard  # nobody unwraps with one key what is wrapped with the other

    def renew_vault(self, transaction: Transaction, vault_id: str, *, now: datetime) -> Sealer:
        """Give a vault a new key; what the one before sealed is to be sealed anew, see `rekeying`."""
        sealer, dek = self.for_vault(vault_id), envelope.new_dek()
        transaction.execute(
            "UPDATE vaults SET retired_key = wrapped_key, wrapped_key = ?, renewed_at = ?, renewed_revision = revision"
            " WHERE id = ?",
            (envelope.wrap(self._kek, dek, vault_id), from_moment(now), vault_id),
        )
        sealer.expect(dek)
        transaction.then = lambda: sealer.adopt(dek)
        return sealer

    def drop_spent(self) -> None:
        """Forget the retired keys that nothing needs any more; called now and then."""
        for sealer in list(self._sealers.values()):
            sealer.drop_spent()

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
        """A key for another purpose than sealing (form tokens, …), the same after each restart, and after a rekey."""
        return envelope.subkey(self._root, purpose)

    def derive_from(self, secret: Secret[bytes]) -> None:
        """Have subkeys come from the server's own secret from now on, which no rekey changes."""
        self._root = secret


def unlock(database: Database, settings: Settings, *, clock: Clock, passphrase: Secret[str] | None = None) -> Sealers:
    """Unlock the store with its master key; a new store gets one, from the source that the settings choose.

    Args:
        database: the store's.
        settings: where the key is looked for.
        clock: tells when a new key was made.
        passphrase: for a store whose key is one.

    Raises:
        VaultLocked: the key is a passphrase, and none was given.
        PassphraseRefused: it is another one.
        MasterKeyMismatch: the key is missing or another one; nothing was changed.
        VaultUnusable: the source cannot be asked, or the record is damaged.
        UsageError: config.json names no such source.
    """
    with database.read() as reader:
        unlocked = master_key.unlock(reader, settings, passphrase)
        store = master_key.store_id(reader)
    if unlocked is None:
        unlocked = master_key.initialise(settings, store, passphrase, now=clock())
        with database.transaction() as transaction:
            master_key.keep(transaction, unlocked[0])
    else:
        master_key.tidy(database, unlocked[0], settings, store)
    return Sealers(database, unlocked[1])


def next_revision(transaction: Transaction, vault_id: str) -> int:
    """A revision that this vault has not had before.

    Raises:
        VaultUnusable: the vault is gone, or its key was used too often.
    """
    transaction.execute("UPDATE vaults SET revision = revision + 1 WHERE id = ?", (vault_id,))
    query = "SELECT revision, revision - renewed_revision FROM vaults WHERE id = ?"
    row = transaction.execute(query, (vault_id,)).fetchone()
    if row is None:
        raise VaultUnusable("this vault is gone", hint="its principal was removed")
    revision, used = int(row[0]), int(row[1])
    if used > _MOST_REVISIONS:
        raise VaultUnusable("this vault's key was used too often", hint="renew it: authsome admin rekey")
    return revision
