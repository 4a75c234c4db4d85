"""Fills a home whose daemon is stopped: connections of every state, and a long log."""

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

from authsome import clock
from authsome.broker.catalog import Catalog, bundled_directory
from authsome.home import Home, settings_from
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Kind
from authsome.models.provider import Provider
from authsome.secret import Secret
from authsome.vault import connections, principals, vaults
from authsome.vault.columns import from_moment
from authsome.vault.database import Database, Transaction
from authsome.vault.lock import HomeLock
from authsome.vault.vaults import Sealer
from fakes.program import Program

DAYS = 14


@contextmanager
def opened(program: Program) -> Iterator[tuple[Database, Sealer]]:
    """The vault of the owner of a stopped installation."""
    settings = settings_from(program.environment())
    with HomeLock.acquire(Home(program.home)) as lock, closing(Database.open(lock, clock=clock.now)) as database:
        sealers = vaults.unlock(database, settings, clock=clock.now)
        with database.read() as reader:
            owner = principals.owner(reader)
        assert owner is not None
        yield database, sealers.for_vault(owner.vault_id)


def connect(tx: Transaction, sealer: Sealer, provider: Provider, name: str, *, number: int, now: datetime) -> None:
    """A connection; every seventh has ended, every fifth ends soon, every eleventh is invalid."""
    is_oauth = provider.auth_type is Kind.OAUTH2
    renews = is_oauth and number % 7 != 0
    ends = {0: -timedelta(hours=3), 1: timedelta(days=3)}.get(number % 7 if number % 7 == 0 else number % 5)
    made = connections.put(
        tx,
        sealer,
        provider=provider.name,
        name=name,
        kind=provider.auth_type,
        secrets={ACCESS_TOKEN: Secret("a"), REFRESH_TOKEN: Secret("r")} if renews else {ACCESS_TOKEN: Secret("a")},
        scopes=provider.oauth.scopes if provider.oauth else (),
        account=f"ada-{number}@example.org" if number % 3 else None,
        expires_at=now + (ends or timedelta(minutes=50)) if is_oauth or ends else None,
        now=now - timedelta(days=40),
    )
    if number % 11 == 10:
        connections.mark_invalid(tx, made, problem="the refresh token was revoked (invalid_grant)", now=now)


def fill(program: Program, *, number: int, entries: int) -> list[tuple[str, str]]:
    """Connect `number` times, and log `entries` uses over the last days; provider and name of each connection."""
    now, chance = clock.now(), random.Random(1)
    catalog = Catalog(bundled=bundled_directory(), custom=Home(program.home).providers)
    providers = [each.provider for each in catalog.all() if each.provider is not None]
    made = []
    with opened(program) as (database, sealer):
        with database.transaction() as tx:
            for place in range(number):
                provider = providers[place % len(providers)]
                name = "default" if place < len(providers) else f"work-{place // len(providers)}"
                connect(tx, sealer, provider, name, number=place, now=now)
                made.append((provider.name, name))
        begin = now - timedelta(days=DAYS)
        for piece in range(0, entries, 50_000):
            with database.transaction() as tx:
                for place in range(piece, min(piece + 50_000, entries)):
                    provider, name = made[min(chance.randrange(len(made)), chance.randrange(len(made)))]
                    at = begin + timedelta(days=DAYS) * ((place / entries) ** 0.8)
                    tx.execute(
                        "INSERT INTO audit (at, event, vault_id, identity, provider, connection, method, host, path)"
                        " VALUES (?, 'resolve', ?, 'ada-laptop', ?, ?, 'GET', 'api.example.com', '/v1/things')",
                        (from_moment(at), sealer.vault_id, provider, name),
                    )
    return made
