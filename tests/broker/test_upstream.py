"""What a home of upstream's holds is taken over once, onto nothing that is here, and is on record."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from authsome.broker.upstream import Item, Report
from authsome.errors import ConnectionNotFound, NotAllowed
from authsome.models.audit import Event
from authsome.models.connection import Kind, Status
from authsome.models.principal import Role
from authsome.secret import Secret
from authsome.vault import clients, connections
from broker.conftest import START, House
from fakes import endpoint
from vault.upstream_homes import RELEASES, unpack

Import = Callable[..., dict[str, Item]]


def by_name(report: Report) -> dict[str, Item]:
    return {" ".join(filter(None, (each.what, each.provider, each.name))): each for each in report.items}


@pytest.fixture
def take(house: House) -> Callable[..., dict[str, Item]]:
    """Import a home, and say of each thing what became of it."""

    def run(there: Path, *, force: bool = False, rehearse: bool = False) -> dict[str, Item]:
        report = house.broker.upstream.run(house.owner, there, master_key_file=None, force=force, rehearse=rehearse)
        return by_name(report)

    return run


@pytest.fixture(params=RELEASES)
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpack(request.param, tmp_path)


def client(house: House, provider: str) -> str | None:
    with house.context.database.read() as reader:
        found = clients.get(reader, house.context.sealers.for_vault(house.owner.vault_id), provider)
    return found.client_id if found else None


def put(house: House, provider: str, name: str = "default", **more: object) -> None:
    sealer = house.context.sealers.for_vault(house.owner.vault_id)
    held = {"api_key": Secret("already here")}
    with house.context.database.transaction() as tx:
        connections.put(tx, sealer, provider=provider, name=name, kind=Kind.API_KEY, secrets=held, now=START, **more)


def test_nobody_has_to_log_in_again(house: House, there: Path, take: Import):
    """Keys, tokens, expiry, scopes, account, default, base URL, client and definition are here as they were there."""
    items = take(there)
    assert {name for name, item in items.items() if item.outcome == "imported"} >= {
        "definition acme",
        "client github",
        "client linear",
        "connection acme default",
        "connection github default",
        "connection gitlab expired",
        "connection gitlab own",
        "connection openai default",
        "connection openai work",
    }
    assert house.secrets("github") == {
        "access_token": "github-default-access",
        "refresh_token": "github-default-refresh",
    }
    github = house.stored("github")
    assert (github.kind, github.account, github.scopes) == (Kind.OAUTH2, "octocat", ("repo", "read:user"))
    assert github.expires_at is not None
    assert github.expires_at.year == 2099
    assert github.status_at(house.clock()) is Status.CONNECTED
    assert house.stored("gitlab", "own").variables == {"base_url": "https://gitlab.example.com"}
    assert house.stored("gitlab", "expired").variables == {"base_url": "https://gitlab.com"}
    assert house.secrets("openai", "-") == {"api_key": "sk-proj-fixture000000000000000000000work"}
    assert (client(house, "github"), client(house, "linear")) == ("github-client", "linear-client")
    assert house.context.catalog.source("acme") == "custom"
    assert house.secrets("acme") == {"api_key": "acme-fixture-key"}


def test_what_is_taken_over_is_kept_fresh(house: House, there: Path, take: Import, hostile: endpoint.Endpoint):
    """A token that has expired meanwhile is refreshed, with the refresh token and the client that came along."""
    take(there)
    oauth = {"authorization_url": hostile.url("/authorize"), "token_url": hostile.url("/token")}
    house.define(
        {
            "schema_version": 1,
            "name": "github",
            "api_url": "https://github.example.localhost",
            "allow_private_addresses": True,
            "oauth": oauth,
        }
    )
    house.clock.moment = datetime(2100, 1, 1, tzinfo=UTC)
    found = house.broker.credentials.reveal(house.owner, "github", "default", Event.EXPORT)
    assert found.fields["access_token"] == Secret("an-access-token")
    (request,) = hostile.requests
    sent = dict(parse_qsl(request.body.decode()))
    assert sent["refresh_token"] == "github-default-refresh"
    assert (sent["client_id"], sent["client_secret"]) == ("github-client", "github-client-secret")


def test_what_is_left_out_is_said(house: House, there: Path, take: Import):
    """A definition that would send to others' hosts, a credential that was revoked, a provider that is not here."""
    items = take(there)
    left = {name: item.reason for name, item in items.items() if item.outcome == "left out"}
    assert set(left) == {"definition wide", "connection slack gone", "connection nowhere default"}
    assert "regex:.*wide.*" in left["definition wide"]
    assert left["connection slack gone"] == "upstream says that it is revoked"
    assert (
        left["connection nowhere default"] == "there is no provider named nowhere here; register it, then import again"
    )
    with pytest.raises(ConnectionNotFound):
        house.stored("slack", "gone")


def test_a_rehearsal_changes_nothing(house: House, there: Path, take: Import):
    """What would be done is what is then done."""
    rehearsed = take(there, rehearse=True)
    assert house.broker.credentials.list_all(house.owner) == []
    assert client(house, "github") is None
    assert "acme" not in house.context.catalog.names()
    assert house.events() == []
    assert take(there) == rehearsed


def test_a_second_import_changes_nothing(house: House, there: Path, take: Import):
    """Everything is there already, and nothing is on record again."""
    take(there)
    before, known = house.broker.credentials.list_all(house.owner), len(house.events())
    for force in (False, True):
        again = take(there, force=force)
        kept = {name: item for name, item in again.items() if item.outcome != "left out"}
        assert {item.reason for item in kept.values()} == {"it is here already"}
    assert house.broker.credentials.list_all(house.owner) == before
    assert len(house.events()) == known


def test_what_is_here_is_kept(house: House, there: Path, take: Import):
    """Neither a connection nor its default nor a client is overwritten unless that is asked for."""
    put(house, "openai", "mine")
    put(house, "openai", "default")
    with house.context.database.transaction() as tx:
        sealer = house.context.sealers.for_vault(house.owner.vault_id)
        clients.put(tx, sealer, provider="github", client_id="mine", client_secret=None, now=START)
    items = take(there)
    assert items["connection openai default"].outcome == "kept"
    assert "--force" in items["connection openai default"].reason
    assert items["client github"].outcome == "kept"
    assert house.secrets("openai") == {"api_key": "already here"}
    assert house.stored("openai", "-").name == "mine"
    assert client(house, "github") == "mine"
    forced = take(there, force=True)
    assert forced["connection openai default"].outcome == "imported"
    assert house.secrets("openai")["api_key"].endswith("default")
    assert house.stored("openai", "-").name == "mine"
    assert client(house, "github") == "github-client"


def test_a_client_with_another_secret_is_another_client(house: House, there: Path, take: Import):
    """Its id is the same, as after a secret was changed at the provider: it is kept as it is, or overwritten."""
    sealer = house.context.sealers.for_vault(house.owner.vault_id)
    with house.context.database.transaction() as tx:
        clients.put(tx, sealer, provider="github", client_id="github-client", client_secret=Secret("old"), now=START)
    kept = take(there)["client github"]
    assert (kept.outcome, "--force" in kept.reason) == ("kept", True)
    assert take(there, force=True)["client github"].outcome == "imported"
    with house.context.database.read() as reader:
        stored = clients.get(reader, sealer, "github")
    assert stored is not None
    assert stored.client_secret == Secret("github-client-secret")


def test_a_credential_goes_under_its_own_definition(house: House, there: Path, take: Import):
    """Where another definition has the name, the key that was got by the home's own is not given to it."""
    # SEC-111
    other = {"schema_version": 1, "name": "acme", "api_url": "other.example", "auth_type": "api_key", "api_key": {}}
    house.broker.providers.register(house.owner, json.dumps(other).encode())
    items = take(there)
    assert items["definition acme"].outcome == "kept"
    assert items["connection acme default"].outcome == "left out"
    assert "its definition was kept as it is here" in items["connection acme default"].reason
    with pytest.raises(ConnectionNotFound):
        house.stored("acme")
    forced = take(there, force=True)
    assert forced["definition acme"].outcome == "imported"
    assert house.context.catalog.get("acme").api_url == ("api.acme.example",)
    assert house.secrets("acme") == {"api_key": "acme-fixture-key"}


def test_other_identities_connections_have_names_of_their_own(house: House, tmp_path: Path, take: Import):
    """In 0.3 every identity has its connections; those of the active one keep their names."""
    items = take(unpack("0.3.1", tmp_path))
    name = "default.calm-boldly-clearly-5678"
    assert items[f"connection openai {name}"].outcome == "imported"
    assert house.secrets("openai", name) == {"api_key": "sk-proj-fixture0000000000000000000other"}
    assert house.secrets("stripe") == {"api_key": "sk_test_other"}


def test_other_principals_connections_stay_where_they_are(house: House, tmp_path: Path):
    """In 0.7 a vault is its principal's."""
    there = unpack("0.7.2", tmp_path)
    report = house.broker.upstream.run(house.owner, there, master_key_file=None, force=False, rehearse=False)
    assert report.foreign == 2
    assert not any(item.provider == "stripe" for item in report.items)


def test_every_import_is_on_record(house: House, there: Path, take: Import):
    """One entry for each connection and each client, in the transaction that stores it."""
    items = take(there)
    entries = house.events(Event.IMPORT)
    count = sum(item.outcome == "imported" and item.what != "definition" for item in items.values())
    assert len(entries) == count
    assert {each.entry.identity for each in entries} == {"owner"}
    assert any((each.entry.provider, each.entry.connection) == ("github", "default") for each in entries)
    assert "fixture" not in repr(entries)
    assert [each.entry.provider for each in house.events(Event.REGISTER)] == ["acme"]


def test_only_admins_have_homes_read(house: House, there: Path):
    """The daemon may read what the caller may not."""
    user = replace(house.owner, principal=replace(house.owner.principal, role=Role.USER))
    with pytest.raises(NotAllowed):
        house.broker.upstream.run(user, there, master_key_file=None, force=False, rehearse=True)
