"""Waiting for the end of processes that are not our children, as descriptors that become readable."""

import os
import select
import sys
from contextlib import suppress
from typing import Final, Protocol

POLL_SECONDS: Final = 0.5
"""How often a process is looked for where the kernel cannot tell of its end."""


class Watch(Protocol):
    """A process that is being waited for."""

    def fileno(self) -> int:
        """A descriptor that becomes readable at its end; -1: look at `is_over` every `POLL_SECONDS`."""

    def is_over(self) -> bool:
        """Whether the process has ended."""

    def close(self) -> None:
        """Wait no longer."""


class _Pidfd:
    """Linux: pidfd_open(2)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def is_over(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def close(self) -> None:
        os.close(self._descriptor)


class _Poll:
    """Any system, or a sandbox without the other: signal 0."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def fileno(self) -> int:
        return -1

    def is_over(self) -> bool:
        with suppress(PermissionError):  # it is there, as another user
            try:
                os.kill(self._pid, 0)
            except ProcessLookupError:
                return True
        return False

    def close(self) -> None:
        pass


def begin(pid: int) -> Watch:
    """Wait for a process's end; the watch has begun when this returns.

    Raises:
        ProcessLookupError: it has ended.
    """
    try:
        if sys.platform == "linux":
            return _Pidfd(os.pidfd_open(pid))
        if sys.platform == "darwin":
            return _Kqueue(pid)
    except ProcessLookupError:
        raise
    except OSError:  # a kernel or sandbox without them
        pass
    return _Poll(pid)


if sys.platform == "darwin":

    class _Kqueue:
        """macOS: kqueue(2)'s EVFILT_PROC."""

        def __init__(self, pid: int) -> None:
            self._queue = select.kqueue()
            try:
                exits = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
                self._queue.control([exits], 0)
            except BaseException:
                self._queue.close()
                raise

        def fileno(self) -> int:
            return self._queue.fileno()

        def is_over(self) -> bool:
            return bool(select.select([self._queue], [], [], 0)[0])

        def close(self) -> None:
            self._queue.close()
