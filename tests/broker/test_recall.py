"""What is recalled between requests is what would be read: nothing that changes the vault leaves an old answer behind.

Each act here is one way in which the vault is written; whoever adds another adds it to `ACTS`.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from authsome.broker.credentials import Claimant, Question, Target
from authsome.errors import AuthenticationFailed, AuthsomeError
from authsome.models.audit import Event
from authsome.models.connection import ACCESS_TOKEN
from authsome.secret import Secret
from authsome.vault import connections, identities
from authsome.vault.database import Transaction
from broker.conftest import House
from fakes import endpoint
from fakes.endpoint import Endpoint

HOUR = timedelta(hours=1)
TARGET = Target(method="GET", host="acme.example.localhost", port=443, path="/")
_WRITES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}


@pytest.fixture
def acme(house: House, hostile: Endpoint) -> House:
    """Two logins at acme, one of them about to end at the provider."""
    house.oauth("acme", hostile.url(), revocation_url=hostile.url("/revoke"))
    house.connect("acme", lifetime=HOUR)
    house.connect("acme", lifetime=HOUR, name="work")
    return house


def outcome(house: House) -> tuple[str, ...]:
    """What a request of the owner's gets, as an identity that shows itself anew each time."""

    def admit(tx: Transaction) -> Claimant:
        caller = house.broker.identities.caller(tx, "owner")
        if caller is None:
            raise AuthenticationFailed
        return Claimant(caller=caller)

    try:
        found = house.broker.credentials.resolve(Question(admit=admit, target=TARGET, rejected=False))
    except AuthsomeError as error:
        return (error.code, error.message)
    return (found.connection.name, *(value.reveal() for _, value in found.injected.headers))


def warm(house: House) -> tuple[str, ...]:
    """The same, twice, so that all of it is remembered."""
    first = outcome(house)
    assert outcome(house) == first
    assert {key[0] for key in house.context.database._writer._known} == {"caller", "address", "sealed"}
    return first


def logged_out(house: House, _: Endpoint) -> None:
    house.broker.credentials.logout(house.owner, "acme", "default")


def another_default(house: House, _: Endpoint) -> None:
    house.broker.credentials.set_default(house.owner, "acme", "work")


def revoked(house: House, hostile: Endpoint) -> None:
    hostile.script = endpoint.answer(b"")
    house.broker.revocations.revoke(house.owner, "acme", "default")


def revoked_in_vain(house: House, hostile: Endpoint) -> None:
    hostile.script = endpoint.answer(b"", status=503)
    with suppress(AuthsomeError):
        house.broker.revocations.revoke(house.owner, "acme", None)


def refreshed(house: House, hostile: Endpoint) -> None:
    hostile.script = endpoint.tokens(access_token="new-access", refresh_token="new-refresh", expires_in=7200)
    house.clock.advance(HOUR)
    house.steady.seconds += HOUR.total_seconds()
    house.broker.credentials.reveal(house.owner, "acme", "default", Event.EXPORT)


def refused(house: House, hostile: Endpoint) -> None:
    hostile.script = endpoint.answer(b'{"error": "invalid_grant"}', status=400)
    house.clock.advance(HOUR)
    house.steady.seconds += HOUR.total_seconds()
    with suppress(AuthsomeError):
        house.broker.credentials.reveal(house.owner, "acme", "default", Event.EXPORT)


def logged_in_anew(house: House, _: Endpoint) -> None:
    sealer = house.context.sealers.for_vault(house.owner.vault_id)
    stored = house.stored("acme")
    with house.context.database.transaction(durable=False) as tx:
        connections.put(
            tx, sealer, provider="acme", name="default", kind=stored.kind,
            secrets={ACCESS_TOKEN: Secret("quite-another")}, scopes=(), expires_at=None, now=house.clock(),
        )  # fmt: skip


def identity_revoked(house: House, _: Endpoint) -> None:
    with house.context.database.transaction(durable=False) as tx:
        assert identities.revoke(tx, handle="owner", now=house.clock())


def provider_removed(house: House, _: Endpoint) -> None:
    house.broker.providers.remove(house.owner, "acme", forget=True)


def deleted_by_another_program(house: House, _: Endpoint) -> None:
    other = sqlite3.connect(house.context.database.path)
    with other:
        other.execute("PRAGMA foreign_keys = ON")
        other.execute("DELETE FROM connections WHERE name = 'default'")
    other.close()


ACTS: list[Callable[[House, Endpoint], None]] = [
    logged_out,
    another_default,
    revoked,
    revoked_in_vain,
    refreshed,
    refused,
    logged_in_anew,
    identity_revoked,
    provider_removed,
    deleted_by_another_program,
]
_CHANGES_NOTHING = {revoked_in_vain}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_nothing_is_recalled_that_has_changed(acme: House, hostile: Endpoint, act: Callable[[House, Endpoint], None]):
    """The first request after an act gets what it would get with no memory at all; and not what was there before."""
    # SEC-17 # SEC-169
    before = warm(acme)
    act(acme, hostile)
    after = outcome(acme)
    acme.context.database._writer._known.clear()
    assert after == outcome(acme)
    assert (after == before) is (act in _CHANGES_NOTHING)


def test_a_request_writes_only_what_nobody_recalls(acme: House):
    """What runs under `combined`, whose memory outlives it, changes the log and nothing else, and recalls neither."""
    written: set[str] = set()
    read: set[str] = set()

    def note(action: int, table: str | None, *_: object) -> int:
        if action in _WRITES:
            written.add(str(table))
        elif action == sqlite3.SQLITE_READ:
            read.add(str(table))
        return sqlite3.SQLITE_OK

    connection = acme.context.database._writer._connection
    connection.set_authorizer(note)
    warm(acme)
    with acme.context.database.transaction(durable=False):
        pass
    outcome(acme)
    connection.set_authorizer(None)
    assert written == {"audit"}
    assert {"connections", "secrets", "identities", "principals"} <= read
    # the log's end is read each time, and never recalled
    assert not any("audit" in str(key) for key in acme.context.database._writer._known)
