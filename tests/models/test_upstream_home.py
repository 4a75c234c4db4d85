"""Records of upstream's homes are read strictly: what is not of their form is named, and no value is repeated."""

import json
from datetime import UTC, datetime

import pytest

from authsome.models import upstream_home
from authsome.models.upstream_home import RecordKey

KEY = {
    "provider": "acme",
    "connection_name": "work",
    "auth_type": "api_key",
    "status": "connected",
    "api_key": "SECRET",
}
TOKENS = {**KEY, "auth_type": "oauth2", "access_token": "SECRET", "refresh_token": "SECRET"}


@pytest.mark.parametrize(
    ("key", "parsed"),
    [
        ("identity:me:acme:connection:work", RecordKey("connection", "acme", "me")),
        ("vault:v1:acme:connection:a:b", RecordKey("connection", "acme", "v1")),
        ("vault:v1:acme:metadata", RecordKey("metadata", "acme", "v1")),
        ("identity:me:acme:state", RecordKey("state", "acme", "me")),
        ("server:provider:acme:client", RecordKey("client", "acme")),
        ("provider:acme:definition", None),
        ("__index__", None),
        ("vault:v1", None),
        ("", None),
    ],
)
def test_names_of_records(key: str, parsed: RecordKey | None):
    assert upstream_home.read_key(key) == parsed


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({}, "unusable", None),
        ({"status": "expired"}, "unusable", None),
        ({"status": "not_connected"}, "unusable", "not connected"),
        ({"status": "invalid"}, "unusable", "invalid"),
        ({"scopes": ["a", "", "b"]}, "scopes", ("a", "b")),
        ({"scopes": None}, "scopes", ()),
        ({"account": {"id": "1", "label": None}}, "account", "1"),
        ({"account": {"id": "1", "label": "me"}}, "account", "me"),
        ({"account": None}, "account", None),
        ({"expires_at": "2030-01-02T03:04:05Z"}, "expires_at", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"expires_at": "2030-01-02T05:04:05+02:00"}, "expires_at", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"expires_at": "2030-01-02T03:04:05"}, "expires_at", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"base_url": "https://acme.test"}, "base_url", "https://acme.test"),
    ],
)
def test_a_connection(change: dict[str, object], name: str, value: object):
    found = upstream_home.connection_from_json(json.dumps(TOKENS | change), "me")
    assert getattr(found, name) == value
    assert (found.owner, found.provider, found.name) == ("me", "acme", "work")
    assert set(found.secrets) == {"access_token", "refresh_token"}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("", "is not JSON"),
        ("[]", "is not an object"),
        ("[" * 100_000, "is not JSON"),
        (KEY | {"auth_type": "browser"}, "holds cookies of a browser"),
        (KEY | {"auth_type": "saml"}, "is no key and no token"),
        (KEY | {"auth_type": ["oauth2"]}, "auth_type is no text"),
        (KEY | {"api_key": None}, "holds no credential"),
        (KEY | {"api_key": ["SECRET"]}, "api_key is no text"),
        (TOKENS | {"access_token": ""}, "holds no credential"),
        (TOKENS | {"refresh_token": "SECRET" * 4000}, "is longer than any credential"),
        (TOKENS | {"expires_at": "SECRET"}, "expires_at is no time"),
        (TOKENS | {"expires_at": "9999-12-31T23:59:59-01:00"}, "expires_at is no time"),
        (TOKENS | {"expires_at": 1}, "expires_at is no text"),
        (KEY | {"provider": None}, "provider is missing"),
        (KEY | {"connection_name": ""}, "connection_name is missing"),
    ],
)
def test_what_is_no_connection(record: object, problem: str):
    text = record if isinstance(record, str) else json.dumps(record)
    with pytest.raises(ValueError, match=problem) as caught:
        upstream_home.connection_from_json(text, "me")
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_clients_and_defaults():
    client = upstream_home.client_from_json('{"provider": "acme", "client_id": "id", "client_secret": "SECRET"}')
    assert client is not None
    assert (client.provider, client.client_id) == ("acme", "id")
    assert "SECRET" not in repr(client)
    assert upstream_home.client_from_json('{"provider": "acme", "scopes": ["a"]}') is None
    assert upstream_home.default_from_json('{"default_connection": "work"}') == "work"
    with pytest.raises(ValueError, match="default_connection is missing"):
        upstream_home.default_from_json("{}")
