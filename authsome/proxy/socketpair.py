"""Messages between a worker and the process of its full engine, some of them with a descriptor (SCM_RIGHTS, unix(7)).

Rule: these messages hold credentials. They go through a pair of sockets that these two processes have and nobody else,
and are written nowhere.
"""

import json
import socket
import threading
from collections import deque
from collections.abc import Mapping
from typing import Final

Message = Mapping[str, object]

_LENGTH_BYTES: Final = 4
_READ: Final = 64 * 1024
_DESCRIPTORS: Final = 16  # that one read may bring; a message brings one
_MARK: Final = "descriptor"


class Messages:
    """One end of the pair: sent to by any thread, read by one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)  # noqa: FBT003  # socket's own
        self._socket = connection
        self._sending = threading.Lock()
        self._read = bytearray()
        self._descriptors: deque[int] = deque()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, and a descriptor of which the other side gets one of its own.

        Raises:
            OSError: the other side has ended.
        """
        body = json.dumps(message if descriptor is None else {**message, _MARK: True}).encode()
        frame = len(body).to_bytes(_LENGTH_BYTES, "big") + body
        with self._sending:
            sent = 0 if descriptor is None else socket.send_fds(self._socket, [frame], [descriptor])
            self._socket.sendall(frame[sent:])

    def receive(self) -> tuple[Message, int | None]:
        """The next message, and the descriptor that came with it.

        Raises:
            EOFError: the other side has ended.
            OSError: the same, less orderly.
        """
        self._fill(_LENGTH_BYTES)
        end = _LENGTH_BYTES + int.from_bytes(self._read[:_LENGTH_BYTES], "big")
        self._fill(end)
        message: dict[str, object] = json.loads(self._read[_LENGTH_BYTES:end])
        del self._read[:end]
        return message, self._descriptors.popleft() if message.pop(_MARK, False) else None

    def _fill(self, length: int) -> None:
        while len(self._read) < length:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ, _DESCRIPTORS)
            if not data:
                raise EOFError
            self._descriptors.extend(descriptors)
            self._read += data

    def close(self) -> None:
        """End it; whoever reads at the other side sees that."""
        self._socket.close()
