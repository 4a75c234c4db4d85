"""Clients that we register ourselves: one for each provider, made once, kept sealed, and made anew when it is lost.

Rule: a registration serves only the server that made it and the redirect URI that it was made for. It is stored as
soon as it is made, not when a login by it has succeeded: else every attempt would leave one behind.
"""

from typing import Final

from authsome.broker import oauth_clients
from authsome.broker.context import Context
from authsome.errors import AuthsomeError, EndpointRefused, EndpointUnreachable
from authsome.models import url
from authsome.models.connection import Client, Registration
from authsome.models.login import LoginRequest
from authsome.models.oauth import OAuth
from authsome.oauth import registration
from authsome.oauth.authorization import host_of
from authsome.oauth.client_auth import ClientCredentials
from authsome.vault import clients, connections
from authsome.vault.database import Transaction

_NOT_OFFERED: Final = frozenset({405, 501})  # RFC 7592 §2.3

DOCUMENT_PATH: Final = "/auth/client.json"
"""Where the document about us lies, whose URL is our client id at servers that read it."""


def document_url(base_url: str) -> str | None:
    """The client id that the document about us is; None when only this machine could read it."""
    try:
        place = url.parse(base_url, allow_private=False)
    except ValueError:
        return None
    return base_url + DOCUMENT_PATH if place.scheme == "https" else None


def document(base_url: str, redirect_uri: str) -> dict[str, object]:
    """The document about us."""
    said = registration.metadata(redirect_uri=redirect_uri, method="none")
    return {"client_id": base_url + DOCUMENT_PATH, "client_uri": base_url, **said}


def obtain(  # noqa: PLR0913  # each by name
    context: Context, request: LoginRequest, oauth: OAuth, *, allow_private: bool, base_url: str, redirect_uri: str
) -> ClientCredentials | None:
    """The client for a login: the known one if it still serves, else a new one; None when nobody registers any.

    Args:
        context: what it stands on.
        request: the login.
        oauth: the provider's OAuth side, resolved and completed.
        allow_private: whether the provider's hosts may lie on a private network.
        base_url: the daemon's URL as providers know it.
        redirect_uri: ours.

    Raises:
        EndpointUnreachable, EndpointRefused: the registration failed.
    """
    sealer = context.sealers.for_vault(request.vault_id)
    server = oauth_clients.server_of_login(context, request)
    assert server is not None  # nothing is asked for before that is known
    with context.database.read() as reader:
        known = clients.get(reader, sealer, request.provider, server)
    document_id = document_url(base_url) if oauth.client_id_metadata_document else None
    if document_id is not None:
        return ClientCredentials(client_id=document_id, method="none")
    if known is not None and _serves(context, known, oauth, allow_private=allow_private, redirect_uri=redirect_uri):
        return ClientCredentials.of(known)
    if oauth.registration_endpoint is None:
        return None
    asked = registration.request(oauth, redirect_uri=redirect_uri)
    response = context.send(asked, allow_private)
    try:
        made = registration.parse_response(response, oauth, redirect_uri=redirect_uri, now=context.clock())
    except EndpointRefused as error:
        error.hint = "if it registers nobody, make a client there yourself, and say --flow pkce"
        raise
    with context.database.transaction(durable=True) as tx:
        client = clients.put(
            tx,
            sealer,
            provider=request.provider,
            server=server,
            client_id=made.client.client_id,
            client_secret=made.client.client_secret,
            registration=made.registration,
            now=context.clock(),
        )
    return ClientCredentials.of(client)


def forget(context: Context, tx: Transaction, request: LoginRequest, *, is_certain: bool) -> None:
    """Forget a registration that its server no longer takes.

    Where that is not certain (a login was given up at the provider, whose page may have said that it does not know
    us), it is kept if something is connected by it, or if the server can be asked the next time.
    """
    sealer = context.sealers.for_vault(request.vault_id)
    server = oauth_clients.server_of_login(context, request)
    known = None if server is None else clients.get(tx, sealer, request.provider, server)
    if known is None or known.registration is None or not oauth_clients.serves(known, request.flow):
        return
    is_proven = bool(connections.list_of(tx, request.vault_id, request.provider))
    if is_certain or not (is_proven or known.registration.management_uri is not None):
        clients.delete(tx, request.vault_id, request.provider, known.server)


def give_back(context: Context, made: Registration, *, allow_private: bool) -> bool:
    """End a registration at its server (RFC 7592 §2.3); False where the server offers no way to.

    Raises:
        EndpointUnreachable, EndpointRefused: what became of it is not known.
    """
    asked = registration.delete_request(made)
    if asked is None:
        return False
    response = context.send(asked, allow_private)
    if 200 <= response.status < 300 or registration.is_gone(response):
        return True
    if response.status in _NOT_OFFERED:
        return False
    kind = EndpointUnreachable if response.status >= 500 else EndpointRefused
    raise kind(f"{host_of(made.endpoint)}: answered {response.status} when asked to forget our client")


def _serves(context: Context, known: Client, oauth: OAuth, *, allow_private: bool, redirect_uri: str) -> bool:
    """Whether a client that we know can be used; one that somebody made by hand always is."""
    made = known.registration
    if made is None:
        return not url.is_link(known.client_id)  # that was the document's URL, which is not read any more
    if made.endpoint != oauth.registration_endpoint or made.redirect_uri != redirect_uri:
        return False
    if made.secret_expires_at is not None and made.secret_expires_at <= context.clock():
        return False
    question = registration.read_request(made)
    if question is None:
        return True
    try:
        return not registration.is_gone(context.send(question, allow_private))
    except AuthsomeError:  # nothing is known against it
        return True
