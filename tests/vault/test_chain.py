"""The chain of the log: whatever is done to the table or to the file beside it, the first bad entry is named."""

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsome.crypto import aead
from authsome.models import chain as form
from authsome.models.audit import Entry, Event
from authsome.vault import audit, chain, checkpoints, principals, schema
from authsome.vault.database import Database
from authsome.vault.vaults import Sealers

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "audit.json").read_text())
TRIGGERS = ("audit_stays", "audit_remains", "audit_checkpoints_stay", "audit_checkpoints_remain")
TEXTS = [column if column != "vault" else "vault_id" for column in form.TEXT_COLUMNS]


# ---- the form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["entries"], ids=lambda vector: vector["name"])
def test_entries_have_the_hash_they_were_released_with(vector):  # SEC-183
    columns = tuple(vector["columns"].get(name) for name in form.TEXT_COLUMNS)
    found = form.entry_hash(bytes.fromhex(vector["previous"]), vector["id"], vector["at"], columns)
    assert found.hex() == vector["hash"]


def test_a_store_begins_where_it_was_released_to_begin():
    assert form.genesis(VECTORS["store"]).hash.hex() == VECTORS["genesis"]


def test_checkpoints_sign_what_they_were_released_to_sign():  # SEC-183
    vector = VECTORS["checkpoint"]
    assert form.Checkpoint.from_json(vector["json"]).signed().hex() == vector["signed"]
    assert form.Checkpoint.from_json(vector["json"]).to_json() == vector["json"]


OPTIONAL = st.none() | st.text(max_size=5)


@settings(max_examples=200)
@given(
    one=st.tuples(st.integers(0, 9), st.integers(0, 9), st.tuples(*[OPTIONAL] * 4)),
    other=st.tuples(st.integers(0, 9), st.integers(0, 9), st.tuples(*[OPTIONAL] * 4)),
)
def test_no_two_entries_share_a_hash(one, other):  # SEC-183
    """No text can flow into its neighbour, and nothing is not the empty text."""
    first, second = (form.entry_hash(b"p" * 33, *each) for each in (one, other))
    assert (first == second) is (one == other)


# ---- the chain -------------------------------------------------------------------------------------------------------


class Chained:
    """A store whose log is begun, and can be tampered with as by somebody who has the file and no key."""

    def __init__(self, open_database, home, now):
        self.open_database, self.home, self.now, self.kek = open_database, home, now, aead.new_key()
        self.database = open_database()
        self.start()

    def start(self):
        chain.begin(self.database, self.home, Sealers(self.database, self.kek), now=self.now)

    def restart(self, *, tidily=True):
        self.stop(tidily=tidily)
        self.database = self.open_database()
        self.start()

    def stop(self, *, tidily=True):
        if tidily:
            chain.close(self.database, now=self.now)
        self.database.close()

    def append(self, count, **members):
        for number in range(count):
            with self.database.transaction(durable=False) as tx:
                audit.append(
                    tx,
                    replace(
                        Entry(
                            event=Event.RESOLVE, at=self.now, vault_id="vault_a", principal="p", identity="me",
                            proof="jti", provider="github", connection="default", method="GET", host="h", path="/",
                            run="r", detail=f"entry {number}",
                        ),
                        **members,
                    ),
                )  # fmt: skip

    def tamper(self, *statements):
        with closing(sqlite3.connect(self.database.path)) as store:
            for trigger in TRIGGERS:
                store.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            for statement, *values in statements:
                store.execute(statement, values)
            store.commit()

    def flaw(self, *, limit=7):
        """What a check of all of it finds, stride by stride."""
        after = None
        while True:
            progress = chain.verify(self.database, after=after, limit=limit)
            if progress.is_done:
                return progress.flaw
            assert progress.reached > (after or 0)
            after = progress.reached


@pytest.fixture
def chained(open_database, paths, now):
    return Chained(open_database, paths, now)


def test_a_log_that_was_left_alone_is_whole(chained):  # SEC-183
    for _ in range(3):
        assert chained.flaw() is None
        chained.append(10)
        assert chained.flaw() is None
        chained.restart()
    assert chain.verify(chained.database, after=None).last == 30


def test_each_entry_carries_the_hash_of_the_one_before(chained):  # SEC-183
    chained.append(3)
    with chained.database.read() as reader:
        store = reader.execute("SELECT id FROM store").fetchone()[0]
        place = form.genesis(store)
        for line, _ in audit.lines(reader, after=0, limit=-1):
            assert line.hash == form.entry_hash(place.hash, line.id, line.at, line.columns)
            place = form.Place(line.id, line.hash)
    assert place.id == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET detail = 'x' WHERE id = 2",
        "UPDATE audit SET id = 99 WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit",
        "UPDATE audit_checkpoints SET latest = 0",
        "DELETE FROM audit_checkpoints",
    ],
)
def test_sql_itself_refuses_to_bend_the_log(chained, statement):  # SEC-183
    """A mistake of ours, or a shell on the file, is stopped; who removes the triggers is found out."""
    chained.append(3)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), chained.database.transaction() as tx:
        tx.execute(statement)
    assert chained.flaw() is None


def rehashed(chained, number):
    """The columns, hash and seal that one would give to an entry after `number` without the key."""
    with chained.database.read() as reader:
        before = audit.place_of(reader, number)
    columns = ("resolve", *[None] * 11)
    return form.entry_hash(before.hash, number + 1, 5, columns)


def test_an_entry_that_is_well_made_but_not_ours_is_found(chained):  # SEC-183
    """Hashes are public, so anybody can compute the next one; the seal is not."""
    chained.append(3)
    forged = rehashed(chained, 3)
    chained.tamper(("INSERT INTO audit (id, at, event, hash, seal) VALUES (4, 5, 'resolve', ?, ?)", forged, b"x" * 16))
    assert chained.flaw() == form.Flaw(4, "entry 4 was not written by this server")
    chained.append(3)
    assert chained.flaw().entry == 4
    with chained.database.read() as reader:
        told = audit.page(reader, None, audit.Filter(event=Event.LOG_DAMAGED))
    assert [each.entry.detail for each in told] == ["entry 4 was not written by this server"]


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_cut_off_end_is_found(chained, running):  # SEC-183
    """Also when the log has grown past the cut since, and its numbers have been given again."""
    chained.append(10)
    cut = ("DELETE FROM audit WHERE id > 7",)
    if running:
        chained.tamper(cut)
        assert chained.flaw() == form.Flaw(
            8, "entries 8 to 10 are missing from the end of the log, as the file beside the database tells"
        )
    else:
        chained.stop()
        chained.tamper(cut, ("DELETE FROM audit_checkpoints WHERE ends_at > 7",))
        chained.database = chained.open_database()
        chained.start()
    chained.append(10)
    assert chained.flaw() == form.Flaw(8, "entries 8 to 10 are missing from the end of the log")
    chained.restart()
    assert chained.flaw().entry == 8


def test_the_head_file_is_missed(chained):  # SEC-183
    chained.append(3)
    chained.stop()
    chained.home.audit_head.unlink()
    chained.database = chained.open_database()
    chained.start()
    assert chained.flaw() == form.Flaw(4, "the file that tells how far the log had come is gone")


@pytest.mark.parametrize("at", [0, 30, 60, -5])
def test_the_head_file_is_nobodys_to_write(chained, at):  # SEC-183 # SEC-135
    """Neither damaged, nor filled with what the table has of an earlier entry, is it believed."""
    chained.append(3)
    chained.stop()
    data = bytearray(chained.home.audit_head.read_bytes())
    data[at] ^= 1
    chained.home.audit_head.write_bytes(data)
    chained.database = chained.open_database()
    chained.start()
    assert chained.flaw().entry == 4


def test_a_seal_of_the_table_is_none_of_the_file(chained):  # SEC-183
    chained.append(5)
    with chained.database.read() as reader:
        place = audit.place_of(reader, 3)
        (seal,) = reader.execute("SELECT seal FROM audit WHERE id = 3").fetchone()
    chained.stop()
    chained.tamper(("DELETE FROM audit WHERE id > 3",), ("DELETE FROM audit_checkpoints WHERE ends_at > 3",))
    chained.home.audit_head.write_text(f"authsome-audit-head-1 {3:020d} {place.hash.hex()} {seal.hex()}\n")
    chained.database = chained.open_database()
    chained.start()
    assert chained.flaw().entry == 4


def test_a_removed_checkpoint_is_missed(chained):  # SEC-183
    chained.append(3)
    chained.restart()
    chained.append(3)
    chained.restart()
    chained.tamper(("DELETE FROM audit_checkpoints WHERE number = 2",))
    assert "checkpoint" in chained.flaw().problem


@pytest.mark.parametrize("column", ["begins_after", "ends_at", "latest", "taken_at"])
def test_a_changed_checkpoint_is_found(chained, column):  # SEC-183
    chained.append(5)
    chained.restart()
    chained.tamper((f"UPDATE audit_checkpoints SET {column} = {column} - 1 WHERE number = 2",))
    assert "checkpoint 2" in chained.flaw().problem


MUTATIONS = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 30), st.sampled_from([*TEXTS, "at", "hash", "seal"])),
    st.tuples(st.just("remove"), st.integers(1, 30), st.integers(1, 5)),
    st.tuples(st.just("insert"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("swap"), st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.just("renumber"), st.integers(1, 30), st.integers(31, 60)),
)


def statements(chained, kind, number, other):
    """The statements of a mutation, and the first entry that is bad then."""
    match kind:
        case "change":
            value = {"at": "at + 1", "hash": "x'00'", "seal": "x'00'"}.get(other, f"coalesce({other}, '') || 'x'")
            return [(f"UPDATE audit SET {other} = {value} WHERE id = ?", number)], number
        case "remove":
            return [("DELETE FROM audit WHERE id >= ? AND id < ?", number, number + other)], number
        case "insert":
            forged = rehashed(chained, number) if other and number else b"x" * 33
            shift = [
                ("UPDATE audit SET id = -id - 1 WHERE id > ?", number),
                ("UPDATE audit SET id = -id WHERE id < 0",),
            ]
            row = ("INSERT INTO audit (id, at, event, hash) VALUES (?, 5, 'resolve', ?)", number + 1, forged)
            return [*shift, row], number + 1
        case "swap":
            moves = [(number, -1), (other, number), (-1, other)]
            return [("UPDATE audit SET id = ? WHERE id = ?", to, of) for of, to in moves], min(number, other)
        case "renumber":
            return [("UPDATE audit SET id = ? WHERE id = ?", other, number)], number
    raise AssertionError(kind)


def test_any_single_change_of_the_table_is_found(chained):  # SEC-183
    """Changed, removed, inserted, swapped or renumbered: while the daemon runs, and at its next start."""
    chained.append(30)
    whole = chained.database.path.with_name("whole")
    chained.database.copy_to(whole)
    head = chained.home.audit_head.read_bytes()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
    @given(mutation=MUTATIONS, restarts=st.booleans())
    def holds(mutation, restarts):
        kind, number, other = mutation
        if kind == "swap" and number == other:
            return
        made, first = statements(chained, *mutation)
        chained.tamper(*made)
        if restarts:
            chained.restart(tidily=False)
        flaw = chained.flaw()
        assert flaw is not None
        assert flaw.entry == first, (flaw, mutation)
        chained.stop(tidily=False)
        for suffix in ("-wal", "-shm"):
            chained.database.path.with_name(f"store.db{suffix}").unlink(missing_ok=True)
        chained.database.path.write_bytes(whole.read_bytes())
        chained.home.audit_head.write_bytes(head)
        chained.database = chained.open_database()
        chained.start()
        assert chained.flaw() is None

    holds()


# ---- beginnings ------------------------------------------------------------------------------------------------------


def test_entries_from_before_the_chain_get_their_place(open_database, paths, now):  # SEC-124 # SEC-183
    """What a release without the chain has logged is kept as it is, and nobody changes it from now on."""
    before = next(number for number, each in enumerate(schema.MIGRATIONS) if each.name == "audit_chain")
    database = open_database(migrations=schema.MIGRATIONS[:before])
    with database.transaction() as tx:
        for number in range(5):
            tx.execute("INSERT INTO audit (at, event, detail) VALUES (?, 'denied', ?)", (number, f"old {number}"))
    database.close()
    chained = Chained(open_database, paths, now)
    assert chained.flaw() is None
    chained.append(2)
    with chained.database.read() as reader:
        begun = next(checkpoints.of_places(reader, "s", 0, 99))
        assert (begun.reason, begun.ends.id) == ("begin", 5)
        assert [each.entry.detail for each in audit.page(reader, None)[-5:]] == [f"old {n}" for n in (4, 3, 2, 1, 0)]
    assert chained.flaw() is None
    chained.tamper(("UPDATE audit SET detail = 'new' WHERE id = 3",))
    assert chained.flaw().entry == 3


def test_a_log_whose_key_was_removed_is_not_begun_anew_in_silence(chained):  # SEC-183
    chained.append(3)
    chained.stop()
    chained.tamper(("DELETE FROM server_key",), ("DELETE FROM audit_checkpoints",))
    chained.home.audit_head.unlink()
    chained.database = chained.open_database()
    chained.start()
    assert chained.flaw() is not None


@pytest.mark.parametrize(
    ("is_owned", "has_file", "kept"),
    [(True, True, 12), (True, False, 12), (False, True, 12), (False, False, 12), (True, True, 0)],
)
def test_a_log_cannot_be_passed_off_as_one_from_before_the_chain(chained, now, is_owned, has_file, kept):
    """Its hashes taken out with the key and all checkpoints, what is left of it is not chained anew in silence.

    # SEC-183
    """
    if is_owned:
        with chained.database.transaction() as tx:
            principals.create_owner(tx, Sealers(chained.database, chained.kek), now=now)
    chained.append(20, at=now + timedelta(minutes=1))
    chained.stop()
    chained.tamper(
        ("UPDATE audit SET detail = 'nothing happened' WHERE id = 5",),
        ("DELETE FROM audit WHERE id > ?", kept),
        ("UPDATE audit SET hash = NULL, seal = NULL",),
        ("DELETE FROM audit_checkpoints",),
        ("DELETE FROM server_key",),
    )
    if not has_file:
        chained.home.audit_head.unlink()
    chained.database = chained.open_database()
    chained.start()
    assert chained.flaw() is not None


def test_checkpoints_come_at_intervals_and_say_the_greatest_time(chained, now):  # SEC-187
    """Also where the clock was set back: a time is looked for where it can be, and nowhere before."""
    with chained.database.transaction() as tx:
        for number in range(1, 2501):
            at = now + timedelta(days=9) if number == 500 else now + timedelta(seconds=number)
            audit.append(tx, Entry(event=Event.DENIED, at=at, detail=str(number)))
    with chained.database.read() as reader:
        taken = list(checkpoints.of_places(reader, "s", 0, 9999))
        assert [(each.ends.id, each.reason) for each in taken] == [(1000, "interval"), (2000, "interval")]
        found = audit.page(reader, None, audit.Filter(since=now + timedelta(days=8)))
        assert [each.entry.detail for each in found] == ["500"]
        found = audit.page(reader, None, audit.Filter(since=now + timedelta(seconds=2100)), limit=1000)
        assert [int(each.entry.detail) for each in found] == [*range(2500, 2099, -1), 500]
    assert chained.flaw(limit=999) is None


# ---- at once ---------------------------------------------------------------------------------------------------------


def test_many_entries_at_once_are_all_there(chained):  # SEC-186
    """Threads with and without a sync, a reader that holds on to its page, and a check meanwhile: none is lost."""
    threads = [threading.Thread(target=chained.append, args=(200,), kwargs={"path": f"/{n}"}) for n in range(6)]
    with chained.database.read() as reader:
        held = audit.page(reader, None)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert chain.verify(chained.database, after=None, limit=10**6).flaw is None
        assert audit.page(reader, None) == held
    for thread in threads:
        thread.join()
    progress = chain.verify(chained.database, after=None, limit=10**6)
    assert (progress.flaw, progress.last) == (None, 1200)


def test_a_second_daemon_of_the_same_store_is_no_stranger(chained):  # SEC-183
    """Each takes the table's word for where the log ends, and the other's entries are sealed as well."""
    second = Database(chained.database.path, writable=True)
    second.engage(chained.database.notary)
    try:
        for _ in range(4):
            chained.append(2)
            with second.transaction() as tx:
                audit.append(tx, Entry(event=Event.DENIED, at=chained.now))
        assert chained.flaw() is None
        with chained.database.read() as reader:
            assert [each.id for each in audit.page(reader, None)] == list(range(12, 0, -1))
    finally:
        second._writer.notary = None  # the first one's to close
        second.close()
