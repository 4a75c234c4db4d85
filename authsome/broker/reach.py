"""Which connections a caller reaches: those of its vault that its identity is not kept from.

Rule: what is out of reach is not there: no answer, hint or count tells it from what was never stored.
"""

from collections.abc import Collection

from authsome.broker.catalog import Catalog
from authsome.models.connection import Connection
from authsome.models.principal import Caller
from authsome.vault import connections
from authsome.vault.database import Reader, Transaction


def list_all(reader: Reader | Transaction, caller: Caller) -> list[Connection]:
    """Every connection that the caller reaches, by provider and name."""
    return _within(connections.list_all(reader, caller.vault_id), caller)


def list_of(reader: Reader | Transaction, caller: Caller, provider: str) -> list[Connection]:
    """Those of one provider, by name."""
    return _within(connections.list_of(reader, caller.vault_id, provider), caller)


def providers(reader: Reader | Transaction, caller: Caller, names: Collection[str]) -> set[str]:
    """Those of some providers of which the caller reaches a connection."""
    stored = connections.list_of_any(reader, caller.vault_id, names)
    return {name for name, found in stored.items() if _within(found, caller)}


def require(
    reader: Reader | Transaction, catalog: Catalog, caller: Caller, provider: str, name: str | None
) -> Connection:
    """One of them; without a name the provider's default one.

    Raises:
        ProviderNotFound: there is none, and no provider of that name.
        ConnectionNotFound: there is none, or none of that name, or several and no default among them.
    """
    stored = list_of(reader, caller, provider)
    if not stored:
        catalog.entry(provider)
    return connections.one_of(stored, provider, name)


def _within(stored: list[Connection], caller: Caller) -> list[Connection]:
    limits = caller.limits
    return (
        stored if limits.connections is None else [each for each in stored if limits.admits(each.provider, each.name)]
    )
