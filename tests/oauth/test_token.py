"""The token endpoint's requests and answers, as tables."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import AuthsomeError, ClientRefused, EndpointRefused, EndpointUnreachable, LoginRequired
from authsome.message import HttpResponse
from authsome.models.oauth import OAuth, RefreshRules, ResponseShape
from authsome.oauth import client_auth, token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret
from fakes import endpoint

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT = ClientCredentials(client_id="an-id", client_secret=Secret("a-secret"))
CODE, VERIFIER, REFRESH = Secret("a-code"), Secret("a-verifier"), Secret("a-refresh-token")
REDIRECT = "http://127.0.0.1:7998/auth/callback/oauth"
GOOD = {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 3600}
SLACK = ResponseShape(
    access_token="authed_user.access_token",
    refresh_token="authed_user.refresh_token",
    expires_in="authed_user.expires_in",
    scope="authed_user.scope",
    ok="ok",
    account="team.name",
)


def oauth(**changes):
    """A provider's OAuth section."""
    facts = {"authorization_url": "https://login.example.com/authorize", "token_url": "https://login.example.com/token"}
    return OAuth(**{**facts, **changes})


def parse(answer=None, *, status=200, headers=(), provider=None, sent=(), **changes):
    """Parse a token answer: the good one with changes, or any bytes or value."""
    data = {**GOOD, **changes} if answer is None else answer
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    response = HttpResponse(status=status, headers=headers, body=body)
    return token.parse_token_response(response, provider or oauth(), now=NOW, sent=sent)


def refused(kind, answer=None, **changes):
    """The error that a token answer is, after checking that it is one short printable line."""
    with pytest.raises(AuthsomeError) as caught:
        parse(answer, **changes)
    assert type(caught.value) is kind
    assert f"{caught.value.message} {caught.value.hint or ''}".isprintable()
    assert len(caught.value.message) < 350
    return caught.value


def form(request):
    """A request's form, after checking that no field comes twice."""
    pairs = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# ---- requests ----------------------------------------------------------------------------------------------


def test_code_request():
    """RFC 6749 §4.1.3 with the verifier of RFC 7636 §4.5."""
    request = token.code_request(oauth(), CLIENT, code=CODE, redirect_uri=REDIRECT, code_verifier=VERIFIER)
    assert (request.method, request.url) == ("POST", "https://login.example.com/token")
    assert dict(request.headers) == {
        "accept": "application/json",
        "content-type": "application/x-www-form-urlencoded",
    }
    assert form(request) == {
        "grant_type": "authorization_code",
        "code": "a-code",
        "redirect_uri": REDIRECT,
        "code_verifier": "a-verifier",
        "client_id": "an-id",
        "client_secret": "a-secret",
    }


def test_refresh_request():
    """RFC 6749 §6; without scopes it asks for those that were granted."""
    request = token.refresh_request(oauth(), CLIENT, refresh_token=REFRESH)
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "a-refresh-token",
        "client_id": "an-id",
        "client_secret": "a-secret",
    }
    narrowed = token.refresh_request(oauth(scope_separator=","), CLIENT, refresh_token=REFRESH, scopes=("a", "b"))
    assert form(narrowed)["scope"] == "a,b"


def test_without_pkce():
    """A provider that takes no PKCE gets no verifier."""
    request = token.code_request(oauth(), CLIENT, code=CODE, redirect_uri=REDIRECT, code_verifier=None)
    assert "code_verifier" not in form(request)


def test_oddities_of_providers():
    """JSON bodies, extra parameters and headers, Basic, another endpoint for refreshing: the definition says so."""
    provider = oauth(
        token_body="json",
        token_params={"audience": "api"},
        token_headers={"Notion-Version": "2022-06-28", "Accept": "application/vnd.test+json"},
        token_endpoint_auth_method="client_secret_basic",
        refresh=RefreshRules(url="https://login.example.com/refresh", params={"expiring": "1"}),
    )
    code = token.code_request(provider, CLIENT, code=CODE, redirect_uri=REDIRECT, code_verifier=VERIFIER)
    refresh = token.refresh_request(provider, CLIENT, refresh_token=REFRESH)
    assert (code.url, refresh.url) == ("https://login.example.com/token", "https://login.example.com/refresh")
    assert json.loads(code.body) == {
        "grant_type": "authorization_code",
        "code": "a-code",
        "redirect_uri": REDIRECT,
        "code_verifier": "a-verifier",
        "audience": "api",
    }
    assert json.loads(refresh.body) == {
        "grant_type": "refresh_token",
        "refresh_token": "a-refresh-token",
        "audience": "api",
        "expiring": "1",
    }
    assert dict(code.headers) == {
        "accept": "application/vnd.test+json",
        "notion-version": "2022-06-28",
        "content-type": "application/json",
        "authorization": "Basic YW4taWQ6YS1zZWNyZXQ=",
    }


def test_extras_replace_nothing():
    """A definition's extras cannot change what a flow itself says, nor send a credential twice."""
    evil = {"grant_type": "password", "code": "x", "redirect_uri": "x", "code_verifier": "x", "client_id": "x"}
    provider = oauth(
        token_params={**evil, "refresh_token": "x"},
        refresh=RefreshRules(params={**evil, "refresh_token": "x"}),
        token_headers={"Authorization": "Bearer x", "Content-Type": "text/plain"},
        token_endpoint_auth_method="client_secret_post",
    )
    code = token.code_request(provider, CLIENT, code=CODE, redirect_uri=REDIRECT, code_verifier=VERIFIER)
    assert form(code)["grant_type"] == "authorization_code"
    assert {form(code)[name] for name in ("code", "redirect_uri", "code_verifier", "client_id")}.isdisjoint({"x"})
    refresh = form(token.refresh_request(provider, CLIENT, refresh_token=REFRESH))
    assert (refresh["grant_type"], refresh["refresh_token"], refresh["client_id"]) == (
        "refresh_token",
        "a-refresh-token",
        "an-id",
    )
    assert dict(code.headers)["content-type"] == "application/x-www-form-urlencoded"


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_value_comes_through(code, secret):
    """Codes and secrets of any characters arrive as they are."""
    client = ClientCredentials(client_id="an-id", client_secret=Secret(secret))
    request = token.code_request(oauth(), client, code=Secret(code), redirect_uri=REDIRECT, code_verifier=None)
    assert (form(request)["code"], form(request)["client_secret"]) == (code, secret)


def test_requests_do_not_show_their_secrets():
    """The repr of a request holds nothing of what it sends."""  # SEC-62, SEC-143
    shown = repr(token.code_request(oauth(), CLIENT, code=CODE, redirect_uri=REDIRECT, code_verifier=VERIFIER))
    assert not any(value in shown for value in ("a-code", "a-secret", "a-verifier"))


# ---- answers with tokens -----------------------------------------------------------------------------------


def test_a_good_answer():
    """Tokens, expiry and scopes as the provider gave them."""
    tokens = parse(refresh_token="a-new-one", scope="read write")
    assert tokens == token.Tokens(
        access_token=Secret("an-access-token"),
        refresh_token=Secret("a-new-one"),
        expires_at=NOW + timedelta(hours=1),
        scopes=("read", "write"),
        account=None,
    )
    assert "an-access-token" not in repr(tokens)


def test_a_nested_answer():
    """Tokens lie where the definition says; the type is read beside the token."""
    answer = {
        "ok": True,
        "access_token": "the bot's",
        "token_type": "mac",
        "authed_user": {"access_token": "the-users", "token_type": "user", "expires_in": 43200, "scope": "a,b"},
        "team": {"name": "The\x1b[31m Team"},
    }
    tokens = parse(answer, provider=oauth(response=SLACK))
    assert tokens.access_token == Secret("the-users")
    assert (tokens.scopes, tokens.account) == (("a", "b"), "The Team")
    assert tokens.expires_at == NOW + timedelta(hours=12)


@pytest.mark.parametrize("refresh_token", [None, ""])
def test_no_new_refresh_token(refresh_token):
    """An answer without one says nothing of the old one, which its owner keeps."""  # SEC-79
    assert parse().refresh_token is None
    assert parse(refresh_token=refresh_token).refresh_token is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # SEC-85: None is "not said"
        (3600, 3600),
        ("3600", 3600),
        (3600.0, 3600),
        ("3600.5", 3600.5),
        (1, 1),
        (None, None),
        (0, None),
        (-1, None),
        (1e-9, None),
        ("0", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        (True, None),
        ([3600], None),
        ({}, None),
        (10**18, 315_360_000),
        (1e300, 315_360_000),
        (10**400, None),
        ("9" * 4000, None),
    ],
)
@pytest.mark.parametrize("default", [None, 7200])
def test_expiry(value, expected, default):
    """Whatever `expires_in` is, the expiry is sane: in the future and in range, the default, or never."""
    found = parse(expires_in=value, provider=oauth(expires_in_default=default)).expires_at
    seconds = expected if expected is not None else default
    assert found == (None if seconds is None else NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOW.timestamp() + 3600, 3600),
        (int(NOW.timestamp()) + 3600, 3600),
        (str(int(NOW.timestamp()) + 3600), 3600),
        ((int(NOW.timestamp()) + 3600) * 1000, 3600),
        ((NOW + timedelta(hours=1)).isoformat(), 3600),
        ((NOW + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"), 3600),
        ((NOW + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S"), 3600),
        ((NOW + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S") + "+01:00", None),
        ("9999-12-31T23:59:59Z", 315_360_000),
        (0, None),
        (NOW.timestamp() - 10, None),
        (-1, None),
        ("soon", None),
        ("", None),
        (True, None),
        (10**400, None),
        ("9" * 4000, None),
        ([], None),
    ],
)
@pytest.mark.parametrize("default", [None, 7200])
def test_expiry_at_a_time(value, expected, default):
    """A provider may say when instead of for how long; what is no time to come counts as not said."""  # SEC-85
    provider = oauth(expires_in_default=default, response=ResponseShape(expires_at="ends.at"))
    found = parse({"access_token": "a", "ends": {"at": value}}, provider=provider).expires_at
    seconds = expected if expected is not None else default
    assert found == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_duration_stands_in_for_a_missing_time():
    provider = oauth(response=ResponseShape(expires_at="ends"))
    assert parse(provider=provider, expires_in=60).expires_at == NOW + timedelta(seconds=60)


def test_parameters_have_the_names_that_the_provider_uses():
    """Renamed in every request, and by whatever way the client shows who it is."""
    renamed = {"client_id": "client_key", "client_secret": "key_secret", "scope": "scopes"}
    client = ClientCredentials(client_id="an-id", client_secret=Secret("a-secret"))
    provider = oauth(parameter_names=renamed, token_endpoint_auth_method="client_secret_post")
    request = token.refresh_request(provider, client, refresh_token=Secret("old"), scopes=("read",))
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "old",
        "scopes": "read",
        "client_key": "an-id",
        "key_secret": "a-secret",
    }


def test_variables_of_an_answer():
    """What the answer says of the definition's variables is handed on as it is; what is no text is not there."""
    provider = oauth(token_variables={"instance_url": "instance.url", "region": "region"})
    found = parse(provider=provider, instance={"url": "https://one.example.com"}, region=7)
    assert found.variables == {"instance_url": "https://one.example.com"}


def test_no_expiry():
    """An answer that does not say when takes the definition's word, or never ends."""  # SEC-85
    answer = {"access_token": "a"}
    assert parse(answer).expires_at is None
    assert parse(answer, provider=oauth(expires_in_default=60)).expires_at == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # SEC-65
        ("read", ("read",)),
        ("read write", ("read", "write")),
        ("read,write", ("read", "write")),
        ("read, write\n admin", ("read", "write", "admin")),
        ("read read", ("read",)),
        (["read", "write"], ("read", "write")),
        (["read", 7, None, "a b", "é", "x\x1b[2J"], ("read",)),
        ("", ()),
        ([], ()),
        (None, None),
        (7, None),
        ({"read": True}, None),
        ("a" * 300, ()),
    ],
)
def test_scopes(value, expected):
    """Granted scopes are read however they are separated; None means as asked."""
    assert parse(scope=value).scopes == expected


def test_too_many_scopes():
    assert len(parse(scope=" ".join(f"scope{number}" for number in range(10_000))).scopes) == 500


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "bot", "user", None])
def test_types_that_serve(kind):
    """Bearer in any case; some name what the token's owner is instead, some say nothing."""  # SEC-86
    assert parse(token_type=kind).access_token
    assert parse({"access_token": "a"}).access_token


@pytest.mark.parametrize("kind", ["mac", "MAC", "DPoP", "dpop", "pop", "N_A", "", "Bearer ", 7, True, ["Bearer"], {}])
def test_types_that_do_not(kind):
    """A token that takes more than a header to use is refused."""  # SEC-86
    assert "not bearer" in refused(EndpointRefused, token_type=kind).message


BAD_TOKENS = [None, "", 7, True, ["a"], {"a": "b"}, "a b", "a\r\nX: y", "a\n", "\0", "é", "\u2028", "a" * 65_536]


@pytest.mark.parametrize("value", BAD_TOKENS, ids=lambda value: repr(value)[:20])
def test_unusable_access_tokens(value):
    """What a header cannot carry is no token."""  # SEC-87
    error = refused(EndpointRefused, access_token=value)
    assert error.message == "login.example.com: gave no usable access token"


@pytest.mark.parametrize(
    "value", [7, 0, False, [], {}, "a\r\nb", "é", "a" * 65_536], ids=lambda value: repr(value)[:20]
)
def test_unusable_refresh_tokens(value):
    """A refresh token that could not be sent back is refused, rather than stored in the good one's place."""  # SEC-87
    assert "refresh token" in refused(EndpointRefused, refresh_token=value).message


@pytest.mark.parametrize(
    ("value", "expected"),
    [("ada", "ada"), (42, "42"), ("", None), (None, None), (True, None), ({}, None), ("a" * 200, "a" * 99 + "…")],
)
def test_accounts(value, expected):
    """The account's name is one clean line, or not known."""
    provider = oauth(response=ResponseShape(account="who.name"))
    assert parse({**GOOD, "who": {"name": value}}, provider=provider).account == expected


@pytest.mark.parametrize("who", [None, 7, "ada", ["ada"], {}])
def test_paths_that_lead_nowhere(who):
    """A path through what is no object finds nothing, and is no crash."""
    assert parse({**GOOD, "who": who}, provider=oauth(response=ResponseShape(account="who.name"))).account is None


def test_id_tokens_are_ignored():
    """An id_token is not looked at and not kept."""  # SEC-64
    tokens = parse(id_token="eyJhbGciOiJub25lIn0.e30.")
    assert tokens == parse()


# ---- answers without ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", ["invalid_grant", "bad_refresh_token", "invalid_refresh_token", "token_revoked"])
def test_dead_grants(status, error):
    """When the provider says the grant is dead it is, whatever the status."""  # SEC-80
    assert refused(LoginRequired, {"error": error}, status=status).message == f"login.example.com: {error}"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529, 599])
@pytest.mark.parametrize(
    "body", [b"", b"<h1>Bad Gateway</h1>", b'{"error": "invalid_grant"}', json.dumps(GOOD).encode()]
)
def test_passing_trouble(status, body):
    """An overloaded or broken server says nothing about the grant, whatever its body holds."""  # SEC-81
    assert refused(EndpointUnreachable, body, status=status).message == f"login.example.com: answered {status}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # SEC-82
        (None, None),
        ("7", 7),
        ("0", 0),
        ("999999999999999999999", 3600),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3600),
        ("Thu, 41 Jan 2026 00:00:00 GMT", None),
        ("Thu, 01 Foo 2026 00:00:00 GMT", None),
        ("Thu, 01 Jan 0000 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 00:02:00 +0100", None),
    ],
)
def test_retry_after(value, expected):
    """The pause that a provider asks for is honoured, up to an hour; nonsense is no pause."""
    headers = () if value is None else (("Retry-After", value),)
    error = refused(EndpointUnreachable, b"", status=503, headers=headers)
    assert error.retry_after == (None if expected is None else timedelta(seconds=expected))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304, 300])
def test_redirects(status):
    """A redirect is an error, though it be dressed as a good answer."""  # SEC-96
    error = refused(EndpointRefused, status=status, headers=(("Location", "https://evil.example/"),))
    assert "redirect" in error.message
    assert "evil" not in error.message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        # SEC-93: errors inside 200
        (
            {"error": "bad_verification_code", "error_description": "The code is incorrect."},
            "login.example.com: bad_verification_code (The code is incorrect.)",
        ),
        ({**GOOD, "error": "bad_verification_code"}, "login.example.com: bad_verification_code"),
        ({"error": {"type": "invalid_request", "message": "No."}}, "login.example.com: invalid_request (No.)"),
        ({"error": {"code": "x"}}, "login.example.com: x"),
        ({"error": {"code": 7}}, "login.example.com: answered 200 without saying why"),
        ({"error": ["a"]}, "login.example.com: answered 200 without saying why"),
        ({"error": True, "message": "No."}, "login.example.com: No."),
        ({"error": "a", "error_description": {"b": "c"}}, "login.example.com: a"),
        ({}, "login.example.com: gave no usable access token"),
        ({"error": ""}, "login.example.com: gave no usable access token"),
    ],
)
def test_errors_in_200(answer, message):
    """Status 200 does not make an error an answer."""
    assert refused(EndpointRefused, answer).message == message


@pytest.mark.parametrize("ok", [False, None, 0, 1, "true", "missing"])
def test_ok_must_be_true(ok):
    """Where the definition names a member that must be true, nothing else will do."""  # SEC-93
    answer = {**GOOD, "authed_user": GOOD} | ({} if ok == "missing" else {"ok": ok})
    refused(EndpointRefused, answer, provider=oauth(response=SLACK))
    assert refused(EndpointRefused, {"ok": False, "error": "invalid_code"}, provider=oauth(response=SLACK)).message == (
        "login.example.com: invalid_code"
    )
    refused(LoginRequired, {"ok": False, "error": "invalid_refresh_token"}, provider=oauth(response=SLACK))


def test_error_at_another_place():
    """The definition says where an error lies; the usual place counts too."""
    provider = oauth(response=ResponseShape(error="fault.code"))
    assert refused(EndpointRefused, {"fault": {"code": "x"}}, provider=provider).message.endswith(": x")
    refused(LoginRequired, {"error": "invalid_grant"}, provider=provider)


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "incorrect_client_credentials"])
def test_wrong_clients(error):
    """A wrong client id or secret is not the grant's end; the hint says what to check."""
    assert "client id" in refused(ClientRefused, {"error": error}, status=401).hint


@pytest.mark.parametrize("status", [400, 401, 404])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{", b"{}", json.dumps(GOOD).encode()])
def test_bare_refusals(status, body):
    """A 4xx is a refusal though it explains nothing, or looks like tokens."""
    assert refused(EndpointRefused, body, status=status).message == (
        f"login.example.com: answered {status} without saying why"
    )


@pytest.mark.parametrize(
    "body",
    [
        # SEC-92
        b"",
        b"<!doctype html><h1>Welcome</h1>",
        b"access_token=a&token_type=bearer",
        b"null",
        b"true",
        b"7",
        b"[]",
        b'"an-access-token"',
        b'{"access_token": "an-acc',
        b"{}{}",
        b'{"access_token": "a", "access_token": "b"}',
        b'{"access_token": "a", "x": {"y": 1, "y": 2}}',
        b'{"access_token": "a", "expires_in": NaN}',
        b'{"access_token": "a", "expires_in": Infinity}',
        b'{"access_token": "a", "expires_in": -Infinity}',
        b'{"access_token": "\xff"}',
        b'\xef\xbb\xbf{"access_token": "a"}',
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode("utf-32"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"access_token": "a", "x": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"access_token": ' + b"1" * 10_000 + b"}",
        b'"' * 500_000,
        b'{"\\' * 100_000,
        b"\0" * 100,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_nonsense(body):
    """What is not one plain JSON object is one line, whatever it is."""
    assert refused(EndpointRefused, body).message == (
        "login.example.com: answered with something that is not a JSON object"
    )


def test_brackets_in_strings_are_no_depth():
    """Only nesting counts as depth: strings may hold any number of brackets, and a list many objects."""
    assert parse(scope="[{" * 1000, extra=[{"a": [1]}] * 1000, quoted='"[{\\"' * 100).access_token


def test_rude_errors():
    """A provider's words become one short line without control characters."""  # SEC-97
    rude = "\x1b[2J\x1b]8;;http://evil.example\x07<script>alert(1)</script>\r\nX: y\u202e" + "a" * 1_000_000
    for answer in ({"error": rude}, {"error": "a", "error_description": rude}, {"error": {"message": rude}}):
        message = refused(EndpointRefused, answer, status=400).message
        assert "\x1b" not in message
        assert "evil.example" not in message


def test_what_was_sent_is_not_repeated():
    """An error that quotes the code, the refresh token or the client's secret is shown without it."""  # SEC-62
    sent = (Secret("a/code+1"), Secret("s3cret"), Secret(""))
    for text in ("a/code+1", "a%2Fcode%2B1", "s3cret"):
        answer = {"error": f"bad {text}", "error_description": f"you sent {text} and {text}"}
        message = refused(EndpointRefused, answer, status=400, sent=sent).message
        assert text not in message
        assert "you sent … and …" in message


@pytest.mark.parametrize("client_id", ["", "a", "ab", "abc", "a:b+c"])
def test_what_was_sent_is_not_repeated_in_base64_either(client_id):
    """Who quotes the Authorization header quotes the client's secret, in the middle of Base64. # SEC-62, SEC-144"""
    secret = "s3cret/with+signs~and?more"
    client = ClientCredentials(client_id=client_id, client_secret=Secret(secret))
    _, headers = client_auth.authenticate({}, {}, method="client_secret_basic", client=client)
    pair = headers["authorization"].removeprefix("Basic ")
    for text in (pair, pair.replace("+", "-").replace("/", "_").rstrip("=")):
        answer = {"error": "invalid_request", "error_description": f"no such client: {text}."}
        message = refused(EndpointRefused, answer, status=400, sent=(Secret(secret),)).message
        begins = -(-8 * (len(quote_plus(client_id)) + 1) // 6)  # where nothing but the secret decides
        told = text.rstrip("=")[begins:-1]
        assert not any(told[place : place + 6] in message for place in range(len(told) - 5))
        assert len(message) < 100


@pytest.mark.parametrize("name", endpoint.SCRIPTS)
def test_hostile_answers(name):
    """No ready-made hostile answer is taken for tokens, or breaks out of our own errors."""  # SEC-87, SEC-92, SEC-93
    steps = endpoint.SCRIPTS[name]()
    head, _, body = first_bytes(steps).partition(b"\r\n\r\n")
    status = head.split(b" ")[1:2]
    if not status or not status[0].isdigit():
        return
    with pytest.raises(AuthsomeError):
        parse(body, status=int(status[0]))


def first_bytes(steps):
    """What a script sends at first."""
    step = next(steps, b"")
    return step if isinstance(step, bytes) else b""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["access_token", "token_type", "error", "expires_in", "scope", "refresh_token", "ok", "x"]
                ),
                inner,
                max_size=6,
            )
        ),
    ),
    st.integers(200, 599),
)
def test_any_answer_is_judged(answer, status):
    """Whatever JSON an endpoint answers, the outcome is tokens or one of our errors."""
    try:
        tokens = parse(json.dumps(answer).encode(), status=status)
    except AuthsomeError:
        return
    assert status < 300
    assert tokens.access_token.reveal().isprintable()
    assert tokens.expires_at is None or NOW < tokens.expires_at <= NOW + token.MAX_LIFETIME
