"""Claims: an identity asks to be bound to a principal, and a signed-in principal answers.

Rule: the one who asks cannot answer. The question has a token, told once to the asker and carried by a person to a
browser; the answer needs a principal who is signed in there. It is good once, for the key that asked, and not for long.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from authsome.broker.context import Context
from authsome.broker.identities import describe
from authsome.errors import NotAllowed, NotFound
from authsome.models.audit import Entry, Event
from authsome.models.limits import UNLIMITED, Limits
from authsome.models.principal import Caller, Claim, Identity, Principal, Role
from authsome.secret import Secret
from authsome.vault import audit, claims, identities, principals
from authsome.vault.database import Reader, Transaction

LIFETIME: Final = timedelta(minutes=15)  # to find a browser, sign in, and compare a fingerprint
MOST_WAITING: Final = 32  # of some 256 connections
CLAIM_PATH: Final = "/claim/"
_LOOK: Final = 1.0  # seconds: another daemon may have taken the answer, and nobody tells us


class ClaimState(StrEnum):
    """What became of an identity's question."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    REFUSED = "refused"
    EXPIRED = "expired"
    """Nobody answered in time, or nothing was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A new question: its token is told once, here."""

    claim: Claim
    token: Secret[str]


class Claims:
    """The use cases around claims."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._changed = threading.Condition()
        self._waiting: set[str] = set()
        """Handles of those for whom a thread waits."""

    def ask(self, identity: Identity) -> Asked:
        """Ask for an identity to be claimed; the question that it had is void.

        Raises:
            NotAllowed: it is claimed.
        """
        now = self._context.clock()
        token = Secret(secrets.token_urlsafe(32))
        claim = Claim(handle=identity.handle, did=identity.did, created_at=now, expires_at=now + LIFETIME)
        with self._context.database.transaction() as tx:
            known = identities.by_handle(tx, identity.handle)
            if known is None or known.did != identity.did or known.revoked_at is not None:
                raise NotAllowed("this identity cannot be claimed", hint="make a new one: authsome identity create")
            if known.principal_id is not None:
                raise NotAllowed(f"the identity {identity.handle} is claimed already", hint="see `authsome whoami`")
            claims.put(tx, claim, token)
        return Asked(claim=claim, token=token)

    def state(self, reader: Reader, identity: Identity) -> ClaimState:
        """What became of an identity's question."""
        known = identities.by_handle(reader, identity.handle)
        if known is None or known.did != identity.did or known.revoked_at is not None:
            return ClaimState.EXPIRED
        if known.principal_id is not None:
            return ClaimState.CLAIMED
        claim = claims.by_handle(reader, identity.handle)
        if claim is None or claim.did != identity.did or claim.expires_at <= self._context.clock():
            return ClaimState.EXPIRED
        return ClaimState.REFUSED if claim.was_refused else ClaimState.WAITING

    def wait(self, identity: Identity, patience: timedelta, stop: threading.Event) -> ClaimState:
        """The same as soon as it is something else than waiting, or when `patience` or the daemon ends.

        At once, where the identity waits already, or too many do: nobody has let them in, and each takes a thread.
        """
        deadline = time.monotonic() + patience.total_seconds()
        with self._changed:
            waits = identity.handle not in self._waiting and len(self._waiting) < MOST_WAITING
            if waits:
                self._waiting.add(identity.handle)
            try:
                while True:
                    with self._context.database.read() as reader:
                        state = self.state(reader, identity)
                    left = deadline - time.monotonic()
                    if state is not ClaimState.WAITING or left <= 0 or stop.is_set() or not waits:
                        return state
                    self._changed.wait(min(left, _LOOK))
            finally:
                if waits:
                    self._waiting.discard(identity.handle)

    def find(self, token: Secret[str]) -> Claim:
        """The open question that a link belongs to, for the page that shows it.

        Raises:
            NotFound: there is none, it was answered, or it has expired.
        """
        with self._context.database.read() as reader:
            return self._open(reader, token)

    def list_open(self, caller: Caller, *, limit: int) -> list[Claim]:
        """The questions that wait for an answer, newest first. Their links are known to who asked alone.

        Raises:
            NotAllowed: the caller is no admin: whoever asks is nobody's yet, and its handle nobody's business.
        """
        caller.require_admin()
        with self._context.database.read() as reader:
            return claims.list_open(reader, now=self._context.clock(), limit=limit)

    def candidates(self, principal: Principal, *, limit: int) -> list[Principal]:
        """Some of those whom a principal may bind an identity to: itself; for an admin, also those of programs."""
        if principal.role is not Role.ADMIN:
            return [principal]
        with self._context.database.read() as reader:
            return [principal, *principals.of_programs(reader, limit=limit - 1)]

    def confirm(
        self, principal: Principal, token: Secret[str], limits: Limits = UNLIMITED, *, owner: str | None = None
    ) -> Identity:
        """Bind the identity that asked to a principal, within limits.

        Args:
            principal: who is signed in and answers.
            token: of the question.
            limits: what the identity may not do although its principal may.
            owner: id or name of one of `candidates`, where it is not the answering one.

        Raises:
            NotFound: there is no open question of this token.
            NotAllowed: the identity may not be bound to `owner` by this one.
        """
        now = self._context.clock()
        with self._answering() as tx:
            found = _owner(tx, principal, owner)
            claim = self._open(tx, token)
            identities.claim(tx, handle=claim.handle, principal_id=found.id)
            identities.limit(tx, handle=claim.handle, limits=limits)
            claims.delete(tx, claim.handle)
            entry = _entry(Event.CLAIM, principal, found, claim=claim, now=now)
            audit.append(tx, replace(entry, detail=describe(limits)))
            identity = identities.by_handle(tx, claim.handle)
        assert identity is not None
        return identity

    def refuse(self, principal: Principal, token: Secret[str]) -> None:
        """Answer no, which whoever asked is told.

        Raises:
            NotFound: there is no open question of this token.
        """
        now = self._context.clock()
        with self._answering() as tx:
            claim = self._open(tx, token)
            claims.refuse(tx, claim.handle, now=now)
            audit.append(tx, _entry(Event.CLAIM_REFUSED, principal, principal, claim=claim, now=now))

    @contextmanager
    def _answering(self) -> Iterator[Transaction]:
        """A transaction after which those who wait are told."""
        with self._context.database.transaction() as tx:
            yield tx
        with self._changed:
            self._changed.notify_all()

    def _open(self, reader: Reader, token: Secret[str]) -> Claim:
        claim = claims.by_token(reader, token)
        known = None if claim is None else identities.by_handle(reader, claim.handle)
        if (
            claim is None
            or known is None
            or claim.was_refused
            or claim.expires_at <= self._context.clock()
            or known.did != claim.did
            or known.revoked_at is not None
            or known.principal_id is not None
        ):
            raise NotFound("this link has been used, or is too old", hint="ask again: authsome identity claim")
        return claim


def _owner(reader: Reader, principal: Principal, wanted: str | None) -> Principal:
    """Whom an identity is to be bound to: who answers, or one of the programs' that an admin names."""
    if wanted in {None, principal.id}:
        return principal
    found = principals.of_program(reader, wanted) if principal.role is Role.ADMIN else None
    if found is None:
        raise NotAllowed("an identity cannot be claimed for this principal", hint="choose yourself, or a program's")
    return found


def _entry(event: Event, principal: Principal, owner: Principal, *, claim: Claim, now: datetime) -> Entry:
    return Entry(event=event, at=now, vault_id=owner.vault_id, principal=principal.id, identity=claim.handle)
