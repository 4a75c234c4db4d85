"""Keeping an access token fresh: one request at a time for each connection, and never a login lost to a failure.

Rules:
1. The decision is taken inside the connection's lock, from what is stored then: a lock among the threads of this
   process, and a lease in the database among the processes that share one (`vault/refreshes.py`).
2. New tokens are durable before anybody uses them; between the provider's answer and the transaction that stores it
   there is nothing. Tokens that could not be stored are kept in memory and stored by the next attempt.
3. A refresh ends in one of three ways: done, transient (the secrets are untouched, tried again after a pause), or final
   (the provider said invalid_grant: the record is kept and marked, and nobody asks again).
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import discovery, oauth_clients, record
from authsome.broker.context import Context
from authsome.broker.freshness import Freshness, Key, key_of
from authsome.errors import (
    AuthsomeError,
    ClientRefused,
    DaemonUnavailable,
    EndpointRefused,
    EndpointUnreachable,
    LoginRequired,
    RefreshFailed,
)
from authsome.models.audit import Event
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Connection, Secrets, Status
from authsome.models.login import Flow
from authsome.models.notice import Notice, Occasion
from authsome.models.principal import Caller
from authsome.models.provider import OAuth, Provider
from authsome.models.variable import BASE_URL
from authsome.oauth import token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret
from authsome.vault import audit, connections, refreshes
from authsome.vault.database import Reader
from authsome.vault.vaults import Sealer

FORCED_PAUSE: Final = timedelta(seconds=60)  # an API that says 401 to a fresh token will say it again
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=5)
STORE_PAUSE: Final = timedelta(seconds=5)  # between attempts to store what the provider has given already
RESERVE: Final = timedelta(seconds=10)  # a token that has this much left is used while another caller refreshes it
_OF_ITS_OWN: Final = frozenset({Flow.CLIENT_CREDENTIALS.value})
"""The flows whose logins no other flow mends: a user's tokens are not what a client got for itself."""
_POLL: Final = (0.02, 0.25)  # seconds between looks whether another process is done: the first, and the longest

Wanted = Callable[[Connection, datetime], bool]
"""Whether what is stored is to be refreshed."""

Stands = Callable[[Connection], bool]
"""Whether what is stored is to be left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unstored:
    """Tokens that the provider gave and the disk would not take."""

    revision: int
    tokens: token.Tokens


@dataclass(slots=True)
class _Turn:
    """One connection's lock, and how long to leave its provider alone after failures."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    failures: int = 0
    not_before: float = 0.0
    """On the steady clock."""
    cause: str = ""
    unstored: _Unstored | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to deal with a connection's provider, and what it takes."""

    lease: refreshes.Lease
    held: Secrets
    client: ClientCredentials


class Refresher:
    """Refreshes connections; its only state is a lock and a pause for each connection that needs one."""

    def __init__(self, context: Context, freshness: Freshness) -> None:
        self._context = context
        self._freshness = freshness
        self._owner = secrets.token_hex(8)
        self._turns: dict[Key, _Turn] = {}
        self._guard = threading.Lock()

    def recover(self) -> None:
        """Void the claims that killed daemons have left; only for a daemon that is alone on its database."""
        with self._context.database.transaction(durable=False) as tx:
            refreshes.abandon_all(tx)

    def fresh(self, caller: Caller, provider: Provider, connection: Connection, *, rejected: bool) -> Connection:
        """The connection with a token that can be used now; waits while another caller refreshes it.

        Args:
            caller: on whose behalf.
            provider: the connection's provider.
            connection: as it was read.
            rejected: the API has just answered 401 to it, so refresh although it seems valid (once a minute at most).

        Raises:
            LoginRequired: the provider no longer accepts the refresh token.
            RefreshFailed: it could not be refreshed just now and the old token has expired.
            DaemonUnavailable: the vault cannot be written: the provider was not asked, or what it said is kept.
            ConnectionNotFound: it was logged out meanwhile.
        """

        def is_wanted(current: Connection, now: datetime) -> bool:
            return self._freshness.is_due(current, now) or (rejected and _may_force(current, now))

        spare = None if rejected else connection
        with self._turn(connection, spare) as turn:
            if turn is None:
                return connection
            return self._refreshed(caller, provider, connection, turn, is_wanted)

    def renew(self, connection: Connection) -> timedelta | None:
        """Refresh ahead of time, on nobody's behalf; the pause before the next attempt when this one failed.

        Raises:
            AuthsomeError: there is nothing to be tried again: logged out, marked, or without a definition.
        """

        def is_wanted(current: Connection, now: datetime) -> bool:
            return current.revision == connection.revision and self._freshness.is_due(current, now, ahead=True)

        provider = self._context.catalog.get(connection.provider)
        with self._turn(connection) as turn:
            assert turn is not None
            with suppress(RefreshFailed, DaemonUnavailable):  # told where it was met
                self._refreshed(None, provider, connection, turn, is_wanted)
            if turn.unstored is not None:
                return STORE_PAUSE
            return timedelta(seconds=self._pause_left(turn)) if turn.failures else None

    @contextmanager
    def alone_with(self, connection: Connection) -> Iterator[Claim]:
        """Keep everybody from refreshing a connection meanwhile; its newest secrets are in the claim.

        Raises:
            ConnectionNotFound: it was logged out meanwhile.
        """
        with self._turn(connection) as turn:
            assert turn is not None
            while not isinstance(claim := self._claim(connection, lambda _: False), Claim):
                self._await_other(connection)
            unstored = turn.unstored
            if unstored is not None and unstored.revision == claim.lease.connection.revision:
                claim = replace(claim, held=_renewed(claim.held, unstored.tokens))
            try:
                yield claim
            finally:
                with self._context.database.transaction(durable=False) as tx:
                    refreshes.end(tx, claim.lease)

    def _refreshed(
        self, caller: Caller | None, provider: Provider, connection: Connection, turn: _Turn, is_wanted: Wanted
    ) -> Connection:
        """The connection refreshed; as it is when that is not wanted, or failed while it can still be used."""
        if self._pause_left(turn):
            with self._context.database.read() as reader:
                current = connections.require(reader, *key_of(connection))
            if self._stands(current, is_wanted):
                return current
            return self._unrefreshed(current, EndpointUnreachable(turn.cause))
        while True:
            try:
                claim = self._claim(connection, lambda current: self._stands(current, is_wanted))
            except DaemonUnavailable as error:
                return self._unrefreshed(connection, error)
            if isinstance(claim, Connection):
                return claim
            if claim is None:
                self._await_other(connection)
                continue
            try:
                return self._ask(caller, provider, claim, turn)
            except (EndpointUnreachable, EndpointRefused, DaemonUnavailable) as error:
                return self._unrefreshed(claim.lease.connection, error)

    def _pause_left(self, turn: _Turn) -> float:
        """Seconds until the provider may be asked again."""
        return max(0.0, turn.not_before - self._context.steady())

    def _stands(self, current: Connection, is_wanted: Wanted) -> bool:
        """Whether what is stored is to be left as it is."""
        if current.status is Status.INVALID:
            raise LoginRequired(**login_again(current))
        return not is_wanted(current, self._context.clock())

    def _claim(self, connection: Connection, stands: Stands) -> Claim | Connection | None:
        """The claim; the connection when there is nothing to do; None while another process is at it."""
        context = self._context
        with context.database.transaction(durable=False) as tx:
            current = connections.require(tx, *key_of(connection))
            if stands(current):
                return current
            lease = refreshes.take(tx, current, self._owner, now=context.clock())
            if lease is None:
                return None
            sealer = context.sealers.for_vault(current.vault_id)
            held = connections.secrets(tx, sealer, current)
            return Claim(lease=lease, held=held, client=self._client(tx, sealer, current, held))

    def _client(self, reader: Reader, sealer: Sealer, current: Connection, held: Secrets) -> ClientCredentials:
        """The client that a connection was granted to: its own, or the one that its server knows."""
        own = ClientCredentials.held_in(held)
        provider = None if own else self._context.catalog.find(current.provider)
        client = oauth_clients.find(reader, sealer, provider, current.variables, current.flow) if provider else None
        return own or (ClientCredentials.of(client) if client else ClientCredentials(client_id=""))

    def _await_other(self, connection: Connection) -> None:
        """Wait until another process has refreshed a connection, or its claim is over."""
        pause, longest = _POLL
        deadline = time.monotonic() + refreshes.LENGTH.total_seconds()
        while time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
            with self._context.database.read() as reader:
                if not refreshes.is_taken(reader, connection, now=self._context.clock()):
                    return

    def _unrefreshed(self, current: Connection, error: AuthsomeError) -> Connection:
        """A connection whose refresh failed: served while its token is valid, so the next request tries again."""
        if self._freshness.is_usable(current, self._context.clock()):
            return current
        if isinstance(error, DaemonUnavailable):
            raise error
        raise RefreshFailed(f"{current.provider}: the token has expired and {error.message}") from error

    def _ask(self, caller: Caller | None, provider: Provider, claim: Claim, turn: _Turn) -> Connection:
        """Get new tokens and store them, or settle why there are none."""
        assert provider.oauth is not None
        lease, connection = claim.lease, claim.lease.connection
        try:
            oauth = self._endpoints(provider.oauth, lease)
            if turn.unstored is None or turn.unstored.revision != connection.revision:
                tokens = self._request(provider, oauth, claim)
                turn.unstored = _Unstored(revision=connection.revision, tokens=tokens)
            stored = self._store(caller, oauth, claim, turn.unstored.tokens)
        except LoginRequired as error:
            raise self._give_up(caller, lease, error) from error
        except (EndpointUnreachable, EndpointRefused) as error:
            discovery.forget(self._context, connection, provider.oauth)
            self._pause(caller, lease, turn, error)
            raise
        except DaemonUnavailable:  # whatever was answered is in the turn, and the claim stays ours
            raise
        except AuthsomeError:
            turn.unstored = None
            with self._context.database.transaction(durable=False) as tx:
                refreshes.end(tx, lease)
            raise
        turn.failures, turn.not_before, turn.unstored = 0, 0.0, None
        return stored

    def _endpoints(self, oauth: OAuth, lease: refreshes.Lease) -> OAuth:
        """Where to ask; what its issuer has to say first is no part of the refresh, however it ends."""
        context, connection = self._context, lease.connection
        if not oauth.needs_discovery:
            return oauth.resolved(connection.variables)
        try:
            found = discovery.remembered(context, connection, oauth)
        except EndpointUnreachable as error:
            error.unanswered = False
            raise
        with context.database.transaction(durable=False) as tx:  # that took its time: claim a whole term anew
            if refreshes.take(tx, connection, lease.owner, now=context.clock()) is None:
                raise EndpointUnreachable("another process has taken over the refresh")
        return found.resolved(connection.variables)

    def _request(self, provider: Provider, oauth: OAuth, claim: Claim) -> token.Tokens:
        context, held = self._context, claim.held
        refresh_token = held.get(REFRESH_TOKEN)
        if refresh_token is not None:
            # No scope is asked for: the same ones are meant (RFC 6749 §6), however the provider spells them.
            request = token.refresh_request(oauth, claim.client, refresh_token=refresh_token, scopes=())
        else:
            scopes = claim.lease.connection.scopes
            request = token.client_credentials_request(oauth, claim.client, scopes=scopes)
        response = context.send(request, provider.allow_private_addresses)
        sent = (refresh_token or Secret(""), held[ACCESS_TOKEN], claim.client.client_secret or Secret(""))
        try:
            return token.parse_token_response(response, oauth, now=context.clock(), sent=sent)
        except ClientRefused as error:
            if refresh_token is None:  # the client is the account: when it is not taken, no grant is left
                raise LoginRequired(error.message) from error
            raise

    def _store(self, caller: Caller | None, oauth: OAuth, claim: Claim, tokens: token.Tokens) -> Connection:
        context, connection = self._context, claim.lease.connection
        granted = tokens.scopes if tokens.scopes is not None else connection.scopes
        dropped = sorted(set(connection.scopes) - set(granted))
        with context.database.transaction(durable=True) as tx:
            now = context.clock()
            stored = connections.update_tokens(
                tx,
                context.sealers.for_vault(connection.vault_id),
                connection,
                secrets=_renewed(claim.held, tokens),
                expires_at=tokens.expires_at,
                scopes=granted,
                now=now,
            )
            refreshes.end(tx, claim.lease)
            if stored is not None:
                detail = "scopes no longer granted: " + oauth.scope_separator.join(dropped) if dropped else None
                audit.append(tx, record.about(Event.REFRESH, caller, connection, now, detail))
            else:  # logged out or logged in anew meanwhile: a late answer must not resurrect it
                stored = connections.require(tx, *key_of(connection))
        if stored.expires_at is not None:
            self._freshness.learn(stored, now)
        return stored

    def _give_up(self, caller: Caller | None, lease: refreshes.Lease, error: AuthsomeError) -> LoginRequired:
        """Mark the connection; the error that says why, all of it."""
        context, connection, problem = self._context, lease.connection, error.message
        if lease.lost is not None:
            problem += f"; a refresh at {lease.lost.at:%Y-%m-%d %H:%M:%S} UTC was cut short: {lease.lost.how}"
        with context.database.transaction(durable=True) as tx:
            now = context.clock()
            marked = connections.mark_invalid(tx, connection, problem=problem, now=now)
            refreshes.end(tx, lease)
            if marked:
                audit.append(tx, record.about(Event.REFRESH_FAILED, caller, connection, now, f"final: {problem}"))
        told = LoginRequired(**login_again(connection, problem))
        if marked:
            context.notify(Notice.of(connection, Occasion.LOGIN_NEEDED, told))
        return told

    def _pause(self, caller: Caller | None, lease: refreshes.Lease, turn: _Turn, error: AuthsomeError) -> None:
        """Leave the provider alone for a while, as long as it asked for, and longer after each failure."""
        context, connection = self._context, lease.connection
        asked = getattr(error, "retry_after", None) or timedelta(0)
        backoff = min(FIRST_PAUSE * 2 ** min(turn.failures, 10), LONGEST_PAUSE)
        turn.failures += 1
        turn.not_before = context.steady() + max(asked, backoff).total_seconds()
        turn.cause = error.message
        is_unanswered = isinstance(error, EndpointUnreachable) and error.unanswered
        lost = refreshes.Lost(at=lease.began_at, how=error.message) if is_unanswered else lease.lost
        with context.database.transaction(durable=True) as tx:
            now = context.clock()
            connections.note_problem(tx, connection, error.message)
            if lost is None:
                refreshes.end(tx, lease)
            else:
                refreshes.leave(tx, lease, lost)
            audit.append(tx, record.about(Event.REFRESH_FAILED, caller, connection, now, f"transient: {error.message}"))
        if not self._freshness.is_usable(connection, now):
            context.notify(Notice.of(connection, Occasion.ERROR, error))

    @contextmanager
    def _turn(self, connection: Connection, spare: Connection | None = None) -> Iterator[_Turn | None]:
        """The connection's turn, waited for; None when another has it and `spare` can be used meanwhile."""
        key = key_of(connection)
        with self._guard:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            if not turn.lock.acquire(blocking=False):
                if spare is not None and self._freshness.left(spare, self._context.clock()) > RESERVE:
                    yield None
                    return
                turn.lock.acquire()
            try:
                yield turn
            finally:
                turn.lock.release()
        finally:
            with self._guard:
                turn.users -= 1
                if turn.users == 0 and turn.failures == 0 and turn.unstored is None:
                    self._turns.pop(key, None)


def _renewed(held: Secrets, tokens: token.Tokens) -> Secrets:
    """A connection's fields after a refresh; without a new refresh token the old one stays (RFC 6749 §6).

    A client that comes for itself has none, and needs none (§4.4.3).
    """
    renewed = {**held, ACCESS_TOKEN: tokens.access_token}
    if REFRESH_TOKEN in held and tokens.refresh_token is not None:
        renewed[REFRESH_TOKEN] = tokens.refresh_token
    return renewed


def login_again(connection: Connection, problem: str | None = None) -> dict[str, str]:
    """The message and the hint for a connection whose login the provider no longer accepts."""
    suffix = "" if connection.is_default else f" --connection {connection.name}"
    if connection.flow in _OF_ITS_OWN:
        suffix += f" --flow {connection.flow}"
    if (base_url := connection.variables.get(BASE_URL)) is not None:  # else it would be a login somewhere else
        suffix += f" --base-url {base_url}"
    cause = problem or connection.problem
    return {
        "message": f"{connection.provider} no longer accepts the login {connection.name}"
        + (f": {cause}" if cause else ""),
        "hint": f"log in again: authsome login {connection.provider}{suffix}",
    }


def _may_force(connection: Connection, now: datetime) -> bool:
    """Whether the token is older than a minute; one from the future is of before the clock was set back."""
    age = now - connection.updated_at
    return connection.has_refresh_token and not timedelta(0) <= age <= FORCED_PAUSE
