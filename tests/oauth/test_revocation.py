"""Revocation (RFC 7009): what is asked, and which answers mean that a token is dead."""

import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest

from authsome.errors import EndpointRefused, EndpointUnreachable
from authsome.message import HttpResponse
from authsome.models.oauth import OAuth, ResponseShape
from authsome.oauth import revocation
from authsome.oauth.client_auth import ClientCredentials
from authsome.oauth.revocation import Outcome
from authsome.secret import Secret

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OAUTH = OAuth(
    authorization_url="https://login.example/authorize",
    token_url="https://login.example/token",
    revocation_url="https://login.example/revoke",
    token_endpoint_auth_method="client_secret_basic",
)
TOKEN = Secret("canary-token")


def answered(status, body=b"", headers=(), oauth=OAUTH):
    """What an answer means."""
    response = HttpResponse(status=status, headers=headers, body=body)
    return revocation.parse_revocation_response(response, oauth, now=NOW, sent=(TOKEN,))


def said(**members):
    return json.dumps(members).encode()


@pytest.mark.parametrize("hint", ["refresh_token", "access_token"])
def test_the_request(hint):
    """The token and its type in a form, the client as at the token endpoint (§2.1)."""
    client = ClientCredentials(client_id="us", client_secret=Secret("shh"))
    request = revocation.revocation_request(OAUTH, client, revoked=TOKEN, hint=hint)
    assert (request.method, request.url) == ("POST", "https://login.example/revoke")
    assert parse_qs(request.body.decode()) == {"token": ["canary-token"], "token_type_hint": [hint]}
    assert dict(request.headers)["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (204, b""),
        (200, b"<html>gone</html>"),
        (200, b"{}"),
        (200, said(ok=True, revoked=True)),
        (400, said(error="invalid_token")),
        (400, said(error="invalid_grant")),
        (200, said(error="token_revoked")),
    ],
)
def test_dead(status, body):
    """The provider says so, or does not know it any more (§2.2). # SEC-108"""
    assert answered(status, body) is Outcome.REVOKED


def test_a_type_that_is_not_revoked():
    """Said in so many words (§2.2.1)."""
    assert answered(400, said(error="unsupported_token_type")) is Outcome.UNSUPPORTED


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_passing_trouble(status):
    """The token lives on, and the pause that is asked for is kept (§2.2.1). # SEC-108"""
    with pytest.raises(EndpointUnreachable) as raised:
        answered(status, headers=(("Retry-After", "7"),))
    assert raised.value.retry_after.total_seconds() == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (302, b""),
        (307, said(ok=True)),
        (400, b""),
        (400, said(error="invalid_request")),
        (401, said(error="invalid_client")),
        (403, b"<html>"),
        (404, said(message="Not Found")),
        (200, said(error="access_denied")),
        (200, said(error={"type": "oops"})),
        (100, b""),
    ],
)
def test_refusals(status, body):
    """Whatever else it says, nothing is called revoked. # SEC-108"""
    with pytest.raises(EndpointRefused) as raised:
        answered(status, body)
    assert "canary" not in raised.value.message


def test_an_answer_that_must_say_ok():
    """Where success is a member, its absence is none."""
    oauth = OAuth(
        authorization_url="https://login.example/authorize",
        token_url="https://login.example/token",
        revocation_url="https://login.example/revoke",
        response=ResponseShape(ok="ok"),
    )
    assert answered(200, said(ok=True), oauth=oauth) is Outcome.REVOKED
    with pytest.raises(EndpointRefused):
        answered(200, said(ok=False, error=""), oauth=oauth)


def test_errors_repeat_no_token():
    """A provider that quotes what it was sent is not quoted."""
    with pytest.raises(EndpointRefused) as raised:
        answered(400, said(error="invalid_request", error_description="no such token canary-token"))
    assert "canary" not in raised.value.message
