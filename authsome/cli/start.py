"""From words to a running command: global flags, help, settings, and errors told in one line each."""

import os
import sys
from typing import TYPE_CHECKING, Protocol

from authsome.cli.arguments import Arguments, Parser
from authsome.cli.main import COMMANDS, GLOBAL_FLAGS, Command, OutputLost, complain
from authsome.cli.output import Output
from authsome.errors import AuthsomeError, Cancelled, UsageError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable


class _Module(Protocol):
    """A file of commands."""

    __name__: str


def start(command: Command | None, words: list[str], flags: set[str]) -> int:
    """Run a command of the table, or say what there is; returns the exit status."""
    known = flags | _early_flags(command, words)
    try:
        return (
            _without_command(words, flags, _output(known)) if command is None else _with(command, words, flags, known)
        )
    except AuthsomeError as error:
        told = error
    except KeyboardInterrupt:
        told = Cancelled("cancelled")
    except (BrokenPipeError, OutputLost):
        raise
    except Exception as error:  # noqa: BLE001  # the last place where a fault can be told in a line
        told = _unexpected(error)
    if command is not None and isinstance(told, UsageError) and told.hint == UsageError.default_hint:
        told.hint = f"see `authsome {command.name} --help`"
    _output(known).error(told)
    return _status(command, told)


def _with(command: Command, words: list[str], flags: set[str], known: set[str]) -> int:
    """Run a command; `known` learns of the flags that are found behind its name, by which its errors are told."""
    module = _load(command)
    parser = Parser(command.name, command.summary)
    configure: Callable[[Parser], None] = getattr(module, f"configure_{command.function}")
    configure(parser)
    if "help" in flags:
        return _help(parser, _output(flags))
    arguments, more = parser.parse(words[len(command.name.split()) :])
    known |= more
    output = _output(flags | more)
    if "help" in more:
        return _help(parser, output)
    return _run(module, command, arguments, output)


def _run(module: _Module, command: Command, arguments: Arguments, output: Output) -> int:
    from authsome.cli.context import Context  # noqa: PLC0415  # what help does without
    from authsome.home import SECRET_VARIABLES  # noqa: PLC0415

    context = Context(os.environ, output)
    for name in SECRET_VARIABLES:  # nothing that is started from here inherits them
        os.environ.pop(name, None)
    run: Callable[[Arguments, Context], int] = getattr(module, f"run_{command.function}")
    return run(arguments, context)


def _status(command: Command | None, error: AuthsomeError) -> int:
    """The exit status of an error; `run` keeps its own apart from those of the command that it starts."""
    if command is None or command.name != "run":
        return error.exit_status
    from authsome.cli import run  # noqa: PLC0415

    return run.exit_status(error)


def _load(command: Command) -> _Module:
    import importlib  # noqa: PLC0415

    return importlib.import_module(f"authsome.cli.{command.module}")


def _output(flags: set[str]) -> Output:
    is_dumb = os.environ.get("TERM") == "dumb"
    return Output(
        as_json="json" in flags,
        quiet="quiet" in flags,
        verbose="verbose" in flags,
        color="no-color" not in flags and not os.environ.get("NO_COLOR") and not is_dumb,
        erases=not is_dumb,
    )


def _early_flags(command: Command | None, words: list[str]) -> set[str]:
    """How errors are to be told, known before the words are: even those about the words themselves."""
    before = words[: words.index("--")] if "--" in words else words
    if command is not None and command.name == "run" and before is words:
        # What looks like a flag may be the child's: only what comes before any word that may be its name is ours.
        before = words[1 : next((place for place, word in enumerate(words[1:], 1) if word[:1] != "-"), len(words))]
    return {GLOBAL_FLAGS[word] for word in before if word in GLOBAL_FLAGS} - {"help"}


def _without_command(words: list[str], flags: set[str], output: Output) -> int:
    from authsome.cli import help as pages  # noqa: PLC0415

    names = [command.name for command in COMMANDS if not command.hidden]
    stem = next((stem for stem in (" ".join(words[:2]), *words[:1]) if _family(stem, names)), "")
    family, size = _family(stem, names), len(stem.split())
    if not words or (words[0] == "help" and not words[1:]):
        asked = "help" in flags or bool(words)
        if not asked and output.as_json:
            raise UsageError("no command was given")
        output.page(pages.overview(), asked=asked)
        return 0 if asked else UsageError.exit_status
    if words[0] == "help":
        return start(_named(words[1:]), words[1:], flags | {"help"})
    if family and all(word in GLOBAL_FLAGS for word in words[size:]):
        asked = "help" in flags | {GLOBAL_FLAGS[word] for word in words[size:]}
        if not asked and output.as_json:
            raise UsageError(f"{stem} needs a command", hint=f"see `authsome {stem} --help`")
        output.page(pages.family(stem), asked=asked)
        return 0 if asked else UsageError.exit_status
    raise _unknown(words, names, stem)


def _family(stem: str, names: list[str]) -> list[str]:
    """The commands whose names begin with these words and go on."""
    return [name for name in names if stem and name.startswith(stem + " ")]


def _named(words: list[str]) -> Command | None:
    return next((command for command in COMMANDS if command.name == " ".join(words)), None)


def _unknown(words: list[str], names: list[str], stem: str) -> UsageError:
    from authsome.cli.arguments import suggestion  # noqa: PLC0415

    if words[0].startswith("-"):
        return UsageError("there is no such option before a command")
    plain = words[0].isascii() and words[0].replace("-", "").isalnum() and len(words[0]) <= 32
    if stem:
        near = suggestion(" ".join(words[: len(stem.split()) + 1]), _family(stem, names))
        return UsageError(f"{stem} has no such command", hint=near or f"see `authsome {stem} --help`")
    first = [*dict.fromkeys(name.split()[0] for name in names)]
    return UsageError(
        f"there is no command {words[0]}" if plain else "there is no such command", hint=suggestion(words[0], first)
    )


def _help(parser: Parser, output: Output) -> int:
    from authsome.cli import help as pages  # noqa: PLC0415

    output.page(pages.page(parser), asked=True)
    return 0


def _unexpected(error: Exception) -> AuthsomeError:
    """A file that cannot be used, by its name; else a fault of ours in one line: where it happened, never what it held.

    That may be a secret.
    """
    import traceback  # noqa: PLC0415

    if isinstance(error, OSError) and error.filename and error.strerror:
        return AuthsomeError(
            f"{os.fsdecode(error.filename)}: {reason_of(error)}",
            hint="look at its owner and mode, and at the disk; `authsome doctor` checks what is ours",
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "nowhere"  # noqa: PTH119
    if os.environ.get("AUTHSOME_LOG_LEVEL", "").lower() == "debug":
        for frame in frames:
            complain(f"  {frame.filename}:{frame.lineno} {frame.name}\n", sys.stderr)
        hint = "this is a fault of authsome; please report it"
    else:
        hint = "this is a fault of authsome; AUTHSOME_LOG_LEVEL=debug shows where it comes from"
    return AuthsomeError(f"something unexpected went wrong ({type(error).__name__} in {where})", hint=hint)
