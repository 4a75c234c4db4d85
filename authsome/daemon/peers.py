"""Whose program is at the other end of a connection from this machine, as the kernel knows it.

The daemon asks everybody for a proof anyway; this keeps the other users of the machine from even trying, and from what
they could learn or wear out by it.

Rules:
1. Root and the daemon's own user may connect, and whom config.json names in `users`: the user of a reverse proxy.
2. A connection from another machine has no user here, and is not judged. Neither is one of which the system tells
   nothing (other systems than Linux).
3. A socket that was closed belongs to nobody any more: the kernel would call its owner root. Nobody waits for its
   answer.

Linux is asked by `sock_diag(7)`, in some 20 microseconds whatever else is open; where that is forbidden, by
/proc/net/tcp, which is read whole.
"""

import os
import pwd
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from authsome.daemon.forwarding import is_local
from authsome.errors import UsageError

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_QUERY: Final = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_PORTS: Final = struct.Struct("!HH")
_PLACE: Final = struct.Struct("=III")  # interface, and a cookie of two words
_OWNER: Final = struct.Struct("=II")  # uid, inode
_OWNER_AT: Final = _HEADER.size + 4 + _PORTS.size + 32 + _PLACE.size + 12  # after state, addresses, timer and queues
_PATIENCE: Final = 1.0  # seconds; the kernel answers at once or not at all
_ROOT: Final = 0


class Owner(NamedTuple):
    """Who made a socket; inode 0 says that it was closed."""

    uid: int
    inode: int


class Gone(Exception):
    """There is no such socket any more."""


class Peers:
    """Decides which users of this machine may connect. For one thread."""

    def __init__(self, allowed: frozenset[int]) -> None:
        """Take the uids that may connect beside root and our own."""
        self._allowed = allowed | {_ROOT, os.geteuid()}
        self._netlink: socket.socket | None = None
        self._has_netlink = sys.platform == "linux"

    def admits(self, connection: socket.socket) -> bool:
        """Whether a connection that was accepted is from another machine, or from a user who may connect."""
        try:
            theirs, ours = connection.getpeername(), connection.getsockname()
        except OSError:
            return False  # gone already
        if not is_local(theirs[0], ours[0]):
            return True
        try:
            owner = self._owner((theirs[0], theirs[1]), (ours[0], ours[1]))
        except Gone:
            return False
        return owner is None or (owner.inode != 0 and owner.uid in self._allowed)

    def close(self) -> None:
        """Give the kernel's ear back."""
        if self._netlink is not None:
            self._netlink.close()
        self._netlink, self._has_netlink = None, False

    def _owner(self, theirs: tuple[str, int], ours: tuple[str, int]) -> Owner | None:
        """Who owns the other end; None when the system does not tell.

        Raises:
            Gone: the system tells that there is none.
        """
        if self._has_netlink:
            try:
                found = self._ask(theirs, ours)
            except OSError:
                self._has_netlink = False
            else:
                if found is not None:
                    return found
        return from_table(theirs, ours)

    def _ask(self, theirs: tuple[str, int], ours: tuple[str, int]) -> Owner | None:
        if self._netlink is None:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._netlink = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
            self._netlink.settimeout(_PATIENCE)
        self._netlink.send(query(theirs, ours))
        return answered(self._netlink.recv(4096))


def query(theirs: tuple[str, int], ours: tuple[str, int]) -> bytes:
    """The question who owns the socket that is bound to `theirs` and connected to `ours`."""
    family, their_address = _packed(theirs[0])
    _, our_address = _packed(ours[0])
    text = _QUERY.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE)
    text += _PORTS.pack(theirs[1], ours[1]) + their_address.ljust(16, b"\0") + our_address.ljust(16, b"\0")
    text += _PLACE.pack(0, _NO_COOKIE, _NO_COOKIE)
    return _HEADER.pack(_HEADER.size + len(text), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + text


def answered(data: bytes) -> Owner | None:
    """The kernel's answer; None when it does not know the socket, or how to look.

    Raises:
        OSError: it makes no sense.
    """
    if len(data) < _HEADER.size:
        raise OSError("a short answer from sock_diag")
    _, kind, _, _, _ = _HEADER.unpack_from(data)
    if kind == _NLMSG_ERROR:
        return None
    if kind != _SOCK_DIAG_BY_FAMILY or len(data) < _OWNER_AT + _OWNER.size:
        raise OSError("an answer from sock_diag to something else")
    return Owner(*_OWNER.unpack_from(data, _OWNER_AT))


def from_table(theirs: tuple[str, int], ours: tuple[str, int], *, directory: Path = Path("/proc/net")) -> Owner | None:
    """The same from /proc/net/tcp and tcp6; None when there is no such table.

    Raises:
        Gone: the socket is in none of them.
    """
    family, _ = _packed(theirs[0])
    try:
        lines = (directory / ("tcp" if family == socket.AF_INET else "tcp6")).read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    wanted = [_row_name(theirs), _row_name(ours)]
    for line in lines[1:]:
        cells = line.split()
        if cells[1:3] == wanted:
            with suppress(ValueError, IndexError):
                return Owner(uid=int(cells[7]), inode=int(cells[9]))
    raise Gone


def _row_name(place: tuple[str, int]) -> str:
    """As the table has it: the address in words of the machine's byte order, the port as a number."""
    _, packed = _packed(place[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{place[1]:04X}"


def _packed(address: str) -> tuple[int, bytes]:
    """The family and the bytes of an address; IPv4 within IPv6 is IPv4, for that is what the other end has."""
    text = address.partition("%")[0].removeprefix("::ffff:")
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


def allowed_by(config: Mapping[str, object]) -> frozenset[int]:
    """The uids of the users whom config.json lets connect.

    Raises:
        UsageError: `users` is no list of user names or numbers, or names nobody.
    """
    named = config.get("users", [])
    if not isinstance(named, list):
        raise UsageError("users in config.json is not a list", hint='such as "users": ["www-data"]')
    return frozenset(_uid(each) for each in named)


def _uid(named: object) -> int:
    if isinstance(named, int) and not isinstance(named, bool) and named >= 0:
        return named
    if isinstance(named, str):
        with suppress(KeyError):
            return pwd.getpwnam(named).pw_uid
    raise UsageError(f"users in config.json names {named!r}, who is no user of this machine", hint="mend it")
