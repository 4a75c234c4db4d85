"""What the proxy's processes do first: nobody else's descriptors, no core dump, and no other process that looks in."""

import contextlib
import os
import resource
import signal
import sys
from typing import Final

from authsome import archive

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_FIRST_SPARE_DESCRIPTOR: Final = 3
_DESCRIPTORS: Final = 4096


def harden() -> None:
    """Leave no core dump, hold nobody's descriptors, and let only signals meant for us end us (SEC-129)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415  # only here

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _close_descriptors()
    _raise_descriptor_limit()
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def leave_standard_streams() -> None:
    """Let go of the caller's pipes."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    os.close(null)


def _close_descriptors() -> None:
    """A pipe of the caller's that we held open would never end for whoever reads it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    kept = archive.store_descriptor()
    if kept is None:
        os.closerange(_FIRST_SPARE_DESCRIPTOR, limit)
    else:
        os.closerange(_FIRST_SPARE_DESCRIPTOR, kept)
        os.closerange(kept + 1, limit)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
