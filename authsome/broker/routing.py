"""Which connection a request belongs to, decided from the vault as it is at that moment.

Rule: nothing is remembered between requests but which providers name which hosts, and what SQLite says has not changed
in the vault; so logging in, logging out and changing the default take effect on the next request. Two connections with
equal claims to a request get nothing.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from authsome.broker.catalog import Catalog
from authsome.errors import AuthsomeError, ConnectionNotFound, NotAllowed, NotFound, RouteAmbiguous
from authsome.models.connection import Connection
from authsome.models.injection import Rules
from authsome.models.limits import UNLIMITED, Limits
from authsome.models.provider import Provider
from authsome.models.route import Route, RouteTable
from authsome.models.run import Run
from authsome.vault import connections
from authsome.vault.database import Reader, Transaction

EVERY_PROVIDER: Final = frozenset[str]()
"""An empty choice of providers leaves all of them in."""

_OUTSIDE: Final = "begin it outside of that run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a run narrows its routes to."""

    pinned: Mapping[str, str]
    """Connection by provider, where it is not to be the default one."""
    only: frozenset[str] = EVERY_PROVIDER
    named: str | None = None
    """The connection that one request asks for, of whichever provider; what is pinned stays pinned."""
    limits: Limits = UNLIMITED
    """What the identity is limited to: a connection out of its reach is as good as not stored."""

    def connection(self, provider: str, stored: Iterable[Connection]) -> Connection | None:
        """The one of a provider's stored connections that this choice uses."""
        if self.only and provider not in self.only:
            return None
        if self.withheld(provider):
            return None
        wanted = self.pinned.get(provider) or self.named
        found = next((each for each in stored if (each.name == wanted if wanted else each.is_default)), None)
        return found if found is not None and self.limits.admits(provider, found.name) else None

    def withheld(self, provider: str) -> bool:
        """Whether a request asks for another connection of a provider than the one that its run is pinned to."""
        pinned = self.pinned.get(provider)
        return bool(pinned and self.named and pinned != self.named)

    @property
    def key(self) -> Hashable:
        """The same for equal choices."""
        return (tuple(sorted(self.pinned.items())), self.only, self.named, self.limits.connections)

    def within(self, outer: "Choice") -> "Choice":
        """This choice as one that is made inside another, which it may narrow and not widen.

        Raises:
            NotAllowed: it would.
        """
        for provider in self.only | self.pinned.keys():
            if outer.only and provider not in outer.only:
                raise NotAllowed(f"{provider} is not among what the run around this one may use", hint=_OUTSIDE)
        for provider, name in self.pinned.items():
            if outer.pinned.get(provider, name) != name:
                raise NotAllowed(f"the run around this one uses another connection of {provider}", hint=_OUTSIDE)
        return replace(self, pinned={**outer.pinned, **self.pinned}, only=self.only or outer.only)


def choice_of(run: Run, limits: Limits, *, named: str | None = None) -> Choice:
    """What a run's requests choose among, within its identity's limits; `named`: what one of them asks for."""
    return Choice(pinned=run.pinned, only=run.only, named=named, limits=limits)


DEFAULT_CHOICE: Final = Choice(pinned={})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """The provider and the connection for one request, and what of the provider's claims it falls under.

    It equals nothing but itself.
    """

    provider: Provider
    connection: Connection
    route: Route
    rules: Rules
    """What is done with the request."""
    is_for_any_path: bool
    """Whether every path of that host and port belongs to it."""


@dataclass(frozen=True, slots=True)
class _Address:
    """What is connected at one host and port."""

    providers: tuple[Provider, ...]
    """Those that name it; kept, so that no other ever has the same identity while this is known."""
    chosen: Mapping[tuple[str, str], tuple[Provider, Connection]]
    """By the names of both."""
    table: RouteTable
    sole: Decision | None
    """What every path there belongs to, where that is so."""


def routes_of(provider: Provider, connection: Connection) -> Iterable[Route]:
    """The routes that one connection opens."""
    for pattern in provider.patterns(connection.variables, connection.kind):
        yield Route(
            provider=provider.name,
            connection=connection.name,
            pattern=pattern,
            allow_private_addresses=provider.allow_private_addresses,
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
    providers = catalog.naming(host, port)
    key = ("address", vault_id, choice.key, host, port, tuple(map(id, providers)))
    address = reader.recall(key, lambda: _address(reader, providers, vault_id, choice, (host, port)))
    if address is not None and address.sole is not None:
        return address.sole
    route = "none" if address is None else address.table.decide(host, port, path)
    if address is None or route == "none":
        if choice.named is not None and address is not None:
            raise _not_named(choice, host, [provider.name for provider in providers])
        raise NotFound(f"no connected provider names {host}", hint="`authsome list --connected` shows what there is")
    if route == "ambiguous":
        names = ", ".join(sorted(f"{each} ({name})" for each, name in address.chosen))
        raise RouteAmbiguous(f"more than one connection claims {host}: {names}")
    provider, connection = address.chosen[route.provider, route.connection]
    return _decision(provider, connection, route, (host, port), path=path)


def _address(
    reader: Reader, providers: tuple[Provider, ...], vault_id: str, choice: Choice, address: tuple[str, int]
) -> _Address | None:
    """What is connected at an address; None when no provider that names it has any connection."""
    stored = connections.list_of_any(reader, vault_id, [provider.name for provider in providers])
    if not stored:
        return None
    chosen: dict[tuple[str, str], tuple[Provider, Connection]] = {}
    routes: list[Route] = []
    for provider in providers:
        connection = choice.connection(provider.name, stored.get(provider.name, ()))
        if connection is not None:
            chosen[provider.name, connection.name] = provider, connection
            routes.extend(routes_of(provider, connection))
    opened = RouteTable(routes=tuple(routes))
    return _Address(providers, chosen, opened, _sole(chosen, opened, address))


def _sole(
    chosen: Mapping[tuple[str, str], tuple[Provider, Connection]], routes: RouteTable, address: tuple[str, int]
) -> Decision | None:
    """What every path at an address belongs to: the one connection there, when it has no claim to only some paths."""
    at_address = [route.pattern for route in routes.routes if route.pattern.matches_address(*address)]
    if len(chosen) != 1 or any(pattern.path_prefix != "/" for pattern in at_address):
        return None
    route = routes.decide(*address, "/")
    ((provider, connection),) = chosen.values()
    return None if isinstance(route, str) else _decision(provider, connection, route, address)


def _decision(
    provider: Provider, connection: Connection, route: Route, address: tuple[str, int], *, path: str | None = None
) -> Decision:
    """What is done with a request; no path: with one for any."""
    host, port = address
    rules = provider.injections(connection.kind, connection.variables, host=host, path=path or "/", port=port)
    return Decision(provider=provider, connection=connection, route=route, rules=rules, is_for_any_path=path is None)


def _not_named(choice: Choice, host: str, providers: Iterable[str]) -> AuthsomeError:
    """Why the connection that a request asks for by name is not to be had."""
    for provider in providers:
        if choice.withheld(provider):
            return NotAllowed(
                f"this run uses the connection {choice.pinned[provider]} of {provider}, and no other",
                hint="leave out the header Authsome-Connection, or start the run without --connection",
            )
    return ConnectionNotFound(f"no connection of that name claims {host}", hint=ConnectionNotFound.default_hint)
