"""Uses are counted from the log: each once, whether before or after the mark."""

from datetime import UTC, date, datetime, timedelta

import pytest

from authsome.models.audit import Entry, Event
from authsome.models.run import Run
from authsome.vault import audit, runs, usage
from authsome.vault.usage import LastUse

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def use(database, at, *, vault="vault_a", provider="github", connection="default", identity="ada", event=Event.RESOLVE):
    with database.transaction() as tx:
        entry = Entry(event=event, at=at, vault_id=vault, provider=provider, connection=connection, identity=identity)
        audit.append(tx, entry)


def per_day(database, **options):
    with database.read() as reader:
        return usage.per_day(reader, "vault_a", since=date(2026, 5, 20), **options)


def last(database):
    with database.read() as reader:
        return usage.last_uses(reader, "vault_a", ["github"])


def count_all(database):
    more = True
    while more:
        with database.transaction() as tx:
            more = usage.count_up(tx)


@pytest.mark.parametrize("piece", [1, 3, 20_000])
def test_every_use_counts_once(database, monkeypatch, piece):
    """By day and connection; before it is counted, half of it counted, and all of it; others' uses never."""
    monkeypatch.setattr(usage, "_PIECE", piece)
    for hours in (0, 1, 30):
        use(database, NOON - timedelta(hours=hours))
    use(database, NOON, connection="work", identity="bob")
    use(database, NOON, vault="vault_b")
    use(database, NOON, event=Event.EXPORT)
    expected = {date(2026, 6, 1): 3, date(2026, 5, 31): 1}
    assert per_day(database) == expected
    with database.transaction() as tx:
        usage.count_up(tx)
    assert per_day(database) == expected
    count_all(database)
    assert per_day(database) == expected
    use(database, NOON + timedelta(days=1), identity="eve")
    assert per_day(database) == {**expected, date(2026, 6, 2): 1}
    assert per_day(database, provider="github", connection="work") == {date(2026, 6, 1): 1}
    assert last(database) == {
        ("github", "default"): LastUse(NOON + timedelta(days=1), "eve"),
        ("github", "work"): LastUse(NOON, "bob"),
    }
    count_all(database)
    assert last(database)["github", "default"].identity == "eve"
    assert not _more(database)


def _more(database):
    with database.transaction() as tx:
        return usage.count_up(tx)


@pytest.mark.parametrize("is_counted", [True, False])
def test_the_last_use_is_the_logs_last(database, is_counted):
    """Also after the clock was set back: else it would lie ahead until that time has come. # SEC-84"""
    use(database, NOON + timedelta(days=900))
    count_all(database)
    use(database, NOON, identity="bob")
    if is_counted:
        count_all(database)
    assert last(database) == {("github", "default"): LastUse(NOON, "bob")}


def test_what_nobody_looks_back_to_is_forgotten(database):
    """Days older than a quarter of a year, and the last uses of vaults that are gone."""
    use(database, NOON - usage.KEPT - timedelta(days=2))
    use(database, NOON)
    count_all(database)
    with database.transaction() as tx:
        usage.forget(tx, NOON)
        days = tx.execute("SELECT count(*) FROM usage_days").fetchone()[0]
        uses = tx.execute("SELECT count(*) FROM last_uses").fetchone()[0]
    assert (days, uses) == (1, 0)  # no vault of that name is left here


@pytest.mark.parametrize("piece", [1, 20_000])
def test_uses_of_runs(database, monkeypatch, piece):
    """Each once, by connection, whether counted yet or not; of the vault's own runs, as long as there are any."""
    monkeypatch.setattr(usage, "_PIECE", piece)
    with database.transaction() as tx:
        for vault in ("vault_a", "vault_b"):
            tx.execute("INSERT INTO vaults (id, wrapped_key, revision, created_at) VALUES (?, x'00', 0, 0)", (vault,))
        tx.execute("INSERT INTO identities (handle, did, created_at) VALUES ('ada', 'did:key:zada', 0)")
        for run, vault in (("mine", "vault_a"), ("idle", "vault_a"), ("its", "vault_b")):
            runs.create(tx, a_run(run, vault))
        for run, vault, name in (
            ("mine", "vault_a", "default"),
            ("mine", "vault_a", "default"),
            ("mine", "vault_a", "work"),
            ("its", "vault_b", "default"),
            (None, "vault_a", "default"),
        ):
            entry = Entry(event=Event.RESOLVE, at=NOON, vault_id=vault, provider="github", connection=name, run=run)
            audit.append(tx, entry)
    expected = {"mine": {("github", "default"): 2, ("github", "work"): 1}}
    more = True
    while more:
        assert of_runs(database) == expected
        more = _more(database)
    assert of_runs(database) == expected
    with database.transaction() as tx:
        runs.purge(tx, before=NOON + timedelta(days=9))
        usage.forget(tx, NOON)
        assert tx.execute("SELECT count(*) FROM run_uses").fetchone()[0] == 0


def of_runs(database):
    with database.read() as reader:
        return usage.of_runs(reader, "vault_a", ["mine", "idle", "its"])


def a_run(run, vault):
    return Run(
        id=run,
        secret_hash=b"",
        vault_id=vault,
        identity="ada",
        pinned={},
        only=frozenset(),
        created_at=NOON,
        expires_at=NOON + timedelta(days=1),
        ended_at=None,
    )
