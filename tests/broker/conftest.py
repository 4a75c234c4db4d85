"""A broker for each test: a real vault, real definitions, real connections to servers on loopback."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authsome import transport
from authsome.address import AddressPolicy
from authsome.broker.broker import Broker
from authsome.broker.catalog import Catalog, bundled_directory
from authsome.broker.context import Context
from authsome.broker.logins import Wanted
from authsome.crypto import aead
from authsome.errors import EndpointUnreachable
from authsome.home import Home, make_private_directory
from authsome.message import HttpRequest, HttpResponse
from authsome.models.audit import Event, Recorded
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Connection, Kind
from authsome.models.login import Login
from authsome.models.notice import Notice
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.transport import Trust
from authsome.vault import audit, connections, identities, principals
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from authsome.vault.vaults import Sealers
from fakes import endpoint
from fakes.authority import Authority

START = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
BASE_URL = "http://127.0.0.1:7998"


@dataclass
class SetClock:
    """A clock that the test sets."""

    moment: datetime = START

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by


@dataclass
class SetSteady:
    """A clock that nobody sets, as far as the code can tell: it stands still but for the test."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Held:
    """An answer that is kept back."""

    asked: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Wait until somebody has asked."""
        assert self.asked.wait(60), "nobody asked"

    def release(self) -> None:
        """Answer."""
        self.go_on.set()


@dataclass(frozen=True, kw_only=True)
class House:
    """A broker and its owner, with what tests do to them."""

    home: Home
    clock: SetClock
    steady: SetSteady
    context: Context
    broker: Broker
    owner: Caller
    sent: list[str] = field(default_factory=list)
    detour: list[str] = field(default_factory=list)
    """When there is one, every request goes below this URL instead: https://HOST/PATH to DETOUR/HOST/PATH."""
    notices: list[Notice] = field(default_factory=list)

    def define(self, definition: Mapping[str, object]) -> None:
        """Put a custom definition where a user would."""
        make_private_directory(self.home.providers)
        (self.home.providers / f"{definition['name']}.json").write_text(json.dumps(definition))

    def oauth(self, name: str, token_url: str, **oauth: object) -> None:
        """Define an OAuth provider whose token endpoint is the given one."""
        self.define(
            {
                "schema_version": 1,
                "name": name,
                "auth_type": "oauth2",
                "api_url": f"https://{name}.example.localhost",
                "allow_private_addresses": True,
                "oauth": {
                    "authorization_url": token_url.replace("/token", "/authorize"),
                    "token_url": token_url,
                    "scopes": ["read"],
                    "token_endpoint_auth_method": "none",
                    **oauth,
                },
            }
        )

    def connect(self, provider: str, *, lifetime: timedelta | None, name: str = "default") -> Connection:
        """Store an OAuth connection as a finished login would."""
        sealer = self.context.sealers.for_vault(self.owner.vault_id)
        with self.context.database.transaction() as tx:
            return connections.put(
                tx,
                sealer,
                provider=provider,
                name=name,
                kind=Kind.OAUTH2,
                secrets={ACCESS_TOKEN: Secret("old-access"), REFRESH_TOKEN: Secret("old-refresh")},
                scopes=("read",),
                expires_at=self.clock() + lifetime if lifetime is not None else None,
                now=self.clock(),
            )

    def key(self, provider: str, key: str, *, name: str = "default") -> Login:
        """Log in with an API key."""
        login = self.broker.logins.begin(self.owner, Wanted(provider=provider, connection=name, variables={}))
        return self.broker.logins.submit(login, {"api_key": Secret(key)})

    def stored(self, provider: str, name: str = "default") -> Connection:
        """The connection as it is stored now."""
        return self.broker.credentials.get(self.owner, provider, name)

    def secrets(self, provider: str, name: str = "default") -> dict[str, str]:
        """Its secrets in clear."""
        with self.context.database.read() as reader:
            sealer = self.context.sealers.for_vault(self.owner.vault_id)
            held = connections.secrets(reader, sealer, self.stored(provider, name))
        return {field: value.reveal() for field, value in held.items()}

    def events(self, event: Event | None = None) -> list[Recorded]:
        """The log, oldest first."""
        with self.context.database.read() as reader:
            found = audit.page(reader, None, audit.Filter(event=event), limit=1000)
        return found[::-1]


@pytest.fixture
def open_house(home: Path, authority: Authority) -> Iterator[Callable[[], House]]:
    """Opens a house on the test's home; opened again it is the same one after a restart."""
    clock, steady = SetClock(), SetSteady()
    key = aead.new_key()
    trust = Trust(authority.certificate)
    with ExitStack() as stack:
        previous = ExitStack()

        def opened() -> House:
            previous.close()
            held = Home(home)
            lock = previous.enter_context(HomeLock.acquire(held))
            database = Database.open(lock, clock=clock)
            previous.callback(database.close)
            sent: list[str] = []
            detour: list[str] = []
            notices: list[Notice] = []

            def send(request: HttpRequest, allow_private: bool) -> HttpResponse:  # noqa: FBT001
                sent.append(request.url)
                if detour:
                    request = request._replace(url=f"{detour[-1]}/{request.url.removeprefix('https://')}")
                    allow_private = True
                host = request.url.split("/")[2].partition(":")[0]
                if not host.endswith("localhost") and host != "127.0.0.1":
                    raise EndpointUnreachable(f"{host}: tests stay on this machine")
                return transport.send(
                    request,
                    policy=AddressPolicy(allow_private=allow_private),
                    trust=trust,
                    timeout=timedelta(seconds=3),
                )

            context = Context(
                database=database,
                sealers=Sealers(database, key),
                catalog=Catalog(bundled=bundled_directory(), custom=held.providers),
                clock=clock,
                send=send,
                steady=steady,
                notify=notices.append,
            )
            broker = Broker(context, held, base_url=BASE_URL)
            previous.callback(broker.logins.close)
            return House(
                home=held,
                clock=clock,
                steady=steady,
                context=context,
                broker=broker,
                owner=_owner(context),
                sent=sent,
                detour=detour,
                notices=notices,
            )

        stack.callback(previous.close)
        yield opened


@pytest.fixture
def no_threads() -> Callable[[], AbstractContextManager[None]]:
    """While its context lasts the system has no thread to give: each would take more memory than there is."""

    @contextmanager
    def lacking() -> Iterator[None]:
        before = threading.stack_size(1 << 46)
        try:
            yield
        finally:
            threading.stack_size(before)

    return lacking


@pytest.fixture
def house(open_house: Callable[[], House]) -> House:
    """A broker with an owner."""
    return open_house()


@pytest.fixture
def hold_back() -> Callable[..., AbstractContextManager[Held]]:
    """Has an endpoint keep its token answer back until `release`."""

    @contextmanager
    def holding(hostile: endpoint.Endpoint, **changes: object) -> Iterator[Held]:
        held = Held()

        def script() -> Iterator[bytes | float]:
            held.asked.set()
            held.go_on.wait(60)
            yield from endpoint.tokens(**changes)()

        hostile.script = script
        yield held
        held.release()

    return holding


def _owner(context: Context) -> Caller:
    with context.database.transaction() as tx:
        if identities.by_handle(tx, "owner") is None:
            owner = principals.create_owner(tx, context.sealers, now=START)
            identities.add(tx, handle="owner", did="did:key:zOwner", now=START)
            identities.claim(tx, handle="owner", principal_id=owner.id)
        identity, principal = identities.caller(tx, "owner") or (None, None)
    assert identity is not None
    assert principal is not None
    return Caller(identity=identity, principal=principal)
