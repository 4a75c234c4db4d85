"""One end of a connection: it never blocks, keeps what cannot be sent yet, and tells how it ended."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from authsome.proxy import side
from authsome.proxy.side import Cut, Side, wait

Pair = tuple[Side, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A side in our hands, and the other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    with ours, theirs:
        yield Side(ours), theirs


def test_what_cannot_be_sent_waits(pair: Pair):
    """Sending does not block, there is room up to a bound, and everything arrives in order."""
    ours, theirs = pair
    blocks = [bytes([number]) * 100_000 for number in range(20)]
    for block in blocks:
        ours.send(block)
    assert ours.unsent > side.ROOM
    assert not ours.has_room
    received = b""
    while len(received) < 2_000_000:
        wait((ours, False), seconds=0)
        received += theirs.recv(65536)
    assert received == b"".join(blocks)
    assert ours.has_room


def test_the_last_answer_is_not_cut_for_a_slow_reader(pair: Pair):
    """Whoever is told goodbye gets all that was sent before, however late it begins to read."""
    # SEC-172
    ours, theirs = pair
    ours.send(b"x" * 2_000_000)
    assert ours.unsent
    finishing = threading.Thread(target=ours.finish)
    finishing.start()
    time.sleep(side._LINGER_SECONDS + 0.5)
    received = 0
    while data := theirs.recv(65536):
        received += len(data)
    assert received == 2_000_000
    theirs.close()
    finishing.join(timeout=60)
    assert not finishing.is_alive()


def test_a_talkative_peer_does_not_lose_its_answer(pair: Pair):
    """What still comes after the goodbye is read over: unread bytes would have it reset, and the answer with it."""
    ours, theirs = pair
    theirs.send(b"more than was asked for")
    ours.send(b"answer")
    finishing = threading.Thread(target=ours.finish)
    finishing.start()
    assert theirs.recv(100) == b"answer"
    assert theirs.recv(100) == b""
    theirs.send(b"and more")
    theirs.close()
    finishing.join(timeout=60)
    assert not finishing.is_alive()


def test_nothing_end_and_break_are_told_apart(pair: Pair):
    """None for not yet, empty for an end with a goodbye, and an error for one without."""
    ours, theirs = pair
    assert ours.receive() is None
    theirs.send(b"a")
    assert wait((ours, True), seconds=5) == [ours]
    assert ours.receive() == b"a"
    theirs.close()
    assert ours.receive() == b""
    with pytest.raises(Cut) as cut:
        ours.send(b"to nobody")
    assert cut.value.side is ours


def test_another_thread_can_wake_it(pair: Pair):
    """The end of a run ends whoever waits."""
    ours, theirs = pair
    timer = threading.Timer(0.1, ours.wake)
    timer.start()
    assert wait((ours, True), seconds=10) == [ours]
    assert ours.receive() == b""
    theirs.close()
