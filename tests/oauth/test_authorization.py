"""The authorization request and its callback."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import AuthenticationFailed, AuthsomeError, EndpointRefused
from authsome.oauth import authorization
from authsome.secret import Secret

STATE = Secret("the-state-that-was-sent")
REDIRECT = "http://127.0.0.1:7998/auth/callback/oauth"
ISSUER = "https://login.example.com/o"


def url(**changes):
    """An authorization URL, split, and its parameters in order."""
    facts = {
        "endpoint": "https://login.example.com/authorize",
        "client_id": "an-id",
        "redirect_uri": REDIRECT,
        "scopes": ("read", "write"),
        "scope_separator": " ",
        "state": STATE,
        "code_challenge": "a-challenge",
        "params": {},
    }
    found = authorization.authorization_url(**{**facts, **changes})
    parts = urlsplit(found)
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qsl(
        parts.query, keep_blank_values=True, strict_parsing=True
    )


def parse(query, *, state=STATE, issuer=None, issuer_required=False):
    """Parse a callback's query, given as text or as pairs."""
    text = query if isinstance(query, str) else urlencode(query)
    return authorization.parse_callback(text, state=state, issuer=issuer, issuer_required=issuer_required).reveal()


# ---- the request -------------------------------------------------------------------------------------------


def test_the_request():
    """It holds RFC 6749's and RFC 7636's parameters, each once, and the redirect URI to the letter."""
    # SEC-51, SEC-61
    place, params = url()
    assert place == "https://login.example.com/authorize"
    assert dict(params) == {
        "response_type": "code",
        "client_id": "an-id",
        "redirect_uri": REDIRECT,
        "scope": "read write",
        "state": STATE.reveal(),
        "code_challenge": "a-challenge",
        "code_challenge_method": "S256",
    }
    assert len(dict(params)) == len(params)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scopes": ()}, {"scope": None}),
        ({"scope_separator": ","}, {"scope": "read,write"}),
        ({"code_challenge": None}, {"code_challenge": None, "code_challenge_method": None}),
        ({"params": {"access_type": "offline", "prompt": ""}}, {"access_type": "offline", "prompt": ""}),
        ({"endpoint": "https://login.example.com/authorize?tenant=a%26b&x="}, {"tenant": "a&b", "x": ""}),
        ({"endpoint": "https://login.example.com/authorize#top"}, {"state": STATE.reveal()}),
        ({"client_id": "a&client_id=b é"}, {"client_id": "a&client_id=b é"}),
    ],
)
def test_variations(changes, expected):
    """Extras and the endpoint's own query are kept (RFC 6749 §3.1), and everything is encoded."""
    place, params = url(**changes)
    assert place == "https://login.example.com/authorize"
    assert len(dict(params)) == len(params)
    assert {name: dict(params).get(name) for name in expected} == expected


def test_renamed_parameters():
    """Some providers call ours otherwise; a definition's extras replace them under no name."""
    names = {"client_id": "client_key", "scope": "user_scope", "redirect_uri": "callback"}
    _, params = url(names=names, params={"client_key": "other", "scope": "mine", "prompt": "consent"})
    found = dict(params)
    assert len(found) == len(params)
    assert (found["client_key"], found["user_scope"], found["callback"]) == ("an-id", "read write", REDIRECT)
    assert not {"client_id", "scope", "redirect_uri"} & found.keys()
    assert found["prompt"] == "consent"


def test_other_values_of_a_callback():
    assert authorization.callback_value("state=s&realmId=12", "realmId") == "12"
    assert authorization.callback_value("state=s", "realmId") is None
    assert authorization.callback_value("realmId=1&realmId=2", "realmId") is None


@pytest.mark.parametrize("by", ["params", "endpoint"])
@pytest.mark.parametrize("code_challenge", ["a-challenge", None])
def test_extras_replace_nothing(by, code_challenge):
    """Neither a definition's extras nor its URL can weaken PKCE, or say where the code goes."""  # SEC-51, SEC-61
    evil = {
        "response_type": "token",
        "client_id": "other",
        "redirect_uri": "https://evil.example/",
        "scope": "admin",
        "state": "known",
        "code_challenge": "known",
        "code_challenge_method": "plain",
    }
    usual = url(code_challenge=code_challenge)
    if by == "params":
        assert url(code_challenge=code_challenge, params=evil) == usual
    else:
        endpoint = "https://login.example.com/authorize?" + urlencode(evil)
        assert url(code_challenge=code_challenge, endpoint=endpoint) == usual


def test_states_are_fresh():
    """Each state is new, and long enough not to be guessed."""  # SEC-53
    found = {authorization.new_state().reveal() for _ in range(100)}
    assert len(found) == 100
    assert min(map(len, found)) >= 43


# ---- the callback ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "issuer", "issuer_required"),
    [
        ({}, None, False),
        ({"iss": ISSUER}, ISSUER, True),
        ({"iss": ISSUER}, ISSUER, False),
        ({}, ISSUER, False),
        ({"iss": "https://unknown.example"}, None, False),
        ({"session_state": "x", "scope": "read", "empty": ""}, None, False),
    ],
)
def test_good_callbacks(query, issuer, issuer_required):
    """The right state, and the right issuer where there is one, bring the code; other parameters do not matter."""
    found = parse(
        {"code": "a/code+=", "state": STATE.reveal(), **query}, issuer=issuer, issuer_required=issuer_required
    )
    assert found == "a/code+="


@pytest.mark.parametrize(
    "query",
    [
        # SEC-53
        "",
        "code=a",
        "code=a&state=",
        "code=a&state=other",
        "code=a&state=the-state-that-was-sen",
        "code=a&state=the-state-that-was-sent%20",
        "code=a&state=The-State-That-Was-Sent",
        "code=a&state=the-state-that-was-sent&state=the-state-that-was-sent",
        "code=a&state=other&state=the-state-that-was-sent",
        "code=a&code=b&state=the-state-that-was-sent",
        "code=a&state=the-state-that-was-sent&iss=a&iss=b",
        "code=a&state=the-state-that-was-sent&error=a&error=a",
        "code=a&state=the-state-that-was-sent&x=1&x=2",
        "code=a&st%61te=the-state-that-was-sent&state=other",
        "code=a;state=the-state-that-was-sent",
        "code=a&state=the-state-that-was-sent&x=%ff",
        "code=a&state=the-state-that-was-sent&x=é",
        "code=a&state=the-state-that-was-sent&x=" + "y" * 20_000,
        "code=a&state=the-state-that-was-sent&" + "&".join(f"x{number}=" for number in range(60)),
        "error=access_denied&state=other",
    ],
)
def test_foreign_callbacks(query):
    """Without the one right state nothing in a callback is used or shown."""
    with pytest.raises(AuthenticationFailed) as caught:
        parse(query)
    assert caught.value.message == "this callback belongs to no login under way"
    assert "start again" in caught.value.hint


@pytest.mark.parametrize("sent", ["", "\0"])
def test_an_empty_state_matches_nothing(sent):
    """Were the sent state lost, an empty one would not do in its place."""  # SEC-53
    with pytest.raises(AuthenticationFailed):
        parse({"code": "a", "state": ""}, state=Secret(sent))


@pytest.mark.parametrize(
    ("iss", "issuer_required"),
    [
        # SEC-55: by exact string
        ("https://evil.example", False),
        ("https://evil.example", True),
        (ISSUER + "/", False),
        (ISSUER.upper(), False),
        ("https://login.example.com/%6F", False),
        ("", False),
        (None, True),
    ],
)
@pytest.mark.parametrize("result", [{"code": "a"}, {"error": "access_denied", "error_description": "canary"}])
def test_wrong_issuer(iss, issuer_required, result):
    """Another issuer's answer, or none where one was promised, is refused, and so is its error (RFC 9207 §2.4)."""
    query = {**result, "state": STATE.reveal()} | ({} if iss is None else {"iss": iss})
    with pytest.raises(AuthenticationFailed) as caught:
        parse(query, issuer=ISSUER, issuer_required=issuer_required)
    assert caught.value.reason == "wrong iss"
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("query", "message"),
    [
        # SEC-58
        ({"error": "access_denied"}, "the provider ended the login: access_denied"),
        (
            {"error": "access_denied", "error_description": "The user\r\nsaid no."},
            "the provider ended the login: access_denied (The user said no.)",
        ),
        ({"error": "access_denied", "code": "a"}, "the provider ended the login: access_denied"),
        ({"error": ""}, "the provider ended the login: an error without a name"),
        ({}, "the provider sent the browser back without a code"),
        ({"code": ""}, "the provider sent the browser back without a code"),
        ({"code": "a\r\nb"}, "the provider sent the browser back without a code"),
        ({"code": "é"}, "the provider sent the browser back without a code"),
        ({"code": "a" * 9000}, "the provider sent the browser back without a code"),
    ],
)
def test_refusals(query, message):
    """What the provider says instead of a code is told in one clean line."""
    with pytest.raises(EndpointRefused) as caught:
        parse({**query, "state": STATE.reveal()})
    assert caught.value.message == message
    assert "start again" in caught.value.hint


def test_rude_errors_are_cleaned():
    """Escapes, line ends and length do not reach the terminal; markup is left for the page to escape."""  # SEC-97
    rude = "\x1b[2J\x1b]0;title\x07<b>\r\nX: y\u202e" + "a" * 5000
    with pytest.raises(EndpointRefused) as caught:
        parse({"error": rude, "error_description": rude, "state": STATE.reveal()})
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


@given(st.text(max_size=200))
def test_any_query_is_judged(query):
    """Whatever comes to the callback's address is refused in one of our own errors."""
    with pytest.raises(AuthsomeError):
        parse(query)
    assert authorization.callback_state(query) is None or "state" in query.lower() or "%" in query


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("state=a", "a"),
        ("code=x&state=a%20b", "a b"),
        ("", None),
        ("state=", None),
        ("state", None),
        ("code=x", None),
        ("state=a&state=a", None),
        ("state=a&code=x&code=x", None),
        ("state=a&x=%ff", None),
    ],
)
def test_looking_a_login_up(query, state):
    """A callback's one state, or none."""  # SEC-53
    assert authorization.callback_state(query) == state


def test_no_secret_in_any_error():
    """Neither state nor code is in what a refused callback says."""  # SEC-62
    for query in ({"code": "canary", "state": "wrong"}, {"code": "canary\n", "state": STATE.reveal()}):
        with pytest.raises(AuthsomeError) as caught:
            parse(query)
        shown = f"{caught.value!r} {caught.value.hint}"
        assert "canary" not in shown
        assert STATE.reveal() not in shown
