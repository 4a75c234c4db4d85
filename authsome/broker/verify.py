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
from authsome.message import HttpRequest, HttpResponse, json_document, member
from authsome.models import injection, verification
from authsome.models.connection import CLIENT_ID, Kind, Secrets
from authsome.models.provider import Provider, Verify
from authsome.models.template import Template
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
    """Try a credential; None when its provider names no request for that kind of login.

    The first request proves it. A second one only looks for its account, so no answer to that refuses anything.
    """
    requests = provider.verifications(kind)
    if not requests:
        return None

    def ask(verify: Verify) -> Outcome:
        return _ask(context, verify, provider, kind, variables, held)

    outcome = ask(requests[0])
    for verify in requests[1:]:
        if not isinstance(outcome, Proven) or outcome.account is not None:
            break
        named = ask(verify)
        outcome = named if isinstance(named, Proven) else outcome
    return outcome


def _ask(  # noqa: PLR0913, PLR0917  # what a credential is made of
    context: Context, verify: Verify, provider: Provider, kind: Kind, variables: Mapping[str, str], held: Secrets
) -> Outcome:
    """Ask at each of the request's URLs until one takes the credential; it is refused where all refuse it."""
    given, sent = _given_account(verify, variables, held), _secrets(provider, kind, held)
    said: list[Refused | Unclear] = []
    for written in verify.urls:
        try:
            request = request_for(verify, written, provider, kind, variables, held)
            response = context.send(request, provider.allow_private_addresses)
        except AuthsomeError as error:
            said.append(Unclear(reason=error.message))
            continue
        except ValueError as error:
            return Unclear(reason=f"verify.url: {error}")
        outcome = parse_response(verify, response, host=request.url.split("/")[2], sent=sent, given=given)
        if isinstance(outcome, Proven):
            return outcome
        said.append(outcome)
    unclear = [each for each in said if isinstance(each, Unclear)]
    return unclear[0] if unclear else Refused(reason="; ".join(each.reason for each in said))


def request_for(  # noqa: PLR0913, PLR0917  # as above
    verify: Verify, url: Template, provider: Provider, kind: Kind, variables: Mapping[str, str], held: Secrets
) -> HttpRequest:
    """The request, with the credential on it as on any other that goes there.

    Raises:
        ValueError: a variable or a field cannot stand in the URL.
        CredentialUnavailable: a value is missing, or cannot stand where it is wanted.
    """
    values = {name: held[name].reveal() for name in url.names & held.keys()}
    allow_private = provider.allow_private_addresses
    target, place = verification.target(url, {**values, **variables}, allow_private=allow_private)
    injected = injection.apply(provider.trial_rules(kind, variables, place), held)
    headers = {"accept": "application/json"} | {name.lower(): value for name, value in injected.defaults}
    headers |= {name.lower(): value for name, value in verify.headers.items()}
    headers |= {name.lower(): value.reveal() for name, value in injected.headers}
    for text, value in injected.path:
        target = target.replace(text, value.reveal())
    if injected.query:
        pairs = [(name, value.reveal()) for name, value in injected.query]
        target += ("&" if "?" in target else "?") + urlencode(pairs, quote_via=quote)
    body = (verify.body or "").encode()
    return HttpRequest(method=verify.method, url=target, headers=tuple(headers.items()), body=body)


def parse_response(
    verify: Verify,
    response: HttpResponse,
    *,
    host: str,
    sent: Collection[Secret[str]] = (),
    given: str | None = None,
) -> Outcome:
    """What an answer says of the credential.

    Args:
        verify: the request that was made.
        response: the answer.
        host: whose it is.
        sent: the credential: blotted out of what the answer says.
        given: the account, where the login itself was told it.
    """
    is_known = verify.known_by is not None and verify.known_by.encode() in response.body
    if response.status in verify.refused_by:
        refused = Refused(reason=f"{host} refuses it ({response.status})")
        return Proven(account=_shortened(given, sent)) if is_known else refused
    if verify.refused_by and response.status in verification.REFUSALS:
        return Proven(account=_shortened(given, sent))  # it may only not do this
    if not 200 <= response.status < 300:
        return Unclear(reason=f"{host} answered {response.status}")
    if given is None and verify.account_header is not None:
        given = response.header(verify.account_header)
    if verify.account is None and verify.ok is None and verify.proof is None:
        return Proven(account=_shortened(given, sent))
    return _read(verify, response.body, host, sent, given)


def _shortened(account: str | None, sent: Collection[Secret[str]]) -> str | None:
    return token.blotted(account, sent, _ACCOUNT_LIMIT) or None if account else None


def _given_account(verify: Verify, variables: Mapping[str, str], held: Secrets) -> str | None:
    """The account that the login itself was told: the parser has seen to it that no secret is asked for."""
    template = verify.account_given
    if template is None:
        return None
    return template.render({**{name: held[name].reveal() for name in template.names & held.keys()}, **variables})


def _secrets(provider: Provider, kind: Kind, held: Secrets) -> list[Secret[str]]:
    """What of a credential nobody is to see: not a user's name, which is often just what the answer says."""
    shown = {CLIENT_ID}
    if kind is Kind.API_KEY and provider.api_key is not None:
        shown = {each.name for each in provider.api_key.fields if not each.secret}
    return [value for name, value in held.items() if name not in shown]


def _read(verify: Verify, body: bytes, host: str, sent: Collection[Secret[str]], given: str | None) -> Outcome:
    """What the body of a good answer says: some providers say no in it, most say whose credential it is."""
    try:
        data = json_document(body)
    except ValueError:
        return Unclear(reason=f"{host} answered with something that is not a JSON object")
    is_good = verify.ok is None or member(data, verify.ok) is True
    if not is_good or (verify.proof is not None and member(data, verify.proof) is None):
        error = member(data, "error")
        said = f": {token.blotted(error, sent, 60)}" if isinstance(error, str) and error else ""
        return Refused(reason=f"{host} refuses it{said}")
    account = member(data, verify.account) if verify.account is not None else None
    if isinstance(account, bool) or not isinstance(account, str | int):
        account = given
    return Proven(account=_shortened(None if account is None else str(account), sent))
