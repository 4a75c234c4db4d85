"""Identities: registration, the first claim, who a caller is, and what is limited and revoked.

Rule: a handle belongs to the key that registered it first, for good; and only the one who can read the home's
bootstrap secret becomes its owner, once.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import bootstrap, record, throttle
from authsome.broker.context import Context
from authsome.broker.throttle import Bucket
from authsome.errors import LimitsChanged, NotAllowed, NotFound, RequestInvalid
from authsome.home import Home
from authsome.identity import did
from authsome.identity.handle import is_handle
from authsome.models.audit import Entry, Event
from authsome.models.limits import Limits
from authsome.models.principal import Caller, Identity, Principal
from authsome.secret import Secret
from authsome.vault import audit, claims, identities, passwords, principals, runs
from authsome.vault.database import Reader, Transaction

UNCLAIMED_LIMIT: Final = 100  # registering needs no credential: what strangers can fill must be small
OF_ADDRESS: Final = 10  # registrations from elsewhere, after which each waits longer
UNCLAIMED_LIFETIME: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An identity as its principal sees it."""

    identity: Identity
    principal: Principal
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Identities:
    """The use cases around identities."""

    context: Context
    home: Home

    def offer_bootstrap(self) -> None:
        """See `bootstrap.offer`."""
        bootstrap.offer(self.context.database, self.home)

    def is_bootstrap(self, given: Secret[str]) -> bool:
        """See `bootstrap.fits`."""
        return bootstrap.fits(self.home, given)

    def register(
        self,
        *,
        name: str,
        key: str,
        bootstrap: Secret[str] | None,
        address: str | None = None,
        proof: str | None = None,
    ) -> tuple[Identity, bool]:
        """Bind a handle to a key whose holder has just proven it.

        Args:
            name: the handle.
            key: the did:key.
            bootstrap: the home's bootstrap secret, when the caller could read it.
            address: where the caller is; None: on this machine.
            proof: the `jti` of the proof that it came with, for the log.

        Returns:
            The identity, and whether it is claimed.

        Raises:
            RequestInvalid: the handle or the key is malformed.
            NotAllowed: the handle belongs to another key, or too many identities wait to be claimed.
            TooManyAttempts: too many were registered from there.
        """
        if not is_handle(name):
            raise RequestInvalid(f"{name[:64]!r} is not a handle", hint="lower-case letters, digits and hyphens")
        try:
            did.public_key_from_did(key)
        except ValueError as error:
            raise RequestInvalid("the did is not one of an Ed25519 key") from error
        now = self.context.clock()
        with self.context.database.transaction() as tx:
            is_owner = bootstrap is not None and principals.count(tx) == 0 and self.is_bootstrap(bootstrap)
            known = identities.by_handle(tx, name)
            if known is not None and known.did != key:
                raise NotAllowed(f"the handle {name} belongs to another key", hint="choose another handle")
            if known is None:
                identities.purge_unclaimed(tx, now=now, lifetime=UNCLAIMED_LIFETIME)
                if not is_owner and identities.count_unclaimed(tx) >= UNCLAIMED_LIMIT:
                    raise NotAllowed("too many identities wait to be claimed", hint="try again in an hour")
                if address is not None:  # one stranger must not fill the places of all
                    throttle.count(tx, [Bucket.of_address("registration", address, free=OF_ADDRESS)], now)
                identities.add(tx, handle=name, did=key, now=now)
            if is_owner:
                self._claim_first(tx, name, proof, now)
            identity = identities.by_handle(tx, name)
        assert identity is not None
        self.offer_bootstrap()
        return identity, identity.principal_id is not None

    def caller(self, reader: Reader | Transaction, name: str) -> Caller | None:
        """Whom a handle acts for: None unless it is registered, claimed, not revoked, and its time is not over."""
        found = reader.recall(("caller", name), lambda: _caller(reader, name))
        # What is recalled does not know the time.
        return None if found is None or found.limits.has_ended(self.context.clock()) else found

    def list_all(self, caller: Caller, *, everybody: bool = False) -> list[Listed]:
        """The identities of the caller's principal, revoked ones too; a limited one sees only itself.

        Args:
            caller: who asks.
            everybody: those of all principals, for admins.

        Raises:
            NotAllowed: `everybody` is for admins.
        """
        _check_everybody(caller, everybody=everybody)
        found: list[Listed] = []
        with self.context.database.read() as reader:
            for principal in principals.list_all(reader) if everybody else [caller.principal]:
                uses = identities.last_uses(reader, principal.id)
                found += (
                    Listed(identity=each, principal=principal, last_used_at=uses.get(each.handle))
                    for each in identities.of_principal(reader, principal.id)
                    if caller.limits.is_none or each.handle == caller.handle
                )
        return found

    def page(self, caller: Caller, *, everybody: bool = False, limit: int, offset: int = 0) -> tuple[list[Listed], int]:
        """Some of the caller's identities, revoked ones too, and how many there are: those that may act first.

        Args:
            caller: who asks, without limits.
            everybody: those of all principals, for admins.
            limit: how many at most.
            offset: how many come before them.

        Raises:
            NotAllowed: the caller is limited, or `everybody` is for admins.
        """
        caller.require_unlimited()
        _check_everybody(caller, everybody=everybody)
        whose = None if everybody else caller.principal.id
        with self.context.database.read() as reader:
            found = identities.page(reader, whose, now=self.context.clock(), limit=limit, offset=offset)
            listed = [Listed(identity=one, principal=owner, last_used_at=used) for one, owner, used in found]
            return listed, identities.count(reader, whose)

    def get(self, caller: Caller, name: str) -> Listed:
        """One identity, a revoked one too, for its principal or an admin; a limited one sees only itself.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        with self.context.database.read() as reader:
            identity, owner = self._owned(reader, caller, name)
            if not caller.limits.is_none and name != caller.handle:
                raise _unknown(name)
            return Listed(
                identity=identity,
                principal=owner,
                last_used_at=identities.last_uses(reader, owner.id).get(name),
            )

    def limit(
        self, caller: Caller, name: str, limits: Limits, *, seen: Limits | None = None, last: bool = False
    ) -> Identity:
        """Limit an identity anew, from its next request on.

        Args:
            caller: its principal or an admin, by an identity without limits.
            name: its handle.
            limits: what takes the place of the present limits.
            seen: what the caller takes for the present limits; None: whatever they are.
            last: even if nobody can act for the caller without limits then.

        Raises:
            LimitsChanged: they are others than those that were `seen`.
            NotAllowed: the caller is limited itself, or the identity revoked, or the `last`.
            NotFound: there is no such identity, or it is somebody else's.
        """
        caller.require_unlimited()
        with self.context.database.transaction() as tx:
            identity, owner = self._owned(tx, caller, name)
            if identity.revoked_at is not None:
                raise NotAllowed(
                    f"the identity {name} is revoked for good", hint="make another: authsome identity create"
                )
            if seen is not None and seen != identity.limits:
                raise LimitsChanged
            if not (last or limits.is_none):
                self._check_last(tx, caller, identity, owner)
            identities.limit(tx, handle=name, limits=limits)
            audit.append(tx, self._entry(Event.IDENTITY_LIMITED, caller, identity, owner, describe(limits)))
            limited = identities.by_handle(tx, name)
        assert limited is not None
        return limited

    def revoke(self, caller: Caller, name: str, *, last: bool = False) -> Identity:
        """Revoke an identity, from its next request on; its runs end.

        Args:
            caller: itself, its principal or an admin; a limited identity may revoke itself and no other.
            name: its handle.
            last: even if nobody can act for the caller without limits then.

        Raises:
            NotAllowed: the caller is limited, or the identity is the `last`.
            NotFound: there is no such identity, or it is somebody else's.
        """
        if name != caller.handle:
            caller.require_unlimited()
        now = self.context.clock()
        with self.context.database.transaction() as tx:
            identity, owner = self._owned(tx, caller, name)
            if not last:
                self._check_last(tx, caller, identity, owner)
            if identities.revoke(tx, handle=name, now=now):
                ended = runs.end_of_identity(tx, name, now=now)
                claims.delete(tx, name)
                audit.append(tx, self._entry(Event.IDENTITY_REVOKED, caller, identity, owner, f"runs ended: {ended}"))
            revoked = identities.by_handle(tx, name)
        assert revoked is not None
        return revoked

    def _owned(self, reader: Reader, caller: Caller, name: str) -> tuple[Identity, Principal]:
        """An identity that the caller may do something about."""
        identity, owner = identities.caller(reader, name) or (None, None)
        if identity is None or owner is None or (owner.id != caller.principal.id and not caller.is_admin):
            raise _unknown(name)
        return identity, owner

    def _check_last(self, reader: Reader, caller: Caller, identity: Identity, owner: Principal) -> None:
        """Refuse what would lock the caller out of its own vault: nobody could let another identity in any more."""
        if owner.id != caller.principal.id or passwords.get(reader, owner.id) is not None:
            return  # an admin claims another for them, or they sign in and do so themselves
        acting = {
            each.handle
            for each in identities.of_principal(reader, owner.id)
            if each.revoked_at is None and each.limits.is_none
        }
        if acting == {identity.handle}:
            raise NotAllowed(
                f"the identity {identity.handle} is the last to act for you without limits, and you have no password",
                hint="nobody could let another in: set a password first (authsome ui), or say --last in the terminal",
            )

    def _entry(self, event: Event, caller: Caller, identity: Identity, owner: Principal, detail: str) -> Entry:
        """What a caller did to an identity; it concerns the vault of the identity's owner."""
        entry = record.by_caller(event, caller, self.context.clock())
        return replace(entry, vault_id=owner.vault_id, detail=f"{identity.handle}: {detail}")

    def _claim_first(self, tx: Transaction, name: str, proof: str | None, now: datetime) -> None:
        owner = principals.create_owner(tx, self.context.sealers, now=now)
        identities.claim(tx, handle=name, principal_id=owner.id)
        entry = Entry(
            event=Event.CLAIM,
            at=now,
            vault_id=owner.vault_id,
            principal=owner.id,
            identity=name,
            proof=proof,
            detail="first identity, by the bootstrap secret",
        )
        audit.append(tx, entry)


def describe(limits: Limits) -> str:
    """Limits in words, for the log and for people."""
    parts = []
    if limits.connections is not None:
        parts.append("connections " + ", ".join(limits.connections))
    if limits.methods is not None:
        parts.append("methods " + ", ".join(sorted(limits.methods)))
    if limits.expires_at is not None:
        parts.append(f"until {limits.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    return "; ".join(parts) or "no limits"


def _check_everybody(caller: Caller, *, everybody: bool) -> None:
    if everybody and not caller.is_admin:
        raise NotAllowed("only an admin sees the identities of others")


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no identity {name[:64]}", hint="`authsome identity list` shows them")


def _caller(reader: Reader, name: str) -> Caller | None:
    identity, principal = identities.caller(reader, name) or (None, None)
    if identity is None or principal is None or identity.revoked_at is not None:
        return None
    return Caller(identity=identity, principal=principal)
