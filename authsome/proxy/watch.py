"""Waiting for the end of processes that are not our children, as descriptors that become readable."""

import os
import select
import sys
from contextlib import suppress
from typing import Final, Protocol

_STAT_STATE: Final = 0  # proc(5): field 3, counted from behind the name
_STAT_START: Final = 19  # field 22: starttime
_ENDED: Final = frozenset({b"Z", b"X"})  # not reaped yet
_NONE: Final = b""
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
    """Any system, or a sandbox without the other: signal 0, and whether it is still the same process.

    A number is given again to another process: which one it is, its start tells.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = _start_of(pid)
        if self.is_over():
            raise ProcessLookupError(pid)

    def fileno(self) -> int:
        return -1

    def is_over(self) -> bool:
        with suppress(PermissionError):  # it is there, as another user
            try:
                os.kill(self._pid, 0)
            except ProcessLookupError:
                return True
        start = _start_of(self._pid)
        return start is not None and (start == _NONE or (self._start is not None and start != self._start))

    def close(self) -> None:
        pass


def _start_of(pid: int) -> bytes | None:
    """When a process began, as the kernel counts; `_NONE` when it has ended, None where that is not told."""
    if sys.platform == "darwin":
        return _start_on_macos(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # a worker need not load pathlib for this
            fields = file.read().rpartition(b")")[2].split()  # behind the name, which may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return _NONE if os.path.exists("/proc/self/stat") else None  # noqa: PTH110  # see above
    except OSError:
        return None
    return _NONE if fields[_STAT_STATE] in _ENDED else fields[_STAT_START]


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
    _PROC_PIDTBSDINFO: Final = 3  # sys/proc_info.h
    _BSDINFO_SIZE: Final = 136  # struct proc_bsdinfo
    _BSDINFO_START: Final = 120  # pbi_start_tvsec and pbi_start_tvusec, its last two members

    def _start_on_macos(pid: int) -> bytes | None:
        import ctypes  # noqa: PLC0415  # only here

        found = ctypes.create_string_buffer(_BSDINFO_SIZE)
        size = ctypes.CDLL(None).proc_pidinfo(pid, _PROC_PIDTBSDINFO, ctypes.c_uint64(0), found, _BSDINFO_SIZE)
        return found.raw[_BSDINFO_START:] if size == _BSDINFO_SIZE else None

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
