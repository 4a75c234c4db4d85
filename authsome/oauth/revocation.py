"""Revocation: telling the provider that a token is to be dead (RFC 7009).

Rule: only the provider's own word makes a token dead. What it does not say (no answer, an error) is a failure, which
is told; a token that it does not know any more is as good as revoked (§2.2).
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Final, Literal

from authsome.errors import EndpointRefused
from authsome.message import HttpRequest, HttpResponse, json_object, member
from authsome.models.oauth import OAuth
from authsome.oauth import token
from authsome.oauth.authorization import host_of
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret

Hint = Literal["refresh_token", "access_token"]

_DEAD_ALREADY: Final = frozenset({"invalid_token", "invalid_grant", "token_revoked", "token_expired"})
"""What some providers say instead of 200 to a token that they do not know (any more)."""
_UNSUPPORTED: Final = "unsupported_token_type"  # §2.2.1


class Outcome(Enum):
    """What the provider did."""

    REVOKED = "revoked"
    UNSUPPORTED = "unsupported"
    """It revokes no tokens of this type."""


def revocation_request(oauth: OAuth, client: ClientCredentials, *, revoked: Secret[str], hint: Hint) -> HttpRequest:
    """Ask for the end of a token (§2.1)."""
    return token.client_request(
        oauth, client, oauth.revocation_url or "", {"token": revoked.reveal(), "token_type_hint": hint}
    )


def parse_revocation_response(
    response: HttpResponse, oauth: OAuth, *, now: datetime, sent: Sequence[Secret[str]] = ()
) -> Outcome:
    """Read what the provider answered (§2.2); the body of a success says nothing.

    Raises:
        EndpointUnreachable: passing trouble, 503 above all: the token lives on (§2.2.1).
        EndpointRefused: the provider would not, and why.
    """
    error = _error(response, oauth)
    if error in _DEAD_ALREADY or (200 <= response.status < 300 and error is None):
        return Outcome.REVOKED
    if error == _UNSUPPORTED:
        return Outcome.UNSUPPORTED
    host = host_of(oauth.revocation_url or "")
    token.parse_object(response, oauth, host=host, now=now, sent=sent)
    raise EndpointRefused(f"{host}: answered {response.status}, which means nothing here")


def _error(response: HttpResponse, oauth: OAuth) -> str | None:
    """The error that an answer names, also in a 200; empty when it has none but is not well either."""
    if response.status >= 500 or 300 <= response.status < 400:
        return ""
    try:
        data = json_object(response.body)
    except ValueError:
        return None
    found = member(data, oauth.response.error) or data.get("error")
    if isinstance(found, str) and found:
        return found
    unwell = found or (oauth.response.ok is not None and member(data, oauth.response.ok) is not True)
    return "" if unwell else None
