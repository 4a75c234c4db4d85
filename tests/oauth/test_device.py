"""Device logins: what the provider gives to begin with, and what each answer to a question means."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import AuthsomeError, EndpointRefused, EndpointUnreachable, LoginRequired, TimedOut
from authsome.message import HttpResponse
from authsome.models.oauth import OAuth, ResponseShape
from authsome.oauth import device, token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLIENT = ClientCredentials(client_id="our-client")
DEVICE_CODE = Secret("the-device-code")
ACME = OAuth(
    token_url="https://acme.test/token",
    device_authorization_url="https://acme.test/device",
    token_endpoint_auth_method="none",
    token_params={"audience": "api"},
)
GIVEN = {
    "device_code": "the-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://acme.test/go",
    "expires_in": 900,
}


def begun(**changes: object) -> device.DeviceAuthorization:
    given = {name: value for name, value in {**GIVEN, **changes}.items() if value is not ...}
    response = HttpResponse(200, (), json.dumps(given).encode())
    return device.parse_authorization_response(response, ACME, now=NOON)


def answered(body: object, status: int = 400, oauth: OAuth = ACME) -> object:
    response = HttpResponse(status, (), json.dumps(body).encode())
    return device.parse_token_response(response, oauth, now=NOON, sent=(DEVICE_CODE,))


def form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def test_the_requests():
    """The first names the client and the scopes, the others the code (RFC 8628 §3.1, §3.4)."""
    first = device.authorization_request(ACME, CLIENT, scopes=("read", "write"))
    assert (first.method, first.url) == ("POST", "https://acme.test/device")
    assert form(first.body) == {"client_id": "our-client", "scope": "read write"}
    other = device.token_request(ACME, CLIENT, device_code=DEVICE_CODE)
    assert other.url == "https://acme.test/token"
    assert form(other.body) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "the-device-code",
        "client_id": "our-client",
        "audience": "api",
    }


def test_what_is_given():
    found = begun(verification_uri_complete="https://acme.test/go?code=WDJB-MJHT", interval=7)
    assert found == device.DeviceAuthorization(
        device_code=DEVICE_CODE,
        user_code="WDJB-MJHT",
        verification_uri="https://acme.test/go",
        verification_uri_complete="https://acme.test/go?code=WDJB-MJHT",
        interval=timedelta(seconds=7),
        lifetime=timedelta(seconds=900),
    )
    assert begun(verification_uri=..., verification_url="https://old.test/").verification_uri == "https://old.test/"


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [(..., 5), (None, 5), (7, 7), ("9", 9), (0, 1), (-3, 5), (0.2, 1), (1e9, 300), (True, 5), ("often", 5), ([], 5)],
)
def test_intervals(interval, seconds):
    """Five seconds when none is named; never so short that we spin, never so long that we would wait for ever."""
    # SEC-69 SEC-72
    assert begun(interval=interval).interval == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(..., 600), (None, 600), (900, 900), ("60", 60), (1, 1), (0, 600), (-1, 600), (1e18, 1800), ("soon", 600)],
)
def test_lifetimes(expires_in, seconds):
    """An attempt lasts as long as the provider says, within half an hour. # SEC-72"""
    assert begun(expires_in=expires_in).lifetime == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {"device_code": ...},
        {"device_code": ""},
        {"device_code": 7},
        {"device_code": "a\r\nb"},
        {"device_code": "a" * 5000},
        {"user_code": ...},
        {"user_code": ""},
        {"user_code": "\x1b[2J"},
        {"user_code": "A" * 1000},
        {"user_code": ["A"]},
        {"verification_uri": ...},
        {"verification_uri": "\n"},
        {"verification_uri": "https://acme.test/" + "a" * 10_000},
    ],
    ids=str,
)
def test_what_cannot_be_used(changes):
    with pytest.raises(EndpointRefused, match=r"acme\.test"):
        begun(**changes)


def test_rude_texts_are_one_clean_line():
    """Whatever the provider has us show is inert text; the complete address is kept only if it is one. # SEC-74"""
    found = begun(
        user_code="\x1b]0;owned\x07WDJB\r\n\u202eMJHT",
        verification_uri="javascript:alert(1)\x1b[31m",
        verification_uri_complete="javascript:alert(1)",
    )
    assert (found.user_code, found.verification_uri) == ("WDJB MJHT", "javascript:alert(1)")
    assert found.verification_uri_complete is None
    assert begun(verification_uri_complete="file:///etc/passwd").verification_uri_complete is None
    assert begun(verification_uri_complete="http://acme.test/").verification_uri_complete is None


@pytest.mark.parametrize(
    ("body", "status", "outcome"),
    [
        ({"error": "authorization_pending"}, 400, device.Pending()),
        ({"error": "authorization_pending"}, 200, device.Pending()),  # as GitHub says it
        ({"error": "slow_down"}, 400, device.SlowDown(None)),
        ({"error": "slow_down", "interval": 12}, 200, device.SlowDown(timedelta(seconds=12))),
        ({"error": "slow_down", "interval": "x"}, 400, device.SlowDown(None)),
        ({"error": "expired_token"}, 400, TimedOut),
        ({"error": "access_denied"}, 400, EndpointRefused),
        ({"error": "invalid_grant"}, 400, LoginRequired),
        ({"error": "incorrect_device_code"}, 200, EndpointRefused),
        ({"error": "invalid_client"}, 401, EndpointRefused),
        ({"error": ["authorization_pending"]}, 400, EndpointRefused),
        ({"error": "authorization_pending"}, 503, EndpointUnreachable),
        ({"error": "authorization_pending"}, 302, EndpointRefused),
        ({}, 429, EndpointUnreachable),
        ({}, 200, EndpointRefused),
        ([], 200, EndpointRefused),
        ("x", 400, EndpointRefused),
    ],
    ids=str,
)
def test_answers(body, status, outcome):
    """Two mean "not yet", trouble passes, and everything else ends the attempt. # SEC-70 # SEC-71"""
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            answered(body, status)
    else:
        assert answered(body, status) == outcome


def test_answers_whose_error_lies_deeper():
    """Where a definition says that errors lie, "not yet" is found as well as the others are."""
    acme = replace(ACME, response=ResponseShape(error="error.code"))
    assert answered({"error": {"code": "authorization_pending"}}, oauth=acme) == device.Pending()
    assert answered({"error": {"code": "slow_down"}}, oauth=acme) == device.SlowDown(None)


def test_tokens():
    found = answered({"access_token": "an-access-token", "token_type": "bearer", "expires_in": 60}, 200)
    assert isinstance(found, token.Tokens)
    assert found.access_token == Secret("an-access-token")


def test_no_error_repeats_the_device_code():
    with pytest.raises(AuthsomeError) as caught:
        answered({"error": "x", "error_description": "no the-device-code here"})
    assert "the-device-code" not in str(caught.value)


@given(st.integers(1, 300), st.none() | st.integers(0, 300))
def test_slowing_down_is_for_good(seconds, asked):
    """Five seconds more, or what was asked for if that is more; never less than it was. # SEC-70"""
    interval, wanted = timedelta(seconds=seconds), None if asked is None else timedelta(seconds=asked)
    found = device.slowed(interval, wanted)
    assert interval <= found <= device.LONGEST_INTERVAL
    assert found >= min(interval + timedelta(seconds=5), device.LONGEST_INTERVAL)
    assert wanted is None or found >= wanted


@given(st.integers(1, 300), st.none() | st.integers(0, 3600))
def test_backing_off(seconds, asked):
    """After trouble the pause doubles, to a minute at most, and never gets shorter. # SEC-73"""
    pause, wanted = timedelta(seconds=seconds), None if asked is None else timedelta(seconds=asked)
    found = device.backed_off(pause, wanted)
    assert found >= max(pause, wanted or pause)
    if wanted is None:
        assert found == max(pause, min(2 * pause, timedelta(minutes=1)))
