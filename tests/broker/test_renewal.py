"""Refreshing ahead of time: what is in use stays fresh, what rests is left alone, and so is the processor."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from authsome import clock
from authsome.broker.broker import Broker
from authsome.broker.credentials import Claimant, Question, Target
from authsome.errors import LoginRequired
from authsome.models.audit import Event
from authsome.models.connection import Status
from authsome.models.notice import Occasion
from fakes import endpoint
from fakes.patience import ever_longer, settled, wait

LIFE = timedelta(seconds=4)  # renewed when half of it is over, or on use when three quarters are


@dataclass
class Counting:
    """A clock that counts how often it is looked at."""

    looks: int = 0

    def __call__(self) -> float:
        self.looks += 1
        return clock.steady()


@dataclass
class At:
    """A house where time goes by, with the background thread at work."""

    house: object
    broker: object
    steady: Counting

    def use(self) -> str:
        """Resolve, as a request would."""
        target = Target(method="GET", host="acme.example.localhost", port=443, path="/")
        claimant = Claimant(caller=self.house.owner)
        return (
            self.broker.credentials.resolve(Question(admit=lambda _: claimant, target=target, rejected=False))
            .injected.headers[0][1]
            .reveal()
        )


@pytest.fixture
def at_work(house, hostile):
    """Starts the thread upon a login to acme that has just been made."""
    hostile.script = endpoint.tokens(expires_in=LIFE.total_seconds())

    @contextmanager
    def started(life=LIFE):
        house.oauth("acme", hostile.url())
        house.clock.moment = clock.now()
        house.connect("acme", lifetime=life)
        steady = Counting()
        broker = Broker(
            replace(house.context, clock=clock.now, steady=steady), house.home, base_url="http://127.0.0.1:1"
        )
        thread = threading.Thread(target=broker.renewal.run, args=(broker.refresher, broker.freshness))
        thread.start()
        yield At(house, broker, steady)
        broker.renewal.stop()
        thread.join(60)
        assert not thread.is_alive()

    return started


def test_what_is_in_use_is_renewed_before_it_is_due(at_work, house, hostile):
    """Nobody waits for the provider; and once is enough, for nobody has used the new token."""
    assert any(renewed_in_time(at_work, house, hostile, timedelta(seconds=seconds)) for seconds in ever_longer(4))
    (event,) = house.events(Event.REFRESH)[:1]
    assert (event.entry.identity, event.entry.connection) == (None, "default")


def renewed_in_time(at_work, house, hostile, life):
    """Use a token that lives so long, and see it renewed once; False if the machine was too slow for that."""
    hostile.requests.clear()
    hostile.script = endpoint.tokens(expires_in=life.total_seconds())
    with at_work(life) as work:
        first = house.stored("acme")
        used = work.use()
        wait(lambda: house.stored("acme").revision > first.revision, "the renewal")
        if used != "Bearer old-access" or house.stored("acme").updated_at >= first.updated_at + life * 0.75:
            return False
        time.sleep(life.total_seconds())
        assert len(hostile.requests) == 1
        assert work.use() == "Bearer an-access-token"  # ended meanwhile: refreshed on use
        assert len(hostile.requests) == 2
    return True


def test_a_token_that_ends_in_some_thousand_years_is_waited_for(at_work, house):
    """And keeps nobody else's from being renewed."""
    with at_work(timedelta(days=2_000_000)) as work:
        assert work.use() == "Bearer old-access"
        sooner = house.connect("acme", lifetime=LIFE, name="sooner")
        work.broker.renewal.watch(sooner)
        wait(lambda: house.stored("acme", "sooner").revision > sooner.revision, "the renewal")


def test_what_rests_is_left_alone(at_work, hostile):
    """A connection that nobody has used since its last refresh makes no request, and wakes nobody up. # SEC-198"""
    with at_work() as work:
        before = settled(lambda: work.steady.looks, seconds=0.3)
        time.sleep(LIFE.total_seconds())
        assert hostile.requests == []
        assert work.steady.looks == before


def test_the_thread_sleeps_until_something_is_due(at_work):
    """Between two tokens it does not wake up. # SEC-198"""
    with at_work(timedelta(hours=1)) as work:
        work.use()
        before = settled(lambda: work.steady.looks, seconds=0.3)
        time.sleep(1)
        assert work.steady.looks == before


def test_what_fails_is_tried_again_and_told_once_the_token_is_over(at_work, house, hostile):
    """The user hears of it only when it hurts. # SEC-81"""
    hostile.script = endpoint.SCRIPTS["502"]
    with at_work(2 * LIFE) as work:
        work.use()
        wait(lambda: hostile.requests, "the first attempt")
        assert house.notices == []
        wait(lambda: house.notices, "what the user is told")
        assert house.notices[0].occasion is Occasion.ERROR
        hostile.script = endpoint.tokens()
        wait(lambda: house.events(Event.REFRESH), "a refresh")
        assert house.stored("acme").problem is None


def test_a_dead_login_is_told_and_left(at_work, house, hostile):
    """What the provider no longer accepts is marked, told once, and not asked for again. # SEC-80"""
    hostile.script = endpoint.answer(b'{"error": "invalid_grant"}', status=400)
    with at_work() as work:
        work.use()
        wait(lambda: house.notices, "what the user is told")
        with pytest.raises(LoginRequired):
            work.use()
        time.sleep(1)
        assert len(hostile.requests) == 1
        assert house.stored("acme").status is Status.INVALID
        (notice,) = house.notices
        assert (notice.occasion, notice.provider, notice.connection) == (Occasion.LOGIN_NEEDED, "acme", "default")
        assert notice.hint == "log in again: authsome login acme"


def test_a_logout_takes_it_off_the_list(at_work, house, hostile):
    """Nothing is asked for a connection that is gone. # SEC-90"""
    with at_work(2 * LIFE) as work:
        work.use()
        work.broker.credentials.logout(house.owner, "acme", "default")
        time.sleep(LIFE.total_seconds() + 1)
        assert hostile.requests == []
