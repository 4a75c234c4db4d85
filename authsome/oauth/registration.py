"""Dynamic client registration: becoming a provider's OAuth client by ourselves (RFC 7591), and ending that (RFC 7592).

Rule: what the server answers is believed as far as it serves us. The client it made must have our redirect URI, and a
way of authentication that we have; names, pictures and addresses in the answer are not kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from authsome.errors import EndpointRefused
from authsome.message import HttpRequest, HttpResponse
from authsome.models.connection import AuthMethod, Registration
from authsome.models.oauth import AUTH_METHODS, OAuth
from authsome.oauth import token
from authsome.oauth.authorization import host_of
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret

CLIENT_NAME: Final = "Authsome"
_MAX_ID: Final = 2048  # a client id may be a URL
_MAX_SECRET: Final = 4096
_GONE: Final = frozenset({401, 403, 404, 410})
PUBLIC_FIRST: Final[tuple[AuthMethod, ...]] = ("none", "client_secret_basic", "client_secret_post")
"""For a client of our own: a program on a user's machine keeps no secret from him (RFC 8252 §8.5)."""
SECRET_FIRST: Final[tuple[AuthMethod, ...]] = ("client_secret_basic", "client_secret_post", "none")
"""For a client that the user made, which may have a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The client that the server made."""

    client: ClientCredentials
    registration: Registration


def usual_method(offered: Sequence[str], *, preferred: Sequence[AuthMethod]) -> AuthMethod:
    """How a client is to authenticate, of what the server offers; HTTP Basic if it does not say (RFC 8414 §2)."""
    return next((method for method in preferred if method in offered), "client_secret_basic")


def metadata(*, redirect_uri: str, method: AuthMethod) -> dict[str, object]:
    """What we say of ourselves (RFC 7591 §2); no scope, which would bind later logins by the same client."""
    return {
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": "native" if redirect_uri.startswith("http://") else "web",
    }


def request(oauth: OAuth, *, redirect_uri: str) -> HttpRequest:
    """Ask to be registered (RFC 7591 §3.1)."""
    said = metadata(redirect_uri=redirect_uri, method=oauth.token_endpoint_auth_method)
    headers = (("accept", "application/json"), ("content-type", "application/json"))
    return HttpRequest("POST", oauth.registration_endpoint or "", headers, json.dumps(said).encode())


def parse_response(response: HttpResponse, oauth: OAuth, *, redirect_uri: str, now: datetime) -> Registered:
    """Read the client that was made (RFC 7591 §3.2.1).

    Raises:
        EndpointUnreachable: passing trouble.
        EndpointRefused: no client was made, or none that can be used.
    """
    endpoint = oauth.registration_endpoint or ""
    host = host_of(endpoint)
    data = token.parse_object(response, oauth, host=host, now=now)
    client_id, secret = _text(data.get("client_id"), _MAX_ID), _text(data.get("client_secret"), _MAX_SECRET)
    if client_id is None:
        raise EndpointRefused(f"{host}: registered us without a client id that can be used")
    uris = data.get("redirect_uris")
    if uris is not None and (not isinstance(uris, list) or redirect_uri not in uris):
        raise EndpointRefused(f"{host}: registered us with another redirect URI than ours")
    method = _method(data.get("token_endpoint_auth_method"), oauth.token_endpoint_auth_method, has_secret=bool(secret))
    if method is None or (method != "none" and secret is None):
        raise EndpointRefused(f"{host}: registered us with a way of authentication that we do not have")
    expires_at = _moment(data.get("client_secret_expires_at")) if secret else None
    if expires_at is not None and expires_at <= now:
        raise EndpointRefused(f"{host}: registered us with a client secret that has expired already")
    access_token = _text(data.get("registration_access_token"), _MAX_SECRET)
    management = data.get("registration_client_uri")
    is_manageable = access_token is not None and isinstance(management, str) and _same_origin(management, endpoint)
    return Registered(
        client=ClientCredentials(client_id=client_id, client_secret=Secret(secret) if secret else None),
        registration=Registration(
            endpoint=endpoint,
            redirect_uri=redirect_uri,
            method=method,
            secret_expires_at=expires_at,
            management_uri=str(management) if is_manageable else None,
            access_token=Secret(access_token) if is_manageable and access_token else None,
        ),
    )


def read_request(registration: Registration) -> HttpRequest | None:
    """Ask whether the registration is still there (RFC 7592 §2.1); None when nobody said how to ask."""
    return _management_request("GET", registration)


def delete_request(registration: Registration) -> HttpRequest | None:
    """Give the registration back (RFC 7592 §2.3); None when nobody said how."""
    return _management_request("DELETE", registration)


def is_gone(response: HttpResponse) -> bool:
    """Whether the server no longer knows the registration (RFC 7592 §2.1, §2.3)."""
    return response.status in _GONE


def _management_request(method: str, registration: Registration) -> HttpRequest | None:
    if registration.management_uri is None or registration.access_token is None:
        return None
    headers = (("accept", "application/json"), ("authorization", f"Bearer {registration.access_token.reveal()}"))
    return HttpRequest(method, registration.management_uri, headers)


def _text(value: object, limit: int) -> str | None:
    fits = isinstance(value, str) and 0 < len(value) <= limit and value.isascii() and value.isprintable()
    return str(value) if fits else None


def _method(said: object, asked: AuthMethod, *, has_secret: bool) -> AuthMethod | None:
    """The client's way of authentication; a server that does not say means the one that was asked for."""
    if said is None:
        return asked if has_secret or asked == "none" else None
    return next((method for method in AUTH_METHODS if method == said), None)


def _moment(value: object) -> datetime | None:
    """When the secret ends, in seconds since 1970; zero is never (RFC 7591 §3.2.1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _same_origin(one: str, other: str) -> bool:
    try:
        mine, theirs = urlsplit(one), urlsplit(other)
    except ValueError:
        return False
    return (mine.scheme, mine.netloc) == (theirs.scheme, theirs.netloc)
