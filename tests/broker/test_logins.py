"""Logins: from the question to the stored connection, and everything that may go wrong on the way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from authsome.broker.logins import LIFETIME, Wanted
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    ConnectionExists,
    LoginNotFound,
    NotAllowed,
    ProviderNotFound,
    RequestInvalid,
    VaultDamaged,
)
from authsome.models.audit import Event
from authsome.models.login import AwaitingCallback, AwaitingInput, Completed, Exchanging, Failed, Flow, Login
from authsome.oauth import pkce
from authsome.secret import Secret
from authsome.vault import logins as stored_logins
from fakes import endpoint

KEY = "sk-" + "a" * 40
KEYED = {"schema_version": 1, "auth_type": "api_key", "api_key": {}}


def wanted(provider: str, **changes) -> Wanted:
    return Wanted(provider=provider, variables={}, **changes)


def begin(house, provider: str = "acme", **changes) -> Login:
    return house.broker.logins.begin(house.owner, wanted(provider, **changes))


def at_provider(house, provider: str = "acme", **changes) -> AwaitingCallback:
    """A login whose browser is at the provider."""
    login = begin(house, provider, **changes)
    if isinstance(login, AwaitingInput):
        login = house.broker.logins.submit(login, {"client_id": Secret("our-client")})
    assert isinstance(login, AwaitingCallback)
    return login


def answer(login: AwaitingCallback, **changes: str) -> str:
    """The query of the provider's answer."""
    return urlencode({"code": "the-code", "state": login.state.reveal(), **changes})


def call_back(house, login: AwaitingCallback, query: str | None = None, *, key: Secret[str] | None = None) -> Login:
    """The browser comes back, with the cookie of the login unless another key is given."""
    held = login.request.browser_key if key is None else key
    return house.broker.logins.callback(query or answer(login), lambda _: held)


def form_of(hostile, index: int = -1) -> dict[str, str]:
    """The form that the token endpoint got."""
    return {name: values[0] for name, values in parse_qs(hostile.requests[index].body.decode()).items()}


@pytest.fixture
def acme(house, hostile):
    """A house that knows the OAuth provider acme."""
    house.oauth("acme", hostile.url())
    return house


def test_pkce_login(acme, hostile):
    """The URL asks for a code with S256 and state; the code is exchanged with the verifier; all is stored. # SEC-51"""
    hostile.script = endpoint.tokens(refresh_token="a-refresh-token", scope="read write")
    login = at_provider(acme)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(login.authorization_url).query).items()}
    assert asked["response_type"] == "code"
    assert asked["client_id"] == "our-client"
    assert asked["redirect_uri"] == "http://127.0.0.1:7998/auth/callback/oauth"  # SEC-61
    assert asked["scope"] == "read"
    assert asked["code_challenge_method"] == "S256"
    assert asked["code_challenge"] == pkce.challenge(login.code_verifier)
    done = call_back(acme, login)
    assert isinstance(done, Completed)
    form = form_of(hostile)
    assert form["code"] == "the-code"
    assert form["code_verifier"] == login.code_verifier.reveal()
    assert form["redirect_uri"] == asked["redirect_uri"]
    assert acme.secrets("acme") == {"access_token": "an-access-token", "refresh_token": "a-refresh-token"}
    assert acme.stored("acme").scopes == ("read", "write")  # SEC-65
    (event,) = acme.events(Event.LOGIN)
    assert (event.entry.provider, event.entry.connection) == ("acme", "default")


def test_the_client_is_asked_for_once(acme):
    """After a login that worked, the next one goes straight to the provider."""
    call_back(acme, at_provider(acme))
    assert isinstance(begin(acme, connection="work"), AwaitingCallback)


def test_a_fault_of_ours_ends_the_login_too(acme):
    """Nobody waits for one that nothing will finish any more."""
    login = at_provider(acme)

    def broken(*_):
        raise RuntimeError("a fault")

    object.__setattr__(acme.context, "send", broken)
    with pytest.raises(RuntimeError):
        call_back(acme, login)
    assert isinstance(acme.broker.logins.get(acme.owner, login.request.id), Failed)
    (event,) = acme.events(Event.LOGIN_FAILED)
    assert event.entry.detail == "the login could not be finished"


def test_a_client_that_the_provider_refuses_is_not_kept(acme, hostile):
    """A wrong client id costs one attempt: the next login asks for it again."""
    hostile.script = endpoint.answer(b'{"error": "invalid_client"}', status=401)
    assert isinstance(call_back(acme, at_provider(acme)), Failed)
    assert isinstance(begin(acme), AwaitingInput)


def test_verifiers_and_states_are_fresh(acme):
    """No two attempts share a verifier, a state or a browser key. # SEC-51 # SEC-53"""
    attempts = [at_provider(acme) for _ in range(10)]
    for values in (
        {each.code_verifier.reveal() for each in attempts},
        {each.state.reveal() for each in attempts},
        {each.request.browser_key.reveal() for each in attempts},
    ):
        assert len(values) == 10


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda query, _: query.partition("&state=")[0], id="missing"),
        pytest.param(lambda query, _: query + "x", id="wrong"),
        pytest.param(lambda query, _: query + "&state=again", id="doubled"),
        pytest.param(lambda query, _: query + "&code=again", id="doubled code"),
        pytest.param(lambda _, other: answer(other), id="of another attempt that ended"),
        pytest.param(lambda *_: "", id="empty"),
        pytest.param(lambda *_: "code=%ff%fe&state=%00", id="binary"),
    ],
)
def test_a_wrong_state_sends_nothing(acme, hostile, change: Callable[[str, AwaitingCallback], str]):
    """Without the very state of a login that waits, there is no token request. # SEC-53"""
    other = at_provider(acme)
    acme.broker.logins.cancel(acme.owner, other.request.id)
    login = at_provider(acme)
    try:
        outcome: Login | None = call_back(acme, login, change(answer(login), other) or "code=x")
    except AuthenticationFailed:
        outcome = None
    assert outcome is None or isinstance(outcome, Failed)
    assert hostile.requests == []
    assert acme.broker.credentials.list_all(acme.owner) == []


def test_another_browser_cannot_finish_a_login(acme, hostile):
    """Without the cookie of the browser that began it, the answer is refused, and the login goes on. # SEC-54"""
    login = at_provider(acme)
    with pytest.raises(NotAllowed):
        call_back(acme, login, key=Secret("another-browser"))
    with pytest.raises(NotAllowed):
        acme.broker.logins.callback(answer(login), lambda _: None)
    assert hostile.requests == []
    assert isinstance(call_back(acme, login), Completed)


def test_an_answer_that_is_pasted(acme, hostile):
    """Who began a login may bring the answer; the address, its query alone, and blanks around it will do. # SEC-54"""
    for spelling in ("{}", " http://127.0.0.1:7998/auth/callback/oauth?{} ", "https://elsewhere.example/?{}#_=_"):
        login = at_provider(acme, force=True)
        address = Secret(spelling.format(answer(login)))
        assert isinstance(acme.broker.logins.paste(acme.owner, login.request.id, address), Completed)
        assert form_of(hostile)["code"] == "the-code"
        with pytest.raises(AuthenticationFailed):  # SEC-57
            acme.broker.logins.paste(acme.owner, login.request.id, address)


def test_only_who_began_a_login_pastes_its_answer(acme, hostile):
    """Neither another identity of the same vault nor the answer to another login gets through. # SEC-54 # SEC-68"""
    login, other = at_provider(acme), at_provider(acme)
    stranger = replace(acme.owner, identity=replace(acme.owner.identity, handle="stranger"))
    with pytest.raises(LoginNotFound):
        acme.broker.logins.paste(stranger, login.request.id, Secret(answer(login)))
    with pytest.raises(NotAllowed):
        acme.broker.logins.paste(acme.owner, login.request.id, Secret(answer(other)))
    for nonsense in ("", "?", "hello", "?state=guessed&code=x", "https://x.example/?" + answer(login) + "&state=again"):
        with pytest.raises(AuthenticationFailed):
            acme.broker.logins.paste(acme.owner, login.request.id, Secret(nonsense))
    assert hostile.requests == []
    assert isinstance(acme.broker.logins.paste(acme.owner, login.request.id, Secret(answer(login))), Completed)


@pytest.mark.parametrize(("issuer", "accepted"), [("right", True), ("wrong", False), ("right/", False), (None, True)])
def test_the_issuer_is_compared(house, hostile, issuer, accepted):
    """A callback that names another issuer is refused before any token request. # SEC-55"""
    right = hostile.url("")
    house.oauth("acme", hostile.url(), issuer=right)
    login = at_provider(house)
    extra = {} if issuer is None else {"iss": {"right": right, "right/": right + "/"}.get(issuer, "x")}
    outcome = call_back(house, login, answer(login, **extra))
    assert isinstance(outcome, Completed if accepted else Failed)
    assert bool(hostile.requests) is accepted


def test_a_code_goes_to_the_provider_that_was_started(house, hostile):
    """Of two providers, the one whose login the state belongs to gets the code. # SEC-56 # SEC-59"""
    with endpoint.serve(endpoint.tokens(access_token="of-beta")) as other:
        house.oauth("acme", hostile.url())
        house.oauth("beta", other.url())
        first, second = at_provider(house), at_provider(house, "beta")
        assert isinstance(call_back(house, second), Completed)
        assert isinstance(call_back(house, first), Completed)
        assert len(hostile.requests) == len(other.requests) == 1
    assert house.secrets("beta")["access_token"] == "of-beta"
    assert house.secrets("acme")["access_token"] == "an-access-token"


def test_a_code_goes_nowhere_once_the_definition_has_changed(acme, hostile):
    """A login is finished by the definition that it was begun by, or not at all. # SEC-56"""
    login = at_provider(acme)
    with endpoint.serve(endpoint.tokens()) as other:
        acme.oauth("acme", other.url())
        ended = call_back(acme, login)
        assert (hostile.requests, other.requests) == ([], [])
    assert isinstance(ended, Failed)
    assert "was changed" in ended.message
    assert begin(acme).request.id != login.request.id


def test_a_key_is_not_taken_for_another_definition_than_the_form_was_of(house):
    """Who typed a key for one place has not typed it for another. # SEC-111"""
    login = begin(house, "openai")
    house.define({**KEYED, "name": "openai", "api_url": "https://elsewhere.example.com"})
    with pytest.raises(NotAllowed, match="was changed"):
        house.broker.logins.submit(login, {"api_key": Secret(KEY)})
    assert isinstance(house.broker.logins.get(house.owner, login.request.id), Failed)
    assert house.broker.credentials.list_all(house.owner) == []


def test_a_credential_does_not_come_after_its_definition_has_gone(house, hostile, hold_back):
    """Removed while the code is exchanged: what comes of it is not left to the bundled definition. # SEC-111"""
    house.oauth("github", hostile.url())
    login = at_provider(house, "github")
    with hold_back(hostile) as held, ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(call_back, house, login)
        held.wait()
        assert house.broker.providers.remove(house.owner, "github", forget=True).restored
        held.release()
        assert isinstance(outcome.result(60), Failed)
    assert house.broker.credentials.list_all(house.owner) == []


def test_a_callback_is_spent(acme, hostile):
    """The same answer twice, also at the same time, causes one token request. # SEC-57"""
    login = at_provider(acme)

    def once(_: int) -> Login | None:
        try:
            return call_back(acme, login)
        except AuthenticationFailed:
            return None

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(once, range(8)))
    assert sum(isinstance(each, Completed) for each in outcomes) == 1
    assert outcomes.count(None) == 7
    assert len(hostile.requests) == 1


def test_the_provider_says_no(acme, hostile):
    """An error in the callback ends the login at once with one clean line, and its state is dead. # SEC-58 # SEC-97"""
    login = at_provider(acme)
    query = urlencode(
        {"error": "access_denied", "error_description": "\x1b[2Jno\r\nX: y", "state": login.state.reveal()}
    )
    outcome = call_back(acme, login, query)
    assert isinstance(outcome, Failed)
    assert "access_denied" in outcome.message
    assert outcome.message.isprintable()
    with pytest.raises(AuthenticationFailed):
        call_back(acme, login)
    assert hostile.requests == []
    assert acme.events(Event.LOGIN_FAILED)[-1].entry.provider == "acme"


@pytest.mark.parametrize(
    "script", ["html", "empty", "array", "deep", "error in 200", "rude error", "gzip bomb", "hang", "drip body", "500"]
)
def test_a_hostile_token_endpoint_changes_nothing(acme, hostile, script):
    """Whatever the endpoint answers, the login fails with one line and what was stored stays. # SEC-92 # SEC-93"""
    acme.connect("acme", lifetime=timedelta(hours=1), name="before")
    before = acme.secrets("acme", "before")
    hostile.script = endpoint.SCRIPTS[script]
    outcome = call_back(acme, at_provider(acme))
    assert isinstance(outcome, Failed)
    assert outcome.message.isprintable()
    assert len(outcome.message) < 500
    assert acme.secrets("acme", "before") == before
    assert [each.name for each in acme.broker.credentials.list_all(acme.owner)] == ["before"]


def test_a_redirect_is_not_followed(acme, hostile):
    """The code and the verifier go to the token endpoint and nowhere else. # SEC-96"""
    with endpoint.serve(endpoint.tokens()) as elsewhere:
        hostile.script = endpoint.redirect(elsewhere.url())
        assert isinstance(call_back(acme, at_provider(acme)), Failed)
        assert elsewhere.requests == []


def test_an_abandoned_login_ends(acme):
    """After ten minutes a login has failed, its state is dead, and its row goes. # SEC-60"""
    login = at_provider(acme)
    acme.clock.advance(LIFETIME)
    with pytest.raises(AuthenticationFailed):
        call_back(acme, login)
    ended = acme.broker.logins.get(acme.owner, login.request.id)
    assert isinstance(ended, Failed)
    assert ended.code == "timed_out"


def test_that_a_login_took_too_long_is_told(acme):
    """Also when what has expired was swept away just before somebody asks."""
    login = begin(acme)
    acme.clock.advance(LIFETIME)
    begin(acme, force=True)
    assert acme.broker.logins.get(acme.owner, login.request.id).code == "timed_out"
    acme.clock.advance(LIFETIME)
    begin(acme, force=True)
    with pytest.raises(LoginNotFound):
        acme.broker.logins.get(acme.owner, login.request.id)


def test_a_login_that_is_answered_just_in_time_is_not_given_up(acme):
    """Although somebody who looked before the answer came finds that its time is over."""
    login = at_provider(acme)
    acme.clock.advance(LIFETIME - timedelta(seconds=1))
    done: list[Login] = []

    def late():
        if not done:  # it was read, and is about to be found too old
            object.__setattr__(acme.context, "clock", acme.clock)
            done.append(call_back(acme, login))
            acme.clock.advance(timedelta(seconds=1))
        return acme.clock()

    object.__setattr__(acme.context, "clock", late)
    found = acme.broker.logins.get(acme.owner, login.request.id)
    assert isinstance(done[0], Completed)
    assert isinstance(found, Completed)
    assert acme.events(Event.LOGIN_FAILED) == []


def test_abandoned_logins_take_bounded_room(acme):
    """However many logins are begun, only so many are kept. # SEC-60"""
    for _ in range(stored_logins.MOST + 20):
        begin(acme)
    with acme.context.database.read() as reader:
        (kept,) = reader.execute("SELECT count(*) FROM logins").fetchone()
    assert kept == stored_logins.MOST


def test_a_restart_loses_no_login(acme, hostile, open_house):
    """A daemon restarted while the browser is at the provider completes the login. # SEC-66"""
    login = at_provider(acme)
    again = open_house()
    again.broker.logins.recover()
    assert isinstance(call_back(again, login), Completed)
    assert len(hostile.requests) == 1


def test_a_login_is_recorded_with_the_proof_that_it_was_begun_with(acme, open_house):
    """Whoever ends it, and after a restart too: the caller's own log has the proof. # SEC-181"""
    signed = replace(acme.owner, proof="the-jti-of-the-proof")
    login = acme.broker.logins.begin(signed, wanted("acme"))
    login = acme.broker.logins.submit(login, {"client_id": Secret("our-client")})
    again = open_house()
    assert isinstance(call_back(again, login), Completed)
    refused = again.broker.logins.begin(signed, wanted("acme", connection="work"))
    assert isinstance(call_back(again, refused, "error=access_denied&state=" + refused.state.reveal()), Failed)
    for event in (Event.LOGIN, Event.LOGIN_FAILED):
        assert [each.entry.proof for each in again.events(event)] == ["the-jti-of-the-proof"]


def test_a_restart_in_the_middle_of_an_exchange(acme, open_house):
    """A daemon killed while it exchanged a code leaves a login that says so, and no half record. # SEC-66"""
    login = at_provider(acme)
    sealer = acme.context.sealers.for_vault(acme.owner.vault_id)
    with acme.context.database.transaction() as tx:
        stored_logins.put(tx, sealer, Exchanging(request=login.request))
    again = open_house()
    again.broker.logins.recover()
    ended = again.broker.logins.get(again.owner, login.request.id)
    assert isinstance(ended, Failed)
    assert again.broker.credentials.list_all(again.owner) == []


def test_a_damaged_record_keeps_no_daemon_from_starting(acme, open_house):
    """The other logins are taken up; this one says what it is to whoever asks for it. # SEC-112"""
    logins = [at_provider(acme, connection=name) for name in ("one", "two")]
    with acme.context.database.transaction() as tx:
        sealer = acme.context.sealers.for_vault(acme.owner.vault_id)
        for each in logins:
            stored_logins.put(tx, sealer, Exchanging(request=each.request))
        tx.execute("UPDATE logins SET sealed = zeroblob(100) WHERE id = ?", (logins[0].request.id,))
    house = open_house()
    house.broker.logins.recover()
    assert isinstance(house.broker.logins.get(house.owner, logins[1].request.id), Failed)
    with pytest.raises(VaultDamaged, match="this login"):
        house.broker.logins.get(house.owner, logins[0].request.id)


def test_nothing_secret_is_in_clear_on_disk(house, hostile):
    """Code, state, verifier, browser key, tokens and client secret are in no byte of the home. # SEC-62 # SEC-126"""
    acme = house
    acme.oauth("acme", hostile.url(), token_endpoint_auth_method="client_secret_post")
    hostile.script = endpoint.tokens(refresh_token="a-refresh-token")
    login = begin(acme)
    login = acme.broker.logins.submit(
        login, {"client_id": Secret("our-client"), "client_secret": Secret("our-client-secret")}
    )
    assert isinstance(login, AwaitingCallback)
    call_back(acme, login)
    hidden = {
        "the-code",
        login.state.reveal(),
        login.code_verifier.reveal(),
        login.request.browser_key.reveal(),
        "an-access-token",
        "a-refresh-token",
        "our-client-secret",
    }
    for path in acme.home.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [value for value in hidden if value.encode() in content], path


def test_api_key_login(house):
    """A key of the right form is stored, with its event."""
    outcome = house.key("openai", KEY)
    assert isinstance(outcome, Completed)
    assert list(house.secrets("openai").values()) == [KEY]
    assert house.events(Event.LOGIN)[-1].entry.detail == "by api_key"


@pytest.mark.parametrize("key", ["", " ", "hunter2", "sk-", "sk-\x00" + "a" * 40, "sk-" + "a" * 20_000])
def test_a_key_of_the_wrong_form_is_refused(house, key):
    """It is refused with words that help, and nothing is stored; the right one is then taken."""
    login = begin(house, "openai")
    refused = house.broker.logins.submit(login, {"api_key": Secret(key)})
    assert isinstance(refused, AwaitingInput)
    assert refused.problem
    assert len(key) < 4 or key not in refused.problem
    assert house.broker.credentials.list_all(house.owner) == []
    assert isinstance(house.broker.logins.submit(refused, {"api_key": Secret(f" {KEY}\n")}), Completed)


def test_input_is_taken_once(house):
    """A form that is sent again, or by two at once, stores nothing twice."""
    login = begin(house, "openai")

    def once(_: int) -> bool:
        try:
            return isinstance(house.broker.logins.submit(login, {"api_key": Secret(KEY)}), Completed)
        except LoginNotFound:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(once, range(8))) == 1
    assert len(house.events(Event.LOGIN)) == 1


def test_unknown_fields_are_refused(house):
    """What was not asked for is named, not stored."""
    refused = house.broker.logins.submit(begin(house, "openai"), {"api_key": Secret(KEY), "extra": Secret("x")})
    assert isinstance(refused, AwaitingInput)
    assert "extra" in (refused.problem or "")


def test_an_existing_connection_is_not_overwritten(house):
    """It takes `force`, or another name; one that the provider no longer accepts may be replaced at once."""
    house.key("openai", KEY)
    with pytest.raises(ConnectionExists):
        begin(house, "openai")
    assert isinstance(begin(house, "openai", connection="work"), AwaitingInput)
    assert isinstance(begin(house, "openai", force=True), AwaitingInput)
    assert list(house.secrets("openai").values()) == [KEY]
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE connections SET status = 'invalid'")
    assert isinstance(begin(house, "openai"), AwaitingInput)


def test_what_cannot_be_begun(acme):
    """Unknown providers, flows, names and variables are refused with the reason."""
    with pytest.raises(ProviderNotFound):
        begin(acme, "gihtub")
    with pytest.raises(RequestInvalid):
        begin(acme, "acme", flow=Flow.API_KEY)
    for name in ("", "a b", "../x", "-", "a" * 65, "naïve"):
        with pytest.raises(RequestInvalid):
            begin(acme, "acme", connection=name)
    with pytest.raises(AuthsomeError):
        acme.broker.logins.begin(acme.owner, Wanted(provider="acme", variables={"base_url": "https://x.example"}))


def test_only_its_owner_sees_a_login(acme):
    """Neither another vault nor a browser without the key gets to it. # SEC-68"""
    login = begin(acme)
    with pytest.raises(LoginNotFound):
        acme.broker.logins.opened(login.request.id, Secret("guessed"))
    with pytest.raises(LoginNotFound):
        acme.broker.logins.opened("no-such-login", login.request.browser_key)
    with pytest.raises(LoginNotFound):
        acme.broker.logins.get(acme.owner, "no-such-login")
