"""The home lock: one daemon owns one home.

Rule: the lock is the kernel's (flock), so it ends with its holder, however that ends; the pid in the file is only for
people to read.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final, Self

from authsome.errors import DaemonUnavailable, StorageFailed, reason_of
from authsome.home import Home, make_private_directory, open_private

_PATIENCE: Final = timedelta(seconds=1)
"""Whoever looks whether the lock is held holds it himself for a moment; that is not another daemon."""
_PAUSE: Final = timedelta(milliseconds=10)


class HomeLock:
    """The exclusive right to a home, held until `release` or the end of the process."""

    def __init__(self, home: Home, descriptor: int | None) -> None:
        self.home = home
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, home: Home, *, patience: timedelta = _PATIENCE) -> Self:
        """Take the lock and leave our pid in it; make the home's directories if need be.

        Raises:
            DaemonUnavailable: another process has it; the message names its pid.
            UnsafeFile: a directory or the lock file is not private to us.
            StorageFailed: the directories or the file cannot be made.
        """
        for directory in (home.root, home.server):
            make_private_directory(directory)
        try:
            descriptor = open_private(home.daemon_lock, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno in {errno.EROFS, errno.EACCES}:
                return cls._on_read_only_storage(home)
            raise StorageFailed(f"{home.daemon_lock} cannot be made: {reason_of(error)}") from error
        try:
            _lock(descriptor, patience, home)
            with suppress(OSError):  # a full disk: the lock holds without its note
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(home, descriptor)

    @classmethod
    def _on_read_only_storage(cls, home: Home) -> Self:
        """Nobody can write there, so readers need not exclude each other."""
        try:
            descriptor = open_private(home.daemon_lock, os.O_RDONLY)
        except OSError:
            return cls(home, None)
        try:
            _lock(descriptor, timedelta(0), home)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(home, descriptor)

    @property
    def held(self) -> bool:
        """Whether it was not released yet."""
        return self._descriptor != -1

    def release(self) -> None:
        """Give the lock back; once is enough."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor is not None and descriptor != -1:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(descriptor: int, patience: timedelta, home: Home) -> None:
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise _held(descriptor, home) from error
            time.sleep(_PAUSE.total_seconds())
        except OSError as error:
            raise StorageFailed(
                f"{home.root} lies on storage that knows no locks: {reason_of(error)}",
                hint="set AUTHSOME_HOME to a directory on a local disk",
            ) from error
        else:
            return


def _held(descriptor: int, home: Home) -> DaemonUnavailable:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    holder = f"process {text}" if text.isdigit() else "another process"
    return DaemonUnavailable(
        f"{home.root} is in use by {holder}", hint="`authsome daemon stop` ends it, or set AUTHSOME_HOME to another one"
    )
