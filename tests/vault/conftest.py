"""A vault for each test: a real database under a fresh home."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from authsome.crypto import aead
from authsome.home import Home
from authsome.models.principal import Principal
from authsome.vault import principals
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from authsome.vault.vaults import Sealer, Sealers

NOW = datetime(2025, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """The moment at which the tests take place."""
    return NOW


@dataclass(frozen=True, kw_only=True)
class Store:
    """An unlocked store and its owner."""

    home: Home
    database: Database
    sealers: Sealers
    owner: Principal

    @property
    def vault_id(self) -> str:
        """The owner's vault."""
        return self.owner.vault_id

    @property
    def sealer(self) -> Sealer:
        """Its sealer."""
        return self.sealers.for_vault(self.owner.vault_id)

    def everything(self) -> bytes:
        """Every byte that lies on disk."""
        return b"".join(path.read_bytes() for path in sorted(self.home.server.iterdir()) if path.is_file())


@pytest.fixture
def paths(home: Path) -> Home:
    """The paths of a home that nothing has made yet."""
    return Home(home)


@pytest.fixture
def lock(paths: Home) -> Iterator[HomeLock]:
    """The lock of a fresh home."""
    with HomeLock.acquire(paths) as held:
        yield held


@pytest.fixture
def open_database(lock: HomeLock) -> Iterator[Callable[..., Database]]:
    """Open the home's database; it is closed after the test at the latest."""
    with ExitStack() as stack:

        def opened(**options: object) -> Database:
            database = Database.open(lock, clock=lambda: NOW, **options)  # type: ignore[arg-type]
            stack.callback(database.close)
            return database

        yield opened


@pytest.fixture
def database(open_database: Callable[..., Database]) -> Database:
    """A fresh database."""
    return open_database()


@pytest.fixture
def store(paths: Home, database: Database) -> Store:
    """A store with an owner, unlocked with a random key (deriving one takes 0.1 s)."""
    sealers = Sealers(database, aead.new_key())
    with database.transaction() as transaction:
        owner = principals.create_owner(transaction, sealers, now=NOW)
    return Store(home=paths, database=database, sealers=sealers, owner=owner)
