"""Hearing of changes: the daemon's socket, and the proxy's look at it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authsome.client.supervisor import DaemonState
from authsome.daemon import changes as told
from authsome.home import Home
from authsome.proxy import changes
from authsome.proxy.changes import NOBODY, Changes


@pytest.fixture
def telling(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[told.Changes]:
    """A daemon of this process's that tells."""
    before = os.umask(0o077)  # as the daemon's is
    try:
        state = DaemonState(pid=os.getpid(), url="", version="", build="", archive=None)
        monkeypatch.setattr(changes.supervisor, "running", lambda _: state)
        telling = told.Changes()
        telling.open(Home(home))
        yield telling
        telling.close(Home(home))
    finally:
        os.umask(before)


@pytest.fixture
def heard(home: Path) -> Iterator[Changes]:
    """A proxy of this home that hears."""
    heard = Changes(Home(home))
    yield heard
    heard.close()


def test_the_epoch_moves_with_each_change(heard, telling):
    """And with nothing else; to nobody's surprise before `tell` has returned."""
    assert heard.epoch() == NOBODY
    first = heard.listen()
    assert first != NOBODY
    assert [heard.epoch() for _ in range(3)] == [first] * 3
    seen = {first}
    for _ in range(50):
        telling.tell()
        assert heard.epoch() not in seen
        seen.add(heard.epoch())


def test_who_does_not_look_is_not_waited_for(heard, telling):
    """A proxy that stands still does not hold up the daemon, and sees that something has changed afterwards."""
    first = heard.listen()
    for _ in range(20_000):
        telling.tell()
    assert heard.epoch() > first
    later = heard.epoch()
    while heard.epoch() != later:
        later = heard.epoch()
    telling.tell()
    assert heard.epoch() > later


def test_the_end_is_heard(home, heard, telling):
    """Without a daemon there is no epoch; with the next one it is another."""
    first = heard.listen()
    telling.close(Home(home))
    assert heard.epoch() == NOBODY
    assert heard.listen() == NOBODY
    telling.open(Home(home))
    heard._retry_at = 0.0  # what passes in some seconds
    assert heard.listen() > first


def test_many_threads_hear_the_same(heard, telling):
    """Whoever finds the socket empty, because another thread has read from it, knows of the change all the same."""
    heard.listen()
    late: list[int] = []
    told_of = [0]

    def look() -> None:
        while not late and told_of[0] >= 0:
            before = told_of[0]
            if before > heard.epoch() > NOBODY:
                late.append(before)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        epoch = heard.epoch()
        telling.tell()
        told_of[0] = epoch + 1  # what every look from now on has to reach
    told_of[0] = -1
    for thread in threads:
        thread.join()
    assert late == []


def test_a_stranger_on_the_socket_is_not_believed(home, heard, monkeypatch):
    """Who listens there has to be the process that holds the home."""
    code = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('ready', flush=True)\n"
        "c, _ = s.accept(); c.send(b'x'); time.sleep(60)"
    )
    path = Home(home).changes
    path.parent.mkdir(parents=True, exist_ok=True)
    state = DaemonState(pid=os.getpid(), url="", version="", build="", archive=None)
    monkeypatch.setattr(changes.supervisor, "running", lambda _: state)
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout
        stranger.stdout.readline()
        assert heard.listen() == NOBODY
        stranger.send_signal(signal.SIGKILL)


def test_a_long_path_has_a_socket_too(tmp_path, monkeypatch):
    """A home whose path does not fit a socket's address is reached by another name of it."""
    root = tmp_path / ("x" * 90) / ("y" * 90)
    root.mkdir(parents=True, mode=0o700)
    state = DaemonState(pid=os.getpid(), url="", version="", build="", archive=None)
    monkeypatch.setattr(changes.supervisor, "running", lambda _: state)
    telling = told.Changes()
    telling.open(Home(root))
    heard = Changes(Home(root))
    try:
        assert heard.listen() != NOBODY
    finally:
        heard.close()
        telling.close(Home(root))


@pytest.mark.usefixtures("telling")
def test_too_many_listeners_are_too_late(home, heard):
    """There are only so many; those that have gone make room."""
    with _connected(home, told.MOST) as first:
        assert all(each.recv(1) for each in first)
        with _connected(home, 1) as (late,):
            assert late.recv(1) == b""
    assert heard.listen() != NOBODY


@contextmanager
def _connected(home: Path, count: int) -> Iterator[list[socket.socket]]:
    found = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    try:
        for each in found:
            each.connect(str(Home(home).changes))
        yield found
    finally:
        for each in found:
            each.close()
