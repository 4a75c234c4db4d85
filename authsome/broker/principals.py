"""Principals: who may have a vault here, by whom they were let in, and how they leave.

Rule: there is always an admin; nobody but an admin lets anybody in; and who leaves takes all of theirs along at once:
connections, logins, runs, identities, and the key that their secrets were sealed with.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from authsome.broker import record
from authsome.broker.context import Context
from authsome.errors import NotAllowed, NotFound
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller, Invitation, Principal, Role, checked_name, normal_email
from authsome.secret import Secret
from authsome.vault import audit, connections, identities, invitations, principals, runs
from authsome.vault.database import Reader, Transaction

INVITATION_LIFETIME: Final = timedelta(days=7)
INVITATION_PATH: Final = "/ui/join/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """A new invitation: its token is told once, here."""

    invitation: Invitation
    token: Secret[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A principal that was removed, and what went with it."""

    principal: Principal
    connections: int
    identities: int
    runs: int


class Principals:
    """The use cases around principals."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list_all(self, caller: Caller) -> list[Principal]:
        """Every principal.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin()
        with self._context.database.read() as reader:
            return principals.list_all(reader)

    def page(self, caller: Caller, *, limit: int, offset: int = 0) -> tuple[list[Principal], int]:
        """Some principals, and how many there are.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin()
        with self._context.database.read() as reader:
            return principals.page(reader, limit=limit, offset=offset), principals.count(reader)

    def count(self, caller: Caller) -> int:
        """How many principals there are.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin()
        with self._context.database.read() as reader:
            return principals.count(reader)

    def named(self, caller: Caller, ids: Collection[str]) -> list[Principal]:
        """The principals of these ids that the caller may know: all of them for an admin, else itself."""
        if not caller.is_admin:
            return [caller.principal]
        with self._context.database.read() as reader:
            return principals.of_ids(reader, ids)

    def invitations(self, caller: Caller, *, limit: int) -> tuple[list[Invitation], int]:
        """Some of the invitations that were not taken up yet, and how many there are.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin()
        now = self._context.clock()
        with self._context.database.read() as reader:
            return invitations.page(reader, now=now, limit=limit), invitations.count(reader, now=now)

    def list_invitations(self, caller: Caller) -> list[Invitation]:
        """The invitations that were not taken up yet.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin()
        now = self._context.clock()
        with self._context.database.read() as reader:
            return [each for each in invitations.list_all(reader) if each.expires_at > now]

    def invite(self, caller: Caller, email: str, role: Role = Role.USER) -> Invited:
        """Invite a person, in place of an earlier invitation to the same address.

        Raises:
            NotAllowed: the caller is no admin, or the address is a principal's already.
            RequestInvalid: it is no address.
        """
        caller.require_admin()
        now = self._context.clock()
        token = Secret(secrets.token_urlsafe(32))
        invitation = Invitation(
            id=f"invitation_{secrets.token_hex(6)}",
            email=normal_email(email),
            role=role,
            invited_by=caller.principal.id,
            created_at=now,
            expires_at=now + INVITATION_LIFETIME,
        )
        with self._context.database.transaction() as tx:
            if principals.by_email(tx, invitation.email) is not None:
                raise NotAllowed(f"{invitation.email} is a principal already")
            invitations.put(tx, invitation, token)
            audit.append(tx, self._entry(Event.INVITE, caller, f"{invitation.email} as {role}"))
        return Invited(invitation=invitation, token=token)

    def withdraw(self, caller: Caller, invitation_id: str) -> None:
        """Make an invitation worthless.

        Raises:
            NotAllowed: the caller is no admin.
            NotFound: there is none.
        """
        caller.require_admin()
        with self._context.database.transaction() as tx:
            if not invitations.delete(tx, invitation_id):
                raise NotFound("there is no such invitation", hint="`authsome admin principals list` shows them")
            audit.append(tx, self._entry(Event.INVITE, caller, f"{invitation_id} withdrawn"))

    def invitation(self, reader: Reader, token: Secret[str]) -> Invitation:
        """The invitation that a link belongs to.

        Raises:
            NotFound: there is none, it was used or withdrawn, it has expired, or whoever invited is no admin any more.
        """
        found = invitations.by_token(reader, token)
        host = None if found is None else principals.by_id(reader, found.invited_by)
        is_good = host is not None and host.role is Role.ADMIN
        if found is None or not is_good or found.expires_at <= self._context.clock():
            raise NotFound("this invitation has been used, or is too old", hint="ask whoever invited you for another")
        return found

    def accept(self, tx: Transaction, token: Secret[str], *, name: str) -> Principal:
        """Let an invited person in; in the same transaction the account gets its password.

        Raises:
            NotFound: see `invitation`.
            RequestInvalid: the name cannot be shown.
        """
        invitation = self.invitation(tx, token)
        now = self._context.clock()
        made = principals.create(
            tx,
            self._context.sealers,
            now=now,
            name=checked_name(name),
            role=invitation.role,
            email=invitation.email,
        )
        invitations.delete(tx, invitation.id)
        audit.append(tx, self._joined(made, "by invitation"))
        return made

    def create_first(self, tx: Transaction, *, email: str, name: str) -> Principal:
        """Make the first principal of all, an admin: once, however many try; its password comes with it.

        Who may try is the caller's to check: `Identities.is_bootstrap` knows who can read the home.

        Raises:
            NotAllowed: there is one.
            RequestInvalid: the address or the name is malformed.
        """
        if principals.count(tx) > 0:
            raise NotAllowed("this daemon has an owner", hint="ask an admin for an invitation")
        made = principals.create(
            tx,
            self._context.sealers,
            now=self._context.clock(),
            name=checked_name(name),
            role=Role.ADMIN,
            email=normal_email(email),
        )
        audit.append(tx, self._joined(made, "first account"))
        return made

    def add(self, caller: Caller, name: str, role: Role = Role.USER) -> Principal:
        """Add a principal for programs: nobody signs in as it; an admin claims identities for it.

        Raises:
            NotAllowed: the caller is no admin, or the name is taken.
            RequestInvalid: the name cannot be shown.
        """
        caller.require_admin()
        name = checked_name(name)
        with self._context.database.transaction() as tx:
            if any(each.name == name for each in principals.list_all(tx)):
                raise NotAllowed(f"there is a principal named {name} already")
            made = principals.create(tx, self._context.sealers, now=self._context.clock(), name=name, role=role)
            audit.append(tx, self._joined(made, f"added by {caller.principal.name}"))
        return made

    def set_role(self, caller: Caller, wanted: str, role: Role) -> Principal:
        """Make a principal an admin, or no longer one, from its next request on.

        Args:
            caller: an admin.
            wanted: the principal's id, e-mail address or name.
            role: the new role.

        Raises:
            NotAllowed: the caller is no admin, or nobody would be left who is.
            NotFound: there is no such principal.
        """
        caller.require_admin()
        with self._context.database.transaction() as tx:
            found = self.find(tx, wanted)
            if found.role is not role:
                if found.role is Role.ADMIN:
                    _keep_an_admin(tx)
                principals.set_role(tx, found.id, role)
                audit.append(tx, self._entry(Event.ROLE, caller, f"{_known_as(found)} is {role}"))
            changed = principals.by_id(tx, found.id)
        assert changed is not None
        return changed

    def remove(self, caller: Caller, wanted: str) -> Left:
        """Remove a principal with all that is its own, from its next request on; what it was granted elsewhere stays.

        Args:
            caller: an admin.
            wanted: the principal's id, e-mail address or name.

        Raises:
            NotAllowed: the caller is no admin, or nobody would be left who is.
            NotFound: there is no such principal.
        """
        caller.require_admin()
        context, now = self._context, self._context.clock()
        with context.database.transaction() as tx:
            found = self.find(tx, wanted)
            if found.role is Role.ADMIN:
                _keep_an_admin(tx)
            left = Left(
                principal=found,
                connections=len(connections.list_all(tx, found.vault_id)),
                runs=runs.count_live(tx, found.vault_id, now=now),
                identities=identities.revoke_all(tx, found.id, now=now),
            )
            principals.delete(tx, found)
            detail = f"{_known_as(found)}: {left.connections} connections, {left.identities} identities"
            audit.append(tx, self._entry(Event.PRINCIPAL_REMOVED, caller, detail))
        context.sealers.forget(found.vault_id)
        context.database.settle_log()  # where the vault's key would stay readable for a while
        context.database.forget_copies()
        return left

    def find(self, reader: Reader, wanted: str) -> Principal:
        """The principal of this id, e-mail address or name.

        Raises:
            NotFound: there is none.
            NotAllowed: several have this name.
        """
        fitting = [
            each
            for each in principals.list_all(reader)
            if wanted in {each.id, each.name} or (each.email is not None and each.email == wanted.lower())
        ]
        if not fitting:
            raise NotFound(f"there is no principal {wanted[:64]}", hint="`authsome admin principals list` shows them")
        exact = [each for each in fitting if wanted in {each.id, each.email}]
        if len(exact or fitting) > 1:
            raise NotAllowed(f"several principals are named {wanted[:64]}", hint="say its id or its e-mail address")
        return (exact or fitting)[0]

    def _entry(self, event: Event, caller: Caller, detail: str) -> Entry:
        return record.by_caller(event, caller, self._context.clock(), detail=detail)

    def _joined(self, made: Principal, detail: str) -> Entry:
        detail = f"{_known_as(made)}, {made.role}: {detail}"
        return record.by_principal(Event.JOIN, made, self._context.clock(), detail)


def _keep_an_admin(reader: Reader) -> None:
    if principals.count(reader, Role.ADMIN) <= 1:
        raise NotAllowed("there has to be an admin", hint="make another principal one first")


def _known_as(principal: Principal) -> str:
    return principal.email or principal.name
