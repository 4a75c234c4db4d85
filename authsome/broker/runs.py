"""Runs: one child behind the proxy, known to the daemon by a secret that dies with it.

Rule: a run acts for the identity that began it, and only as long as that identity may act itself.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from authsome.broker import reach, record, routing
from authsome.broker.context import Context
from authsome.broker.identities import Identities
from authsome.errors import AuthenticationFailed, ConnectionNotFound, NotAllowed, NotFound
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller
from authsome.models.route import RouteTable
from authsome.models.run import Run
from authsome.secret import Secret
from authsome.vault import audit, runs
from authsome.vault.database import Reader, Transaction

LONGEST: Final = timedelta(days=30)  # a run whose worker was killed ends by its time, and only by that
RETENTION: Final = timedelta(hours=1)  # an ended run's row serves nobody; the audit has what happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A new run: its secret is told once, here."""

    run: Run
    secret: Secret[str]
    routes: RouteTable
    environment: Mapping[str, str]
    """Placeholders, by variable."""


class Runs:
    """The use cases around runs."""

    def __init__(self, context: Context, identities: Identities) -> None:
        self._context = context
        self._identities = identities

    def begin(
        self,
        caller: Caller,
        choice: routing.Choice,
        *,
        lifetime: timedelta | None = None,
        inside: str | None = None,
        command: str | None = None,
    ) -> Begun:
        """Begin a run for the caller.

        Args:
            caller: the run's identity.
            choice: what its routes are narrowed to.
            lifetime: how long the run may get credentials; None for as long as the child lives, or `LONGEST`.
            inside: the run that this one is begun in: it may use no more than that one, and no longer.
            command: the child's program, by its name alone (`is_command`).

        Raises:
            NotAllowed: it would, or that run is over or another identity's; or nobody but a principal is there to act.
            ProviderNotFound: a provider named in `choice` does not exist.
            ConnectionNotFound: it exists, but not that connection of it.
        """
        context = self._context
        if caller.handle is None:
            raise NotAllowed("a run needs an identity")
        now = context.clock()
        latest = now + min(lifetime or LONGEST, LONGEST)
        latest = min(latest, caller.limits.expires_at or latest)
        choice = replace(choice, limits=caller.limits)
        with context.database.read() as reader:
            self.check_choice(reader, caller, choice)
            if inside is not None:
                outer = self._outer(reader, caller, inside)
                choice, latest = (
                    choice.within(routing.choice_of(outer, caller.limits)),
                    min(latest, outer.expires_at or latest),
                )
        secret = secrets.token_urlsafe(32)
        run = Run(
            id=secrets.token_hex(8),
            secret_hash=hashlib.sha256(secret.encode()).digest(),
            vault_id=caller.vault_id,
            identity=caller.handle,
            pinned=dict(choice.pinned),
            only=choice.only,
            created_at=now,
            expires_at=latest,
            ended_at=None,
            inside=inside,
            command=command,
        )
        with context.database.transaction(durable=False) as tx:
            runs.purge(tx, before=now - RETENTION)
            runs.create(tx, run)
            routes = routing.table(tx, context.catalog, caller.vault_id, choice)
            environment = self._environment(tx, caller, choice)
            audit.append(tx, replace(self._entry(Event.RUN, run, caller), detail=command))
        return Begun(run=run, secret=Secret(secret), routes=routes, environment=environment)

    def check_choice(self, reader: Reader | Transaction, caller: Caller, choice: routing.Choice) -> None:
        """Check that all a run is to be narrowed to is there.

        Raises:
            ProviderNotFound: a provider does not exist.
            ConnectionNotFound: it exists, but not that connection of it.
        """
        for provider in sorted({*choice.pinned, *choice.only}):
            self._context.catalog.get(provider)
        for provider, name in choice.pinned.items():
            reach.require(reader, self._context.catalog, caller, provider, name)
        for provider in choice.only:
            if not reach.list_of(reader, caller, provider):
                raise ConnectionNotFound(
                    f"{provider} is not connected", hint=f"log in first: authsome login {provider}"
                )

    def routes(self, caller: Caller, run: Run | None) -> RouteTable:
        """The routes as of now: of a run, or of all that its caller reaches."""
        limits = caller.limits
        choice = routing.Choice(pinned={}, limits=limits) if run is None else routing.choice_of(run, limits)
        with self._context.database.read() as reader:
            return routing.table(reader, self._context.catalog, caller.vault_id, choice)

    def prove(self, reader: Reader | Transaction, run_id: str, secret: Secret[str]) -> tuple[Run, Caller]:
        """The live run that this secret belongs to, and whom it acts for.

        Raises:
            AuthenticationFailed: there is none, it has ended, or its identity may no longer act.
        """
        run = runs.get(reader, run_id)
        given = hashlib.sha256(secret.reveal().encode()).digest()
        if run is None or not hmac.compare_digest(run.secret_hash, given):
            raise AuthenticationFailed(reason="unknown run or wrong secret")
        if self._is_over(run):
            raise AuthenticationFailed(reason="the run has ended")
        caller = self._identities.caller(reader, run.identity)
        if caller is None:
            raise AuthenticationFailed(reason="the run's identity may no longer act")
        return run, caller

    def list_live(self, caller: Caller, *, limit: int, offset: int = 0) -> list[Run]:
        """Some of the caller's runs that may still get credentials, newest first.

        Raises:
            NotAllowed: the caller is limited, and runs of others are none of its business.
        """
        caller.require_unlimited()
        with self._context.database.read() as reader:
            return runs.list_live(reader, caller.vault_id, now=self._context.clock(), limit=limit, offset=offset)

    def count_live(self, caller: Caller) -> int:
        """How many runs of the caller's vault may still get credentials.

        Raises:
            NotAllowed: as `list_live`.
        """
        caller.require_unlimited()
        with self._context.database.read() as reader:
            return runs.count_live(reader, caller.vault_id, now=self._context.clock())

    def stop(self, caller: Caller, run_id: str) -> Run:
        """End a run from outside of it: its command goes on, and gets no further credential.

        Raises:
            NotAllowed: the caller is limited, and the run another identity's.
            NotFound: there is no such run of the caller's that has not ended.
        """
        with self._context.database.transaction() as tx:
            run = runs.get(tx, run_id)
            if run is None or run.vault_id != caller.vault_id or self._is_over(run):
                raise NotFound("this run has ended, or there is none")
            if run.identity != caller.handle:
                caller.require_unlimited()
            self._end(tx, run, caller)
        return run

    def end(self, run: Run, caller: Caller) -> None:
        """Make the run's secret worthless, and those of the runs that were begun in it."""
        with self._context.database.transaction(durable=False) as tx:
            self._end(tx, run, caller)

    def _end(self, tx: Transaction, run: Run, caller: Caller) -> None:
        ending = [run]
        for each in ending:  # which grows by what was begun in it, however deep that goes
            ending += runs.begun_in(tx, each.id)
        for each in reversed(ending):
            if runs.end(tx, each.id, now=self._context.clock()):
                audit.append(tx, self._entry(Event.RUN_ENDED, each, caller))

    def _outer(self, reader: Reader, caller: Caller, run_id: str) -> Run:
        """The live run that a new one is begun in."""
        run = runs.get(reader, run_id)
        if run is None or run.vault_id != caller.vault_id or self._is_over(run):
            raise NotAllowed(
                "the run that this one is begun in is over",
                hint="begin it outside of that run, or unset AUTHSOME_RUN if you are",
            )
        if run.identity != caller.handle:  # whose limits might be wider, now or later
            raise NotAllowed(
                f"the run that this one is begun in is of the identity {run.identity}",
                hint=f"begin it outside of that run, or as {run.identity}",
            )
        return run

    def _is_over(self, run: Run) -> bool:
        return run.ended_at is not None or (run.expires_at is not None and run.expires_at <= self._context.clock())

    def _environment(self, tx: Transaction, caller: Caller, choice: routing.Choice) -> dict[str, str]:
        placeholders: dict[str, str] = {}
        for connection in reach.list_all(tx, caller):
            provider = self._context.catalog.find(connection.provider)
            if provider is None or choice.connection(provider.name, [connection]) is None:
                continue
            for variable, placeholder in provider.export.placeholders(connection.kind, connection.variables).items():
                placeholders.setdefault(variable, placeholder)
        return placeholders

    def _entry(self, event: Event, run: Run, caller: Caller) -> Entry:
        return record.by_caller(event, caller, self._context.clock(), run=run.id)
