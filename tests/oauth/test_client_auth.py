"""Client authentication at the token endpoint."""

import base64
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.oauth.client_auth import ClientCredentials, authenticate
from authsome.secret import Secret

PUBLIC = ClientCredentials(client_id="an-id")
CONFIDENTIAL = ClientCredentials(client_id="an-id", client_secret=Secret("a-secret"))
PARAMS = {"grant_type": "refresh_token"}
HEADERS = {"accept": "application/json"}
BASIC = "Basic " + base64.b64encode(b"an-id:a-secret").decode()


@pytest.mark.parametrize(
    ("method", "client", "params", "headers"),
    [
        ("client_secret_basic", CONFIDENTIAL, {}, {"authorization": BASIC}),
        ("client_secret_post", CONFIDENTIAL, {"client_id": "an-id", "client_secret": "a-secret"}, {}),
        ("none", CONFIDENTIAL, {"client_id": "an-id"}, {}),
        ("client_secret_basic", PUBLIC, {"client_id": "an-id"}, {}),
        ("client_secret_post", PUBLIC, {"client_id": "an-id"}, {}),
        ("none", PUBLIC, {"client_id": "an-id"}, {}),
    ],
)
def test_every_method(method, client, params, headers):
    """A secret goes to one place and only by the method asked for; a public client names itself."""
    expected = ({**PARAMS, **params}, {**HEADERS, **headers})
    assert authenticate(PARAMS, HEADERS, method=method, client=client) == expected


@given(st.text(min_size=1), st.text(min_size=1))
def test_reserved_characters(client_id, secret):
    """Id and secret are form-encoded before base64, so that a colon or any other character comes through."""  # SEC-63
    client = ClientCredentials(client_id=client_id, client_secret=Secret(secret))
    _, headers = authenticate({}, {}, method="client_secret_basic", client=client)
    scheme, _, coded = headers["authorization"].partition(" ")
    name, _, password = base64.b64decode(coded).decode().partition(":")
    assert scheme == "Basic"
    assert (unquote_plus(name), unquote_plus(password)) == (client_id, secret)


def test_known_encoding():
    """RFC 6749 appendix B, in the form that servers which forget to decode take too for common characters."""  # SEC-63
    client = ClientCredentials(client_id="a:b c", client_secret=Secret("p%/+é~-._"))
    _, headers = authenticate({}, {}, method="client_secret_basic", client=client)
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"a%3Ab+c:p%25%2F%2B%C3%A9~-._"


def test_credentials_do_not_show():
    """A client's secret does not show in its repr."""  # SEC-143
    assert "a-secret" not in repr(CONFIDENTIAL)
