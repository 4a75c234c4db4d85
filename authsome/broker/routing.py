"""Which connection a request belongs to, decided from the vault as it is at that moment.

Rule: nothing is remembered between requests but which providers name which hosts, so logging in, logging out and
changing the default take effect on the next request. Two connections with equal claims to a request get nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from authsome.broker.catalog import Catalog
from authsome.errors import AuthsomeError, ConnectionNotFound, NotAllowed, NotFound, RouteAmbiguous
from authsome.models.connection import Connection
from authsome.models.provider import Provider
from authsome.models.route import Route, RouteTable
from authsome.vault import connections
from authsome.vault.database import Reader, Transaction

EVERY_PROVIDER: Final = frozenset[str]()
"""An empty choice of providers leaves all of them in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a run narrows its routes to."""

    pinned: Mapping[str, str]
    """Connection by provider, where it is not to be the default one."""
    only: frozenset[str] = EVERY_PROVIDER
    named: str | None = None
    """The connection that one request asks for, of whichever provider; what is pinned stays pinned."""

    def connection(self, provider: str, stored: Iterable[Connection]) -> Connection | None:
        """The one of a provider's stored connections that this choice uses."""
        if self.only and provider not in self.only:
            return None
        if self.withheld(provider):
            return None
        wanted = self.pinned.get(provider) or self.named
        return next((each for each in stored if (each.name == wanted if wanted else each.is_default)), None)

    def withheld(self, provider: str) -> bool:
        """Whether a request asks for another connection of a provider than the one that its run is pinned to."""
        pinned = self.pinned.get(provider)
        return bool(pinned and self.named and pinned != self.named)


DEFAULT_CHOICE: Final = Choice(pinned={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The provider and the connection for one request, and what of the provider's claims it falls under."""

    provider: Provider
    connection: Connection
    route: Route


def routes_of(provider: Provider, connection: Connection) -> Iterable[Route]:
    """The routes that one connection opens."""
    for pattern in provider.patterns(connection.variables, connection.kind):
        yield Route(
            provider=provider.name,
            connection=connection.name,
            pattern=pattern,
            allow_private_addresses=provider.allow_private_addresses,
            is_default=connection.is_default,
        )


def table(reader: Reader | Transaction, catalog: Catalog, vault_id: str, choice: Choice) -> RouteTable:
    """All routes of a run as of now. A stored connection whose provider's definition is broken opens none."""
    routes: list[Route] = []
    by_provider: dict[str, list[Connection]] = {}
    for connection in connections.list_all(reader, vault_id):
        by_provider.setdefault(connection.provider, []).append(connection)
    for name, stored in by_provider.items():
        provider = catalog.find(name)
        chosen = choice.connection(name, stored)
        if provider is not None and chosen is not None:
            routes.extend(routes_of(provider, chosen))
    return RouteTable(routes=tuple(routes))


def decide(  # noqa: PLR0913  # a request's address is three values
    reader: Reader | Transaction,
    catalog: Catalog,
    vault_id: str,
    choice: Choice,
    *,
    host: str,
    port: int,
    path: str,
) -> Decision:
    """The connection that a request belongs to.

    Raises:
        NotFound: no connected provider names this address.
        ConnectionNotFound: one does, but has no connection of the name that was asked for.
        NotAllowed: it has, but the run is pinned to another.
        RouteAmbiguous: two connections have equal claims to it.
    """
    found: dict[tuple[str, str], tuple[Provider, Connection]] = {}
    routes: list[Route] = []
    providers = catalog.naming(host, port)
    stored = connections.list_of_any(reader, vault_id, [provider.name for provider in providers])
    for provider in providers:
        chosen = choice.connection(provider.name, stored.get(provider.name, ()))
        if chosen is not None:
            found[provider.name, chosen.name] = provider, chosen
            routes.extend(routes_of(provider, chosen))
    route = RouteTable(routes=tuple(routes)).decide(host, port, path)
    if route == "none" and choice.named is not None and stored:
        raise _not_named(choice, host, [provider.name for provider in providers])
    if route == "none":
        raise NotFound(f"no connected provider names {host}", hint="`authsome list --connected` shows what there is")
    if route == "ambiguous":
        names = ", ".join(sorted(f"{each} ({name})" for each, name in found))
        raise RouteAmbiguous(f"more than one connection claims {host}: {names}")
    provider, connection = found[route.provider, route.connection]
    return Decision(provider=provider, connection=connection, route=route)


def _not_named(choice: Choice, host: str, providers: Iterable[str]) -> AuthsomeError:
    """Why the connection that a request asks for by name is not to be had."""
    for provider in providers:
        if choice.withheld(provider):
            return NotAllowed(
                f"this run uses the connection {choice.pinned[provider]} of {provider}, and no other",
                hint="leave out the header Authsome-Connection, or start the run without --connection",
            )
    return ConnectionNotFound(f"no connection of that name claims {host}", hint=ConnectionNotFound.default_hint)
