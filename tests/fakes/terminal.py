"""A program on a terminal of its own (a pty), to be typed at and read from."""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CTRL_C: Final = b"\x03"
CTRL_D: Final = b"\x04"
CTRL_Z: Final = b"\x1a"
CTRL_BACKSLASH: Final = b"\x1c"


class Terminal:
    """A running program and its terminal; `transcript` is everything the terminal has shown so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process = process
        self.transcript = ""
        self._descriptor = descriptor
        self._seen = 0

    def expect(self, pattern: str, *, timeout: float = 60) -> re.Match[str]:
        """Wait until the output after the last match holds this regular expression.

        Raises:
            AssertionError: the program ended, or the time is over, before; the transcript is in the message.
        """
        deadline = time.monotonic() + timeout
        while True:
            if match := re.search(pattern, self.transcript[self._seen :]):
                self._seen += match.end()
                return match
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} did not come; the terminal shows:\n{self.transcript}")

    def send(self, data: bytes) -> None:
        """Type these bytes."""
        os.write(self._descriptor, data)

    def send_line(self, text: str) -> None:
        """Type a line and press Enter."""
        self.send(text.encode() + b"\r")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.send(CTRL_C)

    def resize(self, rows: int, columns: int) -> None:
        """Change the terminal's size; its foreground processes get SIGWINCH."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    def wait(self, *, timeout: float = 60) -> int:
        """Read to the end and return the exit status (negative: the signal that ended it)."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        """Read what there is; False at the end of the output and when the time is over."""
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._descriptor], [], [], min(left, 0.1))[0]:
                try:
                    data = os.read(self._descriptor, 65536)
                except OSError as error:
                    if error.errno != errno.EIO:  # Linux's way of saying that the other side is closed
                        raise
                    return False
                self.transcript += data.decode("utf-8", "replace")
                return bool(data)
            if self.process.poll() is not None and not select.select([self._descriptor], [], [], 0)[0]:
                return False  # a background process of its may keep the terminal open for ever
        return False


@contextmanager
def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path | None = None,
    rows: int = 40,
    columns: int = 120,
) -> Iterator[Terminal]:
    """Run a program on a terminal of its own; when the block ends, its process group is ended too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    # As for a user: Ctrl-C is a signal (setsid --ctty makes this the controlling terminal), and one that was not
    # ignored already by whatever runs the tests (a CI job may run with SIGINT ignored, which children inherit).
    process = subprocess.Popen(
        ["env", "--default-signal", "setsid", "--ctty", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm-256color", **environment},
        cwd=directory,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
