"""Trying a new credential on its provider: what is sent, what each answer means, and what it does to a login."""

import json
from urllib.parse import urlencode

import pytest

from authsome.broker.logins import Wanted
from authsome.broker.verify import Proven, Refused, Unclear, parse_response, request_for
from authsome.errors import LoginNotFound, ProviderInvalid
from authsome.message import HttpResponse
from authsome.models.connection import Kind
from authsome.models.login import AwaitingCallback, AwaitingInput, Completed, Login
from authsome.models.provider import Provider, parse_definition
from authsome.secret import Secret
from fakes import endpoint

BASE = {
    "schema_version": 1,
    "name": "keyed",
    "auth_type": "api_key",
    "api_url": "keyed.example.localhost",
    "allow_private_addresses": True,
    "api_key": {},
}
KEY = {"api_key": Secret("the key")}


def provider(**changes: object) -> Provider:
    return parse_definition({**BASE, **changes}, source="keyed.json")


def request(found: Provider, held=KEY, variables=None):
    (verify,) = found.verifications(Kind.API_KEY)
    return request_for(verify, verify.urls[0], found, Kind.API_KEY, variables or {}, held)


@pytest.mark.parametrize(
    ("inject", "verify", "url", "headers"),
    [
        (None, {}, "/me", {"authorization": "Bearer the key"}),
        ({"header": "X-Key", "template": "{api_key}"}, {}, "/me", {"x-key": "the key"}),
        ({"query": "key", "template": "{api_key}"}, {}, "/me?key=the%20key", {}),
        (
            {"query": "key", "template": "{api_key}"},
            {"url": "https://keyed.example.localhost/me?fields=id,name"},
            "/me?fields=id,name&key=the%20key",
            {},
        ),
        (
            {"path": "placeholder-0", "template": "{api_key}"},
            {"url": "https://keyed.example.localhost/bot/placeholder-0/me"},
            "/bot/the%20key/me",
            {},
        ),
        (
            [{"header": "X-Key", "template": "{api_key}"}, {"header": "Version", "template": "1", "if_absent": True}],
            {},
            "/me",
            {"x-key": "the key", "version": "1"},
        ),
        (
            [{"header": "X-Key", "template": "{api_key}"}, {"header": "Version", "template": "1", "if_absent": True}],
            {"headers": {"Version": "2", "X-Key": "not this"}},
            "/me",
            {"x-key": "the key", "version": "2"},
        ),
    ],
)
def test_the_request_carries_the_credential_like_any_other(inject, verify, url, headers):
    """The injections decide its form; the definition's own headers stand back for the credential."""
    found = provider(
        **({"inject": inject} if inject else {}), verify={"url": "https://keyed.example.localhost/me", **verify}
    )
    made = request(found)
    assert (made.method, made.url) == ("GET", f"https://keyed.example.localhost{url}")
    assert dict(made.headers) == {"accept": "application/json"} | headers


def test_variables_and_shown_fields_stand_in_its_url():
    """A field that is not secret may stand in the path, a variable anywhere."""
    found = provider(
        api_url="{site}.example.localhost",
        variables={"site": {}},
        api_key={"fields": [{"name": "user", "label": "user", "secret": False}, {"name": "key", "label": "key"}]},
        inject={"basic": {"username": "{user}", "password": "{key}"}},
        verify={"method": "POST", "url": "https://{site}.example.localhost/users/{user}", "body": "{}"},
    )
    made = request(found, {"user": Secret("me"), "key": Secret("k")}, {"site": "eu"})
    assert (made.method, made.url, made.body) == ("POST", "https://eu.example.localhost/users/me", b"{}")
    assert dict(made.headers)["authorization"] == "Basic bWU6aw=="
    with pytest.raises(ValueError, match="user must be a word"):
        request(found, {"user": Secret("me/../you"), "key": Secret("k")}, {"site": "eu"})


def test_the_rest_of_a_host_is_good_for_a_trial():
    """Where only a path takes the credential, the trial may ask elsewhere on that host; on no other host."""
    found = provider(
        api_url="https://keyed.example.localhost/v1/", verify={"url": "https://keyed.example.localhost/me"}
    )
    made = request(found)
    assert (made.url, dict(made.headers)["authorization"]) == ("https://keyed.example.localhost/me", "Bearer the key")
    with pytest.raises(ProviderInvalid, match="where the credential may not go"):
        provider(api_url="https://keyed.example.localhost/v1/", verify={"url": "https://other.example.localhost/me"})


SAYS_NO = "keyed.example refuses it"


@pytest.mark.parametrize(
    ("verify", "status", "body", "outcome"),
    [
        ({}, 200, b"anything", Proven(account=None)),
        ({}, 204, b"", Proven(account=None)),
        ({}, 401, b"", Refused(reason=f"{SAYS_NO} (401)")),
        ({}, 403, b"", Refused(reason=f"{SAYS_NO} (403)")),
        ({}, 302, b"", Unclear(reason="keyed.example answered 302")),
        ({}, 404, b"", Unclear(reason="keyed.example answered 404")),
        ({}, 429, b"", Unclear(reason="keyed.example answered 429")),
        ({}, 503, b"", Unclear(reason="keyed.example answered 503")),
        ({"account": "login"}, 200, b'{"login": "octocat"}', Proven(account="octocat")),
        ({"account": "id"}, 200, b'{"id": 7}', Proven(account="7")),
        ({"account": "data.viewer.email"}, 200, b'{"data": {"viewer": {"email": "a@b.c"}}}', Proven(account="a@b.c")),
        ({"account": "results.1.name"}, 200, b'{"results": [{}, {"name": "second"}]}', Proven(account="second")),
        ({"account": "results.2.name"}, 200, b'{"results": [{}]}', Proven(account=None)),
        ({"account": "login"}, 200, b'{"login": "\\u001b[2Joct\\r\\nocat"}', Proven(account="oct ocat")),
        ({"account": "login"}, 200, b'{"login": ""}', Proven(account=None)),
        ({"account": "login"}, 200, b'{"login": true}', Proven(account=None)),
        ({"account": "login"}, 200, b'{"login": {"a": 1}}', Proven(account=None)),
        ({"account": "login"}, 200, b"<html>", Unclear(reason="keyed.example answered with something that is not a JSON object")),  # noqa: E501
        ({"ok": "ok", "account": "user"}, 200, b'{"ok": true, "user": "bot"}', Proven(account="bot")),
        ({"ok": "ok"}, 200, b'{"ok": false, "error": "invalid_auth"}', Refused(reason=f"{SAYS_NO}: invalid_auth")),
        ({"ok": "ok"}, 200, b'{"error": {"a": 1}}', Refused(reason=SAYS_NO)),
        ({"ok": "ok"}, 200, b'{"ok": 1}', Refused(reason=SAYS_NO)),
        ({"account": "0.name"}, 200, b'[{"name": "first"}]', Proven(account="first")),
        ({"account": "0.name"}, 200, b"[]", Proven(account=None)),
        ({"account": "0.name"}, 200, b'"text"', Unclear(reason="keyed.example answered with something that is not a JSON object")),  # noqa: E501
        ({"proof": "data.me", "account": "data.me.id"}, 200, b'{"data": {"me": {"id": 7}}}', Proven(account="7")),
        ({"proof": "data.me", "account": "data.me.id"}, 200, b'{"data": {"me": null}, "errors": []}', Refused(reason=SAYS_NO)),  # noqa: E501
        ({"proof": "data.me"}, 200, b'{"error": "no such key"}', Refused(reason=f"{SAYS_NO}: no such key")),
        ({"account_header": "X-Org"}, 200, b"anything", Proven(account="acme")),
        ({"account_header": "X-Other"}, 200, b"anything", Proven(account=None)),
        ({"refused_by": [401]}, 401, b"", Refused(reason=f"{SAYS_NO} (401)")),
        ({"refused_by": [401]}, 403, b"", Proven(account=None)),
        ({"refused_by": [400, 403]}, 400, b"", Refused(reason=f"{SAYS_NO} (400)")),
        ({"refused_by": [400, 403]}, 401, b"", Proven(account=None)),
        ({"refused_by": []}, 403, b"", Unclear(reason="keyed.example answered 403")),
        ({"refused_by": []}, 401, b"", Unclear(reason="keyed.example answered 401")),
        ({"known_by": "missing_scope"}, 403, b'{"error": "missing_scope"}', Proven(account=None)),
        ({"known_by": "missing_scope"}, 403, b'{"error": "no_such_key"}', Refused(reason=f"{SAYS_NO} (403)")),
        ({"known_by": "missing_scope"}, 503, b'{"error": "missing_scope"}', Unclear(reason="keyed.example answered 503")),  # noqa: E501
    ],
)  # fmt: skip
def test_what_an_answer_means(verify, status, body, outcome):
    """Only the provider's own no is a no; the account is one clean line or nothing."""
    found = provider(verify={"url": "https://keyed.example.localhost/me", **verify}).verify[0]
    response = HttpResponse(status=status, headers=(("X-Org", "acme"),), body=body)
    assert parse_response(found, response, host="keyed.example") == outcome


def test_what_was_given_names_the_account():
    """The account that the login itself was told; it counts once the key is taken, and not for one that is refused."""
    found = provider(verify={"url": "https://keyed.example.localhost/me"}).verify[0]
    taken = parse_response(found, HttpResponse(status=200), host="keyed.example", given="me@acme.example")
    assert taken == Proven(account="me@acme.example")
    refused = parse_response(found, HttpResponse(status=401), host="keyed.example", given="me@acme.example")
    assert isinstance(refused, Refused)


# ---- in a login ---------------------------------------------------------------------------------------------------


@pytest.fixture
def api(serve, authority):
    """The API of `keyed`, with TLS, whose `script` the test sets."""
    return serve(
        endpoint.serve(endpoint.answer(b'{"login": "octocat"}'), leaf=authority.issue("keyed.example.localhost"))
    )


@pytest.fixture
def keyed(house, api):
    """A house that knows the provider keyed."""
    where = f"https://keyed.example.localhost:{api.port}"
    house.define(
        {**BASE, "api_url": where, "verify": {"url": f"{where}/me", "account": "login"}},
    )
    return house


def log_in(house, key: str = "a-key", **changes) -> Login:
    login = house.broker.logins.begin(house.owner, Wanted(provider="keyed", variables={}, **changes))
    return house.broker.logins.submit(login, {"api_key": Secret(key)})


def test_a_key_is_tried_and_its_account_kept(keyed, api):
    """The provider says whose the key is, and that is shown from then on."""
    done = log_in(keyed)
    assert isinstance(done, Completed)
    assert (done.connection.account, done.unverified) == ("octocat", None)
    assert keyed.stored("keyed").account == "octocat"
    (sent,) = api.requests
    assert (sent.method, sent.target, sent.all("authorization")) == ("GET", "/me", ("Bearer a-key",))


def test_an_answer_that_repeats_the_key_repeats_it_to_nobody(house, keyed, api):
    """Neither the account, which lies in clear and is listed, nor a refusal holds the key that was sent."""
    # SEC-143
    key = "kk-a/secret+key"
    api.script = endpoint.answer(json.dumps({"login": f"owner of {key}"}).encode())
    assert log_in(keyed, key).connection.account == "owner of …"
    house.define(
        {**BASE, "api_url": f"https://keyed.example.localhost:{api.port}"}
        | {
            "verify": {"url": f"https://keyed.example.localhost:{api.port}/me", "ok": "ok"},
        }
    )
    api.script = endpoint.answer(json.dumps({"ok": False, "error": f"{key} is not known"}).encode())
    refused = log_in(keyed, key, force=True)
    assert "… is not known" in refused.problem
    assert key not in refused.problem


def by_path(api: endpoint.Endpoint, answers: dict[str, tuple[int, bytes]]) -> endpoint.Script:
    """A script that answers by the path that is asked for, with 401 elsewhere."""

    def script():
        status, body = answers.get(api.requests[-1].path, (401, b"{}"))
        yield from endpoint.answer(body, status=status)()

    return script


@pytest.mark.parametrize(
    ("answers", "account", "asked"),
    [
        ({"/try": (200, b"{}"), "/me": (200, b'{"login": "octocat"}')}, "octocat", ["/try", "/me"]),
        ({"/try": (200, b"{}"), "/me": (403, b"{}")}, None, ["/try", "/me"]),
        ({"/try": (200, b"{}"), "/me": (500, b"")}, None, ["/try", "/me"]),
        ({"/try": (200, b'{"login": "first"}')}, "first", ["/try"]),
    ],
)
def test_a_second_request_only_names(keyed, api, answers, account, asked):
    """The first request alone decides; what the second one says changes no more than the name."""
    where = f"https://keyed.example.localhost:{api.port}"
    first, second = ({"url": f"{where}/{path}", "account": "login"} for path in ("try", "me"))
    keyed.define({**BASE, "api_url": where, "verify": [first, second]})
    api.script = by_path(api, answers)
    done = log_in(keyed)
    assert isinstance(done, Completed)
    assert (done.connection.account, done.unverified) == (account, None)
    assert [request.path for request in api.requests] == asked


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({"/us": (200, b'{"login": "octocat"}')}, "octocat"),
        ({"/eu": (200, b'{"login": "octocat"}')}, "octocat"),
        ({"/us": (500, b"")}, "answered 500"),
        ({}, "refuses it (401); keyed.example.localhost"),
    ],
)
def test_several_places_are_asked_in_turn(keyed, api, answers, outcome):
    """A key of one region is good although another region refuses it; it is refused where all refuse it."""
    where = f"https://keyed.example.localhost:{api.port}"
    keyed.define({**BASE, "api_url": where, "verify": {"url": [f"{where}/us", f"{where}/eu"], "account": "login"}})
    api.script = by_path(api, answers)
    done = log_in(keyed)
    if isinstance(done, Completed):
        assert outcome in (done.connection.account or done.unverified or "")
    else:
        assert outcome in (done.problem or "")
        assert keyed.broker.credentials.list_all(keyed.owner) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_stored(keyed, api, status):
    """The login says so and waits for a better one."""
    api.script = endpoint.answer(b"{}", status=status)
    refused = log_in(keyed)
    assert isinstance(refused, AwaitingInput)
    said = f"the key is not accepted: keyed.example.localhost:{api.port} refuses it ({status}); if it is right"
    assert (refused.problem or "").startswith(said)
    assert "--no-verify" in (refused.problem or "")
    assert keyed.broker.credentials.list_all(keyed.owner) == []
    api.script = endpoint.answer(b'{"login": "octocat"}')
    assert isinstance(keyed.broker.logins.submit(refused, {"api_key": Secret("better")}), Completed)
    assert keyed.secrets("keyed") == {"api_key": "better"}


def test_a_refused_key_leaves_the_old_one(keyed, api):
    """Logging in anew with a wrong key changes nothing that was stored."""
    log_in(keyed, "good")
    api.script = endpoint.answer(b"{}", status=401)
    assert isinstance(log_in(keyed, "bad", force=True), AwaitingInput)
    assert keyed.secrets("keyed") == {"api_key": "good"}


@pytest.mark.parametrize("script", ["html", "500", "429", "nothing", "not http", "deep"])
def test_an_odd_answer_costs_no_login(keyed, api, script):
    """It is stored, and said that nobody knows."""
    api.script = endpoint.SCRIPTS[script]
    done = log_in(keyed)
    assert isinstance(done, Completed)
    assert "keyed.example.localhost" in (done.unverified or "")
    assert done.connection.account is None


def test_an_unreachable_provider_costs_no_login(keyed, api, free_port):
    """Nor does one that is not there."""
    where = f"https://keyed.example.localhost:{free_port}"
    keyed.define({**BASE, "api_url": where, "verify": {"url": f"{where}/me"}})
    done = log_in(keyed)
    assert isinstance(done, Completed)
    assert "keyed.example.localhost" in (done.unverified or "")
    assert api.requests == []


def test_nothing_is_tried_that_is_not_to_be(keyed, api):
    """`--no-verify`, and a provider that names no request."""
    done = log_in(keyed, verify=False)
    assert isinstance(done, Completed)
    assert done.unverified is None
    where = f"https://keyed.example.localhost:{api.port}"
    keyed.define({**BASE, "api_url": where})
    assert isinstance(log_in(keyed, force=True), Completed)
    assert api.requests == []


@pytest.mark.parametrize(("status", "account"), [(200, "octocat"), (401, None), (500, None)])
def test_oauth_learns_its_account_and_loses_nothing(house, api, hostile, status, account):
    """Tokens that the provider has just given are stored whatever it says of them."""
    where = f"https://keyed.example.localhost:{api.port}"
    house.oauth("keyed", hostile.url())
    definition = json.loads((house.home.providers / "keyed.json").read_text())
    house.define({**definition, "api_url": where, "verify": {"url": f"{where}/me", "account": "login"}})
    api.script = endpoint.answer(b'{"login": "octocat"}', status=status)
    login = house.broker.logins.begin(house.owner, Wanted(provider="keyed", variables={}))
    login = house.broker.logins.submit(login, {"client_id": Secret("our-client")})
    assert isinstance(login, AwaitingCallback)
    query = urlencode({"code": "the-code", "state": login.state.reveal()})
    done = house.broker.logins.callback(query, lambda _: login.request.browser_key)
    assert isinstance(done, Completed)
    assert done.connection.account == account
    assert (done.unverified is None) == (status == 200)
    assert house.secrets("keyed")["access_token"] == "an-access-token"
    assert api.requests[0].all("authorization") == ("Bearer an-access-token",)


def test_a_key_is_taken_once(keyed, api):
    """While one key is being tried, the login takes no other."""
    login = keyed.broker.logins.begin(keyed.owner, Wanted(provider="keyed", variables={}))

    def answer():
        with pytest.raises(LoginNotFound):
            keyed.broker.logins.submit(login, {"api_key": Secret("second")})
        yield endpoint.http(json.dumps({"login": "octocat"}).encode())

    api.script = answer
    assert isinstance(keyed.broker.logins.submit(login, {"api_key": Secret("first")}), Completed)
    assert keyed.secrets("keyed") == {"api_key": "first"}
