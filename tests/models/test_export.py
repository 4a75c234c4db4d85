"""Exports: real values for `export`, placeholders for `run`, each for the logins that have them."""

import pytest

from authsome.errors import ProviderInvalid
from authsome.models.connection import Kind
from authsome.models.export import DEFAULT_PLACEHOLDER
from authsome.models.provider import parse_definition
from authsome.secret import Secret

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
    assert (
        PROVIDER.export.placeholders(Kind.OAUTH2)
        == {"ACME_TOKEN": DEFAULT_PLACEHOLDER, "ACME_ACCESS_TOKEN": "at-0"} | mode
    )
    key = {"ACME_TOKEN": DEFAULT_PLACEHOLDER, "ACME_API_KEY": "k-0"} | mode
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
