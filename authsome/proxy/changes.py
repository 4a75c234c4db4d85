"""Hearing from the daemon that something has changed, at the price of a look at a socket.

Rule 1: nothing is concluded from silence but while this connection is there, and its other end is the process that
holds our home: the kernel names it. Without one the epoch is 0, and nobody keeps anything.
Rule 2: while bytes are taken from the socket there is no epoch, and then another one. So whoever finds the socket empty
does not see one that a byte which has just been taken has ended.
"""

import os
import select
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from authsome.client import supervisor
from authsome.errors import AuthsomeError
from authsome.home import Home, socket_address
from authsome.proxy import peer

NOBODY: Final = 0
"""The epoch while nobody would tell of a change."""
_HELLO_SECONDS: Final = 0.5  # a daemon that lives answers at once
_RETRY_SECONDS: Final = 5.0  # until a daemon that does not tell is asked again
_TAKEN: Final = 4096  # bytes at a time


class Changes:
    """The connection on which the daemon tells, for all threads of a worker."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._epoch = NOBODY
        """What `epoch` answers while nothing is there to read."""
        self._last = NOBODY
        self._connection: socket.socket | None = None
        self._ready = _Ready()
        self._retry_at = 0.0

    def epoch(self) -> int:
        """A number that is another one after each change, and never an earlier one again; `NOBODY`: nobody tells."""
        if self._epoch and self._ready.is_ready():
            self._take()
        return self._epoch

    def listen(self) -> int:
        """As `epoch`, after an attempt to connect where nobody tells; may block for a moment."""
        if (epoch := self.epoch()) or time.monotonic() < self._retry_at:
            return epoch
        with self._lock:
            if not self._epoch and time.monotonic() >= self._retry_at:
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                with suppress(OSError, AuthsomeError):
                    self._connect()
        return self._epoch

    def close(self) -> None:
        """Hear nothing any more."""
        with self._lock:
            self._retry_at = float("inf")
            self._epoch = NOBODY
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._ready.close()

    def _connect(self) -> None:
        """Connect, and wait for the first byte: from then on everything is told."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_HELLO_SECONDS)
            with socket_address(self._home.changes) as address:
                connection.connect(address)
            self._check(connection)
            connection.settimeout(0)
            self._ready.watch(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._last += 1
        self._epoch = self._last

    def _check(self, connection: socket.socket) -> None:
        """See that it is our daemon that has said its first word."""
        user, process = peer.user_and_process(connection)
        state = supervisor.running(self._home)
        if user != os.geteuid() or state is None or state.pid != process or not connection.recv(1):
            raise ConnectionError("somebody else listens there")

    def _take(self) -> None:
        with self._lock:
            connection = self._connection
            if connection is None:
                return
            self._epoch = NOBODY
            try:
                has_ended = not connection.recv(_TAKEN)
            except BlockingIOError:  # another thread was here before
                has_ended = False
            except OSError:
                has_ended = True
            if has_ended:
                self._connection = None
                self._retry_at = 0.0  # another daemon may be there already
                self._ready.forget(connection)
                connection.close()
            else:
                self._last += 1
                self._epoch = self._last


if sys.platform == "linux":

    class _Ready:
        """Whether there is something to read; a call costs a third of a microsecond, half of what `poll` does."""

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def watch(self, connection: socket.socket) -> None:
            self._epoll.register(connection, select.EPOLLIN)

        def forget(self, connection: socket.socket) -> None:
            self._epoll.unregister(connection)

        def is_ready(self) -> bool:
            return bool(self._epoll.poll(0, 1))

        def close(self) -> None:
            self._epoll.close()

else:

    class _Ready:
        """Whether there is something to read."""

        def __init__(self) -> None:
            self._queue = select.kqueue()

        def watch(self, connection: socket.socket) -> None:
            self._queue.control([select.kevent(connection, select.KQ_FILTER_READ, select.KQ_EV_ADD)], 0)

        def forget(self, connection: socket.socket) -> None:
            self._queue.control([select.kevent(connection, select.KQ_FILTER_READ, select.KQ_EV_DELETE)], 0)

        def is_ready(self) -> bool:
            return bool(self._queue.control(None, 1, 0))

        def close(self) -> None:
            self._queue.close()
