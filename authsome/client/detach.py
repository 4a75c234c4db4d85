"""Starting a background process that nobody in the caller's tree will ever see again.

The caller may be about to replace itself with a user's command (`run`), which must not find a child that it never
started, and Ctrl-C at the terminal must not reach the background process: so two forks and a session of its own.
"""

import os
from collections.abc import Mapping, Sequence

_FAILED = 127  # as a shell says it


def start(command: Sequence[str], environ: Mapping[str, str], *, stdin: int, stdout: int, stderr: int) -> None:
    """Start `command` (an absolute path first) in `/`, with just these three descriptors and this environment."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        # Via high numbers, so that none of the three is overwritten before it is moved.
        moved = [_duplicate_high(descriptor) for descriptor in (stdin, stdout, stderr)]
        for target, descriptor in enumerate(moved):
            os.dup2(descriptor, target, inheritable=True)
        os.execve(command[0], list(command), dict(environ))  # noqa: S606  # no shell is the point
    except BaseException:  # noqa: BLE001  # whatever it is, this copy of the caller must not go on
        os._exit(_FAILED)


def _duplicate_high(descriptor: int) -> int:
    import fcntl  # noqa: PLC0415

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
