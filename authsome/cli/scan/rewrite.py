"""The replacing of values in a file that is the user's own.

Rule: the file is replaced whole or not at all, with its mode and group, every other byte as it was; nothing of the old
one is kept, for that would keep the secret. A link, a file with a second name, one of somebody else's and one that was
changed meanwhile are left alone.
"""

import os
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsome.errors import NotAllowed, StorageFailed, reason_of
from authsome.home import sync_directory
from authsome.secret import Secret

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@+=-]{8,512}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A value's place in the file, what stands there, and what is to."""

    start: int
    end: int
    before: Secret[str]
    after: str


def replace(path: Path, changes: Sequence[Change]) -> None:
    """Put each value's replacement in its place.

    Raises:
        NotAllowed: the file is not one to be changed, or is not as it was read.
        StorageFailed: it could not be written; it is as it was.
    """
    try:
        data, before = _read(path)
        _write(path, _changed(path, data, changes), before)
    except OSError as error:
        if path.is_symlink():
            raise _left_alone(path, "is a symbolic link") from None
        raise StorageFailed(f"{path} could not be written: {reason_of(error)}") from error


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if problem := _problem(status):
            raise _left_alone(path, problem)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(), status
    finally:
        os.close(descriptor)


def _problem(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    return "has more than one name (hard link)" if status.st_nlink > 1 else None


def _changed(path: Path, data: bytes, changes: Sequence[Change]) -> bytes:
    for change in sorted(changes, key=lambda each: each.start, reverse=True):
        if data[change.start : change.end] != change.before.reveal().encode():
            raise _left_alone(path, "was changed meanwhile")
        if not _PLAIN.match(change.after):
            raise _left_alone(path, "would need quotes that it has not")
        data = data[: change.start] + change.after.encode() + data[change.end :]
    return data


def _write(path: Path, data: bytes, before: os.stat_result) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if os.fstat(descriptor).st_gid != before.st_gid:
                with suppress(PermissionError):  # a group that one is not in any more
                    os.fchown(descriptor, -1, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            os.fsync(descriptor)
        _check_unchanged(path, before)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _check_unchanged(path: Path, before: os.stat_result) -> None:
    now = path.lstat()
    if (now.st_ino, now.st_mtime_ns, now.st_size) != (before.st_ino, before.st_mtime_ns, before.st_size):
        raise _left_alone(path, "was changed meanwhile")


def _left_alone(path: Path, problem: str) -> NotAllowed:
    return NotAllowed(f"{path} {problem}, and is left alone", hint="replace the value there by hand")
