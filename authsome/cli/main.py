"""The command line: the table of commands, and the way from words to an exit status.

Rule: this file imports nothing that `--version` has no use for; a command's file is imported when it is called.
No error leaves here as a traceback.
"""

import os
import sys

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from typing import TextIO

CANCELLED = 11
"""Exit status of a command that the user broke off (`errors.Cancelled`)."""


class OutputLost(Exception):
    """Standard output takes no more; says why."""


class Command:
    """A line of the command table. A plain class, because `dataclasses` would cost each start 12 ms."""

    __slots__ = ("function", "group", "hidden", "module", "name", "summary")

    def __init__(self, name: str, module: str, group: str, summary: str, *, hidden: bool = False) -> None:
        self.name = name
        """The words that call it."""
        self.module = module
        """The file below `authsome/cli`; it holds `configure_<last word>` and `run_<last word>`."""
        self.function = name.rpartition(" ")[2].replace("-", "_")
        self.group = group
        self.summary = summary
        self.hidden = hidden


MAIN, CREDENTIALS, MACHINE = "Main", "Credentials", "This machine"

COMMANDS = (
    Command("tour", "tour", MAIN, "see the main job in a minute, without any account"),
    Command("login", "login", MAIN, "log in to a provider, or store its key"),
    Command("ui", "ui", MAIN, "the dashboard, in your browser"),
    Command("run", "run", MAIN, "run a command whose requests carry the credentials"),
    Command("list", "connections", CREDENTIALS, "providers and what is connected"),
    Command("get", "connections", CREDENTIALS, "one connection, its secrets hidden"),
    Command("inspect", "connections", CREDENTIALS, "a provider's definition and where it comes from"),
    Command("export", "connections", CREDENTIALS, "print credentials as environment variables"),
    Command("honeytoken", "connections", CREDENTIALS, "store a decoy, whose use is an alarm"),
    Command("set-default", "connections", CREDENTIALS, "choose a provider's default connection"),
    Command("logout", "connections", CREDENTIALS, "forget a connection here"),
    Command("revoke", "connections", CREDENTIALS, "end a provider's logins there, and forget them here"),
    Command("scan", "scan", CREDENTIALS, "find keys in .env files, and take them into the vault"),
    Command("register", "providers", CREDENTIALS, "add a provider of your own, or change a bundled one"),
    Command("remove", "providers", CREDENTIALS, "drop a provider of your own, or your change of one"),
    Command("init", "status", MACHINE, "make this machine's vault and identity ready"),
    Command("whoami", "status", MACHINE, "who you are to the daemon"),
    Command("doctor", "status", MACHINE, "check everything, and say how to mend it"),
    Command("identity list", "identity", MACHINE, "key pairs of this machine, and what they may do"),
    Command("identity create", "identity", MACHINE, "make a key pair, kept here or for a CI"),
    Command("identity use", "identity", MACHINE, "choose the identity that acts from here"),
    Command("identity claim", "identity", MACHINE, "ask to act for somebody, who has to confirm it"),
    Command("identity limit", "identity", MACHINE, "limit what an identity may use, and for how long"),
    Command("identity revoke", "identity", MACHINE, "end an identity and its runs, at once"),
    Command("log", "log", MACHINE, "what happened: logins, uses, refusals"),
    Command("log verify", "log_verify", MACHINE, "whether the log, or an export, is as it was written"),
    Command("log export", "log_export", MACHINE, "the log as lines of JSON, or sent to a collector"),
    Command("daemon status", "daemon", MACHINE, "whether the daemon runs, and where"),
    Command("daemon start", "daemon", MACHINE, "start the daemon in the background"),
    Command("daemon stop", "daemon", MACHINE, "stop the daemon"),
    Command("daemon restart", "daemon", MACHINE, "stop the daemon and start it anew"),
    Command("daemon unlock", "keys", MACHINE, "open a vault whose key is a passphrase"),
    Command("daemon lock", "keys", MACHINE, "close a vault whose key is a passphrase"),
    Command("daemon logs", "daemon", MACHINE, "what the daemon wrote to its log"),
    Command("daemon serve", "daemon", MACHINE, "run the daemon in the foreground"),
    Command("admin principals list", "principals", MACHINE, "who has a vault here, and who is invited"),
    Command("admin principals invite", "principals", MACHINE, "invite a person by a link that is good once"),
    Command("admin principals add", "principals", MACHINE, "add a principal for programs"),
    Command("admin principals role", "principals", MACHINE, "make a principal an admin, or a user"),
    Command("admin principals remove", "principals", MACHINE, "remove a principal with all that is its own"),
    Command("admin rekey", "keys", MACHINE, "make new keys for everything"),
    Command("admin backup", "backup", MACHINE, "write everything into one encrypted file"),
    Command("admin restore", "backup", MACHINE, "make a home of a backup"),
    Command("admin import-upstream", "admin", MACHINE, "take over a home of upstream authsome"),
    Command("proxy-worker", "run", MACHINE, "the injecting proxy of all runs", hidden=True),
)

_WOUND_UP = frozenset({"threading", "atexit", "logging", "tempfile"})
"""Modules that have something to do at the end of a process that used them."""

GLOBAL_FLAGS = {
    "--json": "json",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--no-color": "no-color",
    "--version": "version",
    "--help": "help",
    "-h": "help",
}
"""Flags that stand before or after the command."""


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` (without the program's name) asks for, and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _finish(_dispatch(words))
    except KeyboardInterrupt:
        complain("\nauthsome: error: cancelled\n", sys.stderr)
        return CANCELLED
    except BrokenPipeError:
        return _reader_left()
    except OutputLost as lost:
        _to_nowhere(1)
        complain(f"authsome: error: the output could not be written: {lost}\n", sys.stderr)
        return 1


def program() -> int:
    """What the launcher calls: `main` as the whole process, which then ends at once where nothing has to be wound up.

    The interpreter's own end takes apart every module that was loaded, a tenth of the time of a short command.
    """
    import gc  # noqa: PLC0415

    gc.disable()  # what a command allocates lives as long as it does; the daemon turns this on again
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from authsome.archive import boot  # noqa: PLC0415

        boot.open_standard_streams()
    status = main(sys.argv[1:])
    if not sys.modules.keys() & _WOUND_UP:
        complain("", sys.stderr)
        os._exit(status)
    return status


def _dispatch(words: list[str]) -> int:
    flags: set[str] = set()
    while words and words[0] in GLOBAL_FLAGS:
        flags.add(GLOBAL_FLAGS[words.pop(0)])
    if "version" in flags or words == ["--version"]:
        return _version(as_json="json" in flags)
    command = _find(words)
    if command is not None and command.name == "run" and not flags:
        from authsome.proxy import launch  # noqa: PLC0415

        launch.run(words[1:], os.environ)  # returns when it is not the usual case
    if "version" in _flags_of(command, words):
        return _version(as_json="json" in flags | _flags_of(command, words))
    from authsome.cli import start  # noqa: PLC0415  # everything that `--version` does without

    return start.start(command, words, flags)


def _find(words: list[str]) -> Command | None:
    """The command that the first words name."""
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        for command in COMMANDS:
            if command.name == name:
                return command
    return None


def _flags_of(command: Command | None, words: list[str]) -> set[str]:
    """Global flags after the command; those of a command that `run` is to start are not ours."""
    if command is None or command.name == "run":
        return set()
    return {GLOBAL_FLAGS[word] for word in words if word in GLOBAL_FLAGS}


def _version(*, as_json: bool) -> int:
    from authsome import __version__  # noqa: PLC0415

    put(f'{{"version": "{__version__}"}}\n' if as_json else f"authsome {__version__}\n", sys.stdout)
    return 0


def put(text: str, stream: "TextIO", *, at_once: bool = False) -> None:
    """Write a part of the result; with `at_once` let out what is still buffered, too.

    Raises:
        BrokenPipeError: who reads has left.
        OutputLost: the disk is full, or the like.
    """
    try:
        stream.write(text)
        if at_once:
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost((error.strerror or str(error)).lower()) from error


def complain(text: str, stream: "TextIO") -> None:
    """Write to standard error; where that takes nothing there is nobody to be told, and the command goes on."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _to_nowhere(2)


def _finish(status: int) -> int:
    """Let out what is still buffered, while a failure to can be told."""
    put("", sys.stdout, at_once=True)
    return status


def _reader_left() -> int:
    """`authsome list | head -1`: who reads has enough, which is no error and nothing to talk about."""
    _to_nowhere(1)
    return 0


def _to_nowhere(descriptor: int) -> None:
    """Let a standard stream lead nowhere, so that the interpreter's own last flush does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
