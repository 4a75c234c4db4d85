"""Ending a provider's logins at the provider, and then here.

Rule: nothing is forgotten, and nothing is called revoked in the log, before the provider has said so. What it could not
be told stays, with an entry that says why, and is tried again by saying `revoke` again.
"""

from dataclasses import dataclass
from typing import Final

from authsome.broker import discovery, record, registration
from authsome.broker.context import Context
from authsome.broker.refresh import Claim, Refresher
from authsome.errors import AuthsomeError, ConnectionNotFound, RevocationUnsupported
from authsome.models.audit import Event
from authsome.models.connection import Client, Connection, Kind, Registration
from authsome.models.oauth import OAuth
from authsome.models.principal import Caller
from authsome.models.provider import Provider
from authsome.oauth import revocation
from authsome.secret import Secret
from authsome.vault import audit, clients, connections

_ORDER: Final[tuple[revocation.Hint, ...]] = ("refresh_token", "access_token")
"""The refresh token first: with it most providers end all that came of it (RFC 7009 §2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A connection that could not be revoked, and why."""

    connection: Connection
    error: AuthsomeError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFate:
    """What became of the client that we had registered at the provider."""

    is_given_back: bool
    error: AuthsomeError | None = None
    """Why it was not, unless the provider just offers no way to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What came of it."""

    gone: tuple[Connection, ...]
    kept: tuple[Kept, ...]
    client: ClientFate | None
    """None where we had registered none, or something is connected by it still."""


class Revocations:
    """The use case, and what it stands on."""

    def __init__(self, context: Context, refresher: Refresher) -> None:
        self._context = context
        self._refresher = refresher

    def revoke(self, caller: Caller, provider: str, name: str | None) -> Revoked:
        """Revoke one connection of a provider, or all of them, there and here; after the last one also our client.

        Raises:
            ConnectionNotFound: there is none, or none of that name.
            ProviderNotFound: there is no such provider, or its definition is gone and with it the address to revoke at.
            NotAllowed: the caller is limited in what it uses.
            AuthsomeError: there is one only, and it could not be revoked.
        """
        caller.require_wide()
        context = self._context
        with context.database.read() as reader:
            wanted = connections.list_of(reader, caller.vault_id, provider)
            if wanted and name is not None:
                wanted = [connections.require(reader, caller.vault_id, provider, name)]
        definition = context.catalog.get(provider)
        if not wanted:
            raise ConnectionNotFound(f"{provider} is not connected, so there is nothing to revoke")
        gone: list[Connection] = []
        kept: list[Kept] = []
        for each in wanted:
            try:
                with self._refresher.alone_with(each) as claim:
                    self._revoke(caller, definition, claim)
                gone.append(each)
            except AuthsomeError as error:
                self._note_failure(caller, each, error)
                kept.append(Kept(connection=each, error=error))
        if not gone and len(kept) == 1:
            raise kept[0].error
        return Revoked(gone=tuple(gone), kept=tuple(kept), client=self._give_back(caller, definition))

    def _revoke(self, caller: Caller, provider: Provider, claim: Claim) -> None:
        context, connection = self._context, claim.lease.connection
        if connection.is_honeytoken:
            raise RevocationUnsupported(
                f"{connection.name} of {provider.name} is a honeytoken: the provider does not know it",
                hint=f"forget it: authsome logout {provider.name}{_suffix(connection)}",
            )
        known = discovery.remembered(context, connection, provider.oauth) if provider.oauth else None
        oauth = known.resolved(connection.variables) if known else None
        if connection.kind is not Kind.OAUTH2 or oauth is None or oauth.revocation_url is None:
            raise _unsupported(provider, connection)
        outcomes = [
            self._tell(provider, oauth, claim, hint=hint, revoked=claim.held[hint])
            for hint in _ORDER
            if hint in claim.held
        ]
        if outcomes[0] is revocation.Outcome.UNSUPPORTED:  # the one that matters lives on
            raise _unsupported(provider, connection)
        with context.database.transaction(durable=True) as tx:
            present = connections.get(tx, connection.vault_id, connection.provider, connection.name)
            if present is not None and present.revision == connection.revision:  # else logged in anew: that one stays
                connections.delete(tx, connection)
            audit.append(tx, record.about(Event.REVOKE, caller, connection, context.clock()))

    def _tell(
        self, provider: Provider, oauth: OAuth, claim: Claim, *, hint: revocation.Hint, revoked: Secret[str]
    ) -> revocation.Outcome:
        context = self._context
        request = revocation.revocation_request(oauth, claim.client, revoked=revoked, hint=hint)
        response = context.send(request, provider.allow_private_addresses)
        sent = (revoked, claim.client.client_secret or Secret(""))
        return revocation.parse_revocation_response(response, oauth, now=context.clock(), sent=sent)

    def _give_back(self, caller: Caller, provider: Provider) -> ClientFate | None:
        """End our registrations as a client once nothing is connected by them; one that stays is used again."""
        context = self._context
        with context.database.read() as reader:
            sealer = context.sealers.for_vault(caller.vault_id)
            is_used = bool(connections.list_of(reader, caller.vault_id, provider.name))
            known = [] if is_used else clients.list_of(reader, sealer, provider.name)
        fates = [
            self._end(caller, provider, each, each.registration) for each in known if each.registration is not None
        ]
        failed = [each for each in fates if not each.is_given_back]
        return next(iter([*failed, *fates]), None)

    def _end(self, caller: Caller, provider: Provider, client: Client, made: Registration) -> ClientFate:
        context = self._context
        try:
            is_gone = registration.give_back(context, made, allow_private=provider.allow_private_addresses)
        except AuthsomeError as error:
            return ClientFate(is_given_back=False, error=error)
        if is_gone:
            with context.database.transaction(durable=True) as tx:
                clients.delete(tx, caller.vault_id, provider.name, client.server)
                now, detail = context.clock(), "the client that was registered there"
                audit.append(tx, record.about_provider(Event.REVOKE, caller, provider.name, now, detail))
        return ClientFate(is_given_back=is_gone)

    def _note_failure(self, caller: Caller, connection: Connection, error: AuthsomeError) -> None:
        with self._context.database.transaction(durable=True) as tx:
            now = self._context.clock()
            audit.append(tx, record.about(Event.REVOKE_FAILED, caller, connection, now, error.message))


def _unsupported(provider: Provider, connection: Connection) -> RevocationUnsupported:
    what = "key" if connection.kind is Kind.API_KEY else "login"
    place = f" at {provider.docs_url}" if provider.docs_url else " there"
    return RevocationUnsupported(
        f"{provider.name} offers no way to revoke the {what} {connection.name} from here",
        hint=f"end it{place}, then forget it here: authsome logout {provider.name}{_suffix(connection)}",
    )


def _suffix(connection: Connection) -> str:
    """What names a connection on the command line, where it has to be named."""
    return "" if connection.is_default else f" --connection {connection.name}"
