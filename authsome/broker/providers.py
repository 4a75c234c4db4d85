"""What happens to provider definitions: looked through, registered, removed.

Rule: the entry in the log is committed before the file takes or leaves its place, so no definition counts that is not
on record; after a crash in between, the log tells of a change that did not come about, never the other way round.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from authsome.broker import record, registration
from authsome.broker.catalog import Entry, Source
from authsome.broker.context import Context
from authsome.errors import (
    AuthsomeError,
    ConnectionExists,
    NotAllowed,
    ProviderExists,
    StorageFailed,
    VaultDamaged,
    reason_of,
)
from authsome.home import Home, make_private_directory, replacing_private, sync_directory
from authsome.models.audit import Event
from authsome.models.connection import Connection, Registration
from authsome.models.principal import Caller
from authsome.models.provider import Provider, definition_to_json
from authsome.vault import audit, clients, connections
from authsome.vault.database import Reader

ADMINS_ONLY: Final = "definitions count for everybody, so only an admin may change them"
_KINDS: Final[Mapping[Source, str]] = {
    "bundled": "bundled provider",
    "custom": "custom provider",
    "override": "custom definition of the bundled provider",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A definition that was looked through, and what registering it would change."""

    provider: Provider
    source: Source
    """`override` when a bundled provider has its name."""
    replaced: Source | None
    """Where the definition comes from whose place it would take."""
    new_hosts: tuple[str, ...]
    """Entries of its `api_url` that the definition whose place it would take does not have."""
    connections: tuple[Connection, ...]
    """What the caller has connected under its name already: those credentials would follow it."""
    others: int
    """How many connections of other principals would, too; they are not named."""
    forgets_client: bool
    """Whether the OAuth client that is stored for it goes: its secret was for endpoints elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A definition that is gone, and what went with it."""

    name: str
    source: Source
    restored: bool
    """Whether a bundled definition is back in its place."""
    forgotten: tuple[Connection, ...]
    unregistered: bool | None
    """Whether the registrations that we had made there were given back; None if there were none, or no way to."""


class Providers:
    """The use cases around provider definitions."""

    def __init__(self, context: Context, home: Home) -> None:
        self._context = context
        self._home = home
        self._changing = threading.Lock()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Keep definitions from being registered and removed meanwhile; not for longer than a transaction takes."""
        with self._changing:
            yield

    def examine(self, caller: Caller, data: bytes, *, source: str = "definition", force: bool = False) -> Review:
        """Look a definition through as `register` does, without registering it.

        Args:
            caller: who wants to register it: an admin, for it counts for everybody.
            data: the definition, as its file holds it.
            source: the file's name, for errors.
            force: it may take the place of a definition that has its name.

        Raises:
            ProviderInvalid: it is not valid; names the field and, where there is one, the fix.
            ProviderExists: there is a provider of its name, and `force` is not given.
            NotAllowed: the caller is no admin.
        """
        caller.require_admin(ADMINS_ONLY)
        review = self._review(caller, self._context.catalog.examine(data, source=source))
        if review.replaced is not None and not force:
            raise ProviderExists(f"there is a {_KINDS[review.replaced]} named {review.provider.name} already")
        return review

    def register(
        self,
        caller: Caller,
        data: bytes,
        *,
        source: str = "definition",
        force: bool = False,
        allow_private_addresses: bool = False,
    ) -> Review:
        """Put a definition among the custom ones, under its own name and in its one spelling.

        An OAuth client that was stored for the definition whose place it takes is forgotten, in every vault, when its
        endpoints lie elsewhere: it was given for those.

        Args:
            caller: who registers it.
            data: the definition, as its file holds it.
            source: the file's name, for errors.
            force: it may take the place of a definition that has its name.
            allow_private_addresses: whoever asks knows that the definition wants these, and agrees.

        Raises:
            ProviderInvalid, ProviderExists, NotAllowed: as `examine`; also when nobody agreed to private addresses.
            StorageFailed: it could not be written; nothing has changed.
        """
        context = self._context
        with self._changing:
            review = self.examine(caller, data, source=source, force=force)
            provider = review.provider
            if provider.allow_private_addresses and not allow_private_addresses:
                raise NotAllowed(
                    f"{source}: allow_private_addresses: nobody has agreed to this",
                    hint="confirm it at `authsome register`: its hosts may then lie on this machine or its network",
                )
            make_private_directory(self._home.providers)
            written = json.dumps(definition_to_json(provider), indent=2, ensure_ascii=False).encode() + b"\n"
            detail = f"{review.source}: {', '.join(provider.api_url)}"
            with (
                replacing_private(context.catalog.custom_path(provider.name), written),
                context.database.transaction(durable=True) as tx,
            ):
                if review.forgets_client:
                    clients.delete_of_everyone(tx, provider.name)
                    detail += "; its OAuth client was forgotten"
                audit.append(tx, record.about_provider(Event.REGISTER, caller, provider.name, context.clock(), detail))
            self._announce()
        return review

    def remove(self, caller: Caller, name: str, *, forget: bool) -> Removed:
        """Drop a custom definition, or what overrides a bundled one, with its OAuth client.

        A credential never outlives the definition that it was got by: the bundled one might send it elsewhere.

        Args:
            caller: who removes it: an admin, for it counts for everybody.
            name: the provider's name.
            forget: forget what is connected under that name, too.

        Raises:
            ProviderNotFound: there is no such provider.
            NotAllowed: it is a bundled one, or the caller is no admin.
            ConnectionExists: something is connected, and `forget` is not given.
        """
        caller.require_admin(ADMINS_ONLY)
        context = self._context
        with self._changing:
            entry = context.catalog.entry(name)
            if entry.source == "bundled":
                raise NotAllowed(f"{name} is a bundled provider", hint="only custom definitions can be removed")
            with context.database.transaction(durable=True) as tx:
                stored = tuple(connections.list_of_everyone(tx, name))
                if stored and not forget:
                    raise ConnectionExists(
                        _connected(caller, name, stored),
                        hint=f"that is forgotten with it: log out or revoke first, or `authsome remove {name} --yes`",
                    )
                now = context.clock()
                registrations = self._registrations(tx, name)
                for connection in stored:
                    connections.delete(tx, connection)
                    audit.append(tx, record.about(Event.LOGOUT, caller, connection, now, "with its provider"))
                clients.delete_of_everyone(tx, name)
                audit.append(tx, record.about_provider(Event.REMOVE, caller, name, now, entry.source))
            _unlink(entry)
            self._announce()
        return Removed(
            name=name,
            source=entry.source,
            restored=entry.source == "override",
            forgotten=tuple(each for each in stored if each.vault_id == caller.vault_id),
            unregistered=self._give_back(entry, registrations),
        )

    def _announce(self) -> None:
        """Tell that a file has changed by which requests are decided, once the catalogue has seen it."""
        self._context.catalog.names()
        self._context.database.announce()

    def _registrations(self, reader: Reader, provider: str) -> list[Registration]:
        """What we have registered with a provider by ourselves, in every vault."""
        found: list[Registration] = []
        for vault_id in clients.vaults_with(reader, provider):
            with suppress(VaultDamaged):  # a registration that cannot be read cannot be given back
                known = clients.list_of(reader, self._context.sealers.for_vault(vault_id), provider)
                found += [client.registration for client in known if client.registration is not None]
        return found

    def _give_back(self, entry: Entry, registrations: Iterable[Registration]) -> bool | None:
        """Tell the provider, as far as it can be told, that these clients are no more (RFC 7592 §2.3)."""
        allow_private = entry.provider is not None and entry.provider.allow_private_addresses
        outcomes = []
        for each in registrations:
            if each.management_uri is None:
                continue
            try:
                outcomes.append(registration.give_back(self._context, each, allow_private=allow_private))
            except AuthsomeError:  # the definition is gone, whatever becomes of what it had registered
                outcomes.append(False)
        return all(outcomes) if outcomes else None

    def _review(self, caller: Caller, provider: Provider) -> Review:
        context = self._context
        catalog = context.catalog
        current = catalog.entry(provider.name) if provider.name in catalog.names() else None
        before = current.provider.api_url if current and current.provider else ()
        with context.database.read() as reader:
            stored = connections.list_of_everyone(reader, provider.name)
            has_client = bool(clients.vaults_with(reader, provider.name))
        own = tuple(each for each in stored if each.vault_id == caller.vault_id)
        moves = current is not None and not _servers(provider) <= _servers(current.provider)
        return Review(
            provider=provider,
            source="override" if catalog.bundled(provider.name) else "custom",
            replaced=current.source if current else None,
            new_hosts=tuple(entry for entry in provider.api_url if entry not in before),
            connections=own,
            others=len(stored) - len(own),
            forgets_client=moves and has_client,
        )


def _servers(provider: Provider | None) -> frozenset[str]:
    """The hosts, as written, that are sent what an OAuth client holds."""
    asked = provider.oauth.endpoints if provider is not None and provider.oauth is not None else ()
    return frozenset(each.removeprefix("https://").partition("/")[0] for each in asked)


def _connected(caller: Caller, provider: str, stored: tuple[Connection, ...]) -> str:
    own = [each.name for each in stored if each.vault_id == caller.vault_id]
    parts = [f"as {', '.join(own)}"] if own else []
    if len(stored) > len(own):
        parts.append("by other principals")
    return f"{provider} is connected {' and '.join(parts)}"


def _unlink(entry: Entry) -> None:
    try:
        entry.path.unlink(missing_ok=True)
        sync_directory(entry.path.parent)
    except OSError as error:
        raise StorageFailed(f"{entry.path} could not be removed: {reason_of(error)}") from error
