"""Every bundled provider, logged in to by each kind of login, against a server that behaves as its row says.

The rows (`vectors/providers.json`) were written from what is known of the providers, not from the definitions.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from authsome.broker.catalog import bundled_directory
from authsome.broker.credentials import Claimant, Question, Target
from authsome.broker.logins import Wanted
from authsome.errors import AuthsomeError, NotFound
from authsome.models.connection import Kind
from authsome.models.login import AwaitingCallback, AwaitingDevice, AwaitingInput, Completed, Failed, Flow, Login
from authsome.secret import Secret
from fakes import provider
from fakes.provider import CLIENT_ID, CLIENT_SECRET, CODE, ProviderServer

Row = Mapping[str, Any]

ROWS: Final[Mapping[str, Row]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "providers.json").read_text("utf-8")
)
OAUTH: Final = [(name, row["oauth2"]) for name, row in ROWS.items() if "oauth2" in row]
KEYS: Final = [(name, row["api_key"]) for name, row in ROWS.items() if "api_key" in row]
REDIRECT: Final = "http://127.0.0.1:7998/auth/callback/oauth"


@pytest.fixture(scope="module")
def server() -> Iterator[ProviderServer]:
    """The provider, whichever it is."""
    with provider.serve() as running:
        yield running


@pytest.fixture
def house(house, server):
    """A house whose requests to providers all come to the server."""
    house.detour.append(server.url)
    return house


def begin(house, name: str, row: Row, flow: Flow, *, force: bool = False) -> Login:
    given = {**ROWS[name].get("given", {}), **row.get("given", {})}
    usual = {each: value for each, value in given.items() if value and each == "base_url"}
    return house.broker.logins.begin(house.owner, Wanted(provider=name, flow=flow, variables=usual, force=force))


def variables(name: str, row: Row) -> dict[str, str]:
    """What is given beside the credential, as the form asks for it."""
    given = {**ROWS[name].get("given", {}), **row.get("given", {})}
    return {each: value for each, value in given.items() if value and each != "base_url"}


def submit(house, login: Login, values: Mapping[str, str]) -> Login:
    return house.broker.logins.submit(login, {name: Secret(value) for name, value in values.items()})


def resolve(house, url: str) -> dict[str, str]:
    """What the proxy would do to a request for this URL, in the row's words."""
    parts = urlsplit(url)
    target = Target(method="GET", host=parts.hostname or "", port=parts.port or 443, path=parts.path)
    injected = house.broker.credentials.resolve(
        Question(admit=lambda _: Claimant(caller=house.owner), target=target, rejected=False)
    ).injected
    found = {name.lower(): value.reveal() for name, value in injected.headers}
    found |= {f"+{name.lower()}": value for name, value in injected.defaults}
    found |= {f"?{name}": value.reveal() for name, value in injected.query}
    path = parts.path
    for text, value in injected.path:
        path = path.replace(text, value.reveal())
    return found | ({"/": path} if path != parts.path else {})


def check_requests(house, server: ProviderServer, row: Row, placeholder: str = "") -> None:
    """Each sample request gets just what the row says, and places that are none get nothing."""
    for url, expected in row["requests"]:
        filled = {name: server.filled(value) for name, value in expected.items()}
        assert resolve(house, url.replace("$PLACEHOLDER", placeholder)) == filled, url
    for url in row.get("nowhere", ()):
        with pytest.raises(NotFound):
            resolve(house, url)


def check_account(done: Completed, row: Row, usual: str | None = None) -> None:
    """The provider was asked whose the credential is, and its answer was understood."""
    assert done.unverified is None
    named = [row[name][3] for name in ("verify", "named") if name in row]
    assert done.connection.account == row.get("account", next((account for account in named if account), usual))


def check_environment(house, name: str, kind: Kind, row: Row) -> dict[str, str]:
    """What is no secret is shown to a child as it is; returns all that it sees."""
    shown = house.context.catalog.get(name).export.placeholders(kind, house.stored(name).variables)
    assert {each: shown.get(each) for each in row.get("env", {})} == row.get("env", {})
    return dict(shown)


def to_provider(house, name: str, row: Row, server: ProviderServer) -> AwaitingCallback:
    """The browser is at the provider, by the URL that the row says."""
    login = begin(house, name, row, Flow(row.get("flow", "pkce")))
    if isinstance(login, AwaitingInput):
        asked = {field.name for field in house.broker.logins.fields(login)}
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET if row["client"] != "none" else ""}
        given = {each: value for each, value in {**client, **variables(name, row)}.items() if each in asked}
        login = submit(house, login, given)
    assert isinstance(login, AwaitingCallback), login
    parts = urlsplit(login.authorization_url)
    pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
    sent = dict(pairs)
    assert len(pairs) == len(sent)
    names = row.get("names", {})
    server.challenge = sent.pop("code_challenge", None)
    server.redirect_uri = sent.get(names.get("redirect_uri", "redirect_uri"), "")
    expected = {
        "response_type": "code",
        names.get("client_id", "client_id"): CLIENT_ID,
        names.get("redirect_uri", "redirect_uri"): REDIRECT,
        "state": login.state.reveal(),
        **row.get("params", {}),
        **({names.get("scope", "scope"): row["scope"]} if row.get("scope") else {}),
        **({"code_challenge_method": "S256"} if row["pkce"] else {}),
    }
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == row["authorize"]
    assert sent == expected
    assert (server.challenge is not None) == row["pkce"]
    return login


def call_back(house, login: AwaitingCallback, row: Row) -> Login:
    query = urlencode({"code": CODE, "state": login.state.reveal(), **row.get("callback", {})})
    return house.broker.logins.callback(query, lambda _: login.request.browser_key)


def test_every_definition_has_its_row():
    """No provider without expectations, no expectations without a provider, each kind of login in both."""
    bundled = {path.stem: json.loads(path.read_text("utf-8")) for path in bundled_directory().glob("*.json")}
    assert {name: {"oauth2", "api_key"} & row.keys() for name, row in ROWS.items()} == {
        name: {kind for kind, section in (("oauth2", "oauth"), ("api_key", "api_key")) if section in definition}
        for name, definition in bundled.items()
    }


@pytest.mark.parametrize(("name", "row"), OAUTH, ids=[name for name, _ in OAUTH])
def test_oauth(house, server, name: str, row: Row):
    """URL, token request, answer, account, injection, refresh: each as the provider has it."""
    server.play("oauth2", {**row, "now": int(house.clock().timestamp())})
    done = call_back(house, to_provider(house, name, row, server), row)
    assert server.complaints == []
    assert isinstance(done, Completed), done
    assert house.secrets(name) == {"access_token": "access-1", "refresh_token": "refresh-1"}
    check_account(
        done, row, row.get("answer", {}).get("workspace_name") or row.get("answer", {}).get("team", {}).get("name")
    )
    assert done.connection.scopes == tuple(row.get("granted", done.request.scopes))
    assert {each: done.connection.variables.get(each) for each in row.get("told", {})} == row.get("told", {})
    asked = {place.partition("?")[0] for place in server.places}
    assert set(server.seen) == {url for url in (row.get("register"), row["token"]) if url} | asked
    check_endpoints(house, name, row)
    check_requests(house, server, row)
    check_environment(house, name, Kind.OAUTH2, row)
    expires_in = row.get("answer", {}).get("expires_in", 3600)
    if expires_in:
        house.clock.advance(timedelta(hours=2))
        check_requests_after_refresh(house, server, name, row)


def check_endpoints(house, name: str, row: Row) -> None:
    """The endpoints that other flows use are the ones that are known, as far as any are."""
    oauth = house.context.catalog.get(name).oauth.resolved(house.stored(name).variables)
    for field, found in (
        ("device", oauth.device_authorization_url),
        ("revocation", oauth.revocation_url),
        ("register", oauth.registration_endpoint),
    ):
        assert found == row.get(field), field


def check_requests_after_refresh(house, server: ProviderServer, name: str, row: Row) -> None:
    """The first request after the end of the token has it refreshed, where and how the provider has it."""
    url, expected = row["requests"][0]
    found = resolve(house, url)
    assert server.complaints == []
    assert server.access_token == "access-2"
    assert found == {each: server.filled(value) for each, value in expected.items()}
    kept = "refresh-2" if row.get("rotates") else "refresh-1"
    assert house.secrets(name) == {"access_token": "access-2", "refresh_token": kept}
    assert server.seen[-1] == row.get("refresh", row["token"])


WITH_DEVICES: Final = [(name, row) for name, row in OAUTH if row.get("device")]


@pytest.mark.parametrize(("name", "row"), WITH_DEVICES, ids=[name for name, _ in WITH_DEVICES])
def test_device_code(house, server, name: str, row: Row):
    """A code from where the provider gives codes, its token from the token endpoint, put on the same requests."""
    server.play("oauth2", {**row, "now": int(house.clock().timestamp())})
    login = begin(house, name, row, Flow.DEVICE_CODE)
    assert isinstance(login, AwaitingInput)
    asked = {field.name for field in house.broker.logins.fields(login)}
    secret = CLIENT_SECRET if row["client"] != "none" else ""
    given = {"client_id": CLIENT_ID, "client_secret": secret, **variables(name, row)}
    login = submit(house, login, {each: value for each, value in given.items() if each in asked})
    assert isinstance(login, AwaitingDevice), login
    done = house.broker.logins.wait(
        house.owner,
        login.request.id,
        lambda each: isinstance(each, Completed | Failed),
        timedelta(seconds=15),
        threading.Event(),
    )
    assert server.complaints == []
    assert isinstance(done, Completed), done
    check_account(done, row)
    check_requests(house, server, row)


REVOKING: Final = [(name, row) for name, row in OAUTH if row.get("revocation")]


@pytest.mark.parametrize(("name", "row"), REVOKING, ids=[name for name, _ in REVOKING])
def test_revocation(house, server, name: str, row: Row):
    """A login ends where the provider ends them, by the client that it was granted to, its refresh token first."""
    server.play("oauth2", {**row, "now": int(house.clock().timestamp())})
    done = call_back(house, to_provider(house, name, row, server), row)
    assert isinstance(done, Completed), done
    revoked = house.broker.revocations.revoke(house.owner, name, None)
    assert server.complaints == []
    assert [each.name for each in revoked.gone] == ["default"]
    assert server.revoked == ["refresh-1", "access-1"]
    assert house.broker.credentials.list_all(house.owner) == []


REFUSING: Final = [(name, row) for name, row in OAUTH if "refused" in row]


@pytest.mark.parametrize(("name", "row"), REFUSING, ids=[name for name, _ in REFUSING])
def test_refusal(house, server, name: str, row: Row):
    """The provider's way to say no is understood, though it may come with status 200."""
    server.play("oauth2", row)
    login = to_provider(house, name, row, server)
    server.redirect_uri = "https://elsewhere.example"  # which it will not find in the request
    failed = call_back(house, login, row)
    assert isinstance(failed, Failed)
    assert row["refused"][1]["error"] in failed.message
    assert house.broker.credentials.list_all(house.owner) == []


STRANGE: Final = [(name, row) for name, row in OAUTH if "strange" in row]


@pytest.mark.parametrize(("name", "row"), STRANGE, ids=[name for name, _ in STRANGE])
def test_strange_host(house, server, name: str, row: Row):
    """A host that the provider says and that is none of its own gets nothing, and ends the login."""
    server.play("oauth2", row)
    login = to_provider(house, name, row, server)
    server.strange = row["strange"]
    failed = call_back(house, login, row)
    assert isinstance(failed, Failed)
    assert server.seen == [row["token"]]
    assert house.broker.credentials.list_all(house.owner) == []


@pytest.mark.parametrize(("name", "row"), KEYS, ids=[name for name, _ in KEYS])
def test_key(house, server, name: str, row: Row):
    """A right key is taken, tried and injected as the provider has it; one that it refuses is not stored."""
    server.play("api_key", row)
    login = begin(house, name, row, Flow.API_KEY)
    assert isinstance(login, AwaitingInput)
    if row.get("verify"):
        wrong = {each: _other(value) for each, value in row["fields"].items()}
        refused = submit(house, login, {**wrong, **variables(name, row)})
        if row.get("undecided"):
            assert isinstance(refused, Completed)
            assert "answered 401" in (refused.unverified or "")
            login = begin(house, name, row, Flow.API_KEY, force=True)
        else:
            assert isinstance(refused, AwaitingInput)
            assert "refuses it" in (refused.problem or ""), refused.problem
        server.complaints.clear()
    done = submit(house, login, {**row["fields"], **variables(name, row)})
    assert isinstance(done, Completed), done
    assert server.complaints == []
    assert house.secrets(name) == row["fields"]
    check_account(done, row)
    shown = check_environment(house, name, Kind.API_KEY, row)
    check_requests(house, server, row, shown.get(row.get("placeholder", ""), ""))


LIMITED: Final = [(name, row) for name, row in KEYS if "limited" in row]


@pytest.mark.parametrize(("name", "row"), LIMITED, ids=[name for name, _ in LIMITED])
def test_key_that_may_do_little(house, server, name: str, row: Row):
    """A key that the provider knows and that may not ask for its account is a good key."""
    server.play("api_key", row)
    server.limited = True
    done = submit(house, begin(house, name, row, Flow.API_KEY), {**row["fields"], **variables(name, row)})
    assert isinstance(done, Completed), done
    assert done.unverified is None
    assert house.secrets(name) == row["fields"]


def _other(value: str) -> str:
    """A key of the same form that is another one."""
    last = str((int(value[-1]) + 1) % 10) if value[-1].isdigit() else "b" if value[-1] != "b" else "c"
    return value[:-1] + last


def test_two_connected_providers_on_one_host_get_nothing(house, server):
    """Where two bundled providers are the same place, a request is told to choose. # SEC-171"""
    for name in ("klaviyo", "klaviyo-oauth"):
        kind, flow = ("api_key", Flow.API_KEY) if name == "klaviyo" else ("oauth2", Flow.PKCE)
        row = ROWS[name][kind]
        server.play(kind, row)
        if kind == "api_key":
            assert isinstance(submit(house, begin(house, name, row, flow), row["fields"]), Completed)
        else:
            assert isinstance(call_back(house, to_provider(house, name, row, server), row), Completed)
    with pytest.raises(AuthsomeError, match="more than one connection claims"):
        resolve(house, "https://a.klaviyo.com/api/profiles")
