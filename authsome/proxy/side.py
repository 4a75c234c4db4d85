"""One end of a connection that is passed on: a socket that never blocks, in clear or with TLS, and what waits for it.

Rule: an end with a goodbye (RFC 8446 §6.1; FIN in clear) is told from one without, by which a cut body is known.
"""

import select
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ROOM: Final = 256 * 1024  # bytes that may wait for a slow side before its partner is read on
_READ_SECURE: Final = 16 * 1024  # bytes; a TLS record holds no more
_READ_CLEAR: Final = 64 * 1024  # of 128 KiB each would be a piece of memory from the kernel, and given back
_LINGER_SECONDS: Final = 2.0  # how long a side that still talks is listened to, so that it can read the last answer


class Cut(Exception):
    """A connection broke off."""

    def __init__(self, side: "Side") -> None:
        self.side = side
        super().__init__()


class Side:
    """One end."""

    __slots__ = ("_is_secure", "_read", "_read_size", "_socket", "_unsent", "_write", "unread", "unsent", "used")

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self._socket = connection
        self._is_secure = isinstance(connection, ssl.SSLSocket)
        self._read: Callable[[int], bytes] = connection.recv
        self._write: Callable[[bytes | memoryview], int] = connection.send
        if isinstance(connection, ssl.SSLSocket):  # what these are made of there, without asking whether it is TLS
            self._read, self._write = connection.read, connection.write
        self._read_size = _READ_SECURE if self._is_secure else _READ_CLEAR
        self._unsent: deque[memoryview] = deque()
        self.unread = b""
        """What has come from it and nobody has taken yet."""
        self.unsent = 0
        """How many bytes wait for it."""
        self.used = 0
        """How many exchanges it has served."""

    @property
    def socket(self) -> socket.socket:
        """The socket, for whoever puts TLS on it."""
        return self._socket

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._is_secure

    @property
    def has_room(self) -> bool:
        """Whether more can be sent to it."""
        return self.unsent < ROOM

    @property
    def is_pending(self) -> bool:
        """Whether it can be read although its socket cannot."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def receive(self) -> bytes | None:
        """What has come; None: nothing yet; empty: it has ended, with a goodbye.

        Raises:
            Cut: it has ended without.
        """
        try:
            return self._read(self._read_size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (OSError, ValueError) as error:  # ValueError: it has been closed
            raise Cut(self) from error

    def send(self, data: bytes) -> None:
        """Send, or keep what cannot be sent yet.

        Raises:
            Cut: nobody takes it any more.
        """
        if not data:
            return
        if self._unsent:
            self._unsent.append(memoryview(data))
            self.unsent += len(data)
            return
        try:
            count = self._write(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            count = 0
        except (OSError, ValueError) as error:
            raise Cut(self) from error
        if count < len(data):
            self._unsent.append(memoryview(data)[count:])
            self.unsent += len(data) - count
            if count:  # a record of several
                self.flush()

    def flush(self) -> None:
        """Send what waits, as far as possible.

        Raises:
            Cut: nobody takes it any more.
        """
        try:
            while self._unsent:
                first = self._unsent[0]
                count = self._write(first)
                self.unsent -= count
                if count == len(first):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = first[count:]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, ValueError) as error:
            raise Cut(self) from error

    def forget_unsent(self) -> None:
        """Drop what waits."""
        self._unsent.clear()
        self.unsent = 0

    def end_output(self) -> None:
        """Say that nothing more comes, and go on reading; for a connection in clear."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wake(self) -> None:
        """End it under whoever waits for it, from any thread."""
        with suppress(OSError):
            # Not SSLSocket.shutdown, which drops the TLS state under the thread that may be using it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def finish(self) -> None:
        """End it with a goodbye, once everything was sent; what still comes is not answered with a reset."""
        with suppress(Cut, OSError, ValueError):
            while self.unsent:  # however slowly it reads
                wait((self, False))
            if isinstance(self._socket, ssl.SSLSocket):
                with suppress(OSError, ValueError):
                    self._socket.unwrap()
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            deadline = time.monotonic() + _LINGER_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                if poll.poll(left * 1000) and not socket.socket.recv(self._socket, _READ_CLEAR):
                    break
        self.abort()

    def abort(self) -> None:
        """End it without a goodbye."""
        self._socket.close()


class Pair:
    """Two sides that are waited for together, again and again; asks the kernel anew only for what has changed."""

    def __init__(self, *sides: Side) -> None:
        self._poll = select.poll()
        self._sides = {side.socket.fileno(): side for side in sides}
        self._events = dict.fromkeys(self._sides, 0)
        self._pending = [side for side in sides if side.is_secure]

    def wait(self, read: "Collection[Side]") -> list[Side]:
        """Wait for those that are to be read, and send those what waits for them; see `wait`.

        Raises:
            Cut: somebody does not take what waits any more.
        """
        ready = [side for side in self._pending if side in read and side.is_pending]
        for descriptor, side in self._sides.items():
            events = (select.POLLIN if side in read else 0) | (select.POLLOUT if side.unsent else 0)
            if events != self._events[descriptor]:
                self._events[descriptor] = events
                if events:
                    self._poll.register(descriptor, events)
                else:
                    self._poll.unregister(descriptor)
        for descriptor, events in self._poll.poll(0 if ready else None):
            side = self._sides[descriptor]
            if side.unsent and events & ~select.POLLIN:
                side.flush()
            if side in read and events & ~select.POLLOUT and side not in ready:
                ready.append(side)
        return ready


def wait(*interests: tuple[Side, bool], seconds: float | None = None) -> list[Side]:
    """Wait for one of these; whoever has something waiting is sent it, and those that can be read are returned.

    Args:
        interests: each side, and whether it is to be read.
        seconds: for how long at most; empty after that.

    Raises:
        Cut: somebody does not take what waits any more.
    """
    ready = [side for side, is_read in interests if is_read and side.is_pending]
    poll = select.poll()
    by_descriptor = {}
    for side, is_read in interests:
        events = (select.POLLIN if is_read else 0) | (select.POLLOUT if side.unsent else 0)
        if events:
            descriptor = side.socket.fileno()
            if descriptor < 0:
                raise Cut(side)
            by_descriptor[descriptor] = side, is_read
            poll.register(descriptor, events)
    timeout = None if seconds is None else seconds * 1000
    for descriptor, events in poll.poll(0 if ready else timeout):
        side, is_read = by_descriptor[descriptor]
        if side.unsent and events & ~select.POLLIN:
            side.flush()
        if is_read and events & ~select.POLLOUT and side not in ready:
            ready.append(side)
    return ready
