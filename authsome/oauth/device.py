"""The device authorization grant (RFC 8628): a code that is entered on some other device, while we ask whether it was.

Rule 1: two questions are never closer than the provider's interval, and an answer that says so widens it for good.
Rule 2: only "not yet", "slower" and trouble on the way are asked again; every other answer ends the attempt.
Rule 3: the code and the addresses are somebody else's text: one clean line each, and a link only when it is an address
of the web (`url.is_link`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.errors import EndpointRefused, TimedOut
from authsome.message import HttpRequest, HttpResponse, clean_line, json_object, member
from authsome.models import url
from authsome.models.oauth import OAuth
from authsome.oauth import token
from authsome.oauth.authorization import host_of
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"
USUAL_INTERVAL: Final = timedelta(seconds=5)  # §3.2, when the provider names none
LEAST_INTERVAL: Final = timedelta(seconds=1)
LONGEST_INTERVAL: Final = timedelta(minutes=5)  # nobody who has entered a code waits longer to hear of it
LONGEST_PAUSE: Final = timedelta(minutes=1)  # while the provider cannot be reached
SLOWER: Final = timedelta(seconds=5)  # §3.5
USUAL_LIFETIME: Final = timedelta(minutes=10)
LONGEST_LIFETIME: Final = timedelta(minutes=30)  # §3.2 has 30 minutes in its example; most give 15

_MAX_DEVICE_CODE: Final = 4 * 1024
_MAX_USER_CODE: Final = 40  # §6.1 has 8 to 9 characters
_MAX_URI: Final = 1024
_CODE: Final = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthorization:
    """What the provider gives to begin with (§3.2)."""

    device_code: Secret[str]
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval: timedelta
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet: nobody has entered the code, or said yes."""


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Not yet, and we ask too often; some providers say which interval they want."""

    interval: timedelta | None


def authorization_request(oauth: OAuth, client: ClientCredentials, *, scopes: Sequence[str]) -> HttpRequest:
    """Ask for a code (§3.1)."""
    params = {"resource": oauth.resource} if oauth.resource is not None else {}
    if scopes:
        params["scope"] = oauth.scope_separator.join(scopes)
    return token.client_request(oauth, client, oauth.device_authorization_url or "", params)


def parse_authorization_response(
    response: HttpResponse, oauth: OAuth, *, now: datetime, sent: Sequence[Secret[str]] = ()
) -> DeviceAuthorization:
    """Read the code, and where to enter it (§3.2).

    Raises:
        EndpointUnreachable, EndpointRefused: as for a token request (`token.parse_token_response`).
    """
    host = host_of(oauth.device_authorization_url or "")
    data = token.parse_object(response, oauth, host=host, now=now, sent=sent)
    device_code, user_code = data.get("device_code"), _line(data.get("user_code"), _MAX_USER_CODE)
    uri = _line(data.get("verification_uri") or data.get("verification_url"), _MAX_URI)  # the latter: Google's spelling
    if not isinstance(device_code, str) or len(device_code) > _MAX_DEVICE_CODE or not _CODE.fullmatch(device_code):
        raise EndpointRefused(f"{host}: gave no usable device code")
    if not user_code or not uri:
        raise EndpointRefused(f"{host}: gave no code to enter, or no address to enter it at")
    complete = _line(data.get("verification_uri_complete"), _MAX_URI)
    lifetime = token.number(data.get("expires_in"))
    return DeviceAuthorization(
        device_code=Secret(device_code),
        user_code=user_code,
        verification_uri=uri,
        verification_uri_complete=complete if complete and url.is_link(complete) else None,
        interval=_interval(data.get("interval")) or USUAL_INTERVAL,
        lifetime=min(timedelta(seconds=lifetime), LONGEST_LIFETIME) if lifetime and lifetime >= 1 else USUAL_LIFETIME,
    )


def token_request(oauth: OAuth, client: ClientCredentials, *, device_code: Secret[str]) -> HttpRequest:
    """Ask whether the code was entered (§3.4)."""
    params = {"grant_type": GRANT_TYPE, "device_code": device_code.reveal()}
    return token.client_request(oauth, client, oauth.token_url, {**token.extra_params(oauth), **params})


def parse_token_response(
    response: HttpResponse, oauth: OAuth, *, now: datetime, sent: Sequence[Secret[str]] = ()
) -> token.Tokens | Pending | SlowDown:
    """Read the answer to that (§3.5).

    Raises:
        TimedOut: the code is no longer good.
        EndpointUnreachable: passing trouble: ask again, later than usual.
        EndpointRefused, LoginRequired: the attempt is over.
    """
    error, asked = _refusal(response, oauth)
    match error:
        case "authorization_pending":
            return Pending()
        case "slow_down":
            return SlowDown(_interval(asked))
        case "expired_token":
            raise TimedOut("the code was not entered in time", hint="start again with `authsome login`")
        case "access_denied":
            raise EndpointRefused("the provider ended the login: access_denied", hint="nothing was stored")
    return token.parse_token_response(response, oauth, now=now, sent=sent)


def slowed(interval: timedelta, asked: timedelta | None) -> timedelta:
    """The interval for this and all later questions after a `slow_down` (§3.5)."""
    return min(max(interval + SLOWER, asked or interval), max(interval, LONGEST_INTERVAL))


def backed_off(pause: timedelta, asked: timedelta | None) -> timedelta:
    """The pause after a question that was not answered: twice the last one, or what the provider asks for (§3.5)."""
    return max(min(2 * pause, LONGEST_PAUSE), pause, asked or pause)


def _refusal(response: HttpResponse, oauth: OAuth) -> tuple[object, object]:
    """The error that an answer names, whatever its status, and the interval beside it."""
    if 300 <= response.status < 400 or response.status >= 500:
        return None, None
    try:
        data = json_object(response.body)
    except ValueError:
        return None, None
    return member(data, oauth.response.error) or data.get("error"), data.get("interval")


def _interval(value: object) -> timedelta | None:
    """An interval within reason; None when none, or nonsense, is named."""
    seconds = token.number(value)
    if seconds is None or seconds < 0:
        return None
    return min(max(timedelta(seconds=seconds), LEAST_INTERVAL), LONGEST_INTERVAL)


def _line(value: object, limit: int) -> str:
    """A provider's text as one clean line; empty when it is no text, or far too long."""
    return clean_line(value, limit) if isinstance(value, str) and len(value) <= 4 * limit else ""
