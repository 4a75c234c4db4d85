"""Who is at the other end of a Unix socket, as the kernel says it.

Rule: it imports nothing but what sockets are made of, because every `run` asks.
"""

import _socket
import sys

_XUCRED_SIZE = 76  # macOS, sys/ucred.h: version, uid, number of groups, sixteen groups
_LOCAL_PEERCRED, _LOCAL_PEERPID = 1, 2  # macOS, sys/un.h
_SOL_LOCAL = 0


def user_and_process(connection: _socket.socket) -> tuple[int, int]:
    """The user and the process that connected, or that listened; OSError where the kernel does not say."""
    if sys.platform == "darwin":
        credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE)
        return _number(credentials, 4), connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)  # struct ucred: pid, uid, gid
    return _number(credentials, 4), _number(credentials, 0)


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], sys.byteorder)
