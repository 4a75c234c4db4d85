"""Registering ourselves: what is said, and what is believed of the answer."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from authsome.errors import EndpointRefused, EndpointUnreachable
from authsome.message import HttpResponse
from authsome.models.oauth import OAuth
from authsome.oauth import registration
from authsome.secret import Secret

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
REDIRECT = "http://127.0.0.1:7998/auth/callback/oauth"
ENDPOINT = "https://acme.test/register"


def oauth(method="none") -> OAuth:
    return OAuth(
        authorization_url="https://acme.test/a",
        token_url="https://acme.test/t",
        registration_endpoint=ENDPOINT,
        token_endpoint_auth_method=method,
    )


def registered(method="none", status=201, **answer) -> registration.Registered:
    given = {"client_id": "made", **answer}
    body = json.dumps({name: value for name, value in given.items() if value is not ...}).encode()
    return registration.parse_response(HttpResponse(status, (), body), oauth(method), redirect_uri=REDIRECT, now=NOON)


def test_what_is_said():
    request = registration.request(oauth(), redirect_uri=REDIRECT)
    assert (request.method, request.url) == ("POST", ENDPOINT)
    assert json.loads(request.body) == {
        "client_name": "Authsome",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    hosted = registration.metadata(redirect_uri="https://auth.example.com/cb", method="none")
    assert hosted["application_type"] == "web"


def test_what_is_kept():
    """The client, and what manages it; no name, picture or address of the answer. # SEC-105"""
    found = registered(
        "client_secret_basic",
        client_secret="a-secret",
        client_secret_expires_at=int((NOON + timedelta(days=1)).timestamp()),
        client_name='"><img src=x onerror=alert(1)>',
        logo_uri="javascript:alert(1)",
        redirect_uris=[REDIRECT, "https://other.test/"],
        registration_client_uri="https://acme.test/register/made",
        registration_access_token="manage-it",
        token_endpoint_auth_method="client_secret_post",
    )
    assert (found.client.client_id, found.client.client_secret) == ("made", Secret("a-secret"))
    kept = found.registration
    assert (kept.endpoint, kept.redirect_uri, kept.method) == (ENDPOINT, REDIRECT, "client_secret_post")
    assert kept.secret_expires_at == NOON + timedelta(days=1)
    assert (kept.management_uri, kept.access_token) == ("https://acme.test/register/made", Secret("manage-it"))
    assert "alert" not in repr(found)


@pytest.mark.parametrize("never", [0, ..., None, "0", -1, True, [], 1e300])
def test_secrets_that_do_not_expire(never):
    kept = registered("client_secret_basic", client_secret="s", client_secret_expires_at=never).registration
    assert kept.secret_expires_at is None


@pytest.mark.parametrize(
    "answer",
    [
        {"client_id": ...},
        {"client_id": ""},
        {"client_id": 7},
        {"client_id": "a\r\nb"},
        {"client_id": "a" * 5000},
        {"client_id": "ä"},
        {"redirect_uris": ["https://evil.test/cb"]},
        {"redirect_uris": []},
        {"redirect_uris": REDIRECT},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": ["none"]},
        {"error": "invalid_redirect_uri"},
        {"client_secret": "s", "client_secret_expires_at": 1},
    ],
    ids=str,
)
def test_what_is_refused(answer):
    """Without a client that can be used, with another redirect URI, with a way we do not have, or expired. # SEC-105"""
    with pytest.raises(EndpointRefused, match=r"acme\.test"):
        registered(**answer)


def test_a_secret_that_did_not_come():
    with pytest.raises(EndpointRefused):
        registered("client_secret_basic")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(403, b"<h1>no</h1>", EndpointRefused), (200, b"<html>", EndpointRefused), (503, b"", EndpointUnreachable)],
)
def test_no_answer_of_use(status, body, kind):
    """A refusal, a page, passing trouble. # SEC-105"""
    with pytest.raises(kind):
        registration.parse_response(HttpResponse(status, (), body), oauth(), redirect_uri=REDIRECT, now=NOON)


@pytest.mark.parametrize(
    "place",
    ["https://evil.test/made", "http://acme.test/made", "https://acme.test:444/made", "https://[x", 7, None, ...],
)
def test_managed_at_its_own_origin_alone(place):
    """The token that manages a registration goes nowhere but to the server that gave it. # SEC-107"""
    kept = registered(registration_client_uri=place, registration_access_token="manage-it").registration
    assert (kept.management_uri, kept.access_token) == (None, None)
    assert registration.read_request(kept) is None
    assert registration.delete_request(kept) is None


def test_managing():
    """Asking for a registration and giving it back carry its own token (RFC 7592 §2). # SEC-107"""
    kept = registered(
        registration_client_uri="https://acme.test/register/made", registration_access_token="manage-it"
    ).registration
    for method, request in (("GET", registration.read_request(kept)), ("DELETE", registration.delete_request(kept))):
        assert request is not None
        assert (request.method, request.url) == (method, "https://acme.test/register/made")
        assert dict(request.headers)["authorization"] == "Bearer manage-it"
    assert [registration.is_gone(HttpResponse(status)) for status in (200, 204, 401, 403, 404, 500)] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("offered", "public", "confidential"),
    [
        (["none", "client_secret_basic"], "none", "client_secret_basic"),
        (["client_secret_post", "private_key_jwt"], "client_secret_post", "client_secret_post"),
        (["none"], "none", "none"),
        ([], "client_secret_basic", "client_secret_basic"),
        (["private_key_jwt"], "client_secret_basic", "client_secret_basic"),
    ],
)
def test_ways_of_authentication(offered, public, confidential):
    assert registration.usual_method(offered, preferred=registration.PUBLIC_FIRST) == public
    assert registration.usual_method(offered, preferred=registration.SECRET_FIRST) == confidential
