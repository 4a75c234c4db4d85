"""Logging in by a URL alone, or by an issuer's word: what is believed, what is asked for, what is written down."""

import json
from contextlib import suppress
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from authsome.broker.logins import Wanted
from authsome.errors import AuthsomeError, EndpointRefused, ProviderInvalid, RequestInvalid
from authsome.models.login import AwaitingCallback, AwaitingInput, Completed, Failed, Flow, Login
from authsome.secret import Secret
from fakes import definitions, mcp
from fakes.api import Answer, ApiServer
from fakes.mcp import HOST


def begin(house, address: str, **changes) -> Login:
    return house.broker.logins.begin(house.owner, Wanted(url=address, variables={}, **changes))


def asked(login: Login) -> dict[str, str]:
    """The parameters of the authorization request."""
    assert isinstance(login, AwaitingCallback), login
    return {name: values[0] for name, values in parse_qs(urlsplit(login.authorization_url).query).items()}


def call_back(house, login: Login, **changes: str | None) -> Login:
    assert isinstance(login, AwaitingCallback), login
    said = {"code": "the-code", "state": login.state.reveal(), **changes}
    query = urlencode({name: value for name, value in said.items() if value is not None})
    return house.broker.logins.callback(query, lambda _: login.request.browser_key)


def documents(server: ApiServer) -> list[str]:
    """The metadata documents that were asked for, in order."""
    return [each.path for each in server.requests if each.path.startswith("/.well-known/")]


# ---- an MCP server ---------------------------------------------------------------------------------------------------


def test_from_a_url_to_the_connection(house, api_server):
    """401, resource metadata, server metadata, registration, PKCE with the resource: then a provider and a token."""
    address = mcp.protect(api_server, mcp.describe(api_server), scopes_supported=["mcp:read"], resource_name="Example")
    login = begin(house, address)
    parameters = asked(login)
    assert parameters["client_id"] == "registered-client"
    assert parameters["resource"] == address
    assert parameters["scope"] == "mcp:read"
    assert parameters["code_challenge_method"] == "S256"
    name = login.request.provider
    assert name not in house.context.catalog.names()  # nothing is written down before it has worked
    assert isinstance(call_back(house, login), Completed)
    (request,) = api_server.to("/token")
    assert (request.form["resource"], request.form["client_id"]) == (address, "registered-client")
    (registered,) = api_server.to("/register")
    said = json.loads(registered.body)
    assert said["redirect_uris"] == ["http://127.0.0.1:7998/auth/callback/oauth"]
    assert (said["client_name"], said["token_endpoint_auth_method"]) == ("Authsome", "none")
    provider = house.context.catalog.get(name)
    assert (provider.display_name, provider.api_url, house.context.catalog.source(name)) == (
        "Example",
        (address,),
        "custom",
    )
    assert name == f"api-example-localhost-{api_server.port}"
    assert house.secrets(name)["access_token"] == "an-access-token"


def test_the_token_goes_to_that_url_alone(house, api_server):
    """A request at or below the URL gets the bearer token; the rest of the host does not."""
    address = mcp.protect(api_server, mcp.describe(api_server))
    login = begin(house, address)
    call_back(house, login)
    provider = house.context.catalog.get(login.request.provider)
    stored = house.stored(provider.name)

    def injected(path: str) -> bool:
        found = provider.injections(stored.kind, stored.variables, host=HOST, port=api_server.port, path=path)
        return bool(found.injections)

    assert injected("/mcp")
    assert injected("/mcp/messages")
    assert not injected("/")
    assert not injected("/mcpx")


def test_a_refresh_names_the_resource(house, api_server):
    """The resource is in the request for a new access token, too (RFC 8707 §2.2)."""
    address = mcp.protect(api_server, mcp.describe(api_server))
    tokens = {"access_token": "short", "token_type": "Bearer", "refresh_token": "a-refresh-token", "expires_in": 60}
    api_server.answers["/token"] = mcp.document(tokens)
    login = begin(house, address)
    call_back(house, login)
    house.clock.advance(timedelta(seconds=61))
    provider = house.context.catalog.get(login.request.provider)
    house.broker.refresher.fresh(house.owner, provider, house.stored(provider.name), rejected=False)
    form = api_server.to("/token")[-1].form
    assert (form["grant_type"], form["resource"]) == ("refresh_token", address)
    assert form["client_id"] == "registered-client"


def test_the_second_time_it_is_known(house, api_server):
    """A URL that some provider names belongs to it: nothing is found out or registered again. # SEC-106"""
    address = mcp.protect(api_server, mcp.describe(api_server))
    first = begin(house, address)
    call_back(house, first)
    api_server.requests.clear()
    second = begin(house, address, connection="work")
    assert second.request.provider == first.request.provider
    assert not second.request.is_new_provider
    assert isinstance(call_back(house, second), Completed)
    assert api_server.to("/register") == []
    assert documents(api_server) == []


def test_a_bundled_provider_keeps_its_host(house):
    """A URL that a bundled provider names is that provider's; one elsewhere on its host is nobody's."""
    login = begin(house, "https://api.openai.com/v1/models")
    assert (login.request.provider, login.request.is_new_provider) == ("openai", False)


def test_a_host_that_is_not_below_the_url_of_a_bundled_one(house):
    """What is found at another port or path of a bundled provider's host does not become a provider."""
    found = {
        "schema_version": 1,
        "name": "mine",
        "auth_type": "oauth2",
        "api_url": "https://api.openai.com:8443/mcp",
        "oauth": {"authorization_url": "https://x.example/a", "token_url": "https://x.example/t"},
    }
    with pytest.raises(ProviderInvalid, match="belongs to the bundled provider"):
        house.broker.providers.examine(house.owner, json.dumps(found).encode())


def test_two_logins_to_one_url(house, api_server):
    """Both succeed, and there is one provider."""
    address = mcp.protect(api_server, mcp.describe(api_server))
    first, second = begin(house, address), begin(house, address, connection="work")
    assert isinstance(call_back(house, first), Completed)
    assert isinstance(call_back(house, second), Completed)
    stored = house.broker.credentials.list_all(house.owner)
    assert {(each.provider, each.name) for each in stored} == {
        (first.request.provider, "default"),
        (first.request.provider, "work"),
    }


def test_a_name_that_was_taken_meanwhile(house, api_server):
    """A provider that got the name first, and sends its credentials elsewhere, is not given this one."""
    login = begin(house, mcp.protect(api_server, mcp.describe(api_server)))
    house.define(
        {
            "schema_version": 1,
            "name": login.request.provider,
            "auth_type": "oauth2",
            "api_url": "https://elsewhere.example.com",
            "oauth": {"authorization_url": "https://x.example.com/a", "token_url": "https://x.example.com/t"},
        }
    )
    ended = call_back(house, login)
    assert isinstance(ended, Failed)
    assert ended.code == "provider_exists"
    assert house.broker.credentials.list_all(house.owner) == []


def test_a_cancelled_login_leaves_no_provider(house, api_server):
    address = mcp.protect(api_server, mcp.describe(api_server))
    login = begin(house, address)
    house.broker.logins.cancel(house.owner, login.request.id)
    assert login.request.provider not in house.context.catalog.names()
    assert house.broker.credentials.list_all(house.owner) == []


def test_a_restart_in_between(house, api_server, open_house):
    """What was found out is kept with the login, sealed. # SEC-66"""
    address = mcp.protect(api_server, mcp.describe(api_server))
    login = begin(house, address)
    again = open_house()
    again.broker.logins.recover()
    assert isinstance(call_back(again, login), Completed)
    assert again.context.catalog.source(login.request.provider) == "custom"


@pytest.mark.parametrize(
    ("words", "listed", "scope"),
    [
        ('Bearer scope="a b"', ["c"], "a b"),
        ("Bearer", ["c", "d"], "c d"),
        ("Bearer", [], None),
        ('Basic realm="x", Bearer scope="a"', [], "a"),
    ],
)
def test_scopes(house, api_server, words, listed, scope):
    """The 401's scopes are asked for, else the resource's; never all that the authorization server has."""
    address = mcp.protect(api_server, mcp.describe(api_server, scopes_supported=["x", "y"]), scopes_supported=listed)
    api_server.answers["/mcp"] = mcp.challenge(words)
    assert asked(begin(house, address)).get("scope") == scope


def test_a_lasting_login_is_asked_for(house, api_server):
    address = mcp.protect(
        api_server, mcp.describe(api_server, scopes_supported=["openid", "offline_access"]), scopes_supported=["a"]
    )
    assert asked(begin(house, address))["scope"] == "a offline_access"


def test_the_metadata_of_the_whole_origin(house, api_server):
    """The document at the origin's own well-known place speaks for all of it; the resource is what it says."""
    issuer = mcp.describe(api_server)
    origin = api_server.url("", host=HOST)
    api_server.answers["/mcp"] = mcp.challenge("Bearer")
    api_server.answers["/.well-known/oauth-protected-resource"] = mcp.document(
        {"resource": origin, "authorization_servers": [issuer]}
    )
    api_server.answers["/.well-known/oauth-protected-resource/mcp"] = Answer(status=404)
    assert asked(begin(house, api_server.url("/mcp", host=HOST)))["resource"] == origin


@pytest.mark.parametrize(
    "resource",
    [
        "https://victim.example/mcp",
        "https://api.example.localhost/mcp",  # another port
        "{origin}",  # above, but not at the origin's own place
        "{origin}/mc",
        "{origin}/mcp?x=1",
        "{origin}/MCP",
        "",
        None,
        7,
    ],
)
def test_another_resources_metadata(house, api_server, resource):
    """Metadata that names another resource is not used, and nothing is registered. # SEC-102"""
    address = mcp.protect(api_server, mcp.describe(api_server))
    if isinstance(resource, str):
        resource = resource.replace("{origin}", api_server.url("", host=HOST))
    api_server.answers["/.well-known/oauth-protected-resource/mcp"] = mcp.document(
        {"resource": resource, "authorization_servers": [api_server.url("", host=HOST)]}
    )
    with pytest.raises(EndpointRefused, match="another resource"):
        begin(house, address)
    assert api_server.to("/register") == []


# ---- issuers ---------------------------------------------------------------------------------------------------------


def test_an_issuer_by_its_url(house, api_server):
    """The URL of an authorization server will do: its API is that host."""
    issuer = mcp.describe(api_server, scopes_supported=["openid", "profile", "offline_access"])
    api_server.answers["/"] = Answer(status=200, body=b"<h1>welcome</h1>")
    login = begin(house, issuer)
    assert asked(login)["scope"] == "openid offline_access"
    assert "resource" not in asked(login)
    assert isinstance(call_back(house, login), Completed)


def test_the_origin_of_an_api_may_be_the_issuer(house, api_server):
    """An MCP server without resource metadata: its origin's server metadata is looked for (the form of early 2025)."""
    mcp.describe(api_server)
    api_server.answers["/v1/mcp"] = Answer(status=401)
    for place in ("/v1/mcp", ""):
        api_server.answers[f"/.well-known/oauth-protected-resource{place}"] = Answer(status=404)
    for place in ("/.well-known/oauth-authorization-server/v1/mcp", "/.well-known/openid-configuration/v1/mcp"):
        api_server.answers[place] = Answer(status=404)
    api_server.answers["/v1/mcp/.well-known/openid-configuration"] = Answer(status=404)
    assert isinstance(begin(house, api_server.url("/v1/mcp", host=HOST)), AwaitingCallback)


def test_an_issuer_with_a_path(house, api_server):
    """The well-known part goes between host and path; and only then are OpenID's places tried. # SEC-101"""
    house.define(definitions.issuer_only(mcp.describe(api_server, path="/o/tenant"), scopes=["read"]))
    login = house.broker.logins.begin(house.owner, Wanted(provider="acme", variables={}))
    assert isinstance(login, AwaitingInput)
    assert documents(api_server) == ["/.well-known/oauth-authorization-server/o/tenant"]
    api_server.requests.clear()
    moved = api_server.answers.pop("/.well-known/oauth-authorization-server/o/tenant")
    api_server.answers["/.well-known/oauth-authorization-server/o/tenant"] = Answer(status=404)
    api_server.answers["/.well-known/openid-configuration/o/tenant"] = Answer(status=200, body=b"<html>")
    api_server.answers["/o/tenant/.well-known/openid-configuration"] = moved
    house.broker.logins.begin(house.owner, Wanted(provider="acme", variables={}))
    assert [each.path for each in api_server.requests] == [
        "/.well-known/oauth-authorization-server/o/tenant",
        "/.well-known/openid-configuration/o/tenant",
        "/o/tenant/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize("said", ["https://evil.example", "{issuer}/", "{issuer}/x", "HTTPS://{host}/o", "", None, 7])
def test_another_issuers_metadata(house, api_server, said):
    """Metadata of any other issuer is not used, however alike it looks. # SEC-100"""
    issuer = api_server.url("/o", host=HOST)
    wrong = (
        said.replace("{issuer}", issuer).replace("{host}", f"{HOST}:{api_server.port}")
        if isinstance(said, str)
        else said
    )
    mcp.describe(api_server, path="/o", issuer=wrong)
    house.define(definitions.issuer_only(issuer, scopes=["read"]))
    with pytest.raises(EndpointRefused):
        house.broker.logins.begin(house.owner, Wanted(provider="acme", variables={}))
    assert [each for each in api_server.requests if each.method == "POST"] == []


def test_an_issuer_completes_a_definition(house, api_server):
    """Endpoints come from the metadata at each login and refresh, and the answer has to name the issuer."""
    issuer = mcp.describe(api_server, authorization_response_iss_parameter_supported=True)
    house.define(definitions.issuer_only(issuer, scopes=["read"]))

    def at_provider() -> AwaitingCallback:
        login = house.broker.logins.begin(house.owner, Wanted(provider="acme", force=True, variables={}))
        if isinstance(login, AwaitingInput):
            login = house.broker.logins.submit(login, {"client_id": Secret("our-client")})
        assert isinstance(login, AwaitingCallback)
        return login

    for wrong in ({}, {"iss": "https://evil.example"}, {"iss": issuer + "/"}):
        assert isinstance(call_back(house, at_provider(), **wrong), Failed)  # SEC-55
    assert api_server.to("/token") == []
    tokens = {"access_token": "short", "token_type": "Bearer", "refresh_token": "a-refresh-token", "expires_in": 60}
    api_server.answers["/token"] = mcp.document(tokens)
    assert isinstance(call_back(house, at_provider(), iss=issuer), Completed)
    house.clock.advance(timedelta(seconds=61))
    provider = house.context.catalog.get("acme")
    house.broker.refresher.fresh(house.owner, provider, house.stored("acme"), rejected=False)
    assert [each.form["grant_type"] for each in api_server.to("/token")] == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize(("flow", "said"), [(None, "in a browser"), (Flow.DEVICE_CODE, "by device code")])
def test_an_issuer_that_names_no_endpoint_for_a_flow(house, api_server, flow, said):
    """The login is refused at once, before anybody is asked for a client that it could not use."""
    issuer = mcp.describe(api_server, authorization_endpoint=None, registration_endpoint=None)
    house.define(definitions.issuer_only(issuer, scopes=["read"]))
    name = str(definitions.issuer_only(issuer)["name"])
    with pytest.raises(EndpointRefused, match=f"{name} offers no login {said}") as told:
        house.broker.logins.begin(house.owner, Wanted(provider=name, flow=flow, variables={}))
    assert "--flow" in str(told.value.hint)


def test_a_refresh_goes_by_what_the_issuer_said_within_a_day(house, api_server):
    """Neither a refresh nor a restart asks it again; a day, or an endpoint that fails, does."""
    issuer = mcp.describe(api_server)
    house.define(definitions.issuer_only(issuer, scopes=["read"]))
    tokens = {"access_token": "short", "token_type": "Bearer", "refresh_token": "a-refresh-token", "expires_in": 60}
    api_server.answers["/token"] = mcp.document(tokens)
    login = house.broker.logins.begin(house.owner, Wanted(provider="acme", variables={}))
    assert isinstance(
        call_back(house, house.broker.logins.submit(login, {"client_id": Secret("our-client")})), Completed
    )
    asked = len(documents(api_server))

    def refresh(after: timedelta) -> int:
        """How often the issuer was asked for it."""
        house.clock.advance(after)
        house.steady.seconds += after.total_seconds()
        before = len(documents(api_server))
        provider = house.context.catalog.get("acme")
        with suppress(AuthsomeError):
            house.broker.refresher.fresh(house.owner, provider, house.stored("acme"), rejected=False)
        return len(documents(api_server)) - before

    assert asked == 1
    assert refresh(timedelta(minutes=2)) == 0
    assert refresh(timedelta(hours=23)) == 0
    assert refresh(timedelta(hours=2)) == 1
    api_server.answers["/token"] = Answer(status=404)
    assert refresh(timedelta(minutes=2)) == 0
    api_server.answers["/token"] = mcp.document(tokens)
    assert refresh(timedelta(minutes=10)) == 1
    assert house.stored("acme").problem is None


@pytest.mark.parametrize("methods", [["plain"], [], None, ["S256"]])
def test_s256_whatever_the_metadata_says(house, api_server, methods):
    """PKCE with S256 is sent to a server that lists only `plain`, nothing, or nothing at all. # SEC-52"""
    address = mcp.protect(api_server, mcp.describe(api_server, code_challenge_methods_supported=methods))
    parameters = asked(begin(house, address))
    assert (parameters["code_challenge_method"], len(parameters["code_challenge"])) == ("S256", 43)


def test_a_foreign_authorization_endpoint_gets_no_code(house, api_server):
    """A server that sends the browser to another's page gets the code at its own endpoint, nobody else. # SEC-56"""
    issuer = mcp.describe(api_server, authorization_endpoint="https://victim.example/authorize")
    login = begin(house, mcp.protect(api_server, issuer))
    assert isinstance(call_back(house, login), Completed)
    assert len(api_server.to("/token")) == 1
    assert {urlsplit(each).hostname for each in house.sent} == {HOST}


# ---- hostile answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 3, 4])
def test_redirects_within_the_origin(house, api_server, hops):
    """Metadata may move within its origin, three times. # SEC-104"""
    issuer = mcp.describe(api_server)
    place = "/.well-known/oauth-authorization-server"
    moved = api_server.answers[place]
    for hop in range(hops):
        target = "/final" if hop == hops - 1 else f"/hop{hop + 1}"
        api_server.answers[f"/hop{hop}" if hop else place] = Answer(status=302, headers=(("Location", target),))
    api_server.answers["/final"] = moved
    api_server.answers["/.well-known/openid-configuration"] = Answer(status=404)
    address = mcp.protect(api_server, issuer)
    if hops <= 3:
        assert isinstance(begin(house, address), AwaitingCallback)
    else:
        with pytest.raises(EndpointRefused):
            begin(house, address)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/x",
        "http://api.example.localhost/x",
        "//evil.example/",
        "https://api.example.localhost/x",
        "#",
    ],
)
def test_redirects_to_elsewhere(house, api_server, target):
    """A redirect to another host, port or scheme is not followed. # SEC-104"""
    issuer = mcp.describe(api_server)
    for place in ("oauth-authorization-server", "openid-configuration"):
        api_server.answers[f"/.well-known/{place}"] = Answer(status=307, headers=(("Location", target),))
    with pytest.raises(EndpointRefused, match="sends on"):
        begin(house, mcp.protect(api_server, issuer))
    assert {urlsplit(each).netloc for each in house.sent} == {f"{HOST}:{api_server.port}"}


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "http://127.0.0.1:7998/providers",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0/",
        "https://[::ffff:169.254.169.254]/",
        "file:///etc/passwd",
        "gopher://x.example/",
        "javascript://x.example/%0aalert(1)",
        "https://user@x.example/",
    ],
)
@pytest.mark.parametrize("where", ["metadata", "issuer", "registration", "token"])
def test_forged_addresses(house, api_server, place, where):
    """What metadata names is dialled only if it may be: not link-local, odd spellings, other schemes, ourselves."""
    # SEC-103
    issuer = mcp.describe(api_server)
    address = mcp.protect(api_server, place if where == "issuer" else issuer)
    if where == "metadata":
        api_server.answers["/mcp"] = mcp.challenge(f'Bearer resource_metadata="{place}"')
    elif where == "registration":
        mcp.describe(api_server, registration_endpoint=place)
    elif where == "token":
        mcp.describe(api_server, token_endpoint=place)
    try:
        outcome: Login | AuthsomeError = begin(house, address)
    except AuthsomeError as error:
        outcome = error
    if isinstance(outcome, AwaitingCallback):  # the token endpoint is dialled last
        assert where == "token"
        outcome = call_back(house, outcome)
        assert isinstance(outcome, Failed)
        assert outcome.code in {"address_refused", "endpoint_unreachable"}
    # A registration endpoint that cannot be used is as good as none: the client is asked for.
    assert isinstance(outcome, Failed | AuthsomeError) or (
        where == "registration" and isinstance(outcome, AwaitingInput)
    )
    assert house.broker.credentials.list_all(house.owner) == []


@pytest.mark.parametrize(
    "address",
    [
        "http://mcp.example.com/mcp",
        "https://user@mcp.example.com/",
        "https://mcp.example.com/?x=1",
        "https://mcp.example.com/#x",
        "ftp://mcp.example.com/",
        "https://",
        "https://exa mple.com/",
        "http://127.0.0.1:3000/mcp",
    ],
)
def test_what_is_no_url_of_an_api(house, address):
    with pytest.raises(RequestInvalid, match="URL"):
        begin(house, address)
    assert house.sent == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        Answer(body=b"<html>"),
        Answer(body=b""),
        Answer(body=b"[]"),
        Answer(body=b'{"issuer": "x"' + b" " * 100),
        Answer(status=500),
        mcp.document({"error": "x"}),
    ],
    ids=["404", "html", "empty", "array", "cut", "500", "error"],
)
def test_nonsense_for_metadata(house, api_server, answer):
    """A URL that says nothing useful is refused in one line. # SEC-92"""
    issuer = mcp.describe(api_server)
    for place in ("oauth-authorization-server", "openid-configuration"):
        api_server.answers[f"/.well-known/{place}"] = answer
    with pytest.raises(EndpointRefused) as caught:
        begin(house, mcp.protect(api_server, issuer))
    assert "\n" not in caught.value.message
    assert api_server.to("/register") == []
