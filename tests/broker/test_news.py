"""News: who is told what, from when on, and for how long."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.broker import news
from authsome.broker.dashboard_sessions import IDLE
from authsome.broker.logins import Wanted
from authsome.broker.news import EVERYTHING, Topic, Waiter
from authsome.home import make_private_directory, write_private
from authsome.models.audit import Entry, Event
from authsome.models.login import Stage
from authsome.models.principal import Caller, Claim, Role
from authsome.models.visit import Browser, Way
from authsome.secret import Secret
from authsome.vault import audit, claims, identities

HERE = Browser(name="Firefox on Linux", address="127.0.0.1")


class Seat:
    """A signed-in browser, and what it is told as it goes on."""

    def __init__(self, house, principal, heard=None):
        self.house = house
        self.sessions = house.broker.dashboard_sessions
        with house.context.database.transaction() as tx:
            self.opened = self.sessions.open(tx, principal, Way.PASSWORD, HERE)
        self.caller = Caller(identity=None, principal=principal)
        self.watcher = self.begin(heard).watcher

    def begin(self, heard=None):
        """Sit down, or come back."""
        visit = self.sessions.visit(self.opened.key)
        return self.house.broker.news.begin(visit, self.opened.key, heard=heard)

    def told(self):
        """What there is to tell since the last time, in words; None: it may look no more."""
        (told,) = self.house.broker.news.look([self.watcher])
        if told is None:
            return None
        self.watcher = told.watcher
        return {str(each) for each in told.topics}


@pytest.fixture
def ada(house):
    """The owner, who is an admin."""
    return Seat(house, house.owner.principal)


@pytest.fixture
def bob(house, ada):
    """A user."""
    return Seat(house, house.broker.principals.add(ada.caller, "bob"))


def log(house, event, vault_id=None, **more):
    """Have something happen."""
    with house.context.database.transaction() as tx:
        return audit.append(tx, Entry(event=event, at=house.clock(), vault_id=vault_id, **more)).id


@pytest.mark.parametrize("event", Event)
def test_what_each_event_changes(house, bob, event):
    """The log always, and what the event is about."""
    assert bob.told() == set()
    log(house, event, bob.caller.vault_id)
    told = bob.told()
    assert "log" in told
    assert told <= {str(each) for each in EVERYTHING}
    assert bob.told() == set()


def test_whose_it_is(house, ada, bob):
    """A user is told of its own vault alone; an admin of others' that the log has grown, and who may act. # SEC-199"""
    for seat in (ada, bob):
        seat.told()
    log(house, Event.LOGIN, ada.caller.vault_id)
    log(house, Event.DENIED)
    assert bob.told() == set()
    assert bob.watcher.heard < ada.begin().watcher.heard, "not even how much others do"
    assert ada.told() == {"connections", "log"}
    log(house, Event.LOGIN, bob.caller.vault_id)
    log(house, Event.RUN, bob.caller.vault_id)
    assert bob.told() == {"connections", "runs", "log"}
    assert ada.told() == {"log"}
    log(house, Event.CLAIM, bob.caller.vault_id)
    assert ada.told() == {"claims", "identities", "log"}
    for event in (Event.SIGN_IN, Event.SET_PASSWORD, Event.INVITE, Event.REKEY):
        log(house, event, bob.caller.vault_id)
    assert ada.told() == {"principals", "keys", "log"}, "not who is signed in where"


def test_a_role_counts_at_once(house, ada, bob):
    """Who is an admin now is told as one, and who is none any more is not."""
    other = house.broker.principals.add(ada.caller, "eve")
    house.broker.principals.set_role(ada.caller, bob.caller.principal.id, Role.ADMIN)
    bob.told()
    log(house, Event.LOGIN, other.vault_id)
    assert bob.told() == {"log"}
    house.broker.principals.set_role(ada.caller, bob.caller.principal.id, Role.USER)
    log(house, Event.LOGIN, other.vault_id)
    assert bob.told() == set()


def test_who_comes_back(house, bob):
    """Says what it heard last, and is told what it has missed, and only that."""
    heard = log(house, Event.RUN, bob.caller.vault_id)
    assert bob.told() == {"runs", "log"}
    assert bob.watcher.heard == heard
    assert bob.begin(heard).topics == set()
    log(house, Event.LOGOUT, bob.caller.vault_id)
    log(house, Event.EXPORT)
    back = bob.begin(heard)
    assert back.topics == {Topic.CONNECTIONS, Topic.LOG}
    bob.watcher = back.watcher
    assert bob.told() == set()


@pytest.mark.parametrize("number", [news._MOST - 1, news._MOST, news._MOST + 500])
def test_who_has_missed_much(house, bob, number):
    """Is told that everything has changed, where it would take long to say what; while looking on, too."""
    heard = bob.watcher.heard
    with house.context.database.transaction() as tx:
        for _ in range(number):
            audit.append(tx, Entry(event=Event.RESOLVE, at=house.clock(), vault_id=bob.caller.vault_id))
    expected = {"uses", "log"} if number < news._MOST else {str(each) for each in EVERYTHING}
    assert bob.begin(heard).topics == expected
    assert bob.told() == expected
    assert bob.told() == set()
    assert bob.watcher.heard == bob.begin().watcher.heard


def test_a_log_that_goes_back(bob):
    """As after a backup was put back: everything has changed, and it goes on from there."""
    back = bob.begin(10**6)
    assert back.topics == EVERYTHING
    bob.watcher = back.watcher
    assert bob.told() == set()
    bob.watcher = replace(bob.watcher, seen=10**6)
    assert bob.told() == {str(each) for each in EVERYTHING}
    assert bob.told() == set()


def test_open_claims(house, ada, bob):
    """That somebody asks, was answered or is late is told admins, who see them; it is in no log."""
    for seat in (ada, bob):
        seat.told()
    with house.context.database.transaction() as tx:
        identities.add(tx, handle="agent", did="did:key:z", now=house.clock())
        asked = Claim(handle="agent", did="did:key:z", created_at=house.clock(), expires_at=house.clock() + IDLE)
        claims.put(tx, asked, Secret("token"))
    assert (ada.told(), bob.told()) == ({"claims"}, set())
    assert (ada.told(), bob.told()) == (set(), set())
    with house.context.database.transaction() as tx:
        claims.delete(tx, "agent")
    assert (ada.told(), bob.told()) == ({"claims"}, set())
    assert Topic.CLAIMS in ada.begin().topics
    assert Topic.CLAIMS not in bob.begin().topics


def test_definitions(house, ada, bob):
    """They count for everybody, who is told when one has come, changed or gone, even by hand; it may be in no log."""
    place = house.home.providers / "x.json"
    make_private_directory(place.parent)
    for seat in (ada, bob):
        seat.told()
    for text in ("{}", "{ }"):
        write_private(place, text.encode())
        assert (ada.told(), bob.told()) == ({"providers"}, {"providers"})
        assert (ada.told(), bob.told()) == (set(), set())
    place.unlink()
    assert (ada.told(), bob.told()) == ({"providers"}, {"providers"})


def test_the_end_of_a_session(house, ada, bob):
    """By signing out, by its time, unused, or with its principal: nobody looks on."""
    house.broker.dashboard_sessions.end(bob.caller, bob.opened.session.id)
    assert bob.told() is None
    eve = Seat(house, house.broker.principals.add(ada.caller, "eve"))
    assert eve.told() is not None
    house.broker.principals.remove(ada.caller, eve.caller.principal.id)
    assert eve.told() is None
    house.clock.advance(IDLE - timedelta(seconds=1))
    assert ada.told() is not None
    house.clock.advance(timedelta(seconds=1))
    assert ada.told() is None


def test_waiting_for_a_login(house, ada):
    """Whoever waits is told once that its stage is another one, and nothing else; a login that is gone ends it."""
    ada.told()
    login = house.broker.logins.begin(house.owner, Wanted(provider="openai", variables={}))
    waiter = Waiter(login=login.request.id, vault=house.owner.vault_id, stage=Stage.INPUT)
    look = house.broker.news.look
    told, seated = look([waiter, ada.watcher])
    assert (told.topics, seated.topics) == (set(), set())
    house.broker.logins.cancel(house.owner, login.request.id)
    (told,) = look([waiter])
    assert told.topics == {Topic.LOGIN}
    (again,) = look([told.watcher])
    assert again.topics == set()
    assert look([replace(waiter, login="login_none")]) == [None]
