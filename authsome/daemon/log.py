"""The daemon's log: one line a record, UTC, in a private file that is rotated by size.

Rule: a record is one line whatever is in it, and an unexpected error is told by its type and the places it passed,
never by its text: the text of a ValueError may be the secret that was no good.
"""

import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from authsome import home
from authsome.errors import UnsafeFile

NAME: Final = "authsome"
SIZE_LIMIT: Final = 4 * 1024 * 1024  # bytes; with one older file beside it, weeks of a busy daemon
_LINE_LIMIT: Final = 8 * 1024  # characters
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class OneLine(logging.Formatter):
    """`2026-01-31T12:00:00.123Z info authsome.daemon: message`, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; of its exception, what `describe` tells."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {describe(record.exc_info[1])}"
        text = _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)
        return f"{moment} {record.levelname.lower()} {record.name}: {text[:_LINE_LIMIT]}"


def describe(error: BaseException) -> str:
    """The error's type, where it was raised, through what, and what it followed; not its text."""
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = reversed(traceback.extract_tb(current.__traceback__))
        places = " < ".join(f"{_place(frame.filename)}:{frame.lineno} in {frame.name}" for frame in frames)
        parts.append(f"{type(current).__name__} at {places or 'an unknown place'}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "; after ".join(parts)


class LogFile(logging.Handler):
    """Appends to a private file, each record in one write; standard output and error follow it when asked.

    A full disk loses lines of the log and nothing else.
    """

    def __init__(self, path: Path, *, size_limit: int = SIZE_LIMIT, take_standard_streams: bool = False) -> None:
        """Open or make the file.

        Args:
            path: the log; the one before it is kept as `<name>.1`.
            size_limit: bytes after which a new file is begun.
            take_standard_streams: let descriptors 1 and 2 write here too, after each rotation as well.

        Raises:
            UnsafeFile: the file is not private to its owner.
            OSError: it cannot be opened.
        """
        super().__init__()
        self.setFormatter(OneLine())
        self._path = path
        self._size_limit = size_limit
        self._take_standard_streams = take_standard_streams
        self._descriptor = self._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, in a new file when this one is full."""
        line = (self.format(record) + "\n").encode("utf-8", "replace")
        with suppress(OSError, UnsafeFile):
            if os.fstat(self._descriptor).st_size + len(line) > self._size_limit:
                self._rotate()
        with suppress(OSError):
            os.write(self._descriptor, line)

    def close(self) -> None:
        """Close the file; standard output and error stay where they are."""
        self.acquire()
        try:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1
        finally:
            self.release()
        super().close()

    def _rotate(self) -> None:
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor = fresh

    def _open(self) -> int:
        descriptor = home.open_private(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        if self._take_standard_streams:
            for stream in (1, 2):
                os.dup2(descriptor, stream)
        return descriptor


def start(level: str, *, path: Path | None) -> None:
    """Send the records of `authsome.*` to the log.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        path: the log of a daemon in the background, which takes standard output and error with it; None writes
            to standard error.

    Raises:
        UnsafeFile: the file is not private to its owner.
        OSError: it cannot be opened.
    """
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneLine())
    else:
        handler = LogFile(path, take_standard_streams=True)
    logger = logging.getLogger(NAME)
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    logging.raiseExceptions = False  # a log that cannot be written is no reason to write to standard error


def _place(filename: str) -> str:
    """The end of a path that names the module, without the machine's directories."""
    inside, separator, module = filename.rpartition(f"/{NAME}/")
    return module if inside and separator else Path(filename).name
