"""Which OAuth client a login goes by: the one that the authorization server in question knows.

Rule: a client's secret goes to the server that it was made at. A provider may have many (a GitLab of one's own beside
gitlab.com), so clients are kept by provider and server.
"""

from collections.abc import Mapping

from authsome.broker.context import Context
from authsome.models.connection import Client, Kind
from authsome.models.login import LoginRequest
from authsome.models.provider import Provider
from authsome.vault import clients, connections
from authsome.vault.database import Reader
from authsome.vault.vaults import Sealer


def server_of(provider: Provider | None, variables: Mapping[str, str]) -> str | None:
    """Which server a login with these variables goes to; None while one is missing that decides."""
    return provider.oauth.server(variables) if provider is not None and provider.oauth is not None else ""


def server_of_login(context: Context, request: LoginRequest) -> str | None:
    """Which server a login goes to; None while a variable is missing that decides, or has come to."""
    return server_of(request.definition or context.catalog.find(request.provider), request.variables)


def find(reader: Reader, sealer: Sealer, provider: Provider, variables: Mapping[str, str]) -> Client | None:
    """The client that the server knows, if we have one.

    One from before servers were told apart serves those servers that something is connected to by it, and the usual one
    where nothing is connected at all.
    """
    server = server_of(provider, variables)
    if server is None:
        return None
    found = clients.get(reader, sealer, provider.name, server)
    if found is not None or not server:
        return found
    older = clients.get(reader, sealer, provider.name)
    if older is None:
        return None
    stored = connections.list_of(reader, sealer.vault_id, provider.name)
    logins = [each for each in stored if each.kind is Kind.OAUTH2]
    usual = {each.name: each.default for each in provider.variables if each.default is not None}
    known = {server_of(provider, each.variables) for each in logins} if logins else {server_of(provider, usual)}
    return older if server in known else None
