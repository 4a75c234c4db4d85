"""Taking over what a home of upstream authsome holds, so that nobody has to log in again.

The daemon reads that home, not the client: what lies there is decrypted here, beside the vault that it is sealed into
again, and nothing of it crosses a wire or the client's tower, which cannot import what decrypts.

Rule: nothing is overwritten that is here already, unless that is asked for; and a credential goes only under the very
definition that it was got by, or under a bundled one of the same name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from authsome.broker import record
from authsome.broker.context import Context
from authsome.broker.providers import Providers
from authsome.errors import AuthsomeError, ProviderExists, RequestInvalid
from authsome.models.audit import Event
from authsome.models.connection import Client, Kind, Secrets
from authsome.models.principal import Caller
from authsome.models.provider import Provider
from authsome.models.upstream_home import API_KEY, UpstreamClient, UpstreamConnection, UpstreamHome
from authsome.models.variable import BASE_URL
from authsome.vault import audit, clients, connections, upstream
from authsome.vault.database import Reader, Transaction

What = Literal["definition", "client", "connection"]
Outcome = Literal["imported", "kept", "left out"]

_NAME_LIMIT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing in the home, and what became of it."""

    what: What
    provider: str
    name: str = ""
    """The connection's, as it is here."""
    outcome: Outcome
    reason: str = ""
    """Why it was kept as it was here, or left out; for a definition that was imported, where it sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was taken over, or would be."""

    release: str
    is_rehearsal: bool
    items: tuple[Item, ...]
    unreadable: tuple[str, ...]
    foreign: int
    """How many connections in the home belong to other principals."""


@dataclass(slots=True, kw_only=True)
class _Taking:
    """One import under way."""

    home: UpstreamHome
    caller: Caller
    force: bool
    refused: dict[str, str] = field(default_factory=dict)
    """Providers whose definition was not taken over, and why: nor is what was got by it."""


class UpstreamImport:
    """The use case."""

    def __init__(self, context: Context, providers: Providers) -> None:
        self._context = context
        self._providers = providers

    def run(
        self, caller: Caller, directory: Path, *, master_key_file: Path | None, force: bool, rehearse: bool
    ) -> Report:
        """Take over definitions, OAuth clients and connections.

        Args:
            caller: whose vault they go to: an admin, for the home is read with the daemon's rights.
            directory: the home.
            master_key_file: where its master key is, when it is not where upstream puts it by itself.
            force: overwrite what is here under the same name.
            rehearse: only say what would be done.

        Raises:
            NotAllowed: the caller is no admin.
            RequestInvalid, UnsafeFile, VaultUnusable: the home cannot be read; nothing has changed.
        """
        caller.require_admin("the home is read with the daemon's rights, so only an admin may have it read")
        home = upstream.read(directory, master_key_file=master_key_file)
        taking = _Taking(home=home, caller=caller, force=force)
        items = [self._definition(taking, name, text, rehearse=rehearse) for name, text in home.definitions.items()]
        known = self._known(taking, items)
        database = self._context.database
        if rehearse:
            with database.read() as reader:
                items += self._all(reader, None, taking, known)
        else:
            with database.transaction(durable=True) as tx:
                items += self._all(tx, tx, taking, known)
        return Report(
            release=home.release,
            is_rehearsal=rehearse,
            items=tuple(items),
            unreadable=home.unreadable,
            foreign=home.foreign,
        )

    # ---- definitions ----

    def _definition(self, taking: _Taking, name: str, text: str, *, rehearse: bool) -> Item:
        """Register one as its author could, but for private addresses, which nobody has agreed to here."""
        item = Item(what="definition", provider=name, outcome="imported")
        source = f"{name}.json"
        data = text.encode()
        try:
            found = self._context.catalog.examine(data, source=source)
            if found == self._context.catalog.find(found.name):
                return replace(item, outcome="kept", reason="it is here already")
            act = self._providers.examine if rehearse else self._providers.register
            act(taking.caller, data, source=source, force=taking.force)
        except ProviderExists as error:
            taking.refused[name] = "its definition was kept as it is here; --force overwrites it"
            return replace(item, outcome="kept", reason=error.message)
        except AuthsomeError as error:
            taking.refused[name] = "its definition was left out"
            hint = f" ({error.hint})" if error.hint else ""
            return replace(item, outcome="left out", reason=f"{error.message}{hint}")
        return replace(item, reason=f"sends to {', '.join(found.api_url)}")

    def _known(self, taking: _Taking, items: list[Item]) -> Mapping[str, Provider]:
        """The providers that credentials can go under, those that a rehearsal has not registered included."""
        catalog = self._context.catalog
        found = {name: provider for name in catalog.names() if (provider := catalog.find(name)) is not None}
        for item in items:
            if item.outcome == "imported":
                text = taking.home.definitions[item.provider]
                found[item.provider] = catalog.examine(text.encode(), source=item.provider)
        return {name: provider for name, provider in found.items() if name not in taking.refused}

    def _all(
        self, reader: Reader, tx: Transaction | None, taking: _Taking, known: Mapping[str, Provider]
    ) -> Iterator[Item]:
        yield from self._clients(reader, tx, taking, known)
        yield from self._connections(reader, tx, taking, known)

    # ---- clients ----

    def _clients(
        self, reader: Reader, tx: Transaction | None, taking: _Taking, known: Mapping[str, Provider]
    ) -> Iterator[Item]:
        sealer = self._context.sealers.for_vault(taking.caller.vault_id)
        for client in taking.home.clients:
            item = Item(what="client", provider=client.provider, outcome="imported")
            stored = clients.get(reader, sealer, client.provider)
            if problem := _client_problem(client, known, taking):
                yield replace(item, outcome="left out", reason=problem)
            elif stored is not None and ((is_same := _is_same_client(client, stored)) or not taking.force):
                yield replace(item, outcome="kept", reason="it is here already" if is_same else _OTHER)
            else:
                if tx is not None:
                    self._put_client(tx, taking, client)
                yield item

    def _put_client(self, tx: Transaction, taking: _Taking, client: UpstreamClient) -> None:
        clients.put(
            tx,
            self._context.sealers.for_vault(taking.caller.vault_id),
            provider=client.provider,
            client_id=client.client_id,
            client_secret=client.client_secret,
            now=self._context.clock(),
        )
        detail = f"{_origin(taking)}, the OAuth client"
        caller, now = taking.caller, self._context.clock()
        audit.append(tx, record.about_provider(Event.IMPORT, caller, client.provider, now, detail))

    # ---- connections ----

    def _connections(
        self, reader: Reader, tx: Transaction | None, taking: _Taking, known: Mapping[str, Provider]
    ) -> Iterator[Item]:
        vault_id = taking.caller.vault_id
        untouched = {
            each.provider
            for each in taking.home.connections
            if connections.default_name(reader, vault_id, each.provider) is None
        }
        taken: set[tuple[str, str]] = set()
        for theirs in taking.home.connections:
            name = _free_name(theirs, taken)
            taken.add((theirs.provider, name))
            yield self._connection(reader, tx, taking, replace(theirs, name=name), known)
        if tx is not None:
            for provider in sorted(untouched & taking.home.defaults.keys()):
                stored = connections.get(tx, vault_id, provider, _plain_name(taking.home.defaults[provider]))
                if stored is not None:
                    connections.set_default(tx, stored)

    def _connection(
        self,
        reader: Reader,
        tx: Transaction | None,
        taking: _Taking,
        theirs: UpstreamConnection,
        known: Mapping[str, Provider],
    ) -> Item:
        item = Item(what="connection", provider=theirs.provider, name=theirs.name, outcome="imported")
        provider = known.get(theirs.provider)
        if provider is None:
            missing = f"there is no provider named {theirs.provider} here; register it, then import again"
            return replace(item, outcome="left out", reason=taking.refused.get(theirs.provider, missing))
        try:
            held, variables = _fitting(theirs, provider)
        except RequestInvalid as error:
            return replace(item, outcome="left out", reason=error.message)
        sealer = self._context.sealers.for_vault(taking.caller.vault_id)
        stored = connections.get(reader, taking.caller.vault_id, theirs.provider, theirs.name)
        if stored is not None:
            is_same = dict(connections.secrets(reader, sealer, stored)) == dict(held)
            if is_same or not taking.force:
                return replace(item, outcome="kept", reason="it is here already" if is_same else _OTHER)
        if tx is not None:
            written = connections.put(
                tx,
                sealer,
                provider=theirs.provider,
                name=theirs.name,
                kind=theirs.kind,
                secrets=held,
                scopes=theirs.scopes,
                account=theirs.account,
                expires_at=theirs.expires_at,
                variables=variables,
                now=self._context.clock(),
            )
            now = self._context.clock()
            audit.append(tx, record.about(Event.IMPORT, taking.caller, written, now, _origin(taking)))
        return item


_OTHER: Final = "another one is here under that name; --force overwrites it"


def _origin(taking: _Taking) -> str:
    return f"from upstream authsome {taking.home.release}"


def _client_problem(client: UpstreamClient, known: Mapping[str, Provider], taking: _Taking) -> str | None:
    provider = known.get(client.provider)
    if provider is None:
        return taking.refused.get(client.provider, f"there is no provider named {client.provider} here")
    return None if provider.oauth is not None else f"{client.provider} is not logged in to by OAuth here"


def _is_same_client(theirs: UpstreamClient, ours: Client) -> bool:
    return (theirs.client_id, theirs.client_secret) == (ours.client_id, ours.client_secret)


def _free_name(theirs: UpstreamConnection, taken: set[tuple[str, str]]) -> str:
    """The connection's name, with its owner's where another identity has one of that name."""
    name = _plain_name(theirs.name)
    if (theirs.provider, name) in taken:
        name = _plain_name(f"{name[:20]}.{theirs.owner}")
    return name


def _plain_name(name: str) -> str:
    """A name that a connection may have here."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "-" for char in name)
    return plain[:_NAME_LIMIT] if plain[:1].isalnum() else f"x{plain}"[:_NAME_LIMIT]


def _fitting(theirs: UpstreamConnection, provider: Provider) -> tuple[Secrets, Mapping[str, str]]:
    """The credential as it is stored here, and the variables that it was made with.

    Raises:
        RequestInvalid: it cannot be used by this provider; the message says why.
    """
    if theirs.unusable:
        raise RequestInvalid(f"upstream says that it is {theirs.unusable}")
    held = theirs.secrets
    if theirs.kind is Kind.API_KEY:
        fields = provider.api_key.fields if provider.api_key else ()
        if len(fields) != 1:
            what = "by more than a key" if fields else "by OAuth only"
            raise RequestInvalid(f"{provider.name} is logged in to {what} here")
        held = {fields[0].name: held[API_KEY]}
    elif provider.oauth is None:
        raise RequestInvalid(f"{provider.name} is logged in to by a key only here")
    given = {}
    if theirs.base_url is not None:
        if any(variable.name == BASE_URL for variable in provider.variables):
            given[BASE_URL] = theirs.base_url
        elif not _is_usual(theirs.base_url, provider):
            raise RequestInvalid(f"it is of {theirs.base_url}, and {provider.name} takes no base URL here")
    return held, provider.checked_variables(given)


def _is_usual(base_url: str, provider: Provider) -> bool:
    """Whether a URL is one where the provider is without being told."""
    return any(each == base_url or each.startswith(base_url.rstrip("/") + "/") for each in provider.endpoints)
