"""The vault under `kill -9` and failing disks: what was acknowledged is there, and nothing is there by half.

strace makes the faults: it kills the process at its k-th system call of a kind, or lets that call fail.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from authsome.home import Home, settings_from
from authsome.vault import chain, clients, connections, principals, vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock

CHILD = Path(__file__).with_name("vault_at_work.py")
CALLS = "pwrite64,fsync,fdatasync,rename,unlink,ftruncate"
"""The system calls by which a vault changes what is on disk."""


def now() -> datetime:
    return datetime.now(UTC)


def at_work(home: Path, *prefix: str | Path, threads: int = 1, turns: int = 6) -> list[str]:
    """Run the vault until it ends or is killed; what it said."""
    done = subprocess.run(
        [*prefix, sys.executable, CHILD, home, str(threads), str(turns)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def strace(trace: Path, *options: str) -> list[str | Path]:
    return ["strace", "-f", "-qq", "-o", trace, "-e", f"trace={CALLS}", *options]


def names(lines: Sequence[str], word: str) -> list[str]:
    return [line.split()[1] for line in lines if line.startswith(f"{word} ")]


def verify(home: Path, said: Sequence[str]) -> set[str]:
    """Start again, in this process, as after a crash, and go on; which connections are there."""
    settings = settings_from({"AUTHSOME_HOME": str(home)})
    with HomeLock.acquire(settings.home) as lock:
        database = Database.open(lock, clock=now)
        assert database.check() == ()
        sealers = vaults.unlock(database, settings, clock=now)
        chain.begin(database, settings.home, sealers, now=now())
        assert (checked := chain.verify(database, after=None, limit=10**6)).flaw is None, checked
        with database.read() as reader:
            owner = principals.owner(reader)
            assert owner is not None or "owned" not in said
            stored = connections.list_all(reader, owner.vault_id) if owner else []
            audited = [name for (name,) in reader.execute("SELECT connection FROM audit")]
            for connection in stored:
                held = connections.secrets(reader, sealers.for_vault(connection.vault_id), connection)
                assert held["api_key"].reveal() == f"key of {connection.name}"
                assert set(held) == {"api_key", "other"}
        with database.transaction() as transaction:
            owner = owner or principals.create_owner(transaction, sealers, now=now())
            sealer = sealers.for_vault(owner.vault_id)
            clients.put(transaction, sealer, provider="github", client_id="id", client_secret=None, now=now())
        database.close()
    found = {connection.name for connection in stored}
    assert set(names(said, "put")) <= found, "something acknowledged is lost"
    assert not set(names(said, "failed")) & found, "something refused was kept"
    assert sorted(audited) == sorted(found), "an act and its audit entry are not one"
    return found


def test_kill_at_any_write_loses_nothing_acknowledged(tmp_path):  # SEC-130 # SEC-183
    """From the first file of the first start to the last checkpoint; and the next start needs no help."""
    trace = tmp_path / "trace"
    said = at_work(tmp_path / "whole", *strace(trace))
    assert said[-1] == "closed"
    calls = Counter(re.findall(r"^\d+\s+(\w+)\(", trace.read_text(), re.MULTILINE))
    moments = [(call, number) for call, count in sorted(calls.items()) for number in range(1, count + 1)]
    assert len(moments) > 50
    chosen = moments[:: len(moments) // 16]
    interrupted = 0
    for call, number in chosen:
        home = tmp_path / f"{call}-{number}"
        said = at_work(home, *strace(trace, "-e", f"inject={call}:signal=KILL:when={number}"))
        interrupted += said[-1:] != ["closed"]
        verify(home, said)
    assert interrupted == len(chosen)


def test_kill_at_random_moments_under_load_loses_nothing_acknowledged(tmp_path):  # SEC-131
    """Eight threads, one home, killed again and again."""
    home = tmp_path / "home"
    said: list[str] = []
    for turn in range(16):
        with subprocess.Popen([sys.executable, CHILD, home, "8", "100000"], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            if turn % 4:  # however slow the machine is, most are killed at work and not on the way there
                has_begun = False
                for line in child.stdout:
                    said.append(line.strip())
                    has_begun |= line == "owned\n"
                    if has_begun and len(names(said, "put")) >= 10 * turn:
                        break
            time.sleep(0.02 + 0.013 * turn)
            child.kill()
            rest = child.stdout.read()
            said += rest[: rest.rfind("\n") + 1].splitlines()
        if turn % 4 == 0:
            verify(home, said)
    assert len(verify(home, said)) > 100


def test_failing_sync_fails_loudly_and_keeps_the_old_state(tmp_path):  # SEC-132
    """Whichever it is: at the first start, at a commit, at a checkpoint. Afterwards the vault goes on."""
    trace = tmp_path / "trace"
    at_work(tmp_path / "whole", *strace(trace))
    syncs = Counter(re.findall(r"^\d+\s+(f\w*sync)\(", trace.read_text(), re.MULTILINE))
    failed = 0
    for call, count in sorted(syncs.items()):
        for number in range(1, count + 1, max(1, count // 5)):
            home = tmp_path / f"{call}-{number}"
            said = at_work(home, *strace(trace, "-e", f"inject={call}:error=EIO:when={number}"))
            troubles = [line for line in said if line.startswith(("refused", "failed"))]
            assert all("storage_failed" in line for line in troubles), troubles
            failed += bool(troubles)
            verify(home, said)
    assert failed > 3


def test_full_disk_fails_writes_serves_reads_and_mends_itself(tmp_path):  # SEC-133
    trace = tmp_path / "trace"
    at_work(tmp_path / "whole", *strace(trace))
    count = len(re.findall(r"^\d+\s+pwrite64\(", trace.read_text(), re.MULTILINE))
    refused = read = 0
    for number in range(1, count, count // 6):
        home = tmp_path / str(number)
        said = at_work(home, *strace(trace, "-e", f"inject=pwrite64:error=ENOSPC:when={number}+"))
        troubles = [line for line in said if line.startswith(("refused", "failed"))]
        assert troubles or said[-1] == "closed"  # the last ones hit the final checkpoint, which may fail in peace
        assert all("storage_failed" in line and "the disk is full" in line for line in troubles), troubles
        refused += any(line.startswith("refused") for line in troubles)
        read += any(line.startswith("read ") for line in said)
        verify(home, said)
    assert refused
    assert read


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv[:2] = []
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_file_that_may_not_grow_is_like_a_full_disk(tmp_path):  # SEC-133
    """The kernel's own refusal, without strace: the log may not become longer than 400 KB."""
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "400000", CHILD, home, "4", "40"], capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()
    assert names(said, "put")
    assert names(said, "failed")
    assert any(line.startswith("read ") for line in said)
    verify(home, said)


READING = """
import sys
from datetime import UTC, datetime
from authsome.errors import StorageFailed
from authsome.home import settings_from
from authsome.vault import connections, principals, vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
settings = settings_from({"AUTHSOME_HOME": sys.argv[1]})
def clock():
    return datetime.now(UTC)
database = Database.open(HomeLock.acquire(settings.home), clock=clock)
sealers = vaults.unlock(database, settings, clock=clock)
with database.read() as reader:
    owner = principals.owner(reader)
    for connection in connections.list_all(reader, owner.vault_id):
        print(connections.secrets(reader, sealers.for_vault(owner.vault_id), connection)["api_key"].reveal())
try:
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM connections")
except StorageFailed as error:
    print(error.message, "|", error.hint)
"""
MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_read_only_home_serves_reads_and_refuses_writes(tmp_path, killed):  # SEC-134
    """On storage that cannot be written, whether the last daemon closed its files or left a log behind."""
    home = tmp_path / "home"
    said = at_work(home)
    if killed:
        with subprocess.Popen([sys.executable, CHILD, home, "1", "100000"], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said += [child.stdout.readline() for _ in range(20)]
            child.kill()
            said += child.stdout.readlines()
        assert (home / "server" / "store.db-wal").stat().st_size > 0
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    done = subprocess.run(
        [*namespace, "sh", "-c", MOUNT, "sh", home, sys.executable, "-c", READING, home],
        cwd=CHILD.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    *keys, refusal = done.stdout.splitlines()
    assert {f"key of {name}" for name in names(said, "put")} <= set(keys), done.stderr
    assert "read-only" in refusal
    assert refusal.partition("|")[2].strip()


def test_lock_of_a_killed_daemon_keeps_nobody_out(tmp_path):  # SEC-122
    home = tmp_path / "home"
    with subprocess.Popen([sys.executable, CHILD, home, "1", "100000"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "unlocked\n"
        child.kill()
    HomeLock.acquire(Home(home)).release()
