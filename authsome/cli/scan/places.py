"""Where a scan looks: `.env` files below the given paths, the environment, the files of common tools.

Rule: the walk ends. It has a depth, a number of entries and a size of files that it does not go beyond, follows no
link, and says so when it left something out.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from authsome.cli.scan import dotenv, tools
from authsome.cli.scan.found import Found, Place
from authsome.errors import UsageError
from authsome.secret import Secret

LARGEST: Final = 256 * 1024  # bytes; a .env file has some hundred
DEPTH: Final = 6  # directories below the one that was named
MOST_ENTRIES: Final = 20_000
_SKIPPED: Final = frozenset(
    {".git", ".hg", ".svn", ".tox", ".venv", "__pycache__", "node_modules", "site-packages", "target", "vendor", "venv"}
)
"""What others made: large, and not the user's to change."""
_OURS: Final = "AUTHSOME_"


class Walk:
    """One search for `.env` files."""

    def __init__(self) -> None:
        self.is_cut = False
        """Whether something was left out."""
        self._entries = 0

    def files(self, paths: Sequence[Path]) -> Iterator[Path]:
        """The files that are named, and the `.env` files below the directories that are.

        Raises:
            UsageError: there is nothing at a path.
        """
        for path in paths:
            if path.is_dir():
                yield from self._below(path, DEPTH)
            elif path.exists():
                yield path
            else:
                raise UsageError(f"there is nothing at {path}", hint="name files, or directories to look in")

    def _below(self, directory: Path, depth: int) -> Iterator[Path]:
        deeper = []
        try:
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda each: each.name)
        except OSError:
            self.is_cut = True
            return
        for entry in entries:
            self._entries += 1
            if self._entries > MOST_ENTRIES:
                self.is_cut = True
                return
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED:
                    deeper.append(directory / entry.name)
            elif dotenv.is_dotenv(entry.name) and entry.is_file(follow_symlinks=False):
                yield directory / entry.name
        if deeper and not depth:
            self.is_cut = True
            return
        for below in deeper:
            yield from self._below(below, depth - 1)


def in_files(paths: Sequence[Path]) -> Iterator[Found]:
    """What stands in these `.env` files."""
    for path in paths:
        if (data := read_file(path)) is not None:
            yield from dotenv.read(data, path)


def in_environment(environ: Mapping[str, str]) -> Iterator[Found]:
    """What the environment holds, but for what is ours."""
    for name, value in sorted(environ.items()):
        if value and not name.startswith(_OURS):
            yield Found(value=Secret(value), place=Place(), variable=name)


def in_tools(environ: Mapping[str, str]) -> Iterator[Found]:
    """What common tools keep in their files."""
    for path, read in tools.places(environ):
        if (data := read_file(path)) is not None:
            yield from read(data.decode("utf-8", "replace"), path)


def read_file(path: Path) -> bytes | None:
    """A regular file's content; None when there is none, or it is too large or may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                return None
            return file.read(LARGEST)
    except OSError:
        return None
