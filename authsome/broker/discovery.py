"""Finding out where a server's endpoints are: for a definition that names only an issuer, and for a URL alone.

Rule: what is found is written down as a definition before it is used, and goes through the same checks as one that
somebody wrote. It names no host but the URL's own as a place for the credential.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

from authsome.broker.catalog import Catalog
from authsome.broker.context import Context
from authsome.errors import EndpointRefused, EndpointUnreachable, RequestInvalid
from authsome.message import HttpRequest, HttpResponse
from authsome.models import url
from authsome.models.connection import Connection
from authsome.models.login import Flow
from authsome.models.oauth import OAuth
from authsome.models.provider import SCHEMA_VERSION, Provider
from authsome.models.route import HTTPS_PORT
from authsome.models.url import Url
from authsome.oauth import metadata, registration
from authsome.vault import issuers

_NAME_LIMIT: Final = 64
_UNFIT: Final = re.compile(r"[^a-z0-9]+")
_OFFLINE: Final = "offline_access"  # what OpenID Connect calls a login that outlives the hour (Core §11)
_OPENID: Final = "openid"
_INITIALIZE: Final = {  # what a client of an MCP server says first; one that wants a token answers 401
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": registration.CLIENT_NAME, "version": "1"},
    },
}
_EXAMPLE: Final = "as in authsome login https://mcp.example.com/mcp"
_MCP_ACCEPT: Final = ("accept", "application/json, text/event-stream")

Found = TypeVar("Found")


def completed(context: Context, vault_id: str, oauth: OAuth, variables: Mapping[str, str]) -> OAuth:
    """An OAuth side with the endpoints that its issuer's metadata names now, when it names none itself.

    What the issuer says is kept for the refreshes to come.

    Raises:
        EndpointUnreachable, EndpointRefused: the metadata cannot be had, or is of no use.
    """
    if not oauth.needs_discovery:
        return oauth
    issuer = _issuer(oauth, variables)
    try:
        found, document = _server_document(context, issuer, allow_private=oauth.allow_private_addresses)
    except EndpointUnreachable as error:
        error.unanswered = False  # no grant was in that request, so none can be lost
        raise
    with context.database.transaction(durable=False) as tx:
        issuers.put(tx, context.sealers.for_vault(vault_id), issuer, document.decode(), now=context.clock())
    return _with_endpoints(oauth, found)


def remembered(context: Context, connection: Connection, oauth: OAuth) -> OAuth:
    """The same for a connection, by what the issuer said within the last day where there is that.

    Raises:
        EndpointUnreachable, EndpointRefused: as `completed`.
    """
    if not oauth.needs_discovery:
        return oauth
    issuer = _issuer(oauth, connection.variables)
    with context.database.read() as reader:
        document = issuers.get(reader, context.sealers.for_vault(connection.vault_id), issuer, now=context.clock())
    if document is not None:
        response = HttpResponse(status=200, body=document.encode())
        with suppress(EndpointRefused):  # it was taken by another release, and is not any more
            allow_private = oauth.allow_private_addresses
            return _with_endpoints(oauth, metadata.parse_server(response, issuer=issuer, allow_private=allow_private))
    return completed(context, connection.vault_id, oauth, connection.variables)


def forget(context: Context, connection: Connection, oauth: OAuth) -> None:
    """Ask the issuer anew the next time: what it said may be what went wrong."""
    if oauth.needs_discovery:
        with context.database.transaction(durable=False) as tx:
            issuers.delete(tx, connection.vault_id, _issuer(oauth, connection.variables))


def _issuer(oauth: OAuth, variables: Mapping[str, str]) -> str:
    issuer = oauth.resolved(variables).issuer
    assert issuer is not None  # or the definition would not have been taken
    return issuer


def _with_endpoints(oauth: OAuth, found: metadata.Server) -> OAuth:
    known = replace(
        oauth,
        authorization_url=found.authorization_endpoint or "",
        token_url=found.token_endpoint,
        device_authorization_url=oauth.device_authorization_url or found.device_authorization_endpoint,
        registration_endpoint=oauth.registration_endpoint or found.registration_endpoint,
        revocation_url=oauth.revocation_url or found.revocation_endpoint,
        iss_required=oauth.iss_required or found.iss_promised,
        client_id_metadata_document=oauth.client_id_metadata_document or found.takes_metadata_document,
    )
    if found.auth_methods and oauth.token_endpoint_auth_method not in found.auth_methods:
        return known.with_method(registration.usual_method(found.auth_methods, preferred=registration.SECRET_FIRST))
    return known


def provider_of(catalog: Catalog, address: Url) -> Provider | None:
    """The provider that names this URL already; of several the one that names it most closely."""
    catalog.names()  # looks at the files, which `naming` may do a moment later
    found = [
        (place.fixed.specificity, provider.name, provider)
        for provider in catalog.naming(address.host, address.port)
        for place in provider.places
        if place.fixed is not None
        and place.fixed.matches_address(address.host, address.port)
        and place.fixed.matches_path(address.path or "/")
    ]
    return max(found, key=lambda each: each[:2])[2] if found else None


def read_address(text: str, *, allow_local: bool) -> Url:
    """The URL of an API, as a user gives it.

    Raises:
        RequestInvalid: it is none that a credential could go to.
    """
    try:
        address = url.parse(text, allow_private=allow_local)
    except ValueError as error:
        raise RequestInvalid(f"the URL {error}", hint=_EXAMPLE) from error
    if address.scheme != "https":
        raise RequestInvalid("the URL must be https: a credential is never sent in the clear", hint=_EXAMPLE)
    return address


def definition_for(context: Context, address: Url) -> dict[str, object]:
    """The definition (JSON) of a provider that nobody has described yet, by what its servers say.

    The URL is a protected resource (an MCP server, RFC 9728), or else an issuer, or an API whose origin is one.

    Raises:
        EndpointUnreachable, EndpointRefused: there is nothing to be found out, or it contradicts itself.
    """
    allow_private = url.is_local(address.host)
    resource, asked = _resource(context, address.text, allow_private=allow_private)
    if resource is not None and resource.servers:
        server = _server(context, resource.servers[0], allow_private=allow_private)
    else:
        origin = replace(address, path="").text
        issuers = [address.text] if address.path in {"", "/"} else [address.text, origin]
        server = _first(issuers, lambda issuer: _server(context, issuer, allow_private=allow_private), address.host)
    if server.authorization_endpoint is None:
        raise EndpointRefused(f"{address.host}: its authorization server names no authorization endpoint")
    registers = server.registration_endpoint is not None or server.takes_metadata_document
    # A client of the user's own may have a secret; one that we register needs none where that is allowed.
    preferred = registration.PUBLIC_FIRST if registers else registration.SECRET_FIRST
    method = registration.usual_method(server.auth_methods, preferred=preferred)
    oauth: dict[str, object] = {
        "issuer": server.issuer,
        "iss_required": server.iss_promised,
        "authorization_url": server.authorization_endpoint,
        "token_url": server.token_endpoint,
        "device_authorization_url": server.device_authorization_endpoint,
        "registration_endpoint": server.registration_endpoint,
        "revocation_url": server.revocation_endpoint,
        "client_id_metadata_document": server.takes_metadata_document,
        "resource": resource.resource if resource is not None else None,
        "scopes": list(_scopes(asked, resource, server)),
        "pkce": "required",
        "token_endpoint_auth_method": method,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "name": _name(context.catalog, address),
        "display_name": (resource.name if resource is not None else None) or address.host,
        "auth_type": "oauth2",
        "flow": (Flow.DCR_PKCE if registers else Flow.PKCE).value,
        "api_url": address.text,
        "oauth": {key: value for key, value in oauth.items() if value},
        **({"allow_private_addresses": True} if allow_private else {}),
    }


def _resource(
    context: Context, address: str, *, allow_private: bool
) -> tuple[metadata.Resource | None, metadata.Challenge]:
    """The metadata of a protected resource, and what it says to who comes without a token."""
    asked = metadata.Challenge(metadata=None, scopes=())
    for request in _probes(address):
        response = context.send(request, allow_private)
        if response.status == 401:
            asked = metadata.challenge(response)
            break
    named = (asked.metadata,) if asked.metadata is not None else metadata.resource_documents(address)
    try:
        return _first(
            named, lambda document: _resource_at(context, document, address, allow_private=allow_private), address
        ), asked
    except EndpointRefused:
        if asked.metadata is not None:  # it was named, so it counts: nothing else may be believed in its place
            raise
        return None, asked


def _probes(address: str) -> Iterable[HttpRequest]:
    body = json.dumps(_INITIALIZE).encode()
    yield HttpRequest("GET", address, (_MCP_ACCEPT,))
    yield HttpRequest("POST", address, (_MCP_ACCEPT, ("content-type", "application/json")), body)


def _resource_at(context: Context, document: str, used: str, *, allow_private: bool) -> metadata.Resource | None:
    response = _fetch(context, document, allow_private=allow_private)
    return None if response is None else metadata.parse_resource(response, document=document, used=used)


def _server(context: Context, issuer: str, *, allow_private: bool) -> metadata.Server:
    return _server_document(context, issuer, allow_private=allow_private)[0]


def _server_document(context: Context, issuer: str, *, allow_private: bool) -> tuple[metadata.Server, bytes]:
    def at(document: str) -> tuple[metadata.Server, bytes] | None:
        response = _fetch(context, document, allow_private=allow_private)
        if response is None:
            return None
        return metadata.parse_server(response, issuer=issuer, allow_private=allow_private), response.body

    return _first(metadata.server_documents(issuer), at, issuer)


def _first(places: Iterable[str], read: Callable[[str], Found | None], what: str) -> Found:
    """The first that is there and can be read; else what is wrong with the first that is there."""
    telling: EndpointRefused | None = None
    for place in places:
        try:
            if (found := read(place)) is not None:
                return found
        except EndpointRefused as error:
            telling = telling or error
    raise telling or EndpointRefused(
        f"{what}: nothing there says how to log in",
        hint="it is no MCP server or OAuth issuer that describes itself; `authsome list` shows the providers",
    )


def _fetch(context: Context, address: str, *, allow_private: bool) -> HttpResponse | None:
    """Get a metadata document, None when there is none; redirects within its origin are followed, three at most."""
    target: str | None = address
    for _ in range(metadata.MOST_REDIRECTS + 1):
        assert target is not None
        response = context.send(metadata.document_request(target), allow_private)
        target = metadata.redirect_target(target, response)
        if target is None:
            return response if response.status == 200 else None
    raise EndpointRefused(f"{address}: its metadata sends on and on")


def _scopes(asked: metadata.Challenge, resource: metadata.Resource | None, server: metadata.Server) -> tuple[str, ...]:
    """What to ask for: what the 401 names, else all that the resource has; and a login that lasts, where it is offered.

    What the authorization server has in all is not asked for: it is more than this API needs.
    """
    wanted = asked.scopes or (resource.scopes if resource is not None else ())
    if resource is None and _OPENID in server.scopes:
        wanted = (_OPENID,)
    lasting = (_OFFLINE,) if _OFFLINE in server.scopes and _OFFLINE not in wanted else ()
    return wanted + lasting


def _name(catalog: Catalog, address: Url) -> str:
    """A name for the URL's provider that no other has: its host, with the path where that is taken, or a hash."""
    host = address.host if address.port == HTTPS_PORT else f"{address.host}-{address.port}"
    digest = hashlib.sha256(address.text.encode()).hexdigest()[:8]
    known = set(catalog.names())
    for words in (host, host + address.path, f"{host[:40]}-{digest}"):
        name = _UNFIT.sub("-", words.lower()).strip("-")[:_NAME_LIMIT].strip("-")
        if name and name not in known:
            return name
    raise EndpointRefused(f"{address.host}: there are providers of every name that this one could have")
