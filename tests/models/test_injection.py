"""Injections: what a credential puts on a request, what the child loses, and what is refused."""

import base64
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import CredentialUnavailable, ProviderInvalid
from authsome.models import injection
from authsome.models.connection import Kind
from authsome.models.injection import Injected
from authsome.models.provider import Provider, definition_to_json, parse_definition
from authsome.secret import Secret

HOST = "api.acme.test"


def provider(*inject: dict[str, object], **api_key: object) -> Provider:
    definition = {
        "schema_version": 1,
        "name": "acme",
        "api_url": HOST,
        "oauth": {"authorization_url": "https://acme.test/authorize", "token_url": "https://acme.test/token"},
        "api_key": api_key,
        "auth_type": "api_key",
        "inject": list(inject),
    }
    if any("access_token" not in str(each) and "{token}" not in str(each) for each in inject):
        del definition["oauth"]
    return parse_definition(definition, source="acme.json")


def applied(definition: Provider, kind: Kind, **secrets: str) -> Injected:
    rules = definition.injections(kind, {}, host=HOST, path="/v1/me")
    return injection.apply(rules, {name: Secret(value) for name, value in secrets.items()})


def plain(pairs: tuple[tuple[str, Secret[str]], ...]) -> dict[str, str]:
    return {name: value.reveal() for name, value in pairs}


TWO_FIELDS = {"fields": [{"name": "user", "label": "User"}, {"name": "password", "label": "Password"}]}
BEARER = {"header": "Authorization", "template": "Bearer {token}"}


def test_token_stands_for_either_kind():
    """One template serves OAuth and a key of one field."""
    acme = provider(BEARER)
    assert plain(applied(acme, Kind.OAUTH2, access_token="at", refresh_token="rt").headers) == {
        "Authorization": "Bearer at"
    }
    assert plain(applied(acme, Kind.API_KEY, api_key="k").headers) == {"Authorization": "Bearer k"}


def test_form_follows_the_kind_of_login():
    """Linear takes a bearer token from OAuth and the bare key otherwise."""
    acme = provider(
        {"header": "Authorization", "template": "Bearer {access_token}"},
        {"header": "Authorization", "template": "{token}", "auth": "api_key"},
    )
    assert plain(applied(acme, Kind.OAUTH2, access_token="at").headers) == {"Authorization": "Bearer at"}
    assert plain(applied(acme, Kind.API_KEY, api_key="k").headers) == {"Authorization": "k"}


def secrets_of(found: Injected) -> set[str]:
    return {secret.reveal() for secret in found.secrets}


def test_what_an_answer_must_not_bring_back():
    """The secrets that were used: no user's name, nothing that stayed at home, and nothing where scrubbing is off."""
    # SEC-163
    acme = provider(BEARER)
    assert secrets_of(applied(acme, Kind.OAUTH2, access_token="at", refresh_token="rt")) == {"at"}
    assert secrets_of(applied(acme, Kind.API_KEY, api_key="k")) == {"k"}
    fields = [{"name": "user", "label": "User", "secret": False}, {"name": "password", "label": "Password"}]
    pair = provider({"basic": {"username": "{user}", "password": "{password}"}}, fields=fields)
    assert secrets_of(applied(pair, Kind.API_KEY, user="me", password="pw")) == {"pw"}
    off = parse_definition({**definition_to_json(acme), "scrub": "off"}, source="acme.json")
    assert definition_to_json(off)["scrub"] == "off"
    assert "scrub" not in definition_to_json(acme)
    found = applied(off, Kind.API_KEY, api_key="k")
    assert (plain(found.headers), found.secrets) == ({"Authorization": "Bearer k"}, ())


@pytest.mark.parametrize("value", ["no", "ON", True, 1, ["off"]])
def test_scrubbing_is_on_or_off(value):
    """And nothing else."""
    with pytest.raises(ProviderInvalid):
        parse_definition({**definition_to_json(provider(BEARER)), "scrub": value}, source="acme.json")


def test_companion_header_is_only_a_default():
    """A companion without a secret is added if the child sent none; the sibling way of authenticating goes."""
    acme = provider(
        {"header": "x-api-key", "template": "{api_key}"},
        {"header": "acme-version", "template": "2023-06-01", "if_absent": True},
    )
    found = applied(acme, Kind.API_KEY, api_key="k")
    assert plain(found.headers) == {"x-api-key": "k"}
    assert found.defaults == (("acme-version", "2023-06-01"),)
    # SEC-154
    assert found.remove == ("authorization", "x-api-key")


def test_siblings_of_other_kinds_are_removed_too():
    """Whatever header the provider takes a credential in, the child's own never arrives in it."""
    acme = provider(
        {"header": "Authorization", "template": "Bearer {access_token}"},
        {"header": "PRIVATE-TOKEN", "template": "{token}", "auth": "api_key"},
    )
    # SEC-154
    assert applied(acme, Kind.OAUTH2, access_token="at").remove == ("authorization", "private-token")
    assert applied(acme, Kind.API_KEY, api_key="k").remove == ("authorization", "private-token")


def test_basic_of_two_fields():
    """RFC 7617 §2.1's example, and its UTF-8 one."""
    acme = provider({"basic": {"username": "{user}", "password": "{password}"}}, **TWO_FIELDS)
    found = applied(acme, Kind.API_KEY, user="Aladdin", password="open sesame")
    assert plain(found.headers) == {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}
    found = applied(acme, Kind.API_KEY, user="test", password="123£")
    assert plain(found.headers) == {"Authorization": "Basic dGVzdDoxMjPCow=="}
    found = applied(acme, Kind.API_KEY, user="test", password="5€")
    assert plain(found.headers) == {"Authorization": "Basic " + base64.b64encode("test:5€".encode()).decode()}


@pytest.mark.parametrize(
    ("basic", "decoded"),
    [
        ({"username": "x-access-token", "password": "{token}"}, "x-access-token:k"),
        ({"username": "{token}"}, "k:"),
        ({"password": "{token}"}, ":k"),
    ],
)
def test_basic_of_one_field(basic: dict[str, str], decoded: str):
    """One field, on either side."""
    value = plain(applied(provider({"basic": basic}), Kind.API_KEY, api_key="k").headers)["Authorization"]
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == decoded


def test_query_and_path():
    """A parameter is plain, a piece of the path is encoded; both carry no header."""
    acme = provider({"query": "key", "template": "{api_key}"}, {"path": "placeholder", "template": "{api_key}"})
    found = applied(acme, Kind.API_KEY, api_key="12:a/b?c&d é")
    assert plain(found.query) == {"key": "12:a/b?c&d é"}
    assert plain(found.path) == {"placeholder": "12:a%2Fb%3Fc%26d%20%C3%A9"}
    assert found.headers == ()


@pytest.mark.parametrize(
    "value", ["a\r\nX: y", "a\nb", "a\rb", "a\x00b", "a\x7fb", "\x1b[0m", "schlüssel→", "", "\ud800"]
)
def test_values_that_would_break_a_request_are_refused(value: str):
    """A stored secret that a header cannot carry is not sent, and not shown."""
    with pytest.raises(CredentialUnavailable) as caught:
        applied(provider(BEARER), Kind.API_KEY, api_key=value)
    assert not value or value not in str(caught.value)


def test_user_name_with_colon_is_refused():
    """The server would split it in another place than we did."""
    acme = provider({"basic": {"username": "{user}", "password": "{password}"}}, **TWO_FIELDS)
    with pytest.raises(CredentialUnavailable, match="colon"):
        applied(acme, Kind.API_KEY, user="a:b", password="c")


@pytest.mark.parametrize("value", [".", ".."])
def test_dots_are_no_path(value: str):
    with pytest.raises(CredentialUnavailable, match="path"):
        applied(provider({"path": "placeholder", "template": "{api_key}"}), Kind.API_KEY, api_key=value)


def test_missing_field():
    """A login made under another definition lacks a field: said by its name."""
    acme = provider({"basic": {"username": "{user}", "password": "{password}"}}, **TWO_FIELDS)
    with pytest.raises(CredentialUnavailable, match="holds no password"):
        applied(acme, Kind.API_KEY, user="a")


def test_secrets_do_not_show():
    """What is injected prints as nothing."""
    found = applied(provider(BEARER), Kind.API_KEY, api_key="canary")
    assert "canary" not in repr(found)


@given(st.text(min_size=1))
def test_a_path_value_stays_within_its_segment(value: str):
    """Whatever the value, the path around it keeps its shape, and the value can be read back."""
    acme = provider({"path": "placeholder", "template": "{api_key}"})
    try:
        found = plain(applied(acme, Kind.API_KEY, api_key=value).path)["placeholder"]
    except CredentialUnavailable:
        return
    assert not set(found) & set("/?#\\ ;")
    assert found.isascii()
    assert unquote(found) == value
