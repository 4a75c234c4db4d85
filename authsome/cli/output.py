"""What the command line says, and where: results on standard output, everything else on standard error.

Rule: a text that came from a provider or the daemon may hold anything; no control character of it reaches a terminal.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import TextIO

from authsome.cli.main import complain, put
from authsome.errors import AuthsomeError, UsageError

_BOLD, _DIM, _RED, _GREEN, _YELLOW = "1", "2", "31", "32", "33"
_DARK_ON_LIGHT = "30;107"
_DEFAULT_WIDTH = 80


class Output:
    """The two streams of one command, and how much it is to say."""

    def __init__(  # noqa: PLR0913  # the global options, one each
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        color: bool = True,
        erases: bool = True,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._out = stdout or sys.stdout
        self._err = stderr or sys.stderr
        self._out_color = color and not as_json and self._out.isatty()
        self._err_color = color and self._err.isatty()
        self._erases = erases
        self._transient = 0
        """How long the progress line is."""
        for stream in (self._out, self._err):
            # A terminal of another age shows an escape for what it cannot show; that is no reason to fail.
            # (In the locale C Python has `surrogateescape` in the place of `strict`, which fails just as well.)
            if isinstance(stream, TextIOWrapper) and stream.errors in {"strict", "surrogateescape"}:
                stream.reconfigure(errors="backslashreplace")

    @property
    def _is_unicode(self) -> bool:
        return (self._out.encoding or "").lower().replace("-", "") == "utf8"

    # ---- results ----

    def result(self, value: Mapping[str, object]) -> None:
        """The one JSON object of a command under `--json`."""
        self._settle()
        put(self._json(value, indent=2), self._out)

    def record(self, value: Mapping[str, object]) -> None:
        """One of many JSON objects, on a line of its own; let out at once."""
        self._settle()
        put(self._json(value, indent=None), self._out, at_once=True)

    def line(self, text: str = "", *, good: str = "") -> None:
        """A line of the result, after a beginning in green; nothing under `--json`."""
        if not self.as_json:
            self._settle()
            put(self._paint(printable(good), _GREEN) + printable(text) + "\n", self._out)

    def raw(self, text: str) -> None:
        """A result whose every character counts (an export), as it is.

        Raises:
            UsageError: standard output has an encoding that cannot say it.
        """
        try:
            text.encode(self._out.encoding or "utf-8")
        except UnicodeEncodeError:
            raise UsageError(
                f"standard output is in {self._out.encoding}, which cannot say all that is to be written",
                hint="set LC_ALL=C.UTF-8, or PYTHONIOENCODING=utf-8",
            ) from None
        self._settle()
        put(text, self._out)

    def page(self, text: str, *, asked: bool) -> None:
        """A page of help: a result where somebody has asked for it, else what went wrong."""
        if asked:
            put(text, self._out)
        else:
            complain(text, self._err)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """An aligned table; on a terminal that is too narrow its last column is cut."""
        cells = [[printable(cell) for cell in row] for row in rows]
        widths = [max(len(row[index]) for row in [list(heads), *cells]) for index in range(len(heads))]
        limit = width(self._out)
        for number, row in enumerate([list(heads), *cells]):
            text = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
            if limit and len(text) > limit:
                text = text[: limit - 1] + "…"
            self._settle()
            put((self._paint(text, _DIM) if number == 0 else text) + "\n", self._out)

    def flush(self) -> None:
        """Let out what was said so far."""
        put("", self._out, at_once=True)

    # ---- everything else ----

    def note(self, text: str) -> None:
        """Something worth knowing that is no result."""
        if not self.quiet:
            self._say(printable(text))

    def hint(self, text: str) -> None:
        """What to do next, after success."""
        if not self.quiet and not self.as_json:
            self._say(self._paint_err(printable(text), _DIM))

    def detail(self, text: str) -> None:
        """Something only `--verbose` asks for."""
        if self.verbose:
            self._say(self._paint_err(printable(text), _DIM))

    @property
    def progress_shown(self) -> bool:
        """Whether there is a terminal to show progress on."""
        return not self.quiet and self._err.isatty()

    def progress(self, text: str) -> None:
        """What is being waited for: one line, replaced by the next; only on a terminal."""
        if not self.progress_shown:
            return
        limit = (width(self._err) or _DEFAULT_WIDTH) - 1
        shown = printable(text)[:limit]
        complain(self._erasing() + shown, self._err)
        self._transient = len(shown)

    def picture(self, lines: Sequence[str]) -> None:
        """Lines of block characters, dark on light; only on a terminal that can show them whole."""
        is_unicode = (self._err.encoding or "").lower().replace("-", "") == "utf8"
        room = (width(self._err) or 0) >= max(map(len, lines), default=0)
        if self.progress_shown and not self.as_json and is_unicode and room:
            for line in lines:
                self._say(self._paint_err(line, _DARK_ON_LIGHT))

    @property
    def err_color(self) -> bool:
        """Whether what is no result may be in colour."""
        return self._err_color

    def error(self, error: AuthsomeError) -> None:
        """Why the command failed, and what to do about it."""
        self._settle()
        if self.as_json:
            self.result(error.to_json())
            return
        self._say(f"authsome: {self._paint_err('error:', _RED)} {printable(error.message)}")
        if error.hint:
            self._say(f"authsome: {self._paint_err('hint:', _YELLOW)} {printable(error.hint)}")

    def prompt(self, text: str) -> None:
        """The beginning of a question; what is typed follows on the same line."""
        self._settle()
        complain(printable(text), self._err)

    def _say(self, text: str) -> None:
        self._settle()
        self.flush()  # keep the order, when both go to one place
        complain(text + "\n", self._err)

    def _settle(self) -> None:
        """Take the progress line away before anything else is said."""
        if self._transient:
            complain(self._erasing(), self._err)
            self._transient = 0

    def _erasing(self) -> str:
        """What takes the progress line away; on a terminal that knows no sequence it is written over."""
        return "\r\x1b[K" if self._erases else "\r" + " " * self._transient + "\r"

    def _json(self, value: Mapping[str, object], *, indent: int | None) -> str:
        """JSON in which what a terminal would obey is escaped, as JSON can have it anywhere (RFC 8259 §7)."""
        text = json.dumps(value, indent=indent, ensure_ascii=not self._is_unicode)
        lines = ("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line) for line in text.split("\n"))
        return text + "\n" if text.replace("\n", "").isprintable() else "\n".join(lines) + "\n"

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._out_color and text else text

    def _paint_err(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._err_color else text


class Stopwatch:
    """How long a wait has lasted, as the progress line shows it."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __str__(self) -> str:
        seconds = int(time.monotonic() - self._since)
        return f"{seconds // 60}:{seconds % 60:02}"


def printable(text: str) -> str:
    """The text with every character that a terminal would obey replaced."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def width(stream: TextIO) -> int | None:
    """How many columns the terminal has; None when the stream is none."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_WIDTH
    except OSError:
        return _DEFAULT_WIDTH
