"""Questions on the terminal.

Rule: whatever ends a question (Enter, Ctrl-C, Ctrl-D, a signal), the terminal is left as it was found.
"""

import os
import select
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from authsome.cli.main import complain
from authsome.cli.output import Output
from authsome.errors import Cancelled, UsageError
from authsome.secret import Secret

_LIMIT = 64 * 1024  # characters; a service account's JSON key on one line has under 4,000
_FATAL = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals whose default is to end the process with the terminal as it is; the last is Ctrl-\\."""
_ENTER, _END, _ERASE, _KILL = "\r\n", "\x04", "\x08\x7f", "\x15"
_ESCAPE, _BEGINS, _LONG = "\x1b", "[O", "["


def possible() -> bool:
    """Whether somebody can be asked: both what is typed and what is asked go by a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def secret(output: Output, label: str) -> Secret[str]:
    """Ask for a secret; a star stands for each character.

    Raises:
        Cancelled: Ctrl-C, or Ctrl-D on an empty line.
    """
    return Secret(_ask(output, label, masked=True))


def text(output: Output, label: str) -> str:
    """Ask for something that may be seen; errors as `secret`."""
    return _ask(output, label, masked=False)


def confirm(output: Output, question: str) -> bool:
    """Ask a question that only a plain yes says yes to."""
    return _ask(output, f"{question} [y/N] ", masked=False).strip().lower() in {"y", "yes"}


def agree(output: Output, question: str) -> None:
    """Have somebody say yes to what cannot be undone; commands ask where `--yes` was not given.

    Raises:
        UsageError: nobody is there to say it.
        Cancelled: the answer is no.
    """
    if output.as_json or not possible():
        raise UsageError("there is nobody to ask here", hint="add --yes")
    if not confirm(output, question):
        raise Cancelled("nothing was changed")


class _Keys:
    """Tells what is typed from what a terminal sends for other keys: arrows, Home, F1, the ends of what is pasted.

    Those are escape sequences (ECMA-48 §5.4, and `ESC O` with one character), which may come in pieces. The escape
    alone is a key that says nothing here, and takes no other along.
    """

    def __init__(self) -> None:
        self._pending = ""

    def typed(self, text: str) -> Iterator[str]:
        """The characters that are no part of a sequence."""
        for char in text:
            if not self._takes(char):
                yield char

    def _takes(self, char: str) -> bool:
        pending, self._pending = self._pending, ""
        if char == _ESCAPE or (pending == _ESCAPE and char in _BEGINS):
            self._pending = pending + char if char in _BEGINS else char
            return True
        if len(pending) < 2 or not char.isascii() or not char.isprintable():  # a control character ends it
            return False
        if pending[1] == _LONG and not "@" <= char <= "~":
            self._pending = pending
        return True


class Listener:
    """Takes a line that may come while something else is waited for; what is typed or pasted is not shown."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._keys = _Keys()
        self._typed: list[str] = []

    def line(self) -> str | None:
        """The line, if one has come since the last call; does not wait.

        Raises:
            Cancelled: Ctrl-D, or far too much was typed.
        """
        while select.select([self._descriptor], [], [], 0)[0]:
            for char in self._keys.typed(_read(self._descriptor)):
                if char in _ENTER:
                    found = "".join(self._typed).strip()
                    self._typed.clear()
                    if found:
                        return found
                elif char == _END:
                    raise Cancelled("cancelled")
                elif char in _ERASE:
                    del self._typed[-1:]
                elif char == _KILL:
                    self._typed.clear()
                elif char.isprintable():
                    self._typed.append(char)
            if len(self._typed) > _LIMIT:
                raise Cancelled(f"more than {_LIMIT} characters were typed")
        return None


@contextmanager
def listening() -> Iterator[Listener]:
    """The terminal without echo, for as long as a line may come; only where `possible`."""
    descriptor = sys.stdin.fileno()
    with _unechoed(descriptor):
        yield Listener(descriptor)


def _ask(output: Output, label: str, *, masked: bool) -> str:
    descriptor = sys.stdin.fileno()
    keys = _Keys()
    typed: list[str] = []
    with _unechoed(descriptor):
        output.prompt(label)  # only now, when what is typed in answer is no longer shown
        while True:
            for char in keys.typed(_read(descriptor)):
                if char in _ENTER:
                    _echo("\r\n")
                    return "".join(typed)
                if char == _END and not typed:
                    _echo("\r\n")
                    raise Cancelled("cancelled")
                _edit(typed, char, masked=masked)
            if len(typed) > _LIMIT:
                _echo("\r\n")
                raise Cancelled(f"more than {_LIMIT} characters were typed")


def _edit(typed: list[str], char: str, *, masked: bool) -> None:
    if char in _ERASE:
        if typed:
            typed.pop()
            _echo("\b \b")
    elif char == _KILL:
        _echo("\b \b" * len(typed))
        typed.clear()
    elif char.isprintable():
        typed.append(char)
        _echo("*" if masked else char)


def _read(descriptor: int) -> str:
    """At least one whole character; the end of the input counts as Ctrl-D."""
    data = os.read(descriptor, 1024)
    if not data:
        raise Cancelled("cancelled")
    while True:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return data.decode("utf-8", "replace")
            more = os.read(descriptor, 1)
            if not more:
                raise Cancelled("cancelled") from None
            data += more


def _echo(text_: str) -> None:
    complain(text_, sys.stderr)


@contextmanager
def _unechoed(descriptor: int) -> Iterator[None]:
    """The terminal without echo and line editing: a line of more than 4,095 characters gets through, too.

    Ctrl-Z is off: a shell that gets the terminal back would turn the echo on for the rest of the secret.
    """
    before = termios.tcgetattr(descriptor)
    during = termios.tcgetattr(descriptor)
    during[3] &= ~(termios.ECHO | termios.ICANON)
    during[6][termios.VSUSP] = b"\0"
    during[6][termios.VMIN], during[6][termios.VTIME] = 1, 0
    handlers = {number: signal.signal(number, _terminated) for number in _FATAL}
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, during)
        yield
    except KeyboardInterrupt:
        _echo("\r\n")
        raise Cancelled("cancelled") from None
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise Cancelled("terminated")
