"""Trying a new credential on its provider: the request that its definition names, and what the answer says.

Rule: only the provider's own no is a no. Whatever else goes wrong (no network, an odd answer) says nothing about the
credential, so it costs nobody a login.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from authsome.broker.context import Context
from authsome.errors import AuthsomeError
from authsome.message import HttpRequest, HttpResponse, json_object, member
from authsome.models import injection, url
from authsome.models.connection import CLIENT_ID, Kind, Secrets
from authsome.models.oauth import resolve
from authsome.models.provider import Provider, Verify
from authsome.oauth import token
from authsome.secret import Secret

_ACCOUNT_LIMIT: Final = 100  # characters
_REFUSED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The provider took the credential."""

    account: str | None
    """Whose it is, if the answer says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider said no to it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """Nothing is known of it."""

    reason: str


Outcome = Proven | Refused | Unclear


def attempt(
    context: Context, provider: Provider, kind: Kind, variables: Mapping[str, str], held: Secrets
) -> Outcome | None:
    """Try a credential; None when its provider names no request for that kind of login."""
    verify = provider.verification(kind)
    if verify is None:
        return None
    try:
        request = request_for(verify, provider, kind, variables, held)
        response = context.send(request, provider.allow_private_addresses)
    except AuthsomeError as error:
        return Unclear(reason=error.message)
    except ValueError as error:
        return Unclear(reason=f"verify.url: {error}")
    return parse_response(verify, response, host=request.url.split("/")[2], sent=_secrets(provider, kind, held))


def request_for(
    verify: Verify, provider: Provider, kind: Kind, variables: Mapping[str, str], held: Secrets
) -> HttpRequest:
    """The request, with the credential on it as on any other that goes there.

    Raises:
        ValueError: a variable or a field cannot stand in the URL.
        CredentialUnavailable: a value is missing, or cannot stand where it is wanted.
    """
    private = provider.allow_private_addresses
    shown = {name: held[name].reveal() for name in verify.url.names & held.keys()}
    target = resolve(verify.url.text, {**shown, **variables}, allow_private=private)
    place = url.parse(target, allow_private=private)
    rules = provider.injections(kind, variables, host=place.host, path=place.path or "/", port=place.port)
    injected = injection.apply(rules, held)
    headers = {"accept": "application/json"} | {name.lower(): value for name, value in injected.defaults}
    headers |= {name.lower(): value for name, value in verify.headers.items()}
    headers |= {name.lower(): value.reveal() for name, value in injected.headers}
    for text, value in injected.path:
        target = target.replace(text, value.reveal())
    if injected.query:
        pairs = [(name, value.reveal()) for name, value in injected.query]
        target += "?" + urlencode(pairs, quote_via=quote)
    body = (verify.body or "").encode()
    return HttpRequest(method=verify.method, url=target, headers=tuple(headers.items()), body=body)


def parse_response(verify: Verify, response: HttpResponse, *, host: str, sent: Collection[Secret[str]] = ()) -> Outcome:
    """What an answer says of the credential.

    Args:
        verify: the request that was made.
        response: the answer.
        host: whose it is.
        sent: the credential: blotted out of what the answer says.
    """
    if response.status in _REFUSED:
        return Refused(reason=f"{host} refuses it ({response.status})")
    if not 200 <= response.status < 300:
        return Unclear(reason=f"{host} answered {response.status}")
    if verify.account is None and verify.ok is None:
        return Proven(account=None)
    return _read(verify, response.body, host, sent)


def _secrets(provider: Provider, kind: Kind, held: Secrets) -> list[Secret[str]]:
    """What of a credential nobody is to see: not a user's name, which is often just what the answer says."""
    shown = {CLIENT_ID}
    if kind is Kind.API_KEY and provider.api_key is not None:
        shown = {each.name for each in provider.api_key.fields if not each.secret}
    return [value for name, value in held.items() if name not in shown]


def _read(verify: Verify, body: bytes, host: str, sent: Collection[Secret[str]]) -> Outcome:
    """What the body of a good answer says: some providers say no in it, most say whose credential it is."""
    try:
        data = json_object(body)
    except ValueError:
        return Unclear(reason=f"{host} answered with something that is not a JSON object")
    if verify.ok is not None and member(data, verify.ok) is not True:
        error = data.get("error")
        said = f": {token.blotted(error, sent, 60)}" if isinstance(error, str) and error else ""
        return Refused(reason=f"{host} refuses it{said}")
    account = member(data, verify.account) if verify.account is not None else None
    if isinstance(account, bool) or not isinstance(account, str | int):
        return Proven(account=None)
    return Proven(account=token.blotted(str(account), sent, _ACCOUNT_LIMIT) or None)
