"""Loopback ports that nothing listens on, and that nobody else takes while a test is still about to listen there.

Rule 1: none of them is one that the kernel hands out by itself, to listeners on port 0 and to every connection that is
dialled: what is free now would be somebody's client's a moment later.

Rule 2: each process of the tests has a block of ports of its own, on the whole machine, until it ends.
"""

import random
import socket
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_SIZE: Final = 250
_LOWEST: Final = 11_000
"""Below are the ports of services that this machine may run, and some that no browser connects to."""


def free_port() -> int:
    """The next port of this process's block that nothing listens on; the same one again after all the others."""
    block = _block()
    for _ in range(_SIZE):
        port = block.next()
        if _is_free(port):
            return port
    raise RuntimeError(f"somebody listens on all of the ports {block.first} to {block.first + _SIZE - 1}")


class _Block:
    """Ports that are this process's as long as `held` is open."""

    def __init__(self, first: int, held: socket.socket) -> None:
        self.first = first
        self._held = held
        self._lock = threading.Lock()
        self._ports = self._walk()

    def next(self) -> int:
        """The next one, round and round."""
        with self._lock:
            return next(self._ports)

    def _walk(self) -> Iterator[int]:
        while True:
            yield from range(self.first, self.first + _SIZE)


@cache
def _block() -> _Block:
    """The first block that no other process has: a name in the abstract namespace of sockets is one process's."""
    blocks = _blocks()
    random.shuffle(blocks)
    for first in blocks:
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(f"\0authsome-tests-ports-{first}")
        except OSError:
            held.close()
        else:
            return _Block(first, held)
    raise RuntimeError(f"all {len(blocks)} blocks of ports are other processes'")


def _blocks() -> list[int]:
    """Where blocks begin that the kernel does not hand out (Linux: ip_local_port_range); all, where it may do so."""
    low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    firsts = range(_LOWEST, 65_536 - _SIZE, _SIZE)
    return [first for first in firsts if first + _SIZE <= low or first > high] or list(firsts)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
