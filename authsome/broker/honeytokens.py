"""Honeytokens: connections with a decoy for a secret, that nobody has a reason to use.

Rules:
1. A use is on record before the decoy leaves, then told; and it is served, so that whoever uses it learns nothing.
2. A decoy was drawn at random in the form of the provider's keys. No provider knows it, and nothing of ours sends it
   together with a real secret: it is never refreshed, never revoked, and tried on nobody.
"""

import secrets
import string
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from authsome.broker import record
from authsome.broker.context import Context
from authsome.errors import ConnectionExists
from authsome.models.audit import Event
from authsome.models.connection import ACCESS_TOKEN, HONEYTOKEN, Connection, Kind, Secrets, checked_name
from authsome.models.notice import Notice, Occasion
from authsome.models.principal import Caller
from authsome.models.provider import Provider
from authsome.secret import Secret
from authsome.vault import audit, connections

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 40  # characters, where the form leaves it open


class Honeytokens:
    """The use cases around them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def plant(self, caller: Caller, name: str, connection: str) -> Connection:
        """Store a connection with a decoy.

        Raises:
            ProviderNotFound: no such provider.
            ConnectionExists: there is a connection of that name: one that works is not replaced by a decoy.
            RequestInvalid: the name is none, or the provider's connections need a value that only a login has.
            NotAllowed: the caller is limited in what it uses.
        """
        caller.require_wide()
        context = self._context
        provider = context.catalog.get(name)
        kind = Kind.API_KEY if provider.api_key is not None else Kind.OAUTH2
        checked_name(connection)
        variables = provider.checked_variables({}, kind)
        sealer = context.sealers.for_vault(caller.vault_id)
        with context.database.transaction(durable=True) as tx:
            if connections.get(tx, caller.vault_id, provider.name, connection) is not None:
                raise ConnectionExists(
                    f"{provider.name} is connected already as {connection}",
                    hint="a decoy takes no connection's place: --connection NAME gives it a name of its own",
                )
            planted = connections.put(
                tx,
                sealer,
                provider=provider.name,
                name=connection,
                kind=kind,
                secrets=_decoys(provider, kind),
                now=context.clock(),
                variables=variables,
                flow=HONEYTOKEN,
            )
            audit.append(tx, record.about(Event.LOGIN, caller, planted, context.clock(), f"by {HONEYTOKEN}"))
            return connections.require(tx, caller.vault_id, provider.name, connection)

    def look_at(self, caller: Caller, connection: Connection) -> None:
        """Write down, and tell, that somebody has looked at one by its name."""
        if connection.is_honeytoken:
            context = self._context
            with context.database.transaction(durable=True) as tx:
                audit.append(tx, record.about(Event.HONEYTOKEN, caller, connection, context.clock(), "get"))
            context.notify(used(connection, caller))

    def last_uses(self, caller: Caller, stored: Collection[Connection]) -> Mapping[tuple[str, str], datetime]:
        """The last use of each honeytoken among some connections of the caller's, by provider and name."""
        providers = {each.provider for each in stored if each.is_honeytoken}
        with self._context.database.read() as reader:
            return audit.last_uses_of_honeytokens(reader, caller.vault_id, providers)


def used(connection: Connection, caller: Caller) -> Notice:
    """What is told of a use."""
    who = caller.handle or caller.principal.name
    return Notice(
        occasion=Occasion.HONEYTOKEN,
        provider=connection.provider,
        connection=connection.name,
        message=f"the honeytoken {connection.name} of {connection.provider} was used by {who}",
        hint="see what else it did: authsome log --identity " + who,
    )


def _decoys(provider: Provider, kind: Kind) -> Secrets:
    if kind is Kind.OAUTH2 or provider.api_key is None:
        return {ACCESS_TOKEN: Secret(_plain())}
    return {
        field.name: Secret(_plain() if field.pattern is None else field.pattern.sample(secrets.choice, _LENGTH))
        for field in provider.api_key.fields
    }


def _plain() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
