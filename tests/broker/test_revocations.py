"""Revoking: what the provider has ended is forgotten; what it has not is kept, and nobody says otherwise."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from authsome.errors import AuthsomeError, ConnectionNotFound, EndpointUnreachable, RevocationUnsupported
from authsome.models.audit import Event
from authsome.models.connection import Registration
from authsome.secret import Secret
from authsome.vault import clients
from fakes import endpoint

HOUR = timedelta(hours=1)
GONE = endpoint.answer(b"")


@pytest.fixture
def revoked(house, hostile):
    """Revoke acme's connections, at this endpoint."""
    house.oauth("acme", hostile.url(), revocation_url=hostile.url("/revoke"))
    hostile.script = GONE

    def revoke(name=None):
        return house.broker.revocations.revoke(house.owner, "acme", name)

    return revoke


def asked(hostile):
    """Which tokens, and as which type, the provider was asked to end."""
    forms = [parse_qs(request.body.decode()) for request in hostile.requests if request.path == "/revoke"]
    return [(form["token_type_hint"][0], form["token"][0]) for form in forms]


def in_turn(hostile, *scripts):
    """The endpoint's answers, one after the other; the last one stays."""
    left = [*scripts]

    def script():
        yield from (left.pop(0) if len(left) > 1 else left[0])()

    hostile.script = script


def names(connections):
    return [connection.name for connection in connections]


def test_the_refresh_token_goes_first_then_the_connection(house, hostile, revoked):
    """And the log says so. # SEC-108"""
    house.connect("acme", lifetime=HOUR)
    assert names(revoked().gone) == ["default"]
    assert asked(hostile) == [("refresh_token", "old-refresh"), ("access_token", "old-access")]
    assert house.broker.credentials.list_all(house.owner) == []
    (event,) = house.events(Event.REVOKE)
    assert (event.entry.provider, event.entry.connection, event.entry.identity) == ("acme", "default", "owner")


def test_all_of_a_provider_or_one_of_them(house, hostile, revoked):
    """Each has its own tokens; another provider's are left alone."""
    house.oauth("other", hostile.url())
    for provider, name in (("acme", "home"), ("acme", "work"), ("acme", "third"), ("other", "default")):
        house.connect(provider, lifetime=HOUR, name=name)
    assert names(revoked("work").gone) == ["work"]
    assert names(revoked().gone) == ["home", "third"]
    assert [each.provider for each in house.broker.credentials.list_all(house.owner)] == ["other"]


@pytest.mark.parametrize("name", [None, "work"])
def test_what_is_not_there(house, hostile, revoked, name):
    """Is an error, not a success."""
    if name:
        house.connect("acme", lifetime=HOUR)
    with pytest.raises(ConnectionNotFound):
        revoked(name)
    assert hostile.requests == []


@pytest.mark.parametrize("script", ["503", "500", "hang", "nothing", "rude error", "half"])
def test_what_fails_is_said_and_kept(house, hostile, revoked, script):
    """The local copy stays as it is, the log tells of a failure only, and a second attempt succeeds. # SEC-108"""
    before = house.connect("acme", lifetime=HOUR)
    hostile.script = endpoint.SCRIPTS[script]
    with pytest.raises(AuthsomeError):
        revoked()
    assert house.stored("acme") == before
    assert house.secrets("acme") == {"access_token": "old-access", "refresh_token": "old-refresh"}
    assert house.events(Event.REVOKE) == []
    assert len(house.events(Event.REVOKE_FAILED)) == 1
    hostile.script = GONE
    assert names(revoked().gone) == ["default"]


def test_a_failure_half_way_is_a_failure(house, hostile, revoked):
    """The refresh token is dead, the access token perhaps not: the connection stays until both are. # SEC-108"""
    house.connect("acme", lifetime=HOUR)
    in_turn(hostile, GONE, endpoint.SCRIPTS["503"])
    with pytest.raises(EndpointUnreachable):
        revoked()
    assert house.stored("acme")
    hostile.script = GONE
    revoked()
    assert [hint for hint, _ in asked(hostile)] == ["refresh_token", "access_token"] * 2


def test_some_go_and_some_stay(house, hostile, revoked):
    """Each connection has its own outcome."""
    house.connect("acme", lifetime=HOUR, name="first")
    house.connect("acme", lifetime=HOUR, name="second")
    in_turn(hostile, GONE, GONE, endpoint.SCRIPTS["503"])
    outcome = revoked()
    assert names(outcome.gone) == ["first"]
    assert [(kept.connection.name, type(kept.error)) for kept in outcome.kept] == [("second", EndpointUnreachable)]
    assert names(house.broker.credentials.list_all(house.owner)) == ["second"]


UNSUPPORTED = endpoint.answer(b'{"error": "unsupported_token_type"}', status=400)


def test_all_of_several_stay(house, hostile, revoked):
    """Each is told with its own cause."""
    house.connect("acme", lifetime=HOUR, name="first")
    house.connect("acme", lifetime=HOUR, name="second")
    hostile.script = endpoint.SCRIPTS["503"]
    outcome = revoked()
    assert outcome.gone == ()
    assert [kept.connection.name for kept in outcome.kept] == ["first", "second"]


@pytest.mark.parametrize(("scripts", "is_gone"), [((GONE, UNSUPPORTED), True), ((UNSUPPORTED, GONE), False)])
def test_a_provider_that_revokes_one_type_only(house, hostile, revoked, scripts, is_gone):
    """The refresh token is the one that matters: without it an access token ends by itself."""
    house.connect("acme", lifetime=HOUR)
    in_turn(hostile, *scripts)
    if is_gone:
        assert names(revoked().gone) == ["default"]
    else:
        with pytest.raises(RevocationUnsupported):
            revoked()
        assert house.stored("acme")


def test_a_provider_without_revocation(house, hostile):
    """Says where to go instead, and forgets nothing. # SEC-108"""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    house.key("openai", "sk-" + "a" * 40)
    for provider in ("acme", "openai"):
        with pytest.raises(RevocationUnsupported) as raised:
            house.broker.revocations.revoke(house.owner, provider, None)
        assert f"authsome logout {provider}" in raised.value.hint
        assert house.stored(provider)
    assert "https://platform.openai.com" in raised.value.hint
    assert hostile.requests == []


def test_a_login_that_is_dead_can_be_revoked(house, hostile, revoked):
    """What the provider does not know any more is as good as revoked."""
    house.connect("acme", lifetime=HOUR)
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE connections SET status = 'invalid'")
    hostile.script = endpoint.answer(b'{"error": "invalid_token"}', status=400)
    assert names(revoked().gone) == ["default"]


def test_a_refresh_under_way_is_waited_for(house, hostile, revoked, hold_back):
    """What it brings is what is revoked: nothing lives on that nobody knows of. # SEC-90"""
    house.connect("acme", lifetime=HOUR)
    house.clock.advance(HOUR)
    with (
        hold_back(hostile, access_token="new-access", refresh_token="new-refresh") as held,
        ThreadPoolExecutor(2) as pool,
    ):
        refresh = pool.submit(house.broker.credentials.reveal, house.owner, "acme", "default", Event.EXPORT)
        held.wait()
        hostile.script = GONE
        revocation = pool.submit(revoked)
        held.release()
        refresh.exception(60)  # it may come too late for its own token
        assert names(revocation.result(60).gone) == ["default"]
    assert asked(hostile) == [("refresh_token", "new-refresh"), ("access_token", "new-access")]
    assert house.broker.credentials.list_all(house.owner) == []


def test_logged_in_anew_meanwhile(house, hostile, revoked, hold_back):
    """The old login is ended, the new one stays. # SEC-90"""
    house.connect("acme", lifetime=HOUR)
    with hold_back(hostile) as held, ThreadPoolExecutor(1) as pool:
        revocation = pool.submit(revoked)
        held.wait()
        hostile.script = GONE
        anew = house.connect("acme", lifetime=HOUR)
        held.release()
        assert names(revocation.result(60).gone) == ["default"]
    assert house.stored("acme") == anew


# ---- the client that was registered ------------------------------------------------------------------------


def registered(house, hostile, *, is_manageable=True):
    """A client that was registered at acme, as a login stores it."""
    sealer = house.context.sealers.for_vault(house.owner.vault_id)
    made = Registration(
        endpoint=hostile.url("/reg"),
        redirect_uri="http://127.0.0.1:7998/auth/callback/oauth",
        method="none",
        secret_expires_at=None,
        management_uri=hostile.url("/reg/1") if is_manageable else None,
        access_token=Secret("manage-it") if is_manageable else None,
    )
    with house.context.database.transaction() as tx:
        clients.put(
            tx, sealer, provider="acme", client_id="c", client_secret=None, registration=made, now=house.clock()
        )


def client_of(house):
    with house.context.database.read() as reader:
        return clients.get(reader, house.context.sealers.for_vault(house.owner.vault_id), "acme")


@pytest.mark.parametrize(
    ("status", "becomes"), [(204, "gone"), (401, "gone"), (404, "gone"), (405, "kept"), (503, "a warning")]
)
def test_our_client_goes_last(house, hostile, revoked, status, becomes):
    """With the last connection; one that the server does not take back is kept, to be used again. # SEC-107"""
    registered(house, hostile)
    house.connect("acme", lifetime=HOUR, name="first")
    house.connect("acme", lifetime=HOUR, name="second")
    assert revoked("first").client is None
    assert client_of(house) is not None
    in_turn(hostile, GONE, GONE, endpoint.answer(b"", status=status))
    outcome = revoked("second")
    assert names(outcome.gone) == ["second"]
    assert outcome.client.is_given_back is (becomes == "gone")
    assert bool(outcome.client.error) is (becomes == "a warning")
    assert (client_of(house) is None) is (becomes == "gone")
    last = hostile.requests[-1]
    assert (last.method, last.path, last.header("authorization")) == ("DELETE", "/reg/1", "Bearer manage-it")
    assert len(house.events(Event.REVOKE)) == 2 + (becomes == "gone")


def test_a_client_that_cannot_be_given_back_is_kept(house, hostile, revoked):
    """The server named no address to do it at; one that was made by hand is nobody's to give. # SEC-107"""
    for is_registered in (True, False):
        house.connect("acme", lifetime=HOUR)
        if is_registered:
            registered(house, hostile, is_manageable=False)
        else:
            sealer = house.context.sealers.for_vault(house.owner.vault_id)
            with house.context.database.transaction() as tx:
                clients.put(tx, sealer, provider="acme", client_id="c", client_secret=None, now=house.clock())
        outcome = revoked()
        assert (outcome.client is not None) is is_registered
        assert client_of(house).client_id == "c"
    assert {request.method for request in hostile.requests} == {"POST"}
