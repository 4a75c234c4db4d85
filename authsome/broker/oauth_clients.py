"""Which OAuth client a login goes by: the one that the authorization server in question knows.

Rule: a client's secret goes to the server that it was made at. A provider may have many (a GitLab of one's own beside
gitlab.com), so clients are kept by provider and server.

A client that we have made ourselves is registered for logins in a browser (RFC 7591 §2, `grant_types`), and a server
may refuse it a device code. So one that somebody made for that is kept beside it: what was granted to the first, the
first refreshes.
"""

from collections.abc import Mapping
from typing import Final

from authsome.broker.context import Context
from authsome.models import url
from authsome.models.connection import Client, Kind
from authsome.models.login import Flow, LoginRequest
from authsome.models.provider import Provider
from authsome.vault import clients, connections
from authsome.vault.database import Reader
from authsome.vault.vaults import Sealer

_DEVICES: Final = "device:"
"""What the name of a server begins with where its client for device codes is kept apart; no host has a colon in it."""


def serves(client: Client, flow: Flow) -> bool:
    """Whether a client may be taken for a login by that flow; of one that somebody made, who made it knows."""
    is_ours = client.registration is not None or url.is_link(client.client_id)
    return not is_ours or flow in {Flow.PKCE, Flow.DCR_PKCE}


def apart(server: str) -> str:
    """Where the client for device codes of a server is kept, when another client of ours is there already."""
    return _DEVICES + server


def server_of(provider: Provider | None, variables: Mapping[str, str]) -> str | None:
    """Which server a login with these variables goes to; None while one is missing that decides."""
    return provider.oauth.server(variables) if provider is not None and provider.oauth is not None else ""


def server_of_login(context: Context, request: LoginRequest) -> str | None:
    """Which server a login goes to; None while a variable is missing that decides, or has come to."""
    return server_of(request.definition or context.catalog.find(request.provider), request.variables)


def find(
    reader: Reader, sealer: Sealer, provider: Provider, variables: Mapping[str, str], flow: str | None
) -> Client | None:
    """The client that the server knows, if we have one: for logins by that flow, where it has one of its own.

    One from before servers were told apart serves those servers that something is connected to by it, and the usual one
    where nothing is connected at all.
    """
    server = server_of(provider, variables)
    if server is None:
        return None
    if flow == Flow.DEVICE_CODE and (own := clients.get(reader, sealer, provider.name, apart(server))) is not None:
        return own
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
