"""Keeping an access token fresh: one request at a time for each connection, and never a login lost to a failure.

Rule: the decision is taken inside the connection's lock, from what is stored then; new tokens are durable before
anybody uses them; a refresh ends in one of three ways: done, transient (the record is untouched, tried again after a
pause), or final (the provider said invalid_grant: the record is kept and marked, and nobody asks again).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import record
from authsome.broker.context import Context
from authsome.errors import AuthsomeError, EndpointRefused, EndpointUnreachable, LoginRequired, RefreshFailed
from authsome.models.audit import Event
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Connection, Kind, Secrets, Status
from authsome.models.principal import Caller
from authsome.models.provider import OAuth, Provider
from authsome.oauth import token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret
from authsome.vault import audit, clients, connections

MARGIN: Final = timedelta(seconds=60)  # a request under way must still arrive with a valid token
FORCED_PAUSE: Final = timedelta(seconds=60)  # an API that says 401 to a fresh token will say it again
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=5)

Key = tuple[str, str, str]


def due(connection: Connection, now: datetime) -> bool:
    """Whether the token is to be refreshed before use: within a minute, or a quarter of its life, of its end."""
    if connection.kind is not Kind.OAUTH2 or connection.expires_at is None or not connection.has_refresh_token:
        return False
    margin = min(MARGIN, max(timedelta(0), connection.expires_at - connection.updated_at) / 4)
    return connection.expires_at - margin <= now


@dataclass(slots=True)
class _Turn:
    """One connection's lock, and how long to leave its provider alone after failures."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    failures: int = 0
    not_before: float = 0.0
    cause: str = ""

    def check_pause(self) -> None:
        """Raise what the last attempt failed with, while it is too early for the next one."""
        if time.monotonic() < self.not_before:
            raise EndpointUnreachable(self.cause)


class Refresher:
    """Refreshes connections; its only state is a lock and a pause for each connection that needs one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turns: dict[Key, _Turn] = {}
        self._guard = threading.Lock()

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
            ConnectionNotFound: it was logged out meanwhile.
        """
        with self._turn(connection) as turn:
            context = self._context
            with context.database.read() as reader:
                current = connections.require(reader, connection.vault_id, connection.provider, connection.name)
            now = context.clock()
            if current.status is Status.INVALID:
                raise LoginRequired(**login_again(current))
            if not (due(current, now) or (rejected and _may_force(current, now))):
                return current
            try:
                turn.check_pause()
                return self._refresh(caller, provider, current, turn)
            except (EndpointUnreachable, EndpointRefused) as error:
                if current.expires_at is None or current.expires_at > now:
                    return current  # still valid: serve it rather than fail (the next request tries again)
                raise RefreshFailed(f"{provider.name}: the token has expired and {error.message}") from error

    def _refresh(self, caller: Caller, provider: Provider, connection: Connection, turn: _Turn) -> Connection:
        context = self._context
        assert provider.oauth is not None
        oauth = provider.oauth.resolved(connection.variables)
        with context.database.read() as reader:
            sealer = context.sealers.for_vault(connection.vault_id)
            held = connections.secrets(reader, sealer, connection)
            client = clients.get(reader, sealer, connection.provider)
        credentials = ClientCredentials(
            client_id=client.client_id if client else "",
            client_secret=client.client_secret if client else None,
        )
        # No scope is asked for: the same ones are meant (RFC 6749 §6), however the provider spells them.
        request = token.refresh_request(oauth, credentials, refresh_token=held[REFRESH_TOKEN], scopes=())
        try:
            response = context.send(request, provider.allow_private_addresses)
            sent = (held[REFRESH_TOKEN], held[ACCESS_TOKEN], credentials.client_secret or Secret(""))
            tokens = token.parse_token_response(response, oauth, now=context.clock(), sent=sent)
        except LoginRequired as error:
            self._give_up(caller, connection, error)
            raise LoginRequired(**login_again(connection)) from error
        except (EndpointUnreachable, EndpointRefused) as error:
            self._pause(caller, connection, turn, error)
            raise
        turn.failures, turn.not_before = 0, 0.0
        return self._store(caller, oauth, connection, held, tokens)

    def _store(
        self, caller: Caller, oauth: OAuth, connection: Connection, held: Secrets, tokens: token.Tokens
    ) -> Connection:
        context = self._context
        fresh = {ACCESS_TOKEN: tokens.access_token, REFRESH_TOKEN: tokens.refresh_token or held[REFRESH_TOKEN]}
        granted = tokens.scopes if tokens.scopes is not None else connection.scopes
        dropped = sorted(set(connection.scopes) - set(granted))
        with context.database.transaction(durable=True) as tx:
            stored = connections.update_tokens(
                tx,
                context.sealers.for_vault(connection.vault_id),
                connection,
                secrets=fresh,
                expires_at=tokens.expires_at,
                scopes=granted,
                now=context.clock(),
            )
            if stored is None:  # logged out or logged in anew meanwhile: a late answer must not resurrect it
                return connections.require(tx, connection.vault_id, connection.provider, connection.name)
            detail = "scopes no longer granted: " + oauth.scope_separator.join(dropped) if dropped else None
            audit.append(tx, record.about(Event.REFRESH, caller, connection, context.clock(), detail))
        return stored

    def _give_up(self, caller: Caller, connection: Connection, error: AuthsomeError) -> None:
        with self._context.database.transaction(durable=True) as tx:
            if connections.mark_invalid(tx, connection, now=self._context.clock()):
                now = self._context.clock()
                audit.append(tx, record.about(Event.REFRESH_FAILED, caller, connection, now, f"final: {error.message}"))

    def _pause(self, caller: Caller, connection: Connection, turn: _Turn, error: AuthsomeError) -> None:
        asked = getattr(error, "retry_after", None) or timedelta(0)
        backoff = min(FIRST_PAUSE * 2 ** min(turn.failures, 10), LONGEST_PAUSE)
        turn.failures += 1
        turn.not_before = time.monotonic() + max(min(asked, LONGEST_PAUSE), backoff).total_seconds()
        turn.cause = error.message
        with self._context.database.transaction(durable=True) as tx:
            now = self._context.clock()
            audit.append(tx, record.about(Event.REFRESH_FAILED, caller, connection, now, f"transient: {error.message}"))

    @contextmanager
    def _turn(self, connection: Connection) -> Iterator[_Turn]:
        key = (connection.vault_id, connection.provider, connection.name)
        with self._guard:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                yield turn
        finally:
            with self._guard:
                turn.users -= 1
                if turn.users == 0 and turn.failures == 0:
                    self._turns.pop(key, None)


def login_again(connection: Connection) -> dict[str, str]:
    """The message and the hint for a connection whose login the provider no longer accepts."""
    suffix = "" if connection.is_default else f" --connection {connection.name}"
    return {
        "message": f"{connection.provider} no longer accepts the login {connection.name}",
        "hint": f"log in again: authsome login {connection.provider}{suffix}",
    }


def _may_force(connection: Connection, now: datetime) -> bool:
    return connection.has_refresh_token and now - connection.updated_at > FORCED_PAUSE
