"""Where a server's endpoints are, by its own word (RFC 8414, RFC 9728, OpenID Connect Discovery).

Rule 1: metadata counts for exactly the issuer or the resource that was asked about. Otherwise whoever may write some
file could speak for another server (RFC 8414 §3.3, RFC 9728 §3.3).
Rule 2: a redirect is followed within its origin only, three times at most.
Rule 3: of an endpoint nothing is kept but an address that a definition could hold as well (`models.url`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from authsome.errors import EndpointRefused
from authsome.message import HttpRequest, HttpResponse, clean_line, json_object
from authsome.models import url
from authsome.models.oauth import check_endpoint
from authsome.oauth.authorization import host_of

MOST_REDIRECTS: Final = 3
SERVER: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"
RESOURCE: Final = "/.well-known/oauth-protected-resource"

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_SCOPES: Final = 50  # asked for at once; a server that lists more lists what it has, not what one wants
_SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,200}")  # RFC 6749 §3.3, scope-token
_PARAMETER: Final = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z0-9_-]++)[ \t]*+=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_CHALLENGE: Final = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An authorization server (RFC 8414 §2)."""

    issuer: str
    authorization_endpoint: str | None
    token_endpoint: str
    device_authorization_endpoint: str | None
    registration_endpoint: str | None
    revocation_endpoint: str | None
    scopes: tuple[str, ...]
    auth_methods: tuple[str, ...]
    iss_promised: bool
    """Whether its authorization responses name the issuer (RFC 9207 §3)."""
    takes_metadata_document: bool
    """Whether the URL of a document about a client serves as its client id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A protected resource: an API that wants tokens (RFC 9728 §2)."""

    resource: str
    servers: tuple[str, ...]
    """The issuers whose tokens it takes."""
    scopes: tuple[str, ...]
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a 401 says of how to get a token (RFC 6750 §3, RFC 9728 §5.1)."""

    metadata: str | None
    scopes: tuple[str, ...]


def server_documents(issuer: str) -> tuple[str, ...]:
    """Where an issuer's metadata may lie, best first: the well-known part goes between host and path (RFC 8414 §3.1).

    OpenID Connect puts it after the path instead (Discovery §4), which is the same for an issuer without one.

    Raises:
        EndpointRefused: the issuer, which a resource may have named, is no address.
    """
    origin, path = _split(issuer)
    found = (origin + SERVER + path, origin + OPENID + path, origin + path + OPENID)
    return tuple(dict.fromkeys(found))


def resource_documents(resource: str) -> tuple[str, ...]:
    """Where a resource's metadata may lie, best first; the last one is its whole origin's (RFC 9728 §3.1)."""
    origin, path = _split(resource)
    return tuple(dict.fromkeys((origin + RESOURCE + path, origin + RESOURCE)))


def document_request(address: str) -> HttpRequest:
    """Ask for a metadata document."""
    return HttpRequest(method="GET", url=address, headers=(("accept", "application/json"),))


def redirect_target(address: str, response: HttpResponse) -> str | None:
    """Where an answer sends on to; None when it does not.

    Raises:
        EndpointRefused: to another origin, or nowhere.
    """
    if response.status not in _REDIRECTS:
        return None
    try:
        target = urljoin(address, response.header("Location") or "")
    except ValueError as error:
        raise EndpointRefused(f"{host_of(address)}: its metadata sends on to nowhere") from error
    if _origin(target) != _origin(address) or "#" in target:
        raise EndpointRefused(f"{host_of(address)}: its metadata sends on to somewhere else, which is not followed")
    return target


def parse_server(response: HttpResponse, *, issuer: str, allow_private: bool) -> Server:
    """Read an authorization server's metadata.

    Raises:
        EndpointRefused: it is none, of another issuer, or without usable endpoints.
    """
    host = host_of(issuer)
    data = _document(response, host)
    said = data.get("issuer")
    # An empty path and "/" are one (RFC 3986 §6.2.3); all else is compared as it is written.
    if not isinstance(said, str) or (said != issuer and {said, issuer} != {_split(issuer)[0], _split(issuer)[0] + "/"}):
        raise EndpointRefused(f"{host}: the metadata is of another issuer: {clean_line(str(said), 100)}")

    def endpoint(name: str) -> str | None:
        value = data.get(name)
        return value if isinstance(value, str) and _is_usable(value, allow_private=allow_private) else None

    def granting(name: str) -> str | None:
        value = data.get(name)
        return value if isinstance(value, str) and _is_granting(value, allow_private=allow_private) else None

    token_endpoint = granting("token_endpoint")
    if token_endpoint is None:
        raise EndpointRefused(f"{host}: the metadata names no token endpoint that can be used")
    return Server(
        issuer=said,
        authorization_endpoint=granting("authorization_endpoint"),
        token_endpoint=token_endpoint,
        device_authorization_endpoint=endpoint("device_authorization_endpoint"),
        registration_endpoint=endpoint("registration_endpoint"),
        revocation_endpoint=endpoint("revocation_endpoint"),
        scopes=_words(data.get("scopes_supported")),
        auth_methods=_words(data.get("token_endpoint_auth_methods_supported")),
        iss_promised=data.get("authorization_response_iss_parameter_supported") is True,
        takes_metadata_document=data.get("client_id_metadata_document_supported") is True,
    )


def parse_resource(response: HttpResponse, *, document: str, used: str) -> Resource:
    """Read a protected resource's metadata.

    Args:
        response: the answer.
        document: where it lies.
        used: the URL that the token is wanted for. The metadata is to be this URL's; or that of a URL above it whose
            own well-known place the document lies in, so that whoever wrote it speaks for all of that.

    Raises:
        EndpointRefused: it is none, or another resource's.
    """
    host = host_of(used)
    data = _document(response, host)
    said = data.get("resource")
    if not isinstance(said, str) or not (_same(said, used) or (_lies_at(document, said) and _covers(said, used))):
        raise EndpointRefused(f"{host}: the metadata is of another resource: {clean_line(str(said), 100)}")
    name = data.get("resource_name")
    return Resource(
        resource=said,
        servers=_words(data.get("authorization_servers")),
        scopes=_words(data.get("scopes_supported")),
        name=clean_line(name, 60) or None if isinstance(name, str) else None,
    )


def challenge(response: HttpResponse) -> Challenge:
    """What an answer's WWW-Authenticate fields say, whatever the scheme."""
    fields = [value for name, value in response.headers if name.lower() == "www-authenticate"]
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(", ".join(fields)[:_MAX_CHALLENGE]):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
    return Challenge(metadata=found.get("resource_metadata"), scopes=_words(found.get("scope", "").split()))


def _document(response: HttpResponse, host: str) -> Mapping[str, object]:
    try:
        return json_object(response.body)
    except ValueError as error:
        raise EndpointRefused(f"{host}: its metadata is not a JSON object") from error


def _is_usable(address: str, *, allow_private: bool) -> bool:
    try:
        url.parse(address, allow_private=allow_private)
    except ValueError:
        return False
    return True


def _is_granting(address: str, *, allow_private: bool) -> bool:
    """Whether it can be an authorization or a token endpoint, which may have a query (RFC 6749 §3.1, §3.2)."""
    try:
        check_endpoint(address, allow_private=allow_private)
    except ValueError:
        return False
    return True


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    words = [word for word in value if isinstance(word, str) and _SCOPE.fullmatch(word)]
    return tuple(dict.fromkeys(words))[:_MOST_SCOPES]


def _split(address: str) -> tuple[str, str]:
    """Origin and path; the path without a slash at its end."""
    parts = _parts(address)
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def _origin(address: str) -> tuple[str, str]:
    parts = _parts(address)
    return parts.scheme, parts.netloc.lower()


def _parts(address: str) -> SplitResult:
    """Somebody else's address, taken apart.

    Raises:
        EndpointRefused: it is none.
    """
    try:
        return urlsplit(address)
    except ValueError as error:
        raise EndpointRefused(f"the metadata names something that is no address: {clean_line(address, 100)}") from error


def _same(one: str, other: str) -> bool:
    return one == other or (_split(one) == _split(other) and not _split(one)[1] and not urlsplit(one).query)


def _lies_at(document: str, resource: str) -> bool:
    """Whether a document lies at the well-known place of exactly this resource."""
    origin, path = _split(resource)
    return document == origin + RESOURCE + path


def _covers(resource: str, used: str) -> bool:
    """Whether a URL is the resource or below it."""
    origin, path = _split(resource)
    inner_origin, inner = _split(used)
    return origin == inner_origin and (inner == path or inner.startswith(path + "/")) and not urlsplit(resource).query
