"""The home lock: one holder at a time, named to whoever comes second, and gone with its process."""

import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from authsome.errors import DaemonUnavailable, UnsafeFile
from authsome.home import Home
from authsome.vault.lock import HomeLock

ROOT = Path(__file__).parents[2]
AT_ONCE = timedelta(0)
HOLDER = """
import sys
from pathlib import Path
from authsome.home import Home
from authsome.vault.lock import HomeLock
lock = HomeLock.acquire(Home(Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""


def hold(paths: Home) -> "subprocess.Popen[str]":
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(paths.root)], cwd=ROOT, stdin=-1, stdout=-1, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_second_one_is_refused_and_told_who_holds_it(paths):  # SEC-122
    with hold(paths) as holder:
        with pytest.raises(DaemonUnavailable, match=f"in use by process {holder.pid}"):
            HomeLock.acquire(paths, patience=AT_ONCE)
        holder.communicate()


def test_lock_ends_with_its_holder(paths):  # SEC-122
    """`kill -9` leaves the file and its pid; neither keeps anybody out."""
    with hold(paths) as holder:
        holder.kill()
    assert paths.daemon_lock.read_text() == f"{holder.pid}\n"
    with HomeLock.acquire(paths, patience=AT_ONCE):
        assert paths.daemon_lock.read_text() == f"{os.getpid()}\n"


def test_pid_of_a_living_process_keeps_nobody_out(paths):  # SEC-122
    """A pid that was given to another process since is no lock."""
    HomeLock.acquire(paths).release()
    paths.daemon_lock.write_text("1\n")
    HomeLock.acquire(paths, patience=AT_ONCE).release()


@pytest.mark.parametrize("content", ["", "nonsense \x1b[31m", "9" * 100])
def test_holder_without_a_readable_pid_is_another_process(paths, content):
    with HomeLock.acquire(paths):
        paths.daemon_lock.write_text(content)
        with pytest.raises(DaemonUnavailable) as caught:
            HomeLock.acquire(paths, patience=AT_ONCE)
    assert caught.value.message.isprintable()
    assert "in use by another process" in caught.value.message or "in use by process 9999" in caught.value.message


def test_it_excludes_within_one_process_too(paths):
    with HomeLock.acquire(paths), pytest.raises(DaemonUnavailable):
        HomeLock.acquire(paths, patience=AT_ONCE)
    HomeLock.acquire(paths, patience=AT_ONCE).release()


def test_release_twice_is_once(paths):
    lock = HomeLock.acquire(paths)
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held


def test_who_only_looks_is_waited_for(paths):
    """A client that probes the lock holds it for a moment; a daemon that starts just then still starts."""
    probe = subprocess.Popen([sys.executable, "-c", HOLDER, str(paths.root)], cwd=ROOT, stdin=-1, stdout=-1, text=True)
    with probe:
        assert probe.stdout is not None
        assert probe.stdin is not None
        probe.stdout.readline()
        probe.stdin.close()
        HomeLock.acquire(paths, patience=timedelta(seconds=30)).release()


def test_modes_are_private_whatever_the_umask(paths):  # SEC-118
    before = os.umask(0)
    try:
        HomeLock.acquire(paths).release()
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.server.stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.daemon_lock.stat().st_mode) == 0o600


def test_linked_lock_is_refused(paths, tmp_path):  # SEC-119
    HomeLock.acquire(paths).release()
    paths.daemon_lock.unlink()
    target = tmp_path / "precious"
    target.write_text("precious")
    paths.daemon_lock.symlink_to(target)
    with pytest.raises(UnsafeFile):
        HomeLock.acquire(paths)
    assert target.read_text() == "precious"
