"""A home without its daemon: opened, and filled with a long log."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import ours

from authsome.home import settings_from
from authsome.models.audit import Entry
from authsome.vault import audit, chain, vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from authsome.vault.vaults import Sealers

LONG = 1_000_000
"""Entries of a long log."""
_BATCH = 1000


def home_of(installation: ours.Ours) -> Path:
    """Where an installation keeps everything."""
    return installation.directory / ".authsome"


@contextmanager
def opened(home: Path) -> Iterator[tuple[Database, Sealers]]:
    """The vault of a home whose daemon is stopped."""
    settings = settings_from({"AUTHSOME_HOME": str(home)})

    def now() -> datetime:
        return datetime.now(UTC)

    with HomeLock.acquire(settings.home) as lock:
        database = Database.open(lock, clock=now)
        sealers = vaults.unlock(database, settings, clock=now)
        chain.begin(database, settings.home, sealers, now=now())
        try:
            yield database, sealers
        finally:
            chain.close(database, now=now())
            database.close()


def log(database: Database, entries: Iterable[Entry]) -> None:
    """Append entries, some at a time, each with its hash and seal."""
    waiting = iter(entries)
    while batch := list(islice(waiting, _BATCH)):
        with database.transaction(durable=False) as tx:
            for entry in batch:
                audit.append(tx, entry)
