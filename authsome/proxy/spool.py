"""What a run's kept credentials were used for, written down before they leave, for the daemon to take into its log.

Rule: a use is one line in one write(2), which has happened when `write` says so: like a COMMIT without a sync it
survives the end of this process and of the daemon's. Whoever is told False asks the daemon, as if nothing were kept.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from authsome.home import make_private_directory
from authsome.models.use import Codes

SEGMENT_BYTES: Final = 1024 * 1024
"""Of a file; the daemon removes those that it has taken in, while the run goes on in the next one."""
TELL_SECONDS: Final = 1.0
"""How long uses gather until the daemon is told that there are some."""
_MODE: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Spool:
    """The uses of one run, in order."""

    def __init__(self, directory: Path, run: str, codes: Codes, first: int, *, on_news: Callable[[], None]) -> None:
        """Begin: with an empty file, which the daemon is to have seen before the first use.

        Args:
            directory: where the files go; it is made.
            run: the run's name.
            codes: made of the run's key.
            first: the number of the next use.
            on_news: called at the first use after `count` was asked.

        Raises:
            OSError, AuthsomeError: there is no place for it.
        """
        make_private_directory(directory)
        self._directory = directory
        self._run = run
        self._codes = codes
        self._number = first
        self._on_news = on_news
        self._has_news = False
        self._lock = threading.Lock()
        self._written = 0
        self._file = self._begin()
        self._has_stopped = False

    def write(self, at: int, rest: bytes) -> bool:
        """Write a use down; False: it is not, and must not take place.

        Args:
            at: microseconds since 1970.
            rest: what `use.rest_of` makes of the request.
        """
        with self._lock:
            if self._has_stopped:
                return False
            line = self._codes.line(self._number, at, rest)
            try:
                if self._written + len(line) > SEGMENT_BYTES:
                    self._turn_over()
                if os.write(self._file, line) != len(line):
                    os.ftruncate(self._file, self._written)
                    self._has_stopped = True
            except OSError:  # the disk is full, or there is no place any more
                self._has_stopped = True
            if self._has_stopped:
                return False
            self._written += len(line)
            self._number += 1
            if self._has_news:
                return True
            self._has_news = True
        self._on_news()
        return True

    def count(self) -> int:
        """How many uses have been written, those of a spool before this one included."""
        with self._lock:
            self._has_news = False
            return self._number

    def stop(self) -> None:
        """Write nothing any more."""
        with self._lock:
            self._has_stopped = True

    def close(self) -> None:
        """Let go of the file: whoever finds it is to take it for whole."""
        with self._lock:
            self._has_stopped = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _turn_over(self) -> None:
        file = self._begin()
        os.close(self._file)
        self._file, self._written = file, 0

    def _begin(self) -> int:
        """A new file. Its lock tells the daemon that somebody still writes to it, so it has that before its name."""
        path = self._directory / f"{self._run}.{self._number}"
        draft = path.with_name(f".{path.name}")
        draft.unlink(missing_ok=True)
        file = os.open(draft, _MODE, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
        except BaseException:
            os.close(file)
            raise
        return file


class Teller:
    """Tells the daemon of new uses, some time after the first of them, and sleeps while there are none."""

    def __init__(self) -> None:
        self._news: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._are_there = threading.Event()

    def tell_soon(self, tell: Callable[[], None]) -> None:
        """Have `tell` called soon, by a thread that may block; once, however often it is asked for until then."""
        with self._lock:
            self._news.add(tell)
        self._are_there.set()

    def run(self) -> None:
        """Tell for ever."""
        while True:
            self._are_there.wait()
            time.sleep(TELL_SECONDS)
            self._are_there.clear()
            with self._lock:
                news, self._news = self._news, set()
            for tell in news:
                tell()
