"""Who is removed in the middle of a request of their own is told that they are nobody any more."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from threading import Event as Signal
from urllib.parse import urlencode

import pytest

from authsome import clock
from authsome.daemon.messages import Request
from authsome.errors import AuthenticationFailed
from authsome.home import Home
from authsome.identity import key
from authsome.models.principal import Caller, Principal, Role
from authsome.models.visit import Browser, Way
from authsome.vault import identities, principals
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from dashboard import crowd
from dashboard.test_weight import FEW, URL, House, furnished
from security import adversary

ACT = r'<form method="post" action="([^"]*)"[^>]*>\s*<input type="hidden" name="form_token" value="([^"]+)">'


class Watch:
    """The time; and what is to happen when somebody looks at it for the `at`th time from now."""

    def __init__(self) -> None:
        self.happens: Callable[[], None] | None = None
        self.at = 0

    def __call__(self) -> datetime:
        self.at -= 1
        if self.at == 0 and self.happens is not None:
            self.happens()
        return clock.now()


class Stage:
    """The daemon's pages with an admin of their own, who is removed by another one at the wrong moment."""

    def __init__(self, house: House, database: Database, watch: Watch) -> None:
        self._house, self._database, self._watch = house, database, watch
        self._broker = house.api._broker
        with database.transaction() as tx:
            owner = principals.owner(tx)
        assert owner is not None
        self._owner = Caller(identity=None, principal=owner)
        self.person: Principal = self._broker.principals.add(self._owner, "bob", Role.ADMIN)
        self.pair = key.generate()
        with database.transaction() as tx:
            identities.add(tx, handle="bobs", did=self.pair.did, now=clock.now())
            identities.claim(tx, handle="bobs", principal_id=self.person.id)
            opened = self._broker.dashboard_sessions.open(
                tx, self.person, Way.PASSWORD, Browser(name="Chrome", address="127.0.0.1")
            )
        self.visitor = replace(house, cookie=f"authsome_session={opened.key.reveal()}")

    def removed_at(self, look: int) -> None:
        """Have the admin removed when the daemon looks at its clock for the `look`th time."""
        self._watch.at, self._watch.happens = look, lambda: self._broker.principals.remove(self._owner, self.person.id)

    def is_removed(self) -> bool:
        with self._database.transaction() as tx:
            return principals.by_id(tx, self.person.id) is None

    def submit(self, page: str, end: str, fields: dict[str, str], *, look: int | None = None) -> tuple[int, str]:
        """Fill in a page's form; when it is sent the admin is removed at this look at the clock."""
        _, shown = self.visitor.get(page)
        action, token = next(each for each in re.findall(ACT, shown) if each[0].endswith(end))
        if look is not None:
            self.removed_at(look)
        headers = {"content-type": ("application/x-www-form-urlencoded",), "origin": (URL,)}
        return self.visitor._ask("POST", action, headers, urlencode({"form_token": token, **fields}).encode())

    def begin_run(self) -> int:
        """Ask for a run by the admin's identity, as `authsome run` does."""
        body = json.dumps({}).encode()
        caller = adversary.Caller(port=7998, handle="bobs", pair=self.pair)
        token = caller.token("POST", "/proxy/runs", body)
        asked = Request(
            method="POST",
            path="/proxy/runs",
            query="",
            target="/proxy/runs",
            headers={"authorization": (f"PoP {token}",), "content-type": ("application/json",)},
            body=body,
            peer="127.0.0.1",
            received_over=URL,
            stopping=Signal(),
        )
        return self._house.api.handle(asked).status


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    home, watch = Home(tmp_path / "home"), Watch()
    with HomeLock.acquire(home) as lock, closing(Database.open(lock, clock=clock.now)) as database:
        house = furnished(home, database, [], number=3, entries=0, people=FEW, time=watch)
        with closing(house.api):
            yield Stage(house, database, watch)


@pytest.mark.parametrize(
    ("page", "end", "fields"),
    [
        (f"/claim/{crowd.asking(0)}", "/confirm", {"connections": "", "methods": "", "hours": "", "owner": ""}),
        ("/ui/settings/principals", "/invitations", {"email": "eve@example.org", "role": "user"}),
        ("/ui/", "/ui/sign-out", {}),
    ],
    ids=["claim", "invite", "sign out"],
)
def test_in_the_middle_of_a_click(stage, page, end, fields):
    """Between the look at the session and the act, which has nobody's name to be written under any more. # SEC-208"""
    status, shown = stage.submit(page, end, fields, look=2)
    assert stage.is_removed()
    assert (status, "is not signed in any more" in shown) == (403, True)


def test_in_the_middle_of_a_look(stage):
    """Whose page it was is led to the sign-in page."""
    stage.removed_at(2)
    status, _ = stage.visitor.get("/ui/connections/ahrefs/default")
    assert stage.is_removed()
    assert status == 303


def test_in_the_middle_of_a_call(stage):
    """An identity's request is refused as the next one would be. # SEC-208"""
    assert stage.begin_run() == 201
    stage.removed_at(3)
    with pytest.raises(AuthenticationFailed):
        stage.begin_run()
    assert stage.is_removed()


def test_a_fault_is_a_page(stage, caplog):
    """Who clicks on what breaks sees a page that says no more than that, and has the way on; the log has the rest."""
    status, shown = stage.submit("/ui/apps", "/by-url", {"url": "https://mcp.example.com/mcp"})
    assert (status, "Something unexpected went wrong." in shown) == (500, True)
    assert 'class="dash"' in shown
    assert "AssertionError" not in shown
    assert "AssertionError" in caplog.text
