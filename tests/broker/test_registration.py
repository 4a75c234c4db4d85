"""Registered clients: one for each provider, kept sealed, used again, and made anew once when it is lost."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from authsome.broker import registration
from authsome.broker.logins import Wanted
from authsome.errors import EndpointRefused
from authsome.models.login import AwaitingCallback, AwaitingInput, Completed, Failed, Flow, Login
from authsome.secret import Secret
from authsome.vault import clients
from fakes import definitions, endpoint, wire


class Acme:
    """A provider that registers clients, each under the next number."""

    def __init__(self, hostile: endpoint.Endpoint) -> None:
        self.hostile = hostile
        self.made = 0
        self.known = True
        """Whether it still knows the clients it made."""
        self.extra: dict[str, object] = {}
        self.registers: endpoint.Script | None = None
        """What it answers instead of making a client."""
        hostile.script = self._play

    @property
    def managed(self) -> dict[str, object]:
        """Members of an answer that let the client be looked at later."""
        return {"registration_client_uri": self.hostile.url("/reg/1"), "registration_access_token": "manage-it"}

    def _play(self):
        request: wire.Recorded = self.hostile.requests[-1]
        if request.path == "/reg" and request.method == "POST":
            if self.registers is not None:
                return self.registers()
            self.made += 1
            answer = {"client_id": f"client-{self.made}", **self.extra}
            return endpoint.answer(json.dumps(answer).encode(), status=201)()
        if request.path == "/reg/1":
            return endpoint.answer(b"{}", status=200 if self.known else 401)()
        if not self.known:
            return endpoint.answer(b'{"error": "invalid_client"}', status=401)()
        return endpoint.tokens(refresh_token="a-refresh-token")()


@pytest.fixture
def acme(house, hostile) -> Acme:
    """A house that knows acme, and acme itself."""
    house.oauth("acme", hostile.url(), registration_endpoint=hostile.url("/reg"))
    return Acme(hostile)


def begin(house, **changes) -> Login:
    wanted = Wanted(provider="acme", flow=Flow.DCR_PKCE, force=True, variables={}, **changes)
    return house.broker.logins.begin(house.owner, wanted)


def finish(house, login: Login) -> Login:
    assert isinstance(login, AwaitingCallback), login
    query = urlencode({"code": "the-code", "state": login.state.reveal()})
    return house.broker.logins.callback(query, lambda _: login.request.browser_key)


def client_id(login: Login) -> str:
    assert isinstance(login, AwaitingCallback), login
    return login.client_id


def stored(house):
    with house.context.database.read() as reader:
        return clients.get(reader, house.context.sealers.for_vault(house.owner.vault_id), "acme")


def test_one_registration_for_all_logins(house, acme, open_house):
    """Later logins, other connections and a restart use the client that was made first. # SEC-106"""
    assert isinstance(finish(house, begin(house)), Completed)
    assert isinstance(finish(house, begin(house, connection="work")), Completed)
    again = open_house()
    assert client_id(begin(again)) == "client-1"
    assert acme.made == 1
    assert stored(again).registration.endpoint == acme.hostile.url("/reg")


def test_logins_at_once_register_once(house, acme):
    """# SEC-106"""
    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(lambda number: client_id(begin(house, connection=f"c{number}")), range(6)))
    assert (found, acme.made) == ({"client-1"}, 1)


def test_a_registration_that_the_server_forgot(house, acme):
    """A server that can be asked is asked; one new registration takes the place of the lost one. # SEC-106"""
    acme.extra = acme.managed
    assert isinstance(finish(house, begin(house)), Completed)
    acme.known = False
    lost = begin(house)
    assert client_id(lost) == "client-2"
    acme.known = True
    assert isinstance(finish(house, lost), Completed)
    assert client_id(begin(house)) == "client-2"
    assert acme.made == 2


def test_a_client_that_the_token_endpoint_does_not_know(house, acme):
    """`invalid_client` ends that login; the next one registers anew, once. # SEC-106"""
    login = begin(house)
    acme.known = False
    ended = finish(house, login)
    assert isinstance(ended, Failed)
    assert ended.code == "client_refused"
    acme.known = True
    assert client_id(begin(house)) == "client-2"
    assert client_id(begin(house)) == "client-2"


@pytest.mark.parametrize("flow", [Flow.DEVICE_CODE, Flow.CLIENT_CREDENTIALS])
def test_another_client_that_is_refused_costs_no_registration(house, hostile, flow):
    """A login that the registered client does not serve asks for one, and what becomes of that is its own affair."""
    device = {"device_authorization_url": hostile.url("/device"), "client_credentials": True}
    basic = {"token_endpoint_auth_method": "client_secret_post", "client_secret": "optional"}
    house.oauth("acme", hostile.url(), registration_endpoint=hostile.url("/reg"), **basic, **device)
    acme = Acme(hostile)
    acme.extra = {"client_secret": "made-secret"}
    assert isinstance(finish(house, begin(house)), Completed)
    acme.known = False
    other = house.broker.logins.begin(house.owner, Wanted(provider="acme", flow=flow, connection="x", variables={}))
    assert isinstance(other, AwaitingInput)
    fields = {each.name: each.hint for each in house.broker.logins.fields(other)}
    assert ("for logins in a browser" in (fields["client_id"] or "")) is (flow is Flow.DEVICE_CODE)
    given = {"client_id": Secret("theirs"), "client_secret": Secret("no")}
    ended = house.broker.logins.submit(other, given)
    assert isinstance(ended, Failed)
    assert ended.code == "client_refused"
    assert stored(house).client_id == "client-1"


def test_a_login_given_up_at_the_provider(house, acme):
    """Its page may have said that it does not know us: where nothing else can tell, the next login registers anew."""
    house.broker.logins.cancel(house.owner, begin(house).request.id)
    assert client_id(begin(house)) == "client-2"
    assert isinstance(finish(house, begin(house)), Completed)
    house.broker.logins.cancel(house.owner, begin(house).request.id)
    assert client_id(begin(house)) == "client-2"  # something is connected by it, so it is known
    assert acme.made == 2


def test_a_login_given_up_after_its_definition_has_changed(house, acme):
    """Which server's client it went by cannot be said any more: the login ends all the same."""
    login = begin(house)
    house.define(
        {
            "schema_version": 1,
            "name": "acme",
            "api_url": "api.acme.example.localhost",
            "allow_private_addresses": True,
            "variables": {"base_url": {}},
            "oauth": {"authorization_url": acme.hostile.url("/authorize"), "token_url": "{base_url}/token"},
        }
    )
    assert isinstance(house.broker.logins.abandon(login), Failed)


def test_a_secret_that_expires(house, acme):
    """A client whose secret has ended is replaced before it is used. # SEC-105"""
    ends = house.clock() + timedelta(hours=1)
    acme.extra = {
        "client_secret": "made-secret",
        "token_endpoint_auth_method": "client_secret_basic",
        "client_secret_expires_at": int(ends.timestamp()),
    }
    assert isinstance(finish(house, begin(house)), Completed)
    assert acme.hostile.requests[-1].header("Authorization").startswith("Basic ")
    assert client_id(begin(house)) == "client-1"
    house.clock.advance(timedelta(hours=1))
    acme.extra = {}
    assert client_id(begin(house)) == "client-2"


def test_another_endpoint_is_another_server(house, acme, hostile):
    """A client is nobody at a server that did not make it: one is made there, too."""
    assert isinstance(finish(house, begin(house)), Completed)
    with endpoint.serve(endpoint.tokens()) as elsewhere:
        other = Acme(elsewhere)
        house.oauth("acme", hostile.url(), registration_endpoint=elsewhere.url("/reg"))
        assert isinstance(begin(house), AwaitingCallback)
    assert (acme.made, other.made) == (1, 1)


@pytest.mark.parametrize("script", ["html", "empty", "array", "500", "rude error"])
def test_a_registration_that_fails(house, acme, script):
    """The login ends in one line, nothing is stored, and the next one tries again. # SEC-105 # SEC-92 # SEC-97"""
    acme.registers = endpoint.SCRIPTS[script]
    with pytest.raises(Exception, match=r"^127\.0\.0\.1: [^\n\x1b]{1,300}$"):
        begin(house)
    assert stored(house) is None
    acme.registers = None
    assert isinstance(finish(house, begin(house)), Completed)


def test_a_registration_with_another_redirect_uri(house, acme):
    """# SEC-105"""
    acme.extra = {"redirect_uris": ["https://evil.example/cb"]}
    with pytest.raises(EndpointRefused):
        begin(house)
    assert stored(house) is None


def test_without_registration_the_client_is_asked_for(house, hostile):
    """A provider found to register nobody falls back to the form."""
    metadata = {"issuer": hostile.url(""), "authorization_endpoint": hostile.url("/a"), "token_endpoint": hostile.url()}
    hostile.script = endpoint.answer(json.dumps(metadata).encode())
    house.define(definitions.issuer_only(hostile.url("")))
    login = begin(house)
    assert isinstance(login, AwaitingInput)
    assert [each.name for each in house.broker.logins.fields(login)] == ["client_id", "client_secret"]


def test_the_registration_is_sealed(house, acme):
    """Client secret and registration access token are in no byte of the home. # SEC-107 # SEC-126"""
    acme.extra = {**acme.managed, "client_secret": "made-secret", "token_endpoint_auth_method": "client_secret_post"}
    assert isinstance(finish(house, begin(house)), Completed)
    assert stored(house).registration.access_token.reveal() == "manage-it"
    for path in house.home.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [value for value in (b"made-secret", b"manage-it") if value in content], path


@pytest.mark.parametrize(
    ("base_url", "client"),
    [
        ("https://auth.example.com", "https://auth.example.com/auth/client.json"),
        ("http://127.0.0.1:7998", None),
        ("https://localhost:7998", None),
        ("https://auth", None),
        ("https://10.0.0.7", None),
    ],
)
def test_a_document_about_us_as_client_id(base_url, client):
    """Its URL is the client id where the whole world can read it; it says what a registration would."""
    assert registration.document_url(base_url) == client
    if client is not None:
        said = registration.document(base_url, f"{base_url}/auth/callback/oauth")
        assert said["client_id"] == client
        assert said["redirect_uris"] == [f"{base_url}/auth/callback/oauth"]
        assert said["token_endpoint_auth_method"] == "none"


def test_a_login_by_that_document(house, hostile):
    """A server that reads the document registers nobody."""
    house.oauth("acme", hostile.url(), client_id_metadata_document=True, registration_endpoint=hostile.url("/reg"))
    acme = Acme(hostile)
    logins = type(house.broker.logins)(house.context, house.broker.providers, base_url="https://auth.example.com")
    wanted = Wanted(provider="acme", flow=Flow.DCR_PKCE, variables={})
    login = logins.begin(house.owner, wanted)
    assert client_id(login) == "https://auth.example.com/auth/client.json"
    query = urlencode({"code": "the-code", "state": login.state.reveal()})
    assert isinstance(logins.callback(query, lambda _: login.request.browser_key), Completed)
    assert acme.made == 0
    assert "auth.example.com" in stored(house).client_id
    assert client_id(begin(house)) == "client-1"  # a daemon that nobody can reach has to register
