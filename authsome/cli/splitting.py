"""Options and words told apart, by argparse: loaded for command lines that have options.

Rule: argparse's own messages do not leave this file; they repeat what was typed.
"""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from authsome.cli.arguments import Found, Parser
from authsome.cli.main import GLOBAL_FLAGS


class Misfit(Exception):
    """An option lacks its value, or has one that it does not take."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        super().__init__()


def split(declared: Parser, words: list[str], found: Found) -> tuple[list[str], list[str]]:
    """Note the options in `found`; returns the plain words, and those that there is no use for.

    Raises:
        Misfit: an option lacks its value, or has one that it does not take.
    """
    parser = _Quiet(prog=declared.command, add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in declared.options:
        nargs = 0 if option.metavar is None else None
        parser.add_argument(*option.names, action=_Note, dest=option.key, nargs=nargs, found=found)
    for name in GLOBAL_FLAGS:
        parser.add_argument(name, action=_Note, dest=GLOBAL_FLAGS[name], nargs=0, found=found, is_global=True)
    try:
        if declared.remainder is None:
            parser.add_argument("words", nargs="*")
            space, unknown = parser.parse_known_intermixed_args(words)
            return space.words, unknown
        parser.add_argument("rest", nargs=argparse.REMAINDER)
        space, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise Misfit((error.argument_name or "").split("/")) from None
    return space.rest[1:] if space.rest[:1] == ["--"] else space.rest, unknown


class _Note(argparse.Action):
    """Notes an option as it was written, with its value."""

    def __init__(  # the shape that argparse calls
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        nargs: int | None,
        found: Found,
        is_global: bool = False,
    ) -> None:
        super().__init__(option_strings, dest, nargs=nargs)
        self._found = found
        self._is_global = is_global

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002  # the shape that argparse calls
        namespace: argparse.Namespace,  # noqa: ARG002
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Take one occurrence."""
        if self._is_global:
            self._found.flags.add(self.dest)
        else:
            value = values if isinstance(values, str) else ""
            self._found.options.setdefault(self.dest, []).append((option_string or "", value))


class _Quiet(argparse.ArgumentParser):
    """An argparse that neither prints nor exits."""

    def _get_formatter(self) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(self.prog, width=80)  # without a width it imports shutil to ask the terminal

    def error(self, message: str) -> NoReturn:
        """Turn what argparse would print into its exception."""
        raise argparse.ArgumentError(None, message)
