"""Passphrases: asked for on the terminal, or taken from standard input; never an argument or a variable."""

import sys

from authsome.cli import prompt
from authsome.cli.output import Output
from authsome.errors import UsageError
from authsome.secret import Secret

_LONGEST = 4096  # characters


def possible() -> bool:
    """Whether somebody can be asked."""
    return prompt.possible()


def ask(output: Output, *, is_new: bool, what: str = "passphrase of this vault") -> Secret[str]:
    """Ask for a passphrase; for a new one twice.

    Raises:
        Cancelled: Ctrl-C.
        UsageError: the two differ.
    """
    given = prompt.secret(output, f"new {what}: " if is_new else f"{what}: ")
    if is_new and prompt.secret(output, "once more: ") != given:
        raise UsageError("the two are not the same", hint="nothing was changed; try again")
    return given


def read(*, what: str) -> Secret[str]:
    """A secret that is the only line on standard input.

    Raises:
        UsageError: there is none, or more than that.
    """
    if sys.stdin.isatty():
        raise UsageError(
            "--stdin reads from a pipe or a file, not from the terminal", hint="leave --stdin away to be asked"
        )
    try:
        text = sys.stdin.buffer.read(4 * _LONGEST + 1).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("standard input is not text in UTF-8") from None
    if not text or "\n" in text or len(text) > _LONGEST:
        raise UsageError("standard input is not one line", hint=f"{what} is to be its only line")
    return Secret(text)


def given(output: Output, *, from_stdin: bool, is_new: bool, what: str = "passphrase of this vault") -> Secret[str]:
    """The passphrase, by whichever way it comes.

    Raises:
        UsageError: it comes by neither.
    """
    if from_stdin:
        return read(what=f"the {what}")
    if output.as_json or not possible():
        raise UsageError(f"nobody can be asked for the {what}", hint="give it on standard input, with --stdin")
    return ask(output, is_new=is_new, what=what)
