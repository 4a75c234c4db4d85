"""Retention: the oldest entries go, the chain stays whole, and no clock takes the wrong ones."""

import sqlite3
from datetime import timedelta

import pytest

from authsome.errors import UsageError
from authsome.models.audit import Entry, Event
from authsome.models.retention import Retention, retention
from authsome.vault import audit, checkpoints, pruning
from vault.test_chain import Chained

DAY = timedelta(days=1)


@pytest.fixture
def chained(open_database, paths, now):
    return Chained(open_database, paths, now)


def ids(chained):
    with chained.database.read() as reader:
        return [each.id for each in audit.page(reader, None, limit=1000)][::-1]


def prune(chained, now=None, **keep):
    return pruning.prune(chained.database, Retention(**keep), now=now or chained.now)


def at(chained, *moments):
    for moment in moments:
        with chained.database.transaction() as tx:
            audit.append(tx, Entry(event=Event.DENIED, at=moment))


def test_so_many_entries_are_kept(chained):  # SEC-187
    chained.append(20)
    assert prune(chained, entries=5).entries == 16
    assert ids(chained) == [17, 18, 19, 20, 21]
    assert chained.flaw() is None
    with chained.database.read() as reader:
        (told,) = audit.page(reader, None, audit.Filter(event=Event.LOG_PRUNED))
        assert (told.id, told.entry.detail) == (21, "entries 1 to 16: no more than 5 entries are kept")
        assert checkpoints.beginning(reader, "s").id == 16
    chained.restart()
    chained.append(3)
    assert prune(chained, entries=5).entries == 4
    assert chained.flaw(limit=2) is None
    assert ids(chained) == [21, 22, 23, 24, 25]


def test_nothing_is_removed_for_nothing(chained):  # SEC-187
    chained.append(5)
    assert prune(chained).entries == prune(chained, entries=6).entries == prune(chained, age=DAY).entries == 0
    assert ids(chained) == [1, 2, 3, 4, 5]
    assert prune(chained, now=chained.now + 400 * DAY, age=DAY).entries == 4  # the newest stays
    assert ids(chained) == [5, 6]
    assert chained.flaw() is None


def test_what_is_older_goes(chained, now):  # SEC-187
    at(chained, now - 9 * DAY, now - 8 * DAY, now - 7 * DAY, now - 6 * DAY, now)
    assert prune(chained, age=7 * DAY).entries == 2
    assert ids(chained) == [3, 4, 5, 6]
    assert chained.flaw() is None


def test_a_clock_that_jumped_takes_no_wrong_entries(chained, now):  # SEC-187
    """Behind an entry of a clock that was ahead nothing goes; one of a clock that was behind takes nothing along."""
    at(chained, now - 9 * DAY, now + 99 * DAY, now - 9 * DAY, now)
    assert prune(chained, age=7 * DAY).entries == 1
    assert ids(chained) == [2, 3, 4, 5]
    at(chained, now - 999 * DAY, now)
    assert prune(chained, age=7 * DAY).entries == 0
    assert ids(chained) == [2, 3, 4, 5, 6, 7]
    assert chained.flaw() is None


def test_what_is_left_is_still_watched(chained):  # SEC-183 # SEC-187
    """Neither the first entries that are left, nor the checkpoint that stands for the others, can be changed."""
    chained.append(20)
    prune(chained, entries=10)
    chained.tamper(("DELETE FROM audit WHERE id = 12",))
    assert chained.flaw().entry == 12


def test_nobody_else_can_prune(chained):  # SEC-183 # SEC-187
    """A checkpoint without our signature stands for nothing."""
    chained.append(20)
    with chained.database.read() as reader:
        place = audit.place_of(reader, 8)
    forged = "INSERT INTO audit_checkpoints VALUES (2, 0, ?, 8, ?, 0, 0, 'retention', x'00')"
    chained.tamper((forged, b"\x01" * 33, place.hash), ("DELETE FROM audit WHERE id <= 8",))
    assert "not signed" in chained.flaw().problem


def test_sql_lets_go_of_nothing_else(chained):  # SEC-183
    chained.append(20)
    prune(chained, entries=10)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), chained.database.transaction() as tx:
        tx.execute("DELETE FROM audit WHERE id = (SELECT min(id) FROM audit)")


def test_a_damaged_log_is_evidence(chained):  # SEC-187
    chained.append(20)
    chained.tamper(("UPDATE audit SET detail = 'x' WHERE id = 4",))
    pruned = prune(chained, entries=5)
    assert (pruned.entries, pruned.flaw.entry) == (0, 4)
    assert len(ids(chained)) == 20


def test_a_pruning_that_was_cut_off_is_finished(chained, monkeypatch):  # SEC-187 # SEC-130
    """Rows that are left are not counted, and go the next time."""
    chained.append(30)
    monkeypatch.setattr(pruning, "STRIDE", 3)
    real = audit.remove

    def dies(tx, **rest):
        if not real(tx, **rest) or ids_gone(chained) >= 3:
            raise KeyboardInterrupt
        return 1

    monkeypatch.setattr(audit, "remove", dies)
    with pytest.raises(KeyboardInterrupt):
        prune(chained, entries=5)
    monkeypatch.setattr(audit, "remove", real)
    assert chained.flaw() is None
    chained.restart(tidily=False)
    assert chained.flaw() is None
    prune(chained, entries=50)
    assert ids(chained) == [27, 28, 29, 30, 31]


def ids_gone(chained):
    with chained.database.read() as reader:
        return reader.execute("SELECT min(id) - 1 FROM audit").fetchone()[0]


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ({}, Retention()),
        ({"log": {}}, Retention()),
        ({"log": {"days": 90}}, Retention(age=90 * DAY)),
        ({"log": {"entries": 5, "days": 1}}, Retention(age=DAY, entries=5)),
        ({"log": {"days": 10**9}}, Retention()),
    ],
)
def test_the_settings_say_what_is_kept(setting, wanted):
    assert retention(setting) == wanted


@pytest.mark.parametrize(
    "setting", [[], {"days": 0}, {"days": True}, {"days": "90"}, {"entries": -1}, {"entries": 1.5}, {"weeks": 1}]
)
def test_settings_that_cannot_be_meant_are_refused(setting):
    with pytest.raises(UsageError, match="log"):
        retention({"log": setting})
