"""Refresh: one request however many ask, and no failure loses a login."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from authsome.broker.credentials import Claimant, Target
from authsome.broker.refresh import due
from authsome.errors import AuthsomeError, CredentialUnavailable, LoginRequired, RefreshFailed
from authsome.models.audit import Event
from authsome.models.connection import Status
from fakes import endpoint

HOUR = timedelta(hours=1)
PASSING = ("500", "502", "503", "429", "half", "nothing", "hang", "not http")
NONSENSE = ("html", "empty", "array", "no token", "null token", "number token", "token with newline", "mac token")


def resolve(house, *, rejected: bool = False) -> str:
    """What the proxy would put on a request."""
    target = Target(method="GET", host="acme.example.localhost", port=443, path="/")
    found = house.broker.credentials.resolve(lambda _: Claimant(caller=house.owner), target, rejected=rejected)
    (header,) = found.injected.headers
    return header[1].reveal()


@pytest.fixture
def expired(house, hostile):
    """A house whose login to acme has just expired; the endpoint answers with fresh tokens."""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    house.clock.advance(HOUR)
    return house


@pytest.mark.parametrize("callers", [2, 20, 200])
def test_many_callers_cause_one_request(expired, hostile, callers):
    """However many ask at expiry, the provider is asked once and all get the new token. # SEC-77 # SEC-91"""
    start = threading.Barrier(min(callers, 50))

    def ask(index: int) -> str:
        if index < start.parties:
            start.wait()
        return resolve(expired)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(callers)))
    assert set(answers) == {"Bearer an-access-token"}
    assert len(hostile.requests) == 1
    assert len(expired.events(Event.REFRESH)) == 1
    assert len(expired.events(Event.RESOLVE)) == callers


def test_the_new_tokens_are_stored_before_they_are_used(expired, hostile, open_house):
    """What was answered is in the database, also for the next process. # SEC-78"""
    hostile.script = endpoint.tokens(refresh_token="new-refresh")
    assert resolve(expired) == "Bearer an-access-token"
    again = open_house()
    assert again.secrets("acme") == {"access_token": "an-access-token", "refresh_token": "new-refresh"}


def test_the_old_refresh_token_is_kept_when_none_comes(expired):
    """An answer without a refresh token leaves the old one in force. # SEC-79"""
    resolve(expired)
    assert expired.secrets("acme")["refresh_token"] == "old-refresh"


def test_invalid_grant_is_final(expired, hostile):
    """The record is kept and marked, the command is named, and nobody asks the provider again. # SEC-80"""
    hostile.script = endpoint.answer(b'{"error": "invalid_grant"}', status=400)
    for _ in range(11):
        with pytest.raises(LoginRequired) as raised:
            resolve(expired)
        assert "authsome login acme" in raised.value.hint
    assert len(hostile.requests) == 1
    assert expired.stored("acme").status is Status.INVALID
    assert expired.secrets("acme") == {"access_token": "old-access", "refresh_token": "old-refresh"}
    (event,) = expired.events(Event.REFRESH_FAILED)
    assert event.entry.detail.startswith("final: ")


@pytest.mark.parametrize("script", PASSING + NONSENSE)
def test_a_failure_changes_nothing_and_passes(expired, hostile, script):
    """Trouble at the provider leaves the record as it was; it works again as soon as the provider does.

    # SEC-81 # SEC-87 # SEC-92
    """
    hostile.script = endpoint.SCRIPTS[script]
    before = expired.stored("acme")
    with pytest.raises(RefreshFailed) as raised:
        resolve(expired)
    assert "\n" not in raised.value.message
    assert expired.stored("acme") == before
    assert expired.secrets("acme") == {"access_token": "old-access", "refresh_token": "old-refresh"}
    hostile.script = endpoint.tokens()
    assert _until_it_works(expired) == "Bearer an-access-token"


def _until_it_works(house) -> str:
    """Resolve as soon as the pause after a failure is over; a provider's Retry-After here is 7 s at most."""
    over = threading.Event()
    for _ in range(200):
        try:
            return resolve(house)
        except RefreshFailed:
            over.wait(0.05)
    raise AssertionError("the pause does not end")


def test_failures_are_followed_by_a_pause(expired, hostile):
    """After a failure the provider is left alone for a moment, however many ask. # SEC-81"""
    hostile.script = endpoint.SCRIPTS["500"]
    for _ in range(20):
        with pytest.raises(RefreshFailed):
            resolve(expired)
    assert len(hostile.requests) == 1
    assert len(expired.events(Event.REFRESH_FAILED)) == 1


def test_retry_after_is_honoured(expired, hostile):
    """A provider that says when to come back is not asked before. # SEC-82"""
    hostile.script = endpoint.SCRIPTS["503"]  # Retry-After: 7
    with pytest.raises(RefreshFailed):
        resolve(expired)
    hostile.script = endpoint.tokens()
    threading.Event().wait(1.5)  # longer than the usual first pause
    with pytest.raises(RefreshFailed):
        resolve(expired)
    assert len(hostile.requests) == 1


def test_a_token_still_valid_is_served_when_its_refresh_fails(house, hostile):
    """Within the margin before expiry a failing refresh costs nothing. # SEC-83"""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    house.clock.advance(HOUR - timedelta(seconds=30))
    hostile.script = endpoint.SCRIPTS["502"]
    assert resolve(house) == "Bearer old-access"
    assert len(hostile.requests) == 1


def test_a_clock_that_jumps_costs_one_refresh_at_most(house, hostile):
    """Set an hour back or forward, the token is refreshed once at most and no expired one is served. # SEC-84"""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    house.clock.advance(-HOUR)
    assert resolve(house) == "Bearer old-access"
    house.clock.advance(2 * HOUR)
    assert [resolve(house) for _ in range(3)] == ["Bearer an-access-token"] * 3
    assert len(hostile.requests) == 1


@pytest.mark.parametrize("expires_in", [None, "3600", 0, -5, 1e18, "soon", True, [], 1.5])
def test_an_odd_lifetime_causes_no_storm(expired, hostile, expires_in):
    """Whatever `expires_in` is, the token is used, and no refresh follows upon the refresh. # SEC-85"""
    hostile.script = endpoint.tokens(expires_in=expires_in)
    assert [resolve(expired) for _ in range(5)] == ["Bearer an-access-token"] * 5
    assert len(hostile.requests) == 1


def test_a_short_lived_token_is_not_refreshed_at_each_use(house, hostile):
    """The margin is a quarter of the lifetime at most, so a token of ten seconds serves for seven."""
    house.oauth("acme", hostile.url())
    connection = house.connect("acme", lifetime=timedelta(seconds=10))
    assert not due(connection, house.clock())
    house.clock.advance(timedelta(seconds=8))
    assert due(connection, house.clock())


def test_a_refused_token_is_refreshed_once(house, hostile):
    """A 401 from the API forces one refresh; the next 401 within a minute does not. # SEC-88"""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    house.clock.advance(timedelta(minutes=5))
    assert resolve(house, rejected=True) == "Bearer an-access-token"
    assert resolve(house, rejected=True) == "Bearer an-access-token"
    assert len(hostile.requests) == 1


def test_fewer_scopes_are_stored_and_told(expired, hostile):
    """Scopes that a refresh no longer grants are gone from the connection, and the log says which. # SEC-89"""
    hostile.script = endpoint.tokens(scope="write")
    resolve(expired)
    assert expired.stored("acme").scopes == ("write",)
    assert "read" in (expired.events(Event.REFRESH)[-1].entry.detail or "")


def test_a_late_answer_does_not_bring_back_a_logout(expired, hostile):
    """Logged out while a refresh is under way, the connection stays gone. # SEC-90"""
    asked, go_on = threading.Event(), threading.Event()

    def held():
        asked.set()
        go_on.wait(5)
        yield from endpoint.tokens()()

    hostile.script = held
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(resolve, expired)
        assert asked.wait(5)
        expired.broker.credentials.logout(expired.owner, "acme", "default")
        go_on.set()
        with pytest.raises(AuthsomeError):
            late.result(10)
    assert expired.broker.credentials.list_all(expired.owner) == []


def test_one_provider_that_hangs_delays_no_other(house, hostile):
    """While one connection waits for its provider, another is resolved at once. # SEC-194"""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    house.clock.advance(HOUR)
    house.key("openai", "sk-" + "a" * 40)
    asked, go_on = threading.Event(), threading.Event()

    def held():
        asked.set()
        go_on.wait(20)
        yield from endpoint.tokens()()

    hostile.script = held
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(resolve, house)
        assert asked.wait(5)
        target = Target(method="GET", host="api.openai.com", port=443, path="/v1/models")
        house.broker.credentials.resolve(lambda _: Claimant(caller=house.owner), target, rejected=False)
        assert not slow.done()
        go_on.set()
        slow.result(10)


def test_an_expired_token_without_refresh_is_refused(house, hostile):
    """A login that has ended is never served silently."""
    house.oauth("acme", hostile.url())
    house.connect("acme", lifetime=HOUR)
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE connections SET has_refresh_token = 0")
    house.clock.advance(HOUR)
    with pytest.raises(CredentialUnavailable) as raised:
        resolve(house)
    assert "authsome login acme" in raised.value.hint
    assert hostile.requests == []
