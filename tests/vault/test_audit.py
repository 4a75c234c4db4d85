"""The audit log: every entry comes back as it was, page by page, and none can forge another."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsome.errors import VaultDamaged
from authsome.models.audit import Entry, Event
from authsome.vault import audit
from authsome.vault.database import Reader
from vault.conftest import NOW


@pytest.fixture
def entry(store, now):
    return Entry(
        event=Event.RESOLVE,
        at=now,
        vault_id=store.vault_id,
        principal=store.owner.id,
        identity="me",
        provider="github",
        connection="default",
        method="GET",
        host="api.github.com",
        path="/user",
        proof="a-jti-of-a-proof",
        run="run-1",
        detail="ünïcode",
    )


def append(store, *entries):
    with store.database.transaction() as transaction:
        for entry in entries:
            audit.append(transaction, entry)


def page(store, *arguments, vault_id=None, **rest):
    with store.database.read() as reader:
        return audit.page(reader, vault_id, *arguments, **rest)


def test_what_is_appended_comes_back_newest_first(store, entry, now):
    bare = Entry(event=Event.DENIED, at=now + timedelta(microseconds=1))
    append(store, entry, bare)
    assert [recorded.entry for recorded in page(store)] == [bare, entry]


def test_pages_follow_each_other_without_gap_or_overlap(store, entry):
    append(store, *(replace(entry, detail=str(number)) for number in range(25)))
    seen, before = [], None
    while found := page(store, before_id=before, limit=10):
        seen += [recorded.entry.detail for recorded in found]
        before = found[-1].id
        append(store, entry)  # what comes later disturbs no reader
    assert seen == [str(number) for number in reversed(range(25))]


@pytest.mark.parametrize(("limit", "length"), [(0, 1), (-1, 1), (1, 1), (10**9, 1000)])
def test_a_page_has_bounds(store, entry, limit, length):
    append(store, *[entry] * 1001)
    assert len(page(store, limit=limit)) == length


def test_filters_are_joined(store, entry, now):
    other = replace(
        entry, event=Event.LOGIN, provider="openai", identity="you", vault_id="vault_b", at=now + timedelta(hours=1)
    )
    append(store, entry, other)
    for filters in (
        audit.Filter(event=Event.LOGIN),
        audit.Filter(provider="openai"),
        audit.Filter(identity="you"),
        audit.Filter(since=now + timedelta(minutes=1)),
        audit.Filter(event=Event.LOGIN, provider="openai", identity="you", since=now + timedelta(hours=1)),
    ):
        assert [recorded.entry for recorded in page(store, filters)] == [other], filters
    assert page(store, audit.Filter(event=Event.LOGIN, provider="github")) == []
    assert [recorded.entry for recorded in page(store, audit.Filter(event=Event.RESOLVE))] == [entry]


def test_filters_are_values_and_never_sql(store, entry):  # SEC-188
    append(store, entry)
    assert page(store, audit.Filter(provider="' OR 1=1 --", identity='"; DROP TABLE audit')) == []
    assert len(page(store)) == 1


def test_vaults_see_their_own_entries_only(store, entry):  # SEC-188
    append(store, entry, replace(entry, vault_id="vault_b"), replace(entry, vault_id=None))
    assert len(page(store, vault_id=store.vault_id)) == 1
    assert len(page(store)) == 3


class Explaining(Reader):
    """Tells how SQLite would go about the query for a page, in place of its rows."""

    def execute(self, sql, parameters=()):
        if "ORDER BY id DESC" not in sql or "hash" not in sql.partition("FROM")[0]:
            return super().execute(sql, parameters)
        self.plan = [row[3] for row in super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        return super().execute("SELECT 1 WHERE 0")


@pytest.mark.parametrize(
    ("filters", "vault_id", "way"),
    [
        (audit.Filter(), None, "USING INTEGER PRIMARY KEY (rowid<?)"),
        (audit.Filter(event=Event.LOGIN), None, "USING INDEX audit_rare (event=? AND "),
        (audit.Filter(event=Event.RESOLVE), None, "USING INTEGER PRIMARY KEY (rowid<?)"),
        (audit.Filter(provider="openai"), None, "USING INDEX audit_provider (provider=? AND "),
        (audit.Filter(identity="you"), None, "USING INDEX audit_identity (identity=? AND "),
        (audit.Filter(), "vault_b", "USING INDEX audit_vault (vault_id=? AND "),
        (audit.Filter(provider="openai", identity="me"), "vault_a", "USING INDEX audit_provider (provider=? AND "),
        (audit.Filter(provider="github", identity="you"), "vault_a", "USING INDEX audit_identity (identity=? AND "),
        (audit.Filter(provider="github", identity="me"), "vault_b", "USING INDEX audit_vault (vault_id=? AND "),
        (audit.Filter(provider="github", event=Event.LOGIN), "vault_a", "USING INDEX audit_rare (event=? AND "),
        (audit.Filter(since=NOW), None, "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (audit.Filter(since=NOW, provider="openai"), None, "USING INDEX audit_provider (provider=? AND id>? AND id<?)"),
    ],
)
def test_pages_cost_the_same_however_long_the_log(store, entry, filters, vault_id, way):  # SEC-188
    """Each page is read by row number, or by the index over the filter that the fewest have; nothing is sorted."""
    usual = replace(entry, vault_id="vault_a")
    append(store, *[usual] * 9, replace(usual, provider="openai"), replace(usual, identity="you"))
    append(store, replace(usual, vault_id="vault_b"), replace(usual, event=Event.LOGIN))
    with store.database.read() as reader:
        explaining = Explaining(reader._connection)
        audit.page(explaining, vault_id, filters, before_id=9)
    assert len(explaining.plan) == 1
    assert way in explaining.plan[0]


@given(
    filters=st.builds(
        audit.Filter,
        event=st.sampled_from([None, Event.LOGIN, Event.RESOLVE]),
        provider=st.sampled_from([None, "github", "openai"]),
        identity=st.sampled_from([None, "me", "you"]),
        since=st.sampled_from([None, NOW, NOW + timedelta(seconds=40)]),
    ),
    vault_id=st.sampled_from([None, "vault_a", "vault_b"]),
    before=st.sampled_from([None, 20]),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pages_are_what_a_look_at_all_entries_finds(store, entry, filters, vault_id, before):  # SEC-188
    """Whichever index leads."""
    if not page(store, limit=1):
        for number in range(60):
            made = replace(
                entry,
                at=NOW + timedelta(seconds=number if number % 7 else 99 - number),
                event=Event.LOGIN if number % 5 == 0 else Event.RESOLVE,
                provider="openai" if number % 3 == 0 else "github",
                identity="you" if number % 4 == 0 else "me",
                vault_id="vault_b" if number % 11 == 0 else "vault_a",
            )
            append(store, made)
    wanted = [
        each.id
        for each in page(store, limit=1000)
        if (vault_id is None or each.entry.vault_id == vault_id)
        and (filters.event is None or each.entry.event is filters.event)
        and (filters.provider is None or each.entry.provider == filters.provider)
        and (filters.identity is None or each.entry.identity == filters.identity)
        and (filters.since is None or each.entry.at >= filters.since)
        and (before is None or each.id < before)
    ]
    assert [each.id for each in page(store, filters, vault_id=vault_id, before_id=before, limit=1000)] == wanted


LINES = st.text(max_size=30) | st.sampled_from(["a\r\nb", "\x1b[31mred", "x" * 2000, "\u202eevil", "\ud800"])


def test_no_text_can_break_out_of_its_row(store, entry):  # SEC-185
    """Line ends, terminal sequences, right-to-left marks and megabytes become one printable line."""

    @settings(max_examples=50)
    @given(text=LINES)
    def holds(text):
        names = ("identity", "proof", "provider", "connection", "method", "host", "path", "run", "detail", "principal")
        append(store, replace(entry, **dict.fromkeys(names, text)))
        stored = page(store, limit=1)[0].entry
        for name in names:
            value = getattr(stored, name)
            assert value.isprintable()
            assert len(value) <= 512
            assert not text.isprintable() or len(text) > 512 or value == text

    holds()


def test_entry_belongs_to_its_transaction(store, entry):
    """An act that is taken back leaves no entry."""

    def act():
        with store.database.transaction() as transaction:
            audit.append(transaction, entry)
            raise KeyError

    with pytest.raises(KeyError):
        act()
    assert page(store) == []


def test_damaged_entry_says_so(store, entry):
    append(store, entry)
    with store.database.transaction() as transaction:
        transaction.execute("DROP TRIGGER audit_stays")
        transaction.execute("UPDATE audit SET event = 'danced'")
    with pytest.raises(VaultDamaged):
        page(store)
