"""Definitions are registered whole, on record and by admins; what is removed takes its credentials with it."""

import json
import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.errors import (
    ConnectionExists,
    ConnectionNotFound,
    NotAllowed,
    ProviderExists,
    ProviderInvalid,
    ProviderNotFound,
)
from authsome.models.audit import Event
from authsome.models.connection import Registration
from authsome.models.principal import Caller, Role
from authsome.secret import Secret
from authsome.vault import clients
from broker.conftest import START, House
from fakes import endpoint

LIFETIME = timedelta(hours=1)


def definition(name: str = "acme", **more: object) -> bytes:
    written = {"schema_version": 1, "name": name, "api_url": "api.acme.test", "auth_type": "api_key", "api_key": {}}
    return json.dumps(written | more).encode()


def files(house: House) -> list[str]:
    return sorted(path.name for path in house.home.providers.iterdir()) if house.home.providers.exists() else []


def told(house: House, event: Event) -> list[tuple[str | None, str | None]]:
    return [(each.entry.provider, each.entry.detail) for each in house.events(event)]


@pytest.fixture
def user(house: House) -> Caller:
    """Somebody who is no admin."""
    return replace(house.owner, principal=replace(house.owner.principal, role=Role.USER))


def test_what_is_registered_is_there_and_on_record(house: House):
    """A definition counts at once, in its one spelling, in a private file; the log tells where it sends."""
    review = house.broker.providers.register(house.owner, definition(display_name="Acme Inc."))
    assert (review.source, review.replaced, review.connections) == ("custom", None, ())
    assert house.context.catalog.get("acme") == review.provider
    path = house.context.catalog.custom_path("acme")
    assert path.stat().st_mode & 0o777 == 0o600
    assert house.home.providers.stat().st_mode & 0o777 == 0o700
    assert house.context.catalog.examine(path.read_bytes(), source="acme.json") == review.provider
    assert told(house, Event.REGISTER) == [("acme", "custom: api.acme.test")]


def test_looking_through_changes_nothing(house: House):
    """An examined definition is not there, and not on record."""
    assert house.broker.providers.examine(house.owner, definition()).provider.name == "acme"
    assert files(house) == []
    assert house.events(Event.REGISTER) == []


@pytest.mark.parametrize("name", ["acme", "github"])
def test_a_name_that_is_taken_is_kept(house: House, name: str):
    """Neither a custom nor a bundled provider is replaced without being asked to."""
    house.broker.providers.register(house.owner, definition())
    with pytest.raises(ProviderExists, match=f"named {name} already"):
        house.broker.providers.register(house.owner, definition(name, display_name="Other"))
    with pytest.raises(ProviderExists):
        house.broker.providers.examine(house.owner, definition(name))
    assert house.context.catalog.get(name).display_name != "Other"
    review = house.broker.providers.register(house.owner, definition(name, display_name="Other"), force=True)
    assert review.replaced == ("custom" if name == "acme" else "bundled")
    assert house.context.catalog.get(name).display_name == "Other"


def test_an_override_says_what_it_changes(house: House):
    """Whoever agrees learns which hosts are new, and which credentials would go there."""
    # SEC-111
    house.connect("github", lifetime=LIFETIME, name="work")
    hosts = ["api.github.com", "api.acme.test"]
    review = house.broker.providers.examine(house.owner, definition("github", api_url=hosts), force=True)
    assert (review.source, review.replaced) == ("override", "bundled")
    assert review.new_hosts == ("api.acme.test",)
    assert ([each.name for each in review.connections], review.others) == (["work"], 0)
    stranger = replace(house.owner, principal=replace(house.owner.principal, vault_id="another"))
    review = house.broker.providers.examine(stranger, definition("github", api_url=hosts), force=True)
    assert (review.connections, review.others) == ((), 1)  # of others' credentials how many, and not which


@pytest.mark.parametrize(
    ("token_url", "forgotten"),
    [
        ("https://auth.acme.test/token", False),
        ("https://auth.acme.test/v2/token", False),
        ("https://auth.evil.test/token", True),
    ],
)
def test_a_client_does_not_follow_its_endpoints_elsewhere(house: House, token_url: str, forgotten: bool):  # noqa: FBT001
    """Its secret was given for other hosts: it is said that it goes, and it is gone, in every vault."""
    # SEC-111

    def oauth(url: str) -> bytes:
        endpoints = {"authorization_url": "https://auth.acme.test/authorize", "token_url": url}
        return definition(oauth=endpoints, auth_type="oauth2", api_key=None)

    house.broker.providers.register(house.owner, oauth("https://auth.acme.test/token"))
    with house.context.database.transaction() as tx:
        sealer = house.context.sealers.for_vault(house.owner.vault_id)
        clients.put(tx, sealer, provider="acme", client_id="ours", client_secret=Secret("secret"), now=house.clock())
    reviewed = house.broker.providers.examine(house.owner, oauth(token_url), force=True)
    assert reviewed.forgets_client == forgotten
    house.broker.providers.register(house.owner, oauth(token_url), force=True)
    with house.context.database.read() as reader:
        assert (clients.get(reader, sealer, "acme") is None) == forgotten
    assert ("OAuth client was forgotten" in (told(house, Event.REGISTER)[-1][1] or "")) == forgotten


def test_private_addresses_are_agreed_to(house: House):
    """A definition that may reach this machine is not registered by somebody who may have overlooked that."""
    # SEC-103
    private = definition(allow_private_addresses=True)
    with pytest.raises(NotAllowed, match="allow_private_addresses"):
        house.broker.providers.register(house.owner, private)
    assert files(house) == []
    assert house.broker.providers.register(house.owner, private, allow_private_addresses=True)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "acme.json: is not JSON"),
        (b"\xff\xfe", "acme.json: is not UTF-8"),
        (b'{"name": "acme",}', "line 1, column"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"name": "a", "name": "b"}', "named twice"),
        (b" " * 300_000, "larger than 256 KiB"),
        (b"[]", "not a JSON object"),
        (definition(colour="red"), "no field 'colour'"),
        (definition(schema_version="1"), "schema_version"),
        (definition("../acme"), "name: '../acme' is not a provider name"),
        (definition("g\u0456thub"), "is not a provider name"),  # Cyrillic
        (definition("GitHub"), "is not a provider name"),
        (definition(api_url="api.github.com"), "api_url: api.github.com belongs to the bundled provider github"),
        (definition(api_url="*.github.com"), "belongs to the bundled provider github"),
        (definition(api_url="regex:(a+)+$"), "api_url: 'regex:"),
        (definition(api_url="https://127.0.0.1:7998/"), "api_url"),
        (definition(api_url="https://169.254.169.254/"), "api_url"),
        (definition(api_url="file:///etc/passwd"), "api_url"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_definitions(house: House, data: bytes, problem: str):
    """Each is refused in one line that names the file and the field, and leaves nothing behind."""
    # SEC-110, SEC-103
    with pytest.raises(ProviderInvalid) as caught:
        house.broker.providers.register(house.owner, data, source="acme.json", force=True)
    assert problem in caught.value.message
    assert caught.value.message.startswith("acme.json: ")
    assert caught.value.message.isprintable()
    assert files(house) == []
    assert house.events(Event.REGISTER) == []


def test_only_admins_change_definitions(house: House, user: Caller):
    """A definition counts for everybody, so it is no ordinary principal's to make, look into or drop."""
    house.broker.providers.register(house.owner, definition())
    with pytest.raises(NotAllowed):
        house.broker.providers.register(user, definition("other", api_url="other.test"))
    with pytest.raises(NotAllowed):
        house.broker.providers.examine(user, definition("other", api_url="other.test"))
    with pytest.raises(NotAllowed):
        house.broker.providers.remove(user, "acme", forget=True)
    assert files(house) == ["acme.json"]


def test_what_cannot_be_recorded_does_not_count(house: House):
    """Without its entry in the log a definition does not take its place, nor does one leave it."""
    house.broker.providers.register(house.owner, definition())
    with house.context.database.transaction() as tx:
        tx.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(sqlite3.IntegrityError, match="no room"):
        house.broker.providers.register(house.owner, definition(display_name="Other"), force=True)
    with pytest.raises(sqlite3.IntegrityError, match="no room"):
        house.broker.providers.remove(house.owner, "acme", forget=True)
    assert files(house) == ["acme.json"]
    assert house.context.catalog.get("acme").display_name == "acme"


def test_removing_a_definition(house: House):
    """What is removed is gone, on record, and cannot be removed twice; the bundled one is back from an override."""
    providers = house.broker.providers
    providers.register(house.owner, definition())
    providers.register(house.owner, definition("github"), force=True)
    assert not providers.remove(house.owner, "acme", forget=False).restored
    assert providers.remove(house.owner, "github", forget=False).restored
    assert files(house) == []
    assert house.context.catalog.source("github") == "bundled"
    assert told(house, Event.REMOVE) == [("acme", "custom"), ("github", "override")]
    with pytest.raises(ProviderNotFound):
        providers.remove(house.owner, "acme", forget=False)
    with pytest.raises(NotAllowed, match="bundled"):
        providers.remove(house.owner, "github", forget=True)


def test_a_broken_definition_can_be_removed(house: House):
    """A file that cannot be read as a definition is dropped like any other."""
    house.define({"name": "acme"})
    assert house.broker.providers.remove(house.owner, "acme", forget=False).source == "custom"
    assert files(house) == []


@pytest.mark.parametrize("name", ["acme", "github"])
def test_a_credential_does_not_outlive_its_definition(house: House, name: str):
    """Under another definition it might go elsewhere; so it is kept with the definition, or forgotten with it."""
    providers = house.broker.providers
    providers.register(house.owner, definition(name), force=True)
    house.connect(name, lifetime=LIFETIME)
    house.connect(name, lifetime=LIFETIME, name="work")
    sealer = house.context.sealers.for_vault(house.owner.vault_id)
    with house.context.database.transaction() as tx:
        clients.put(tx, sealer, provider=name, client_id="id", client_secret=Secret("secret"), now=START)
    with pytest.raises(ConnectionExists, match="connected as default, work"):
        providers.remove(house.owner, name, forget=False)
    assert house.stored(name, "work")
    removed = providers.remove(house.owner, name, forget=True)
    assert [each.name for each in removed.forgotten] == ["default", "work"]
    with pytest.raises(ConnectionNotFound if name in house.context.catalog.names() else ProviderNotFound):
        house.stored(name)
    with house.context.database.read() as reader:
        assert clients.get(reader, sealer, name) is None
    assert told(house, Event.LOGOUT) == [(name, "with its provider")] * 2


def test_other_vaults_are_told_of_by_number_only(house: House):
    """Somebody else's connections keep a definition, too, and are not named."""
    house.broker.providers.register(house.owner, definition())
    house.connect("acme", lifetime=LIFETIME, name="theirs")
    stranger = replace(house.owner, principal=replace(house.owner.principal, vault_id="another"))
    with pytest.raises(ConnectionExists) as caught:
        house.broker.providers.remove(stranger, "acme", forget=False)
    assert caught.value.message == "acme is connected by other principals"


def test_a_review_is_of_the_definition(house: House):
    """What is shown before agreeing names every URL and variable that the definition has."""
    oauth = {
        "authorization_url": "https://acme.test/authorize",
        "token_url": "https://acme.test/token",
        "revocation_url": "https://acme.test/revoke",
        "refresh": {"url": "https://refresh.acme.test/token"},
    }
    verify = {"url": "https://api.acme.test/me"}
    data = definition(auth_type="oauth2", oauth=oauth, verify=verify, export={"env": {"ACME_TOKEN": "{access_token}"}})
    provider = house.broker.providers.examine(house.owner, data).provider
    assert set(provider.endpoints) == {
        "https://acme.test/authorize",
        "https://acme.test/token",
        "https://acme.test/revoke",
        "https://refresh.acme.test/token",
        "https://api.acme.test/me",
    }


@pytest.mark.parametrize(
    ("script", "given_back"),
    [
        (endpoint.answer(b"", status=204), True),
        (endpoint.answer(b"{}"), True),
        (endpoint.answer(b"{}", status=401), True),  # it does not know us any more
        (endpoint.answer(b"{}", status=404), True),
        (endpoint.answer(b"{}", status=405), False),
        (endpoint.answer(b"{}", status=500), False),
        (endpoint.redirect("https://evil.test/"), False),
        (endpoint.SCRIPTS["nothing"], False),
    ],
)
def test_a_registration_is_given_back(
    house: House,
    hostile: endpoint.Endpoint,
    script: endpoint.Script,
    given_back: bool,  # noqa: FBT001  # the table's column
):
    """The client that we made at a provider is ended there, too; whatever it answers, the definition is gone here."""
    # SEC-107
    house.oauth("acme", hostile.url("/token"), registration_endpoint=hostile.url("/reg"))
    made = Registration(
        endpoint=hostile.url("/reg"),
        redirect_uri="http://127.0.0.1:7998/auth/callback/oauth",
        method="none",
        secret_expires_at=None,
        management_uri=hostile.url("/reg/1"),
        access_token=Secret("manage-it"),
    )
    sealer = house.context.sealers.for_vault(house.owner.vault_id)
    with house.context.database.transaction() as tx:
        clients.put(
            tx, sealer, provider="acme", client_id="id", client_secret=None, registration=made, now=house.clock()
        )
    hostile.script = script
    assert house.broker.providers.remove(house.owner, "acme", forget=False).unregistered is given_back
    (request,) = hostile.requests
    assert (request.method, request.path) == ("DELETE", "/reg/1")
    assert request.header("authorization") == "Bearer manage-it"
    assert "acme" not in house.context.catalog.names()
    with house.context.database.read() as reader:
        assert clients.get(reader, sealer, "acme") is None


def test_a_client_that_was_made_by_hand_is_only_forgotten(house: House):
    """There is nothing to give back, and nothing is said about it."""
    house.broker.providers.register(house.owner, definition())
    assert house.broker.providers.remove(house.owner, "acme", forget=False).unregistered is None
