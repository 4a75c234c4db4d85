"""What a page weighs, however much there is of everything: its size, and how often it asks the database.

How long one takes is measured by `tests/bench --only pages`, where nobody else works.
"""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event as Signal
from urllib.parse import urlencode

import pytest

from authsome import clock
from authsome.broker.broker import Broker
from authsome.broker.catalog import Catalog, bundled_directory
from authsome.broker.context import Context
from authsome.clock import Clock
from authsome.daemon.api import Api
from authsome.daemon.api.system import Nameplate
from authsome.daemon.authentication import Audiences
from authsome.daemon.dashboard import bridge, entrance, providers
from authsome.daemon.messages import Request
from authsome.home import Home, settings_from
from authsome.message import HttpResponse
from authsome.models.audit import Entry, Event
from authsome.models.connection import ACCESS_TOKEN, HONEYTOKEN, Kind
from authsome.models.principal import Principal
from authsome.models.visit import Browser, Way
from authsome.secret import Secret
from authsome.vault import audit, connections, principals, vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from dashboard import crowd

URL = "http://127.0.0.1:7998"
WORST = '"<é' * 30
"""Characters that take most of a page's bytes."""
MOST_BYTES = 50_000
MOST_STATEMENTS = 24
FEW = crowd.Crowd(identities=3, principals=3, claims=1, invitations=1, runs=2, sessions=2, definitions=2)
MANY = crowd.Crowd(identities=150, principals=150, claims=50, invitations=60, runs=60, sessions=60, definitions=30)

PAGES = (
    "/ui/",
    "/ui/connections",
    "/ui/connections?q=o&page=2",
    f"/ui/connections?q={'%22' * 1300}",
    "/ui/connections?state=attention",
    "/ui/connections?state=honeytoken",
    "/ui/connections/ahrefs/default",
    f"/ui/connections/{crowd.name(0)}/default",
    "/ui/apps",
    "/ui/apps?q=own",
    "/ui/apps?state=custom",
    "/ui/apps/ahrefs",
    f"/ui/apps/{crowd.name(0)}",
    "/ui/runs",
    "/ui/runs?page=2",
    "/ui/identities",
    "/ui/identities?page=2",
    "/ui/identities?whose=all",
    f"/ui/identities/{crowd.handle(2)}",
    "/ui/settings",
    "/ui/settings?page=2",
    "/ui/settings/principals",
    "/ui/settings/principals?page=2",
    "/ui/settings/providers",
    "/ui/settings/providers?page=2",
    "/audit",
    "/audit?before=600",
    "/audit?provider=ahrefs",
    "/audit?event=login_failed",
    f"/audit?provider={'%22' * 1300}",
    f"/claim/{crowd.asking(0)}",
)


HOSTS = [f"a{place:02}.{'h' * 60}.{'h' * 60}.{'h' * 60}.example" for place in range(60)]
LARGE = json.dumps({"schema_version": 1, "name": "ahrefs", "api_url": HOSTS, "api_key": {}, "description": "<w>" * 200})
"""A definition that takes the place of one by which much is connected; nearly as long as a page shows."""

TYPED = '"' * 20_000
"""Nearly as long as a form may be, and no list of patterns."""

FORMS = (
    ("/ui/settings/providers", "/review", {"definition": LARGE}, 200),
    ("/ui/settings/providers", "/review", {"definition": LARGE.replace('"name"', '"nome"')}, 422),
    ("/ui/settings/providers", "/by-key", {**dict.fromkeys(providers.FIELDS, WORST), "placing": "bearer"}, 422),
    ("/ui/settings/principals", "/invitations", {"email": WORST, "role": "user"}, 400),
    ("/ui/settings/principals", "/programs", {"name": WORST, "role": "user"}, 400),
    (f"/ui/identities/{crowd.handle(2)}", "/limits", {"connections": TYPED, "hours": ""}, 400),
    (f"/ui/apps/{crowd.name(0)}", "/connect", {"connection": WORST, "scopes": " ".join([WORST] * 20)}, 400),
    (f"/claim/{crowd.asking(0)}", "/confirm", {"connections": TYPED, "hours": ""}, 400),
)
"""What is typed in vain, and what a page shows of it: the page, the end of the form's address, fields, status."""

LONG = bridge.InputForm(
    provider=WORST * 20,
    fields=tuple(
        bridge.FormField(name=f"{place}".ljust(64, "f"), label=WORST * 20, secret=True, required=False, hint=WORST * 20)
        for place in range(8)
    ),
    action="/auth/sessions/login/input",
    form_token="t" * 100,
    cancel_action="/auth/sessions/login/abandon",
    problem=WORST * 20,
    docs_url="https://docs.example/?" + "&" * 2000,
    redirect_uri="https://" + "u" * 253 + "/auth/callback/oauth",
    hosts=("h" * 253,) * 256,
)
CODE = bridge.DeviceCode(
    provider=WORST * 20,
    user_code='"' * 40,
    verification_uri="https://" + '"' * 1016,
    verification_uri_complete="https://" + '"' * 1016,
    form_token="t" * 100,
    cancel_action="/auth/sessions/login/abandon",
    hosts=("h" * 253,) * 256,
)
DONE = bridge.Done(connection="n" * 64, account=WORST * 60, unverified=WORST * 60, unnamed=WORST * 60)
CARDS = {
    "key": bridge.input_page(replace(LONG, redirect_uri=None)),
    "client": bridge.input_page(LONG),
    "device": bridge.device_page(CODE, events="/auth/sessions/login/events"),
    "waiting": bridge.waiting_page(WORST * 20, events="/auth/sessions/login/events"),
    "onward": bridge.onward_page(WORST * 20, "https://login.example/?" + "&" * 2000, hosts=("h" * 253,) * 256),
    "done": bridge.done_page(WORST * 20, DONE),
    "failed": bridge.failed_page(WORST * 20, WORST * 20, WORST * 20, back="/ui/apps/" + "n" * 64),
    "error": bridge.error_page(500, WORST * 20, WORST * 20),
    "expired": bridge.expired_page(),
    "locked": bridge.locked_page(is_new=False),
    "sign in": entrance.sign_in_page("t" * 100, onward="/ui/", email="e" * 254, problem=WORST * 20),
    "enter": entrance.enter_page("t" * 100, WORST, by_itself=True),
    "first": entrance.first_page("t" * 100, email="e" * 254, name=WORST, problem=WORST * 20),
    "join": entrance.join_page("t" * 100, action="/ui/join/" + "j" * 43, email="e" * 254, name=WORST, problem=WORST),
}
"""The pages that are one card, with the longest of everything that others say."""


@dataclass(frozen=True, slots=True)
class House:
    """The daemon's pages, in this process, and a browser that is signed in."""

    api: Api
    cookie: str
    statements: list[str]
    """What the database was asked since the last page."""

    def get(self, page: str) -> tuple[int, str]:
        """Status and content of a page."""
        self.statements.clear()
        return self._ask("GET", page, {}, b"")

    def post(self, page: str, end: str, fields: dict[str, str]) -> tuple[int, str]:
        """Status and content of what a page's form is answered."""
        form = r'<form method="post" action="([^"]*)"[^>]*>\s*<input type="hidden" name="form_token" value="([^"]+)">'
        _, shown = self.get(page)
        action, token = next((path, token) for path, token in re.findall(form, shown) if path.endswith(end))
        headers = {"content-type": ("application/x-www-form-urlencoded",), "origin": (URL,)}
        return self._ask("POST", action, headers, urlencode({"form_token": token, **fields}).encode())

    def _ask(self, method: str, target: str, headers: dict[str, tuple[str, ...]], body: bytes) -> tuple[int, str]:
        path, _, query = target.partition("?")
        answer = self.api.handle(
            Request(
                method=method,
                path=path,
                query=query,
                target=target,
                headers={"cookie": (self.cookie,), **headers},
                body=body,
                peer="127.0.0.1",
                received_over=URL,
                stopping=Signal(),
            )
        )
        return answer.status, answer.body.decode()


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, House]]:
    """One with little of everything, one with much."""
    statements: list[str] = []
    connect = sqlite3.connect

    def watched(*args: object, **options: object) -> sqlite3.Connection:
        connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.append)
        return connection

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", watched)

        def house(number: int, entries: int, people: crowd.Crowd) -> House:
            home = Home(tmp_path_factory.mktemp("weight") / "home")
            database = Database.open(stack.enter_context(HomeLock.acquire(home)), clock=clock.now)
            stack.enter_context(closing(database))
            made = furnished(home, database, statements, number=number, entries=entries, people=people)
            stack.callback(made.api.close)
            return made

        yield house(12, 12, FEW), house(1000, 2500, MANY)


def furnished(
    home: Home,
    database: Database,
    statements: list[str],
    *,
    number: int,
    entries: int,
    people: crowd.Crowd,
    time: Clock = clock.now,
) -> House:
    """A daemon's insides above a new vault with so much in it."""
    crowd.define(home.providers, people)
    sealers = vaults.unlock(database, settings_from({"AUTHSOME_HOME": str(home.root)}), clock=clock.now)
    catalog = Catalog(bundled=bundled_directory(), custom=home.providers)
    context = Context(database=database, sealers=sealers, catalog=catalog, clock=time, send=nowhere)
    broker = Broker(context, home, base_url=URL)
    with database.transaction() as tx:
        owner = principals.create_owner(tx, sealers, now=clock.now())
        opened = broker.dashboard_sessions.open(tx, owner, Way.PASSWORD, Browser(name="Chrome", address="127.0.0.1"))
    crowd.fill(database, sealers, owner, people, now=clock.now())
    connect(broker, owner, number)
    with database.transaction(durable=False) as tx:
        for place in range(entries):
            audit.append(tx, use(owner, place, entries))
    broker.usage.count_up()
    nameplate = Nameplate(url=URL, build="", home=str(home.root))
    api = Api(
        broker,
        audiences=Audiences(frozenset({URL}), None),
        nameplate=nameplate,
        stop=nothing,
        step_aside=nothing,
        most_streams=1,
    )
    return House(api, f"authsome_session={opened.key.reveal()}", statements)


def connect(broker: Broker, owner: Principal, number: int) -> None:
    """Connect as often, half of it to one provider, and everything with names as long as they get."""
    context, now = broker.context, clock.now()
    providers = [each.provider for each in context.catalog.all() if each.provider is not None]
    chosen = [context.catalog.get("ahrefs"), context.catalog.get(crowd.name(0)), *providers]
    sealer = context.sealers.for_vault(owner.vault_id)
    with context.database.transaction() as tx:
        for place in range(number):
            provider = chosen[place // 2 % len(chosen)] if place % 2 == 0 else chosen[0]
            name = "default" if place < 3 else f"work-{place}-".ljust(crowd.LONG, "n")
            made = connections.put(
                tx, sealer, provider=provider.name, name=name, kind=Kind.OAUTH2, secrets={ACCESS_TOKEN: Secret("a")},
                scopes=tuple(f"scope-{each}-{WORST}" for each in range(200 if place < 3 else 1)), account=WORST * 2,
                now=now, expires_at=now + timedelta(days=3), variables={f"v{each}": WORST for each in range(64)},
                flow=HONEYTOKEN if place % 4 == 3 else None,
            )  # fmt: skip
            if place % 3 == 0:
                connections.mark_invalid(tx, made, problem=WORST * 10, now=now)


def use(owner: Principal, place: int, entries: int) -> Entry:
    """An entry of the log, with the longest of everything."""
    return Entry(
        event={0: Event.LOGIN_FAILED, 5: Event.HONEYTOKEN}.get(place % 10, Event.RESOLVE),
        at=clock.now() - timedelta(seconds=entries - place),
        vault_id=owner.vault_id, principal=owner.id, identity=crowd.handle(place % 3),
        provider="ahrefs" if place % 2 else crowd.name(0), connection=f"work-{place}-".ljust(crowd.LONG, "n"),
        method="OPTIONS", host="h" * 253, path=WORST * 8, run=f"{place % MANY.runs:016x}", detail=WORST * 8,
    )  # fmt: skip


def nowhere(request: object, allow_private: bool) -> HttpResponse:  # noqa: FBT001  # the shape of `Send`
    """No page asks a provider for anything."""
    raise AssertionError(request, allow_private)


def nothing() -> None:
    """What a daemon has to stop and to step aside from is not here."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page[:40])
def test_a_page_stays_small(houses: tuple[House, House], page: str):
    """50 KB at most, with a thousand connections and whatever else, all with names as long as they get.

    Beside itself it has one style sheet loaded before it is shown.
    """
    status, content = houses[1].get(page)
    size = len(content.encode())
    assert (status, max(size, MOST_BYTES)) == (200, MOST_BYTES)
    loaded = re.findall(r"<(?:link|script|img|iframe|object)[^>]*>", content)
    assert [each for each in loaded if " defer" not in each and 'rel="icon"' not in each] == [
        '<link rel="stylesheet" href="/ui/style.css">'
    ]
    assert len(loaded) == 3


@pytest.mark.parametrize(("page", "end", "fields", "expected"), FORMS, ids=lambda each: str(each)[:40])
def test_a_page_that_answers_a_form_stays_small(
    houses: tuple[House, House], page: str, end: str, fields: dict[str, str], expected: int
):
    """What was typed in vain, and what a definition may do, in as little."""
    status, content = houses[1].post(page, end, fields)
    size = len(content.encode())
    assert (status, max(size, MOST_BYTES)) == (expected, MOST_BYTES), content[:2000]


@pytest.mark.parametrize("content", CARDS.values(), ids=CARDS)
def test_a_card_stays_small(content: str):
    """However long is what providers and their definitions say."""
    assert max(len(content.encode()), MOST_BYTES) == MOST_BYTES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page[:40])
def test_the_database_is_asked_as_often_for_much_as_for_little(houses: tuple[House, House], page: str):
    """No page asks once for each row of what it shows, nor for each thing that there is."""
    few, many = houses
    asked = []
    for house in (few, many):
        house.get(page)
        status, _ = house.get(page)
        assert status == 200
        asked.append([each for each in house.statements if not each.startswith(("BEGIN", "ROLLBACK", "COMMIT"))])
    assert len(asked[0]) == len(asked[1]) <= MOST_STATEMENTS, [each[:200] for each in asked[1]]
