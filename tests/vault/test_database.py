"""The database file: complete or absent, private, migrated with care, and refused rather than repaired."""

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from authsome.errors import AuthsomeError, DaemonUnavailable, StorageFailed, UnsafeFile, VaultUnusable
from authsome.home import Home
from authsome.vault import schema
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock

RELEASED = [migration.name for migration in schema.MIGRATIONS]
NEXT = schema.Migration("next", ("CREATE TABLE next (number BIGINT PRIMARY KEY)",))


def put_proof(database: Database, number: int) -> None:
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO replay (expires_at, jti_hash) VALUES (?, ?)", (number, b"hash"))


def proofs(database: Database) -> list[int]:
    with database.read() as reader:
        return [number for (number,) in reader.execute("SELECT expires_at FROM replay ORDER BY expires_at")]


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


# ---- made, opened, closed ----------------------------------------------------------------------------------


def test_what_was_written_is_there_when_opened_again(open_database):
    database = open_database()
    put_proof(database, 1)
    database.close()
    assert proofs(open_database()) == [1]


def test_settings_of_the_connections(database):
    """WAL, deleted values overwritten, nothing in temporary files, no functions from a planted schema."""
    expected = {"journal_mode": "wal", "secure_delete": 1, "temp_store": 2, "trusted_schema": 0, "foreign_keys": 1}
    with database.transaction() as transaction:
        assert {name: transaction.execute(f"PRAGMA {name}").fetchone()[0] for name in expected} == expected
        assert transaction.execute("PRAGMA synchronous").fetchone()[0] == 2
    with database.read() as reader:
        assert {name: reader.execute(f"PRAGMA {name}").fetchone()[0] for name in expected} == expected


def test_reader_cannot_write_and_sees_one_moment(database):
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM replay").fetchone()[0] == 0
        put_proof(database, 1)
        assert reader.execute("SELECT count(*) FROM replay").fetchone()[0] == 0
    assert proofs(database) == [1]
    with pytest.raises(StorageFailed), database.read() as reader:
        reader.execute("DELETE FROM replay")
    assert proofs(database) == [1]


def test_a_long_reader_stops_no_writer(database):  # SEC-195
    with database.read() as reader:
        rows = reader.execute("SELECT name FROM sqlite_master")
        rows.fetchone()
        for number in range(3):
            put_proof(database, number)
        with database.transaction(durable=False) as transaction:
            transaction.execute("DELETE FROM replay")
        assert rows.fetchone() is not None
    assert proofs(database) == []


def test_many_threads_read_while_others_write(database):
    seen: list[int] = []

    def read() -> None:
        seen.extend(len(proofs(database)) for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for number in range(50):
        put_proof(database, number)
    for thread in threads:
        thread.join()
    assert len(seen) == 16 * 20
    assert len(database._readers) <= 8
    assert len(proofs(database)) == 50


def test_closed_database_refuses_and_leaves_one_file(database):
    put_proof(database, 1)
    database.close()
    database.close()
    for use in (lambda: proofs(database), lambda: put_proof(database, 2)):
        with pytest.raises(DaemonUnavailable):
            use()
    assert [path.name for path in database.path.parent.glob("store.db*")] == ["store.db"]


def test_open_needs_the_lock(paths):  # SEC-122
    lock = HomeLock.acquire(paths)
    lock.release()
    with pytest.raises(DaemonUnavailable):
        Database.open(lock, clock=lambda: None)  # type: ignore[arg-type, return-value]


def test_home_with_odd_names_works(tmp_path, now):  # SEC-121
    for name in ("sp ace", "ünïcode", "100%?mode=memory#x", "x" * 200):
        with HomeLock.acquire(Home(tmp_path / name)) as lock:
            database = Database.open(lock, clock=lambda: now)
            put_proof(database, 1)
            database.close()
            assert (tmp_path / name / "server" / "store.db").stat().st_size > 0


def test_check_finds_nothing_wrong_with_a_sound_database(database):
    put_proof(database, 1)
    assert database.check() == ()


# ---- files -------------------------------------------------------------------------------------------------


def test_every_file_is_private_whatever_the_umask(open_database):  # SEC-118
    before = os.umask(0)
    try:
        database = open_database()
        put_proof(database, 1)
        assert {path.name for path in database.path.parent.glob("store.db*")} >= {
            "store.db",
            "store.db-wal",
            "store.db-shm",
        }
        database.copy_to(database.path.with_name("copy"))
        database.close()
        migrated = open_database(migrations=(*schema.MIGRATIONS, NEXT))
        put_proof(migrated, 2)
        for path in database.path.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm"])
def test_links_and_open_files_are_refused(open_database, paths, tmp_path, name):  # SEC-119
    open_database().close()
    path = paths.server / name
    precious = tmp_path / "precious"
    precious.write_bytes(paths.database.read_bytes())
    content = precious.read_bytes()
    precious.chmod(0o600)

    def symbolic() -> None:
        path.symlink_to(precious)

    def hard() -> None:
        path.hardlink_to(precious)

    def readable() -> None:
        path.write_bytes(content)
        path.chmod(0o644)

    def foreign() -> None:
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, 12345, -1)

    for plant in (symbolic, hard, readable, *([foreign] if os.geteuid() == 0 else [])):
        path.unlink(missing_ok=True)
        plant()
        with pytest.raises(UnsafeFile, match=name):
            open_database()
        assert precious.read_bytes() == content


def test_planted_draft_is_not_followed(open_database, paths, tmp_path):  # SEC-120
    target = tmp_path / "precious"
    target.write_text("precious")
    (paths.server / "store.db.new").symlink_to(target)
    put_proof(open_database(), 1)
    assert target.read_text() == "precious"
    assert not paths.database.is_symlink()


def test_deleted_values_are_overwritten(database, paths):  # SEC-126
    canary = b"canary-5d1f0c"
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO replay (expires_at, jti_hash) VALUES (1, ?)", (canary * 40,))
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM replay")
    database.close()
    assert canary not in paths.database.read_bytes()


# ---- damage ------------------------------------------------------------------------------------------------


def refused_and_untouched(open_database, directory: Path) -> AuthsomeError:
    before = snapshot(directory)
    with pytest.raises(VaultUnusable) as caught:
        open_database()
    after = snapshot(directory)
    assert {name: after.get(name) for name in before} == before
    assert caught.value.hint
    if caught.value.hint.startswith("it was left as it is"):
        assert "put a backup in its place (authsome admin restore FILE --force)" in caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("seventh", range(7))
def test_truncated_database_is_refused_and_left_alone(open_database, paths, seventh):  # SEC-135
    """At a page's border and inside a page, down to nothing."""
    open_database().close()
    size = paths.database.stat().st_size
    for length in {seventh * size // 7, seventh * size // 7 // 4096 * 4096}:
        os.truncate(paths.database, length)
        refused_and_untouched(open_database, paths.server)


@pytest.mark.parametrize("seventh", range(7))
def test_flipped_bits_are_refused_or_harmless(open_database, paths, seventh):  # SEC-135
    """Whatever is flipped, the file is not overwritten, and what is read is what was written or an error."""
    database = open_database()
    for number in range(500):
        with database.transaction(durable=False) as transaction:
            transaction.execute("INSERT INTO replay (expires_at, jti_hash) VALUES (?, ?)", (number, b"hash"))
    database.close()
    data = bytearray(paths.database.read_bytes())
    data[seventh * len(data) // 7 + seventh] ^= 0x40
    paths.database.write_bytes(data)
    try:
        found = proofs(open_database())
    except VaultUnusable:
        assert paths.database.read_bytes() == data
    else:
        assert len(found) == 500


def test_damaged_page_of_a_small_table_is_found_at_once(open_database, paths):  # SEC-135
    database = open_database()
    with database.read() as reader:
        root, size = reader.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'vaults'"
        ).fetchone()
    database.close()
    with paths.database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    refused_and_untouched(open_database, paths.server)


def test_damage_met_while_reading_is_told_and_the_rest_serves(open_database, paths):  # SEC-135
    database = open_database()
    with database.read() as reader:
        root, size = reader.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'audit'"
        ).fetchone()
    database.close()
    with paths.database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    database = open_database()
    put_proof(database, 1)
    assert proofs(database) == [1]
    assert database.check() != ()
    with pytest.raises(VaultUnusable, match="damaged"), database.read() as reader:
        reader.execute("SELECT * FROM audit").fetchall()
    assert proofs(database) == [1]


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"not a database\n" * 1000, os.urandom(8192)])
def test_what_is_no_database_is_refused_and_left_alone(open_database, paths, content):  # SEC-135
    paths.database.write_bytes(content)
    paths.database.chmod(0o600)
    refused_and_untouched(open_database, paths.server)


def test_somebody_elses_database_is_refused(open_database, paths):
    connection = sqlite3.connect(paths.database)
    connection.execute("CREATE TABLE theirs (number INTEGER)")
    connection.close()
    paths.database.chmod(0o600)
    refused_and_untouched(open_database, paths.server)


def test_log_without_its_database_is_refused(open_database, paths):
    """It holds what was stored last, and SQLite would play it into a new database."""
    database = open_database()
    put_proof(database, 1)
    log = (paths.server / "store.db-wal").read_bytes()
    database.close()
    paths.database.unlink()
    (paths.server / "store.db-wal").write_bytes(log)
    (paths.server / "store.db-wal").chmod(0o600)
    refused_and_untouched(open_database, paths.server)
    assert not paths.database.exists()


# ---- migrations --------------------------------------------------------------------------------------------


def test_older_schema_is_migrated_beside_a_backup(open_database, paths):  # SEC-124
    database = open_database()
    put_proof(database, 1)
    database.close()
    database = open_database(migrations=(*schema.MIGRATIONS, NEXT))
    assert proofs(database) == [1]
    with database.read() as reader:
        names = [name for (name,) in reader.execute("SELECT name FROM migrations ORDER BY version")]
        assert names == [*RELEASED, "next"]
        assert reader.execute("SELECT count(*) FROM next").fetchone() == (0,)
    database.close()
    backup = sqlite3.connect(paths.server / f"store.db.before-{len(RELEASED) + 1}")
    assert [name for (name,) in backup.execute("SELECT name FROM migrations ORDER BY version")] == RELEASED
    assert backup.execute("SELECT expires_at FROM replay").fetchall() == [(1,)]
    backup.close()
    open_database(migrations=(*schema.MIGRATIONS, NEXT))


def test_newer_schema_is_refused(open_database, paths):  # SEC-124
    open_database(migrations=(*schema.MIGRATIONS, NEXT)).close()
    assert "newer" in refused_and_untouched(open_database, paths.server).message


def test_failing_migration_leaves_the_old_state(open_database, paths):  # SEC-124
    database = open_database()
    put_proof(database, 1)
    database.close()
    before = paths.database.read_bytes()
    broken = schema.Migration("broken", ("CREATE TABLE half (number BIGINT)", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.OperationalError):
        open_database(migrations=(*schema.MIGRATIONS, NEXT, broken))
    assert paths.database.read_bytes() == before
    assert proofs(open_database()) == [1]
    put_proof(open_database(migrations=(*schema.MIGRATIONS, NEXT)), 2)


def test_leftovers_of_a_killed_first_start_are_swept(open_database, paths):
    for suffix in ("", "-wal", "-journal"):
        (paths.server / f"store.db.new{suffix}").write_bytes(b"half a database")
    put_proof(open_database(), 1)
    assert not list(paths.server.glob("store.db.new*"))


# ---- copies ------------------------------------------------------------------------------------------------


def test_copy_is_consistent_while_work_goes_on(database, tmp_path):  # SEC-125
    """Rows are written in pairs; whenever the copy is made, it has whole pairs."""
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 2
            with database.transaction(durable=False) as transaction:
                for each in (number, number + 1):
                    transaction.execute("INSERT INTO replay (expires_at, jti_hash) VALUES (?, ?)", (each, b"x" * 500))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for turn in range(5):
            database.copy_to(tmp_path / f"copy-{turn}")
            copy = sqlite3.connect(tmp_path / f"copy-{turn}")
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert copy.execute("SELECT count(*) % 2 FROM replay").fetchone() == (0,)
            copy.close()
    finally:
        stop.set()
        worker.join()


def test_copy_overwrites_nothing(database, tmp_path):
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(StorageFailed):
        database.copy_to(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "precious"
