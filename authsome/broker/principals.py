"""Identities and the principals they act for: registration, the first claim, and who a caller is.

Rule: a handle belongs to the key that registered it first, for good; and only the one who can read the home's
bootstrap secret becomes its owner, once.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.broker.context import Context
from authsome.errors import NotAllowed, RequestInvalid
from authsome.home import Home, read_private, write_private
from authsome.identity import did
from authsome.identity.handle import is_handle
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller, Identity
from authsome.secret import Secret
from authsome.vault import audit, principals
from authsome.vault.database import Reader, Transaction

UNCLAIMED_LIMIT: Final = 100  # registering needs no credential: what strangers can fill must be small
UNCLAIMED_LIFETIME: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Principals:
    """The use cases around identities."""

    context: Context
    home: Home

    def offer_bootstrap(self) -> None:
        """Write the secret that claims the first identity, while nobody owns this home; remove it otherwise."""
        with self.context.database.read() as reader:
            owned = principals.count(reader) > 0
        if owned:
            self.home.bootstrap.unlink(missing_ok=True)
        elif not self.home.bootstrap.exists():
            write_private(self.home.bootstrap, secrets.token_urlsafe(32).encode())

    def register(self, *, name: str, key: str, bootstrap: Secret[str] | None) -> tuple[Identity, bool]:
        """Bind a handle to a key whose holder has just proven it.

        Args:
            name: the handle.
            key: the did:key.
            bootstrap: the home's bootstrap secret, when the caller could read it.

        Returns:
            The identity, and whether it is claimed.

        Raises:
            RequestInvalid: the handle or the key is malformed.
            NotAllowed: the handle belongs to another key, or too many identities wait to be claimed.
        """
        if not is_handle(name):
            raise RequestInvalid(f"{name[:64]!r} is not a handle", hint="lower-case letters, digits and hyphens")
        try:
            did.public_key_from_did(key)
        except ValueError as error:
            raise RequestInvalid("the did is not one of an Ed25519 key") from error
        now = self.context.clock()
        with self.context.database.transaction() as tx:
            is_owner = bootstrap is not None and principals.count(tx) == 0 and self._is_bootstrap(bootstrap)
            known = principals.identity_by_handle(tx, name)
            if known is not None and known.did != key:
                raise NotAllowed(f"the handle {name} belongs to another key", hint="choose another handle")
            if known is None:
                principals.purge_unclaimed(tx, before=now - UNCLAIMED_LIFETIME)
                if not is_owner and principals.count_unclaimed(tx) >= UNCLAIMED_LIMIT:
                    raise NotAllowed("too many identities wait to be claimed", hint="try again in an hour")
                principals.add_identity(tx, handle=name, did=key, now=now)
            if is_owner:
                self._claim_first(tx, name, now)
            identity = principals.identity_by_handle(tx, name)
        assert identity is not None
        self.offer_bootstrap()
        return identity, identity.principal_id is not None

    def caller(self, reader: Reader | Transaction, name: str) -> Caller | None:
        """Whom a handle acts for: None unless it is registered, claimed and not revoked."""
        return reader.recall(("caller", name), lambda: _caller(reader, name))

    def _is_bootstrap(self, given: Secret[str]) -> bool:
        try:
            return Secret(read_private(self.home.bootstrap).decode("ascii", "replace")) == given
        except FileNotFoundError:
            return False

    def _claim_first(self, tx: Transaction, name: str, now: datetime) -> None:
        owner = principals.create_owner(tx, self.context.sealers, now=now)
        principals.claim_identity(tx, handle=name, principal_id=owner.id)
        entry = Entry(
            event=Event.CLAIM,
            at=now,
            vault_id=owner.vault_id,
            principal=owner.id,
            identity=name,
            detail="first identity, by the bootstrap secret",
        )
        audit.append(tx, entry)


def _caller(reader: Reader, name: str) -> Caller | None:
    identity, principal = principals.caller(reader, name) or (None, None)
    if identity is None or principal is None or identity.revoked_at is not None:
        return None
    return Caller(identity=identity, principal=principal)
