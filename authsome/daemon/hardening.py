"""What the operating system can do to keep a process's memory to itself.

This is best effort, and said so: Python cannot overwrite immutable strings, and root reads everything.
"""

import ctypes
import resource
import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def no_core_dumps() -> None:
    """Leave no core file, and (on Linux) let no other process of this user attach or read /proc/<pid>/mem."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
