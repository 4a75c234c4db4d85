"""What a login asks for, and whether what was given fits: the key, the OAuth client, the provider's variables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from authsome.errors import RequestInvalid
from authsome.models.connection import CLIENT_ID, CLIENT_SECRET, Kind
from authsome.models.login import Flow, LoginRequest
from authsome.models.provider import Provider, Variable
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret

FIELD_LIMIT: Final = 16 * 1024  # characters; the longest keys known (service-account JSON) have under 4,000


@dataclass(frozen=True, slots=True, kw_only=True)
class InputField:
    """One thing to ask for."""

    name: str
    label: str
    secret: bool
    required: bool
    hint: str | None


def kind_of(flow: Flow) -> Kind:
    """What a login by that flow ends in."""
    return Kind.API_KEY if flow is Flow.API_KEY else Kind.OAUTH2


def questions(
    provider: Provider, request: LoginRequest, *, knows_client: bool, client_hint: str | None = None
) -> tuple[InputField, ...]:
    """What is to be asked before the login can go on; `client_hint` says why the client is."""
    kind = kind_of(request.flow)
    missing = provider.missing_variables(kind, request.variables)
    asked = tuple(_variable_field(each) for each in (*missing, *provider.optional_variables(kind)))
    if missing and kind is Kind.OAUTH2 and (knows_client or request.flow is Flow.DCR_PKCE):
        return asked
    return asked + _credential_fields(provider, request.flow, client_hint)


def given_client(given: Mapping[str, Secret[str]]) -> ClientCredentials | None:
    """The OAuth client among what was given."""
    if CLIENT_ID not in given:
        return None
    return ClientCredentials(client_id=given[CLIENT_ID].reveal(), client_secret=given.get(CLIENT_SECRET) or None)


def with_variables(
    provider: Provider, request: LoginRequest, given: Mapping[str, Secret[str]]
) -> tuple[LoginRequest, str | None]:
    """The request with the variables that were given; or, instead, what is wrong with them."""
    names = {each.name for each in provider.variables}
    chosen = {name: value.reveal() for name, value in given.items() if name in names and value}
    try:
        found = provider.checked_variables({**request.variables, **chosen}, kind_of(request.flow))
    except RequestInvalid as error:
        return request, error.message
    return replace(request, variables=found), None


def problem_with(
    provider: Provider, flow: Flow, asked: tuple[InputField, ...], given: Mapping[str, Secret[str]]
) -> str | None:
    """What is wrong with the input, in words for the one who gave it; None if nothing."""
    unknown = sorted(set(given) - {field.name for field in asked})
    if unknown:
        return f"{unknown[0]} is not asked for; asked: {', '.join(field.name for field in asked)}"
    for field in asked:
        value = given.get(field.name)
        text = value.reveal() if value is not None else ""
        if not text and field.required:
            return f"{field.label} is missing"
        if len(text) > FIELD_LIMIT or not text.isprintable():
            return f"{field.label} is too long or holds control characters"
    if flow is Flow.API_KEY and provider.api_key is not None:
        return provider.api_key.problem(given)
    return None


def _variable_field(variable: Variable) -> InputField:
    label = variable.description or variable.name.replace("_", " ")
    default = variable.default
    hint = f"usually {default}" if default else f"as in {variable.example}" if variable.example else None
    return InputField(name=variable.name, label=label, secret=False, required=default is None, hint=hint)


def _credential_fields(provider: Provider, flow: Flow, client_hint: str | None) -> tuple[InputField, ...]:
    if flow is Flow.API_KEY:
        assert provider.api_key is not None
        return tuple(
            InputField(name=each.name, label=each.label, secret=each.secret, required=True, hint=each.hint)
            for each in provider.api_key.fields
        )
    assert provider.oauth is not None
    is_account = flow is Flow.CLIENT_CREDENTIALS  # it has no user who could grant anything: the secret is all there is
    needs_secret = is_account or provider.oauth.client_secret == "required"  # noqa: S105  # a setting
    asked = [InputField(name=CLIENT_ID, label="Client ID", secret=False, required=True, hint=client_hint)]
    if is_account or provider.oauth.client_secret != "none":  # noqa: S105  # a setting
        hint = None if needs_secret else "leave empty for a public client"
        asked.append(
            InputField(name=CLIENT_SECRET, label="Client secret", secret=True, required=needs_secret, hint=hint)
        )
    return tuple(asked)
