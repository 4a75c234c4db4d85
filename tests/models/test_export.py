"""Exports: real values for `export`, placeholders for `run`, each for the logins that have them."""

import pytest

from authsome.errors import ProviderInvalid
from authsome.models.connection import Kind
from authsome.models.export import usual_placeholder
from authsome.models.provider import definition_to_json, parse_definition
from authsome.models.template import Template
from authsome.secret import Secret

USUAL = usual_placeholder("acme", Template("{token}"))
PROVIDER = parse_definition(
    {
        "schema_version": 1,
        "name": "acme",
        "api_url": "api.acme.test",
        "variables": {"site": {"auth": "api_key"}},
        "oauth": {"authorization_url": "https://acme.test/authorize", "token_url": "https://acme.test/token"},
        "api_key": {},
        "export": {
            "env": {
                "ACME_TOKEN": "{token}",
                "ACME_ACCESS_TOKEN": {"value": "{access_token}", "placeholder": "at-0"},
                "ACME_API_KEY": {"value": "{api_key}", "placeholder": "k-0"},
                "ACME_SITE": "https://{site}.acme.test",
                "ACME_MODE": {"value": "token", "placeholder": "token"},
            }
        },
    },
    source="acme.json",
)


def test_values():
    """A variable is set for the logins that have what it holds."""
    secrets = {"access_token": Secret("at"), "refresh_token": Secret("rt")}
    values = PROVIDER.export.values(Kind.OAUTH2, secrets)
    assert {name: value.reveal() for name, value in values.items()} == {
        "ACME_TOKEN": "at",
        "ACME_ACCESS_TOKEN": "at",
        "ACME_MODE": "token",
    }
    values = PROVIDER.export.values(Kind.API_KEY, {"api_key": Secret("k")}, {"site": "eu"})
    assert {name: value.reveal() for name, value in values.items()} == {
        "ACME_TOKEN": "k",
        "ACME_API_KEY": "k",
        "ACME_SITE": "https://eu.acme.test",
        "ACME_MODE": "token",
    }


def test_missing_fields_are_left_out():
    """A login made under another definition exports what it has."""
    values = PROVIDER.export.values(Kind.API_KEY, {"other": Secret("x"), "more": Secret("y")})
    assert set(values) == {"ACME_MODE"}


def test_placeholders():
    """The child sees the same variables, with placeholders for what is secret and the rest as it is."""
    mode = {"ACME_MODE": "token"}
    assert PROVIDER.export.placeholders(Kind.OAUTH2) == {"ACME_TOKEN": USUAL, "ACME_ACCESS_TOKEN": "at-0"} | mode
    key = {"ACME_TOKEN": USUAL, "ACME_API_KEY": "k-0"} | mode
    assert PROVIDER.export.placeholders(Kind.API_KEY) == key
    assert PROVIDER.export.placeholders(Kind.API_KEY, {"site": "eu"}) == key | {"ACME_SITE": "https://eu.acme.test"}


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "LD_PRELOAD", "NODE_OPTIONS", "PYTHONSTARTUP", "GIT_SSH_COMMAND", "AUTHSOME_HOME"),
        *("HTTPS_PROXY", "CARGO_HTTP_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_TLS_REJECT_UNAUTHORIZED"),
    ],
)
def test_variables_that_programs_obey(name: str):
    """A definition cannot have a child or a shell start something, or choose whom it trusts."""
    # SEC-110
    for value in ("{token}", {"value": "/tmp/x", "placeholder": "/tmp/x"}):
        document = {
            "schema_version": 1,
            "name": "acme",
            "api_url": "acme.test",
            "api_key": {},
            "export": {"env": {name: value}},
        }
        with pytest.raises(ProviderInvalid) as caught:
            parse_definition(document, source="acme.json")
        assert caught.value.message.startswith(f"acme.json: export.env.{name}: is a variable that programs obey")


def test_what_placeholders_stand_for():
    """Each placeholder of what the login holds, and what takes its place; not those that hide nothing."""
    told = PROVIDER.export.stand_ins(Kind.OAUTH2, {"access_token": Secret("at"), "refresh_token": Secret("rt")})
    assert [(text, value.reveal()) for text, value in told] == [(USUAL, "at")]
    assert PROVIDER.export.hidden_names == {"token", "access_token", "api_key"}
    assert list(PROVIDER.export.placeholder_names(Kind.API_KEY)) == ["ACME_TOKEN", "ACME_API_KEY"]


@pytest.mark.parametrize("value", ["", "a\r\nb", "a\0"])
def test_a_value_that_no_request_can_carry_stands_for_nothing(value: str):
    """It is not sent in part."""
    # SEC-155
    assert PROVIDER.export.stand_ins(Kind.API_KEY, {"api_key": Secret(value)}) == ()


def test_a_placeholder_of_two_values_stands_for_neither():
    """Nothing is guessed."""
    document = {
        "schema_version": 1,
        "name": "two",
        "api_url": "api.two.test",
        "api_key": {"fields": [{"name": "app", "label": "app"}, {"name": "secret", "label": "secret"}]},
        "inject": {"header": "X-App", "template": "{app}"},
        "export": {
            "env": {
                "TWO_APP": {"value": "{app}", "placeholder": "same-placeholder"},
                "TWO_SECRET": {"value": "{secret}", "placeholder": "same-placeholder"},
                "TWO_AGAIN": {"value": "{secret}", "placeholder": "other-placeholder"},
                "TWO_SHORT": {"value": "{secret}", "placeholder": "short"},
                "TWO_ZEROS": {"value": "{secret}", "placeholder": "00000000-0000-0000-0000-000000000000"},
            }
        },
    }
    export = parse_definition(document, source="two.json").export
    told = export.stand_ins(Kind.API_KEY, {"app": Secret("a-0"), "secret": Secret("s-0")})
    assert [(text, value.reveal()) for text, value in told] == [("other-placeholder", "s-0")]
    alike = export.stand_ins(Kind.API_KEY, {"app": Secret("one"), "secret": Secret("one")})
    assert [text for text, _ in alike] == ["same-placeholder", "other-placeholder"]


@pytest.mark.parametrize("value", ["on", "off"])
def test_replacing_can_be_switched_off(value: str):
    """Then nothing stands for anything, and the child sees the same."""
    provider = parse_definition({**definition_to_json(PROVIDER), "replace": value}, source="acme.json")
    assert ("replace" in definition_to_json(provider)) is (value == "off")
    assert (provider.replaced == provider.export) is (value == "on")
    assert (provider.replaced.hidden_names == frozenset()) is (value == "off")


def test_usual_placeholders_are_each_for_one_value():
    """So another provider's, and another field's, is not taken for this one's; and each is the same every time."""
    # SEC-154
    values = [("acme", "{token}"), ("acme", "{other}"), ("other", "{token}")]
    found = [usual_placeholder(provider, Template(text)) for provider, text in values]
    assert found[0] == "authsome-placeholder-8c2b5b9e7c0201096038"
    assert len(set(found)) == 3
    assert {len(each) for each in found} == {41}
