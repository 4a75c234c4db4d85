"""Which OAuth client a login goes by where a provider has many servers: the one that the server knows, and no other."""

from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from authsome.broker.logins import Wanted
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Kind
from authsome.models.login import AwaitingCallback, AwaitingInput, Completed, Login
from authsome.models.provider import parse_definition
from authsome.secret import Secret
from authsome.vault import clients, connections
from fakes import endpoint


@pytest.fixture
def other(serve):
    """A second server of the same kind."""
    return serve(endpoint.serve(endpoint.tokens(refresh_token="a-refresh-token", expires_in=60)))


@pytest.fixture
def forge(house, hostile):
    """A house that knows forge, which anybody may run; its usual server is `hostile`."""
    hostile.script = endpoint.tokens(refresh_token="a-refresh-token", expires_in=60)
    house.define(
        {
            "schema_version": 1,
            "name": "forge",
            "api_url": "api.forge.example.localhost",
            "allow_private_addresses": True,
            "base_url": hostile.url(""),
            "oauth": {"authorization_url": "{base_url}/authorize", "token_url": "{base_url}/token"},
        }
    )
    return house


def begin(house, server: endpoint.Endpoint | None = None, name: str = "default") -> Login:
    variables = {} if server is None else {"base_url": server.url("")}
    return house.broker.logins.begin(house.owner, Wanted(provider="forge", connection=name, variables=variables))


def finish(house, login: Login, secret: str | None = None) -> None:
    """See a login to its end; with a secret the client is asked for, without it is known."""
    if secret is not None:
        assert isinstance(login, AwaitingInput)
        login = house.broker.logins.submit(
            login, {"client_id": Secret(f"id-{secret}"), "client_secret": Secret(secret)}
        )
    assert isinstance(login, AwaitingCallback), login
    query = urlencode({"code": "the-code", "state": login.state.reveal()})
    assert isinstance(house.broker.logins.callback(query, lambda _: login.request.browser_key), Completed)


def refresh(house, name: str) -> None:
    house.clock.advance(timedelta(seconds=61))
    provider = house.context.catalog.get("forge")
    house.broker.refresher.fresh(house.owner, provider, house.stored("forge", name), rejected=False)


def sent(server: endpoint.Endpoint) -> list[str]:
    """The client secrets that a server was sent."""
    return [request.form["client_secret"] for request in server.requests]


def put_older(house) -> None:
    """A client from before servers were told apart."""
    with house.context.database.transaction() as tx:
        clients.put(
            tx,
            house.context.sealers.for_vault(house.owner.vault_id),
            provider="forge",
            client_id="id-older",
            client_secret=Secret("older"),
            now=house.clock(),
        )


def test_two_servers_have_two_clients(forge, hostile, other):
    """Each is asked for once, goes to its own server at login and refresh, and is known there the next time."""
    finish(forge, begin(forge), "usual")
    finish(forge, begin(forge, other, "work"), "ours")
    for name in ("default", "work"):
        refresh(forge, name)
    finish(forge, begin(forge, other, "third"))
    finish(forge, begin(forge, None, "fourth"))
    assert set(sent(hostile)) == {"usual"}
    assert set(sent(other)) == {"ours"}
    assert (len(hostile.requests), len(other.requests)) == (3, 3)


def test_an_older_client_goes_where_it_has_been(forge, hostile, other):
    """It serves the servers that something is connected to, and no new one."""
    put_older(forge)
    with forge.context.database.transaction() as tx:
        connections.put(
            tx,
            forge.context.sealers.for_vault(forge.owner.vault_id),
            provider="forge",
            name="work",
            kind=Kind.OAUTH2,
            secrets={ACCESS_TOKEN: Secret("old"), REFRESH_TOKEN: Secret("old-refresh")},
            expires_at=forge.clock() + timedelta(seconds=30),
            variables={"base_url": other.url("")},
            now=forge.clock(),
        )
    refresh(forge, "work")
    finish(forge, begin(forge, other, "again"))
    assert sent(other) == ["older", "older"]
    assert isinstance(begin(forge), AwaitingInput)
    assert hostile.requests == []


def test_an_older_client_without_a_login_is_the_usual_servers(forge, hostile, other):
    """As an import from another home leaves it."""
    put_older(forge)
    assert isinstance(begin(forge, other), AwaitingInput)
    finish(forge, begin(forge))
    assert sent(hostile) == ["older"]
    assert other.requests == []


@pytest.mark.parametrize(
    ("oauth", "variables", "server"),
    [
        ({"token_url": "https://a.test/{tenant}/token"}, {"tenant": "one"}, ""),
        ({"token_url": "https://{tenant}.a.test/token"}, {"tenant": "one"}, "https://one.a.test"),
        ({"token_url": "https://{tenant}.a.test/token"}, {}, None),
        ({"token_url": "{base_url}/token"}, {"base_url": "https://a.test/forge"}, "https://a.test/forge"),
        ({"issuer": "{base_url}"}, {"base_url": "https://a.test"}, "https://a.test"),
        ({"issuer": "https://a.test"}, {}, ""),
    ],
)
def test_what_tells_servers_apart(oauth, variables, server):
    """The host, with whatever a base URL adds to it; a tenant in a path is the same server's."""
    names = {"tenant": {}, "base_url": {}}
    written = str(oauth)
    data = {
        "schema_version": 1,
        "name": "acme",
        "api_url": "api.acme.test",
        "variables": {name: value for name, value in names.items() if f"{{{name}}}" in written},
        "oauth": {"authorization_url": "https://a.test/authorize", **oauth} if "token_url" in oauth else oauth,
    }
    found = parse_definition(data, source="acme.json").oauth
    assert found is not None
    assert found.server(variables) == server


def test_an_endpoint_keeps_its_own_query(house, hostile):
    """As Azure AD B2C has it: at the authorization and the token endpoint, which get ours beside it (RFC 6749 §3)."""
    house.oauth("acme", hostile.url())
    definition = {
        "schema_version": 1,
        "name": "acme",
        "api_url": "api.acme.example.localhost",
        "allow_private_addresses": True,
        "oauth": {
            "authorization_url": hostile.url("/authorize?p=b2c_1_sign_in"),
            "token_url": hostile.url("/token?p=b2c_1_sign_in"),
        },
    }
    house.define(definition)
    hostile.script = endpoint.tokens()
    login = house.broker.logins.begin(house.owner, Wanted(provider="acme", variables={}))
    login = house.broker.logins.submit(login, {"client_id": Secret("us"), "client_secret": Secret("ours")})
    assert isinstance(login, AwaitingCallback)
    asked = parse_qs(urlsplit(login.authorization_url).query)
    assert (asked["p"], asked["client_id"]) == (["b2c_1_sign_in"], ["us"])
    query = urlencode({"code": "the-code", "state": login.state.reveal()})
    assert isinstance(house.broker.logins.callback(query, lambda _: login.request.browser_key), Completed)
    (request,) = hostile.requests
    assert (request.target, request.form["code"]) == ("/token?p=b2c_1_sign_in", "the-code")
