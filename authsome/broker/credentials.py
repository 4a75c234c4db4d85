"""What happens to stored credentials: shown, exported, resolved for a request, chosen, forgotten.

Rule: a secret leaves only after the audit entry that says so is committed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import honeytokens, reach, record, routing
from authsome.broker.context import Context
from authsome.broker.explanation import Explanation
from authsome.broker.freshness import Freshness
from authsome.broker.refresh import Refresher, login_again
from authsome.errors import AuthsomeError, CredentialUnavailable, LoginRequired, NotAllowed, NotFound
from authsome.models import injection
from authsome.models.audit import Entry, Event
from authsome.models.connection import Connection, Secrets, Status
from authsome.models.notice import Notice, Occasion
from authsome.models.principal import Caller
from authsome.models.replacement import Replacement
from authsome.secret import Secret
from authsome.vault import audit, connections
from authsome.vault.connections import Search
from authsome.vault.database import Transaction

REUSABLE: Final = timedelta(seconds=5)
"""How long a proxy may use an answer again, if it hears of no change. Of a file that is edited by hand nobody hears:
that counts after so long at the latest."""
_NOT: Final = timedelta(0)
DEFAULT: Final = "-"
"""Stands for a provider's default connection where a name is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The head of a request that wants a credential: no query, no body."""

    method: str
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who wants a credential."""

    caller: Caller
    choice: routing.Choice = routing.DEFAULT_CHOICE
    """What the caller's run narrows its routes to."""
    run: str | None = None
    """The run's id, for the audit."""


Admit = Callable[[Transaction], Claimant]
"""Settles in the transaction of the act who wants it: spends the proof, or raises."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolved:
    """A connection and what its credential puts on the request; one object for all that were resolved alike together.

    It equals nothing but itself.
    """

    connection: Connection
    injected: injection.Injected
    stand_ins: tuple[tuple[str, Secret[str]], ...]
    """Placeholders, and what goes in their place where the child has put them on the request."""
    replacement: Replacement
    """Where that is done."""
    reusable: timedelta
    """How long the same question has the same answer, if nothing changes."""
    is_for_any_path: bool
    """Whether a question about another path of that host has, too."""
    caught: Caller | None = None
    """Who has used it, where it is a honeytoken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """A connection's plain fields, and the same as the variables that SDKs read."""

    connection: Connection
    fields: Secrets
    environment: Mapping[str, Secret[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that wants a credential, and whoever sends it."""

    admit: Admit
    """Settles who asks, inside the transaction that everything else happens in."""
    target: Target
    rejected: bool
    """Whether the API has just answered 401 to this credential."""
    again: Admit | None = None
    """The same after a wait, where a proof is spent by then: who may no longer act gets nothing. None: `admit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A token is to be refreshed first."""

    claimant: Claimant
    decision: routing.Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """There is no credential for this request."""

    error: AuthsomeError
    ended: Connection | None
    """The connection that has run out, if that is why."""


Outcome = Resolved | Stale | Denied
"""What a request gets, as far as the vault can tell."""


class Credentials:
    """The use cases around stored credentials."""

    def __init__(self, context: Context, refresher: Refresher, freshness: Freshness) -> None:
        self._context = context
        self._refresher = refresher
        self._freshness = freshness

    def list_all(self, caller: Caller) -> list[Connection]:
        """Every connection that the caller reaches."""
        with self._context.database.read() as reader:
            return reach.list_all(reader, caller)

    def search(self, caller: Caller, wanted: Search, *, limit: int, offset: int = 0) -> tuple[list[Connection], int]:
        """Some of the caller's connections that fit, and how many do."""
        with self._context.database.read() as reader:
            found = connections.search(reader, caller.vault_id, wanted, limit=limit, offset=offset)
            return found, connections.count(reader, caller.vault_id, wanted)

    def recent(self, caller: Caller, *, limit: int) -> list[Connection]:
        """The connections that the caller's principal used last."""
        with self._context.database.read() as reader:
            return connections.list_recent(reader, caller.vault_id, limit=limit)

    def count(self, caller: Caller) -> int:
        """How many connections the caller has, honeytokens among them."""
        with self._context.database.read() as reader:
            return connections.count(reader, caller.vault_id, Search(soon=self._context.clock()))

    def names_of(self, caller: Caller, provider: str) -> frozenset[str]:
        """What the caller's connections of one provider are called."""
        with self._context.database.read() as reader:
            return connections.names_of(reader, caller.vault_id, provider)

    def count_by_provider(self, caller: Caller) -> Mapping[str, int]:
        """How many connections the caller has of each provider, honeytokens not counted."""
        with self._context.database.read() as reader:
            return connections.count_by_provider(reader, caller.vault_id)

    def get(self, caller: Caller, provider: str, name: str) -> Connection:
        """One connection; `-` is the default one.

        Raises:
            ProviderNotFound: there is no such provider.
            ConnectionNotFound: there is no connection of that name.
        """
        with self._context.database.read() as reader:
            return reach.require(reader, self._context.catalog, caller, provider, None if name == DEFAULT else name)

    def field_names(self, connection: Connection) -> tuple[str, ...]:
        """The names of a connection's secret fields, none of which is opened for that."""
        with self._context.database.read() as reader:
            return connections.fields(reader, connection)

    def reveal(self, caller: Caller, provider: str, name: str, event: Event) -> Revealed:
        """The plain values, freshly refreshed, after `event` (export or show) is committed, durably.

        Raises:
            ProviderNotFound: there is no such provider.
            ConnectionNotFound: there is no such connection.
            LoginRequired, RefreshFailed: the credential cannot be used now.
            NotAllowed: the caller may send requests with some methods alone; who has the value sends what it likes.
        """
        caller.require_clear()
        context = self._context
        definition = context.catalog.get(provider)
        connection = self.get(caller, provider, name)
        if connection.status is Status.INVALID:
            raise LoginRequired(**login_again(connection))
        if self._freshness.use(connection, context.clock()):
            connection = self._refresher.fresh(caller, definition, connection, rejected=False)
        if not self._freshness.is_usable(connection, context.clock()):
            error = _expired(connection)
            context.notify(Notice.of(connection, Occasion.LOGIN_NEEDED, error))
            raise error
        with context.database.transaction(durable=True) as tx:
            # refreshed, or logged in anew, since it was read: of what is there now
            connection = connections.require(tx, caller.vault_id, provider, connection.name)
            held = connections.secrets(tx, context.sealers.for_vault(caller.vault_id), connection)
            audit.append(tx, record.about(event, caller, connection, context.clock()))
            if connection.is_honeytoken:
                audit.append(tx, record.about(Event.HONEYTOKEN, caller, connection, context.clock(), event.value))
        if connection.is_honeytoken:
            context.notify(honeytokens.used(connection, caller))
        environment = definition.export.values(connection.kind, held, connection.variables)
        return Revealed(connection=connection, fields=held, environment=environment)

    def resolve(self, question: Question) -> Resolved:
        """The credential for one request, with its audit entry committed.

        Raises:
            AuthenticationFailed: nobody who may ask.
            NotFound, RouteAmbiguous: no connection, or no single one, claims the request.
            CredentialUnavailable: it has expired, or could not be refreshed.
        """
        return self.settle(question, self._context.database.combined(self.attempt(question)))

    def attempt(self, question: Question) -> Callable[[Transaction], Outcome]:
        """What a request gets as far as the vault can tell, to be run by `Database.combined`."""

        def body(tx: Transaction) -> Outcome:
            claimant = question.admit(tx)
            return self._decide(tx, claimant, question.target, may_refresh=True, rejected=question.rejected)

        return body

    def settle(self, question: Question, outcome: Outcome) -> Resolved:
        """What a request gets in the end; waits for a provider where a token is to be refreshed first.

        Raises:
            as `resolve`.
        """
        if isinstance(outcome, Stale):
            claimant, decision = outcome.claimant, outcome.decision
            self._refresher.fresh(claimant.caller, decision.provider, decision.connection, rejected=question.rejected)
            outcome = self._context.database.combined(
                lambda tx: self._decide(
                    tx, (question.again or question.admit)(tx), question.target, may_refresh=False, rejected=False
                )
            )
        if isinstance(outcome, Denied):
            if outcome.ended is not None:
                self._context.notify(Notice.of(outcome.ended, Occasion.LOGIN_NEEDED, outcome.error))
            raise outcome.error
        assert isinstance(outcome, Resolved)
        if outcome.caught is not None:
            self._context.notify(honeytokens.used(outcome.connection, outcome.caught))
        return outcome

    def explain(self, caller: Caller, choice: routing.Choice, target: Target) -> Explanation:
        """What `resolve` would do, told and not done.

        Args:
            caller: who asks.
            choice: what a run of the caller's would be narrowed to.
            target: the request.
        """
        choice = replace(choice, limits=caller.limits)
        context, now = self._context, self._context.clock()
        with context.database.read() as reader:
            table = routing.table(reader, context.catalog, caller.vault_id, choice)
            opens = table.opens(target.host, target.port)
            naming = context.catalog.naming(target.host, target.port)
            stored = reach.providers(reader, caller, [provider.name for provider in naming])
            unconnected = tuple(
                sorted(
                    provider.name
                    for provider in naming
                    if provider.name not in stored
                    # by its definition alone: what a variable of a login may make of it, nobody knows yet
                    and any(pattern.matches_address(target.host, target.port) for pattern in provider.patterns({}))
                )
            )
            try:
                decision = routing.decide(
                    reader, context.catalog, caller.vault_id, choice,
                    host=target.host, port=target.port, path=target.path,
                )  # fmt: skip
            except NotFound:
                return Explanation(opens=opens, unconnected=unconnected)
            except AuthsomeError as error:
                return Explanation(opens=opens, unconnected=unconnected, problem=error)
        connection = decision.connection
        problem: AuthsomeError | None = None
        if not caller.limits.admits_method(target.method):
            problem = _method_refused(caller, target)
        elif connection.status is Status.INVALID:
            problem = LoginRequired(**login_again(connection))
        refreshes = problem is None and self._freshness.is_due(connection, now)
        if problem is None and not refreshes and not self._freshness.is_usable(connection, now):
            problem = _expired(connection)
        return Explanation(
            route=decision.route,
            connection=connection,
            rules=decision.rules,
            placeholders=tuple(decision.provider.replaced.placeholder_names(connection.kind)),
            replacement=decision.provider.replace,
            opens=opens,
            refreshes=refreshes,
            problem=problem,
        )

    def _decide(
        self, tx: Transaction, claimant: Claimant, target: Target, *, may_refresh: bool, rejected: bool
    ) -> Resolved | Stale | Denied:
        """What a request gets, with the entry that says so; an error is returned, for its entry is to be kept."""
        context, ended = self._context, None
        vault_id = claimant.caller.vault_id
        now = context.clock()
        try:
            decision = routing.decide(
                tx, context.catalog, vault_id, claimant.choice, host=target.host, port=target.port, path=target.path
            )
            connection = decision.connection
            if not claimant.choice.limits.admits_method(target.method):
                raise _method_refused(claimant.caller, target)
            if connection.status is Status.INVALID:
                raise LoginRequired(**login_again(connection))
            if (self._freshness.use(connection, now) or rejected) and may_refresh and not connection.is_honeytoken:
                return Stale(claimant=claimant, decision=decision)
            if not self._freshness.is_usable(connection, now):
                ended = connection
                raise _expired(connection)
            reusable = self._reusable(claimant.caller, connection, now)
            resolved = tx.once((decision, reusable), lambda: self._opened(tx, decision, reusable))
        except AuthsomeError as error:
            audit.append(tx, _request_entry(Event.DENIED, claimant, target, now, detail=error.message))
            return Denied(error=error, ended=ended)
        audit.append(tx, _request_entry(Event.RESOLVE, claimant, target, now, connection=connection))
        if connection.is_honeytoken:
            audit.append(tx, _request_entry(Event.HONEYTOKEN, claimant, target, now, connection=connection))
            return replace(resolved, caught=claimant.caller)
        return resolved

    def _opened(self, tx: Transaction, decision: routing.Decision, reusable: timedelta) -> Resolved:
        """What a connection's secrets put on a request."""
        connection, export = decision.connection, decision.provider.replaced
        held = connections.secrets(tx, self._context.sealers.for_vault(connection.vault_id), connection)
        injected = injection.apply(decision.rules, held, also=export.hidden_names)
        return Resolved(
            connection=connection,
            injected=injected,
            stand_ins=export.stand_ins(connection.kind, held, connection.variables),
            replacement=decision.provider.replace,
            reusable=_NOT if injected.path else reusable,
            is_for_any_path=decision.is_for_any_path,
        )

    def _reusable(self, caller: Caller, connection: Connection, now: datetime) -> timedelta:
        """For how long time alone changes nothing: neither the token ends, nor the caller's own time.

        Of a decoy each use is asked for, as it is for a secret that goes into the path: that tells nobody what it is.
        """
        if connection.is_honeytoken:
            return _NOT
        end = caller.limits.expires_at
        most = REUSABLE if end is None else min(REUSABLE, end - now)
        return self._freshness.lasts(connection, now, at_most=most)

    def refresh(self, caller: Caller, provider: str, name: str) -> Connection:
        """Refresh a connection's token now, though it may be good still; once a minute at most.

        Raises:
            ProviderNotFound: there is no such provider.
            ConnectionNotFound: there is no such connection.
            LoginRequired, RefreshFailed: it could not be refreshed.
            CredentialUnavailable: there is nothing to refresh it with.
        """
        caller.require_wide()
        connection = self.get(caller, provider, name)
        if connection.status is Status.INVALID:
            raise LoginRequired(**login_again(connection))
        if not connection.has_refresh_token:
            raise CredentialUnavailable("nothing renews this connection", hint=login_again(connection)["hint"])
        return self._refresher.fresh(caller, self._context.catalog.get(provider), connection, rejected=True)

    def logout(self, caller: Caller, provider: str, name: str) -> Connection:
        """Forget one connection here; what the provider granted lives on until it is revoked there.

        Raises:
            ProviderNotFound: there is no such provider.
            ConnectionNotFound: there is no such connection.
            NotAllowed: the caller is limited in what it uses.
        """
        caller.require_wide()
        with self._context.database.transaction(durable=True) as tx:
            connection = reach.require(tx, self._context.catalog, caller, provider, None if name == DEFAULT else name)
            connections.delete(tx, connection)
            audit.append(tx, record.about(Event.LOGOUT, caller, connection, self._context.clock()))
        return connection

    def set_default(self, caller: Caller, provider: str, name: str) -> Connection:
        """Make a connection the one that is used when none is named.

        Raises:
            ProviderNotFound: there is no such provider.
            ConnectionNotFound: there is no such connection.
            NotAllowed: the caller is limited in what it uses.
        """
        caller.require_wide()
        with self._context.database.transaction(durable=True) as tx:
            connection = reach.require(tx, self._context.catalog, caller, provider, name)
            connections.set_default(tx, connection)
            audit.append(tx, record.about(Event.SET_DEFAULT, caller, connection, self._context.clock()))
            return reach.require(tx, self._context.catalog, caller, provider, name)


def _method_refused(caller: Caller, target: Target) -> NotAllowed:
    allowed = ", ".join(sorted(caller.limits.methods or ()))
    return NotAllowed(
        f"the identity {caller.handle} may not send {target.method} requests with a credential",
        hint=f"it is limited to {allowed}; its owner may change that: authsome identity limit",
    )


def _expired(connection: Connection) -> AuthsomeError:
    message = f"the login {connection.name} of {connection.provider} has expired and cannot be refreshed"
    return CredentialUnavailable(message, hint=login_again(connection)["hint"])


def _request_entry(  # noqa: PLR0913  # one line of the log
    event: Event,
    claimant: Claimant,
    target: Target,
    now: datetime,
    *,
    connection: Connection | None = None,
    detail: str | None = None,
) -> Entry:
    return record.by_caller(
        event,
        claimant.caller,
        now,
        provider=connection.provider if connection else None,
        connection=connection.name if connection else None,
        method=target.method,
        host=target.host,
        path=target.path,
        run=claimant.run,
        detail=detail,
    )
