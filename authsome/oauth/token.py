"""The token endpoint: code, refresh token or client in, tokens out (RFC 6749 §4.1.3, §4.4.2, §5, §6).

Rule 1: a token is stored only when it is whole: of the type we can use, of characters a header can carry.
Rule 2: a failure has one of three kinds. Final (`LoginRequired`): the provider has said that this grant is dead.
Passing (`EndpointUnreachable`): it said nothing about the grant; ask again later. Anything else (`EndpointRefused`).
Rule 3: what the provider says of an error is shown as one clean line, without what we sent it.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote_plus, urlencode

from authsome.errors import AuthsomeError, ClientRefused, EndpointRefused, EndpointUnreachable, LoginRequired
from authsome.message import HttpRequest, HttpResponse, clean_line, json_object, member
from authsome.models.oauth import OAuth
from authsome.oauth.authorization import host_of
from authsome.oauth.client_auth import ClientCredentials, authenticate
from authsome.secret import Secret

MAX_LIFETIME: Final = timedelta(days=3650)  # longer is for ever; keeps the date within what a datetime holds
MAX_RETRY_AFTER: Final = timedelta(hours=1)  # a server that asks for more is asked once an hour
_MAX_TOKEN: Final = 16 * 1024  # the longest JWTs have 8 KiB, and header sections are often cut at 16
_MAX_SCOPES: Final = 500
_MAX_SCOPE: Final = 256
_MAX_ACCOUNT: Final = 100
_TELLING: Final = 6  # characters of Base64 below which plain words would be blotted out

_LAST_SECOND: Final = 10_000_000_000  # in the year 2286; in milliseconds, in April 1970
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE: Final = re.compile(  # RFC 9110 §5.6.7, the one form that is still sent; strptime would ask the locale
    r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII
)
_WAIT: Final = "wait a moment and try again"
_TOKEN: Final = re.compile(r"[!-~]+")  # visible ASCII: what a header carries unchanged (RFC 9110 §5.5)
_GRANT: Final = re.compile(r"[ -~]+")  # a refresh token travels in bodies only (RFC 6749 appendix A.17: VSCHAR)
_TYPES: Final = frozenset({"bearer", "bot", "user"})  # the last two: what a bearer token may also do, as Slack says it
_DEAD_GRANT: Final = frozenset(
    {
        "invalid_grant",  # RFC 6749 §5.2; the rest are other spellings of it
        "bad_refresh_token",
        "invalid_refresh_token",
        "refresh_token_expired",
        "token_expired",
        "token_revoked",
    }
)
_WRONG_CLIENT: Final = frozenset(
    {"invalid_client", "unauthorized_client", "incorrect_client_credentials", "bad_client_secret", "invalid_client_id"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the provider granted."""

    access_token: Secret[str]
    refresh_token: Secret[str] | None
    """None: no new one; a refresh keeps the old one then (RFC 6749 §6)."""
    expires_at: datetime | None
    """None: the provider did not say, or it never does."""
    scopes: tuple[str, ...] | None
    """None: as asked (RFC 6749 §5.1)."""
    account: str | None
    variables: Mapping[str, str] = field(default_factory=dict)
    """What the answer says of the definition's variables: the provider's word, to be checked before use."""


def code_request(
    oauth: OAuth,
    client: ClientCredentials,
    *,
    code: Secret[str],
    redirect_uri: str,
    code_verifier: Secret[str] | None,
) -> HttpRequest:
    """Exchange an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
    params = {"grant_type": "authorization_code", "code": code.reveal(), "redirect_uri": redirect_uri}
    if code_verifier is not None:
        params["code_verifier"] = code_verifier.reveal()
    return client_request(oauth, client, oauth.token_url, {**extra_params(oauth), **params})


def refresh_request(
    oauth: OAuth, client: ClientCredentials, *, refresh_token: Secret[str], scopes: Sequence[str] = ()
) -> HttpRequest:
    """Ask for a new access token (RFC 6749 §6); without `scopes`, for those that were granted."""
    params = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    if scopes:
        params["scope"] = oauth.scope_separator.join(scopes)
    extras = {**extra_params(oauth), **oauth.refresh.params}
    return client_request(oauth, client, oauth.refresh.url or oauth.token_url, {**extras, **params})


def client_credentials_request(oauth: OAuth, client: ClientCredentials, *, scopes: Sequence[str]) -> HttpRequest:
    """Ask for a token for the client itself (RFC 6749 §4.4.2)."""
    params = {"grant_type": "client_credentials"}
    if scopes:
        params["scope"] = oauth.scope_separator.join(scopes)
    return client_request(oauth, client, oauth.token_url, {**extra_params(oauth), **params})


def parse_token_response(
    response: HttpResponse, oauth: OAuth, *, now: datetime, sent: Sequence[Secret[str]] = ()
) -> Tokens:
    """Read what the token endpoint answered (RFC 6749 §5).

    Args:
        response: the answer.
        oauth: the provider's, resolved; says where in the answer the tokens lie.
        now: when it came; the expiry counts from here.
        sent: the code, refresh token or client secret that went there: blotted out where an error repeats them.

    Raises:
        LoginRequired: the grant is dead.
        EndpointUnreachable: passing trouble (5xx, 408, 429); `retry_after` when the provider named a time.
        EndpointRefused: another OAuth error, a redirect, or nonsense.
    """
    host = host_of(oauth.token_url)
    data = parse_object(response, oauth, host=host, now=now, sent=sent)
    return _tokens(data, oauth, host, now)


def parse_object(
    response: HttpResponse, oauth: OAuth, *, host: str, now: datetime, sent: Sequence[Secret[str]] = ()
) -> dict[str, object]:
    """Read the JSON object that an endpoint of the authorization server answered; raises as `parse_token_response`."""
    if response.status in {408, 425, 429} or response.status >= 500:
        raise EndpointUnreachable(
            f"{host}: answered {response.status}", hint=_WAIT, retry_after=_retry_after(response, now)
        )
    if 300 <= response.status < 400:
        raise EndpointRefused(f"{host}: answered with a redirect ({response.status}), which is never followed")
    try:
        data = json_object(response.body)
    except ValueError as error:
        if response.status >= 400:
            raise EndpointRefused(f"{host}: answered {response.status} without saying why") from error
        raise EndpointRefused(f"{host}: answered with something that is not a JSON object") from error
    if refusal := _refusal(data, response.status, oauth, host, sent):
        raise refusal
    return data


def extra_params(oauth: OAuth) -> dict[str, str]:
    """What goes with each request for a token: the provider's extras, and the API that it is for (RFC 8707 §2.2)."""
    return {**oauth.token_params, **({"resource": oauth.resource} if oauth.resource is not None else {})}


def client_request(oauth: OAuth, client: ClientCredentials, url: str, params: Mapping[str, str]) -> HttpRequest:
    """A request of ours, as an OAuth client, to an endpoint of the authorization server."""
    is_json = oauth.token_body == "json"  # noqa: S105  # a setting
    headers = {"accept": "application/json"} | {name.lower(): value for name, value in oauth.token_headers.items()}
    headers["content-type"] = "application/json" if is_json else "application/x-www-form-urlencoded"
    params, headers = authenticate(params, headers, method=oauth.token_endpoint_auth_method, client=client)
    params = {oauth.parameter_names.get(name, name): value for name, value in params.items()}
    body = json.dumps(params) if is_json else urlencode(params)
    return HttpRequest(method="POST", url=url, headers=tuple(headers.items()), body=body.encode())


def _refusal(
    data: Mapping[str, object], status: int, oauth: OAuth, host: str, sent: Sequence[Secret[str]]
) -> AuthsomeError | None:
    """The error that an answer reports, whatever its status: some providers say it in a 200."""
    shape = oauth.response
    error = member(data, shape.error) or data.get("error")
    is_refused = status >= 400 or bool(error) or (shape.ok is not None and member(data, shape.ok) is not True)
    if not is_refused:
        return None
    name, text = _describe(data, error, sent)
    message = f"{host}: {text}" if text else f"{host}: answered {status} without saying why"
    if name in _DEAD_GRANT:
        return LoginRequired(message)
    if name in _WRONG_CLIENT:
        return ClientRefused(message)
    return EndpointRefused(message)


def _describe(data: Mapping[str, object], error: object, sent: Sequence[Secret[str]]) -> tuple[str, str]:
    """The error's name, and a line that says what there is to say."""
    if isinstance(error, dict):  # {"error": {"type" or "code": …, "message": …}}
        name, detail = error.get("type") or error.get("code"), error.get("message")
    else:
        name, detail = error, data.get("error_description") or data.get("message")
    name = blotted(name, sent, 60) if isinstance(name, str) else ""
    detail = blotted(detail, sent, 200) if isinstance(detail, str) else ""
    return name, f"{name} ({detail})" if name and detail else name or detail


def blotted(text: str, sent: Iterable[Secret[str]], limit: int) -> str:
    """A provider's words as one clean line, without the secrets that were sent to it."""
    for secret in sent:
        for shown in _spellings(secret):
            text = text.replace(shown, "…")
    return clean_line(text, limit)


def _spellings(secret: Secret[str]) -> Iterator[str]:
    """The forms in which a secret travels: as it is, in a form, and in the middle of Base64, as Basic has it."""
    plain = {secret.reveal(), quote_plus(secret.reveal())} - {""}
    yield from sorted(plain, key=len, reverse=True)
    for each in plain:
        data = each.encode("utf-8", "surrogatepass")
        for offset in range(3):  # bytes before it in its group of three
            whole = base64.b64encode(bytes(offset) + data).decode()
            middle = whole[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]  # what no byte beside it changes
            if len(middle) >= _TELLING:
                yield middle
                yield middle.replace("+", "-").replace("/", "_")


def _tokens(data: Mapping[str, object], oauth: OAuth, host: str, now: datetime) -> Tokens:
    shape = oauth.response
    kind = member(data, _beside(shape.access_token, "token_type"))
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        raise EndpointRefused(f"{host}: gave a token of a type that is not bearer")
    access_token = _token(member(data, shape.access_token), _TOKEN)
    if access_token is None:
        raise EndpointRefused(f"{host}: gave no usable access token")
    offered = member(data, shape.refresh_token)
    is_offered = offered is not None and offered != ""
    refresh_token = _token(offered, _GRANT) if is_offered else None
    if is_offered and refresh_token is None:
        raise EndpointRefused(f"{host}: gave a refresh token that cannot be used")
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token,
        expires_at=_expiry(data, oauth, now),
        scopes=_scopes(member(data, shape.scope)),
        account=_account(member(data, shape.account) if shape.account is not None else None),
        variables={
            name: value for name, path in oauth.token_variables.items() if isinstance(value := member(data, path), str)
        },
    )


def _beside(path: str, name: str) -> str:
    """The path of a member that lies in the same object as the one at `path`."""
    parent, dot, _ = path.rpartition(".")
    return f"{parent}{dot}{name}"


def _token(value: object, form: re.Pattern[str]) -> Secret[str] | None:
    if isinstance(value, str) and len(value) <= _MAX_TOKEN and form.fullmatch(value):
        return Secret(value)
    return None


def _expiry(data: Mapping[str, object], oauth: OAuth, now: datetime) -> datetime | None:
    """When the token ends. Zero, past and unreadable mean "not said": else each use would refresh it."""
    shape = oauth.response
    until = _moment(member(data, shape.expires_at)) if shape.expires_at is not None else None
    seconds = (until - now).total_seconds() if until is not None else number(member(data, shape.expires_in))
    if seconds is None or seconds < 1:
        seconds = oauth.expires_in_default
    return now + min(timedelta(seconds=seconds), MAX_LIFETIME) if seconds else None


def _moment(value: object) -> datetime | None:
    """A time, as seconds (or milliseconds, which are as plainly something else) since 1970 or as ISO 8601."""
    try:
        if isinstance(value, str) and not value.isdecimal():
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1000 if seconds > _LAST_SECOND else seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def number(value: object) -> float | None:
    """A number, or a text that is one; None for all else. It is never beyond what a duration holds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return min(found, MAX_LIFETIME.total_seconds()) if math.isfinite(found) else None


def _scopes(value: object) -> tuple[str, ...] | None:
    """The granted scopes; some providers separate them by commas though they are asked by spaces, some send a list."""
    if isinstance(value, str):
        found: list[object] = [*re.split(r"[\s,]+", value)]
    elif isinstance(value, list):
        found = value
    else:
        return None
    scopes = [
        scope for scope in found if isinstance(scope, str) and len(scope) <= _MAX_SCOPE and _TOKEN.fullmatch(scope)
    ]
    return tuple(dict.fromkeys(scopes))[:_MAX_SCOPES]


def _account(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return clean_line(str(value), _MAX_ACCOUNT) or None


def _retry_after(response: HttpResponse, now: datetime) -> timedelta | None:
    """The pause that the provider asks for, in seconds or until a date (RFC 9110 §10.2.3)."""
    value = (response.header("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:9]), MAX_RETRY_AFTER.total_seconds()))
    found = _HTTP_DATE.fullmatch(value)
    if found is None:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        until = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return max(timedelta(0), min(until - now, MAX_RETRY_AFTER))
