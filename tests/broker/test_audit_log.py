"""The log is kept once an hour, by a clock that can be trusted."""

import json
from datetime import timedelta

import pytest

from authsome.daemon import main
from authsome.home import write_private
from authsome.models.audit import Entry, Event
from authsome.vault import audit, chain, replay, usage

MINUTE = timedelta(minutes=1)


@pytest.fixture
def kept(house):
    """A house whose log is kept for a day."""
    chain.begin(house.context.database, house.home, house.context.sealers, now=house.clock())
    write_private(house.home.config, json.dumps({"log": {"days": 1}}).encode())
    return house


def write(house, count=5):
    with house.context.database.transaction() as tx:
        for _ in range(count):
            audit.append(tx, Entry(event=Event.DENIED, at=house.clock()))


def count(house):
    with house.context.database.read() as reader:
        return len([each for each in audit.page(reader, None, limit=1000) if each.entry.event is Event.DENIED])


def passes(house, by, *, alike=True):
    house.clock.advance(by)
    if alike:
        house.steady.seconds += by.total_seconds()


def test_what_is_a_day_old_goes_within_the_hour(kept):  # SEC-187
    write(kept)
    for _ in range(50):
        passes(kept, timedelta(minutes=30))
        kept.broker.audit_log.keep()
    assert count(kept) == 1  # a log is never empty
    assert chain.verify(kept.context.database, after=None).flaw is None


def test_a_clock_that_jumps_ahead_takes_nothing_along(kept):  # SEC-187
    """Nor one that was wrong when the daemon started, and is set within a quarter of an hour."""
    write(kept)
    passes(kept, timedelta(days=900), alike=False)
    for _ in range(14):
        kept.broker.audit_log.keep()
        passes(kept, MINUTE)
    assert count(kept) == 5
    passes(kept, timedelta(days=-900), alike=False)
    for _ in range(120):
        kept.broker.audit_log.keep()
        passes(kept, MINUTE)
    assert count(kept) == 5


def test_entries_are_counted_by_any_clock(kept):  # SEC-187
    write_private(kept.home.config, json.dumps({"log": {"entries": 3}}).encode())
    write(kept)
    kept.broker.audit_log.keep()
    assert count(kept) == 2  # and the entry that tells of it


def test_an_hour_has_one_checkpoint(kept):  # SEC-183
    """However often it is looked whether there is something to do."""
    write_private(kept.home.config, b"{}")
    for _ in range(60):
        write(kept, 1)
        kept.broker.audit_log.keep()
        passes(kept, MINUTE)
    with kept.context.database.read() as reader:
        assert reader.execute("SELECT count(*) FROM audit_checkpoints").fetchone() == (2,)  # the first began the chain


def test_upkeep_goes_on_where_a_part_of_it_cannot(kept):
    """Settings that nobody can read, and a place that is none, keep what has expired from nobody's sight but theirs."""
    write_private(kept.home.config, b'{"log": 3}')
    kept.home.proxy.mkdir(mode=0o700)
    kept.home.spool.write_bytes(b"")
    kept.broker.entrance.offer_link(kept.owner)
    with kept.context.database.transaction() as tx:
        for second in range(5):
            replay.remember(tx, second, bytes([second]) * 32)
    kept.clock.advance(timedelta(days=1))
    main._keep(kept.broker)
    with kept.context.database.read() as reader:
        for table in ("entry_links", "replay"):
            assert reader.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_upkeep_outlives_a_fault_of_ours(kept, monkeypatch):
    """Its thread is the only one: what it meets is written into the daemon's log, and it goes on."""

    def broken():
        raise RuntimeError("a fault")

    monkeypatch.setattr(kept.broker.usage, "count_up", broken)
    with kept.context.database.transaction() as tx:
        replay.remember(tx, 1, bytes(32))
    main._keep(kept.broker)
    with kept.context.database.read() as reader:
        assert reader.execute("SELECT count(*) FROM replay").fetchone() == (0,)


def test_what_goes_was_counted_before(kept):
    """The daemon's upkeep counts uses from the log before retention takes it away."""
    write_private(kept.home.config, json.dumps({"log": {"entries": 3}}).encode())
    vault = kept.owner.vault_id
    use = Entry(event=Event.RESOLVE, at=kept.clock(), vault_id=vault, provider="openai", connection="default")
    with kept.context.database.transaction() as tx:
        for _ in range(10):
            audit.append(tx, use)
    main._keep(kept.broker)
    today = kept.clock().date()
    with kept.context.database.read() as reader:
        assert len(audit.page(reader, None)) == 3
        assert usage.per_day(reader, vault, since=today) == {today: 10}
