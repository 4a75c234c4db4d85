"""What waits in the loop is told of what comes, and of what becomes of the others it hears nothing."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from authsome.proxy.loop import Hands, Loop
from fakes.patience import PATIENCE


@dataclass
class Waits:
    """One end of a pair, which leaves the loop as soon as something comes."""

    end: socket.socket
    stays: bool = False
    heard: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def descriptors(self) -> tuple[int, ...]:
        return (self.end.fileno(),)

    def step(self, _descriptor: int) -> bool:
        self.end.recv(16)
        self.heard.set()
        return self.stays

    def go_on(self) -> None:
        raise AssertionError

    def release(self) -> None:
        self.released.set()


class NoHands(Hands):
    """There is no thread any more."""

    def take(self, work: Callable[[], None]) -> None:
        del work
        raise RuntimeError("can't start new thread")


def test_without_a_thread_one_ends_and_the_others_wait_on():
    """A machine that is out of threads takes a connection, and not the loop with all of them."""
    # SEC-192
    loop = Loop()
    loop.hands = NoHands()
    pairs = [socket.socketpair() for _ in range(2)]
    leaves, stays = Waits(pairs[0][0]), Waits(pairs[1][0], stays=True)
    for each in (leaves, stays):
        loop.put(each)
    pairs[0][1].send(b"x")
    assert leaves.released.wait(PATIENCE)
    pairs[1][1].send(b"x")
    assert stays.heard.wait(PATIENCE)
    loop.forget(*stays.descriptors())
    for pair in pairs:
        for end in pair:
            end.close()
