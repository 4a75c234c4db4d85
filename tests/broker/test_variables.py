"""Variables of a definition in a login: asked for, or said by the provider; and where the credential goes then."""

from urllib.parse import urlencode

import pytest

from authsome.broker.credentials import Claimant, Question, Target
from authsome.broker.logins import Wanted
from authsome.errors import AuthsomeError
from authsome.models.login import AwaitingCallback, AwaitingInput, Completed, Failed, Login
from authsome.secret import Secret
from fakes import endpoint

SITE = {
    "schema_version": 1,
    "name": "sites",
    "api_url": "{site}.example.localhost",
    "allow_private_addresses": True,
    "variables": {"site": {"description": "your site"}, "region": {"default": "eu", "pattern": "^(eu|us)$"}},
    "api_key": {},
    "inject": {"header": "X-Key", "template": "{api_key}"},
    "export": {"env": {"SITE_URL": "https://{site}.example.localhost/{region}", "SITE_KEY": "{api_key}"}},
}


def begin(house, provider: str, **variables: str) -> Login:
    return house.broker.logins.begin(house.owner, Wanted(provider=provider, variables=variables))


def submit(house, login: Login, **given: str) -> Login:
    return house.broker.logins.submit(login, {name: Secret(value) for name, value in given.items()})


def resolve(house, host: str) -> dict[str, str]:
    target = Target(method="GET", host=host, port=443, path="/")
    found = house.broker.credentials.resolve(
        Question(admit=lambda _: Claimant(caller=house.owner), target=target, rejected=False)
    )
    return {name: value.reveal() for name, value in found.injected.headers}


def test_a_missing_variable_is_asked_for(house):
    """It stands in the form before the key, and decides where the key goes."""
    house.define(SITE)
    login = begin(house, "sites")
    assert isinstance(login, AwaitingInput)
    fields = {field.name: (field.label, field.secret, field.required) for field in house.broker.logins.fields(login)}
    assert fields == {
        "site": ("your site", False, True),
        "region": ("region", False, False),
        "api_key": ("API key", True, True),
    }
    missing = submit(house, login, api_key="the-key")
    assert isinstance(missing, AwaitingInput)
    assert missing.problem == "your site is missing"
    wrong = submit(house, login, api_key="the-key", site="evil.test/")
    assert isinstance(wrong, AwaitingInput)
    assert "site must be a word" in (wrong.problem or "")
    done = submit(house, login, api_key="the-key", site="one")
    assert isinstance(done, Completed)
    assert done.connection.variables == {"site": "one", "region": "eu"}
    assert resolve(house, "one.example.localhost") == {"X-Key": "the-key"}
    with pytest.raises(AuthsomeError):
        resolve(house, "two.example.localhost")


def test_children_see_variables_as_they_are(house):
    """No placeholder stands for what is no secret."""
    house.define(SITE)
    submit(house, begin(house, "sites", site="one"), api_key="the-key", region="us")
    stored = house.stored("sites")
    export = house.context.catalog.get("sites").export
    assert export.placeholders(stored.kind, stored.variables)["SITE_URL"] == "https://one.example.localhost/us"


def oauth(house, hostile, **variables: object) -> None:
    """A provider that says itself where its API is."""
    house.oauth("acme", hostile.url())
    house.define(
        {
            "schema_version": 1,
            "name": "acme",
            "api_url": "{instance_url}",
            "allow_private_addresses": True,
            "variables": {
                "instance_url": {
                    "pattern": "^https://[a-z]+\\.example\\.localhost$",
                    "example": "https://one.example.localhost",
                    "from_token": "instance_url",
                },
                **variables,
            },
            "oauth": {
                "authorization_url": hostile.url("/authorize"),
                "token_url": hostile.url("/token"),
                "token_endpoint_auth_method": "none",
            },
            "export": {"env": {f"ACME_{name.upper()}": f"{{{name}}}" for name in ("instance_url", *variables)}},
        }
    )


def call_back(house, login: Login, **extra: str) -> Login:
    if isinstance(login, AwaitingInput):
        login = submit(house, login, client_id="our-client")
    assert isinstance(login, AwaitingCallback)
    query = urlencode({"code": "the-code", "state": login.state.reveal(), **extra})
    return house.broker.logins.callback(query, lambda _: login.request.browser_key)


def test_the_token_answer_says_where_the_api_is(house, hostile):
    """And its word is kept with the connection."""
    oauth(house, hostile)
    hostile.script = endpoint.tokens(instance_url="https://two.example.localhost")
    done = call_back(house, begin(house, "acme"))
    assert isinstance(done, Completed)
    assert done.connection.variables == {"instance_url": "https://two.example.localhost"}
    assert resolve(house, "two.example.localhost") == {"Authorization": "Bearer an-access-token"}
    with pytest.raises(AuthsomeError):
        resolve(house, "one.example.localhost")


@pytest.mark.parametrize(
    "said", ["https://evil.test", "https://two.example.localhost@evil.test", "two.example.localhost", "", None, 7]
)
def test_a_strange_place_ends_the_login(house, hostile, said):
    """A host that the definition does not allow gets no credential, and nothing is stored."""
    oauth(house, hostile)
    hostile.script = endpoint.tokens(instance_url=said)
    failed = call_back(house, begin(house, "acme"))
    assert isinstance(failed, Failed)
    assert "instance_url" in failed.message
    assert house.broker.credentials.list_all(house.owner) == []


@pytest.mark.parametrize(("said", "kept"), [("12", True), ("12/../x", False), ("evil.test", False), (None, False)])
def test_the_callback_says_a_variable(house, hostile, said, kept):
    """Checked like any other, before the code is spent."""
    oauth(house, hostile, realm={"pattern": "^[0-9]{1,9}$", "example": "7", "from_callback": "realmId"})
    hostile.script = endpoint.tokens(instance_url="https://two.example.localhost")
    ended = call_back(house, begin(house, "acme"), **({"realmId": said} if said else {}))
    assert isinstance(ended, Completed if kept else Failed)
    assert len(hostile.requests) == kept
    if isinstance(ended, Completed):
        assert ended.connection.variables["realm"] == "12"


def test_a_known_client_is_not_asked_for_again(house, hostile):
    """Only the variable is; then the browser goes to the provider."""
    oauth(house, hostile, site={})
    hostile.script = endpoint.tokens(instance_url="https://two.example.localhost")
    first = submit(house, begin(house, "acme"), site="one", client_id="our-client")
    assert isinstance(call_back(house, first), Completed)
    again = house.broker.logins.begin(house.owner, Wanted(provider="acme", connection="work", variables={}))
    assert [field.name for field in house.broker.logins.fields(again)] == ["site"]
    onward = submit(house, again, site="two")
    assert isinstance(onward, AwaitingCallback)
    assert "client_id=our-client" in onward.authorization_url
    assert isinstance(call_back(house, onward), Completed)
    assert house.stored("acme", "work").variables["site"] == "two"
