"""The socket on which proxies are told that something has changed, so that they forget what they keep.

A proxy may keep the answer to a resolve for some seconds. It connects here first, and looks at this connection before
each use: a byte on it means that nothing it keeps counts any more, its end that there is no daemon.

Rule: a byte is in the buffer of everybody who listens before what it tells of is committed, let alone acknowledged.
On a Unix socket it is, when `send` returns; and the kernel ends the connection with this process, however it ends.
"""

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import Final

from authsome.errors import reason_of
from authsome.home import Home, make_private_directory, socket_address

MOST: Final = 64
"""Who listens at the same time: a proxy for each build and setting. Whoever comes too late asks each time."""
_BYTE: Final = b"\n"
_PAUSE: Final = 0.1  # seconds until the next attempt to accept when there are no descriptors left

_log: Final = logging.getLogger("authsome.daemon")


class Changes:
    """Everybody who listens."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._heard: list[socket.socket] = []
        self._lock = threading.Lock()

    def open(self, home: Home) -> None:
        """Let proxies connect from now on; the home's lock is ours, so a socket that is there was left behind.

        Where there can be no socket, nobody keeps anything: all is as before, and slower.
        """
        path = home.changes
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            make_private_directory(path.parent)
            path.unlink(missing_ok=True)
            with socket_address(path) as address:
                listener.bind(address)  # nobody else's from its first moment: in a directory of 0700, by a umask of 077
            path.chmod(0o600)
            listener.listen(MOST)
        except OSError as error:
            _log.warning("%s cannot be made: %s", path, reason_of(error))
            listener.close()
            return
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="changes", daemon=True).start()

    def tell(self) -> None:
        """Tell everybody that something changes; whoever has not read the last byte knows it anyway."""
        with self._lock:
            if self._heard:
                self._heard = [each for each in self._heard if _told(each)]

    def close(self, home: Home) -> None:
        """Say that there is no daemon any more."""
        if self._listener is None:
            return
        with suppress(OSError):
            home.changes.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None
        with self._lock:
            for each in self._heard:
                each.close()
            self._heard.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return
                time.sleep(_PAUSE)  # out of descriptors
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        """Tell once at the beginning: from then on everything is told."""
        connection.settimeout(0)
        with self._lock:
            if len(self._heard) >= MOST:
                self._heard = [each for each in self._heard if _is_there(each)]
            if len(self._heard) < MOST and _told(connection):
                self._heard.append(connection)
                return
        connection.close()


def _told(connection: socket.socket) -> bool:
    """Tell one of them; False: it is gone."""
    try:
        connection.send(_BYTE)
    except BlockingIOError:
        pass
    except OSError:
        connection.close()
        return False
    return True


def _is_there(connection: socket.socket) -> bool:
    """Whether one of them still listens; they say nothing."""
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    connection.close()
    return False
