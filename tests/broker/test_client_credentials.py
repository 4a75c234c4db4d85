"""Tokens for a client itself: asked for once, got anew by the same grant, never mixed with a user's login."""

import json
from datetime import timedelta

import pytest

from authsome.broker.logins import Wanted
from authsome.errors import LoginRequired, RefreshFailed
from authsome.models.audit import Event
from authsome.models.connection import Connection, Status
from authsome.models.login import AwaitingInput, Completed, Failed, Flow, Login
from authsome.secret import Secret
from authsome.vault import clients
from fakes import endpoint

CLIENT = {"client_id": Secret("our-client"), "client_secret": Secret("our-client-secret")}


@pytest.fixture
def acme(house, hostile):
    """A house that knows acme, whose clients come for themselves, too."""
    house.oauth("acme", hostile.url(), client_credentials=True, token_endpoint_auth_method="client_secret_post")
    hostile.script = endpoint.tokens(expires_in=60)
    return house


def begin(house, **changes) -> Login:
    wanted = Wanted(provider="acme", flow=Flow.CLIENT_CREDENTIALS, variables={}, **changes)
    return house.broker.logins.begin(house.owner, wanted)


def log_in(house, client=CLIENT, **changes) -> Login:
    return house.broker.logins.submit(begin(house, **changes), client)


def fresh(house) -> Connection:
    provider = house.context.catalog.get("acme")
    return house.broker.refresher.fresh(house.owner, provider, house.stored("acme"), rejected=False)


def test_a_login(acme, hostile):
    """The client is asked for, with its secret; one request brings the token, and both are kept with the connection."""
    login = begin(acme)
    assert isinstance(login, AwaitingInput)
    fields = acme.broker.logins.fields(login)
    assert [(each.name, each.secret, each.required) for each in fields] == [
        ("client_id", False, True),
        ("client_secret", True, True),
    ]
    done = acme.broker.logins.submit(login, CLIENT)
    assert isinstance(done, Completed)
    (request,) = hostile.requests
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": "our-client",
        "client_secret": "our-client-secret",
    }  # a user's scopes are nothing for it
    assert acme.secrets("acme")["access_token"] == "an-access-token"
    assert acme.events(Event.LOGIN)[-1].entry.detail == "by client_credentials"


def test_scopes_that_are_asked_for(acme, hostile):
    log_in(acme, scopes=("admin",))
    assert hostile.requests[-1].form["scope"] == "admin"


def test_a_token_that_ends_is_got_anew(acme, hostile):
    """The same grant again, with the client that is stored; no user is needed, and no refresh token is kept."""
    log_in(acme, scopes=("admin",))
    acme.clock.advance(timedelta(seconds=61))
    hostile.script = endpoint.tokens(access_token="another-token", refresh_token="not-wanted")
    assert fresh(acme).status_at(acme.clock()) is Status.CONNECTED
    assert hostile.requests[-1].form == {
        "grant_type": "client_credentials",
        "scope": "admin",
        "client_id": "our-client",
        "client_secret": "our-client-secret",
    }
    assert acme.secrets("acme") == {
        "access_token": "another-token",
        "client_id": "our-client",
        "client_secret": "our-client-secret",
    }


def test_a_client_that_is_no_longer_taken(acme, hostile):
    """That is final: nobody is asked again, and the connection says so. # SEC-80"""
    log_in(acme)
    acme.clock.advance(timedelta(seconds=61))
    hostile.script = endpoint.answer(b'{"error": "invalid_client"}', status=401)
    with pytest.raises(LoginRequired) as first:
        fresh(acme)
    assert acme.stored("acme").status is Status.INVALID
    asked = len(hostile.requests)
    with pytest.raises(LoginRequired) as second:
        fresh(acme)
    assert len(hostile.requests) == asked
    hint = "log in again: authsome login acme --flow client_credentials"  # a user's login would not mend it
    assert (first.value.hint, second.value.hint) == (hint, hint)


def test_passing_trouble_is_that(acme, hostile):
    """# SEC-81"""
    log_in(acme)
    acme.clock.advance(timedelta(seconds=61))
    hostile.script = endpoint.SCRIPTS["503"]
    with pytest.raises(RefreshFailed):
        fresh(acme)
    assert acme.stored("acme").status is Status.CONNECTED


def test_each_connection_has_its_own_client(acme, hostile):
    """The client is the account: two connections are two clients, and neither is a user's login's client."""
    log_in(acme)
    other = {"client_id": Secret("other-client"), "client_secret": Secret("other-secret")}
    assert isinstance(begin(acme, connection="other"), AwaitingInput)
    log_in(acme, other, connection="other")
    acme.clock.advance(timedelta(seconds=61))
    fresh(acme)
    assert hostile.requests[-1].form["client_id"] == "our-client"
    with acme.context.database.read() as reader:
        sealer = acme.context.sealers.for_vault(acme.owner.vault_id)
        assert clients.get(reader, sealer, "acme") is None


@pytest.mark.parametrize("script", ["html", "500", "no token", "mac token"])
def test_a_grant_that_fails_stores_nothing(acme, hostile, script):
    """# SEC-92"""
    hostile.script = endpoint.SCRIPTS[script]
    assert isinstance(log_in(acme), Failed)
    assert acme.broker.credentials.list_all(acme.owner) == []


def test_a_refusal_does_not_repeat_the_secret(acme, hostile):
    """# SEC-97"""
    body = {"error": "invalid_client", "error_description": "no client our-client with our-client-secret"}
    hostile.script = endpoint.answer(json.dumps(body).encode(), status=401)
    ended = log_in(acme)
    assert isinstance(ended, Failed)
    assert "our-client-secret" not in ended.message


def test_the_secret_is_sealed(acme):
    """# SEC-126"""
    log_in(acme)
    for path in acme.home.root.rglob("*"):
        assert not path.is_file() or b"our-client-secret" not in path.read_bytes(), path
