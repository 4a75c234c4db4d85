"""`daemon`: the process that holds the vault.

Rule: the master key is in its environment at no time. Started with AUTHSOME_MASTER_KEY, `serve` replaces itself by a
process that gets the key through a pipe, so that nothing of it is left in /proc.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.client import supervisor
from authsome.client.supervisor import DaemonState
from authsome.errors import AuthsomeError, DaemonUnavailable, UsageError
from authsome.home import MASTER_KEY_BYTES, open_private
from authsome.secret import Secret

_POLL = 0.3  # seconds between looks at the log with --follow
_TAIL = 256 * 1024  # bytes of the log that `-n` looks at


def configure_serve(parser: Parser) -> None:
    """The arguments of `daemon serve`."""
    parser.flag("--supervised", help="report to the process that started this", hidden=True)
    parser.flag(supervisor.MASTER_KEY_ON_STDIN, help="take the master key from standard input", hidden=True)


def run_serve(args: Arguments, context: Context) -> int:
    """Be the daemon, until SIGTERM or Ctrl-C."""
    settings = context.settings
    if args.flag(supervisor.MASTER_KEY_ON_STDIN.lstrip("-")):
        settings = settings._replace(master_key=_piped_key())
    elif settings.master_key is not None:
        _start_again_without_key(context, settings.master_key, args)
    from authsome.daemon.main import serve  # noqa: PLC0415  # the server tower, for the daemon alone

    supervised = args.flag("supervised")
    report = _Report() if supervised else None
    try:
        serve(
            settings,
            environ=context.environ,
            supervised=supervised,
            on_ready=report.ready if report else lambda url: context.output.note(f"listening at {url}; Ctrl-C stops"),
        )
    except AuthsomeError as error:
        if report:
            report.failed(error)
        raise
    return 0


class _Report:
    """One line to the process that started this, on what was standard output before the daemon's log took it over."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.dup2(2, 1)  # the other end sees the end of it as soon as the line is out, or this process is gone

    def ready(self, url: str) -> None:
        """It answers."""
        self._send({"ready": True, "url": url})

    def failed(self, error: AuthsomeError) -> None:
        """It could not start."""
        self._send(error.to_json())

    def _send(self, message: Mapping[str, object]) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with suppress(OSError):  # it did not wait, or was told already
            os.write(descriptor, json.dumps(message).encode() + b"\n")
            os.close(descriptor)


def _piped_key() -> Secret[bytes]:
    with os.fdopen(os.dup(0), "rb") as pipe:
        key = pipe.read(MASTER_KEY_BYTES + 1)
    if len(key) != MASTER_KEY_BYTES:
        raise UsageError("there is no master key on standard input")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Secret(key)


def _start_again_without_key(context: Context, key: Secret[bytes], args: Arguments) -> NoReturn:
    from authsome import archive  # noqa: PLC0415

    reader, writer = os.pipe()
    os.write(writer, key.reveal())  # 32 bytes: a pipe takes them at once
    os.close(writer)
    os.dup2(reader, 0)
    os.close(reader)
    command = [*archive.launch_command(), "daemon", "serve", supervisor.MASTER_KEY_ON_STDIN]
    if args.flag("supervised"):
        command.append("--supervised")
    os.execve(command[0], command, context.environ)  # noqa: S606  # no shell is the point


def configure_start(_parser: Parser) -> None:
    """`daemon start` takes no arguments."""


def run_start(_args: Arguments, context: Context) -> int:
    """Start the daemon unless it runs."""
    _local(context)
    before = supervisor.running(context.settings.home)
    state = supervisor.ensure_running(context.settings, environ=context.environ, notice=context.waiting)
    return _tell(context, state, "runs already" if before == state else "started")


def configure_stop(_parser: Parser) -> None:
    """`daemon stop` takes no arguments."""


def run_stop(_args: Arguments, context: Context) -> int:
    """Stop the daemon, when one runs."""
    _local(context)
    stopped = supervisor.stop(context.settings.home, notice=context.waiting)
    if context.output.as_json:
        context.output.result({"stopped": stopped})
    context.output.line("the daemon has stopped" if stopped else "no daemon was running")
    return 0


def configure_restart(_parser: Parser) -> None:
    """`daemon restart` takes no arguments."""


def run_restart(_args: Arguments, context: Context) -> int:
    """Stop the daemon and start it anew."""
    _local(context)
    supervisor.stop(context.settings.home, notice=context.waiting)
    state = supervisor.ensure_running(context.settings, environ=context.environ, notice=context.waiting)
    return _tell(context, state, "started anew")


def configure_status(_parser: Parser) -> None:
    """`daemon status` takes no arguments."""


def run_status(_args: Arguments, context: Context) -> int:
    """Say whether the daemon runs, and whether it has found its log to be damaged."""
    if not supervisor.may_start(context.settings):
        return _remote_status(context)
    state = supervisor.running(context.settings.home)
    if state is None:
        raise DaemonUnavailable(
            "the daemon is not running", hint="it starts by itself when needed; or: authsome daemon start"
        )
    lock = context.daemon.lock_state()
    damage = _damage(context)
    _tell(context, state, "runs", vault=lock, log_damaged=damage)
    if lock != "ok":
        context.output.line("its vault is locked" if lock == "locked" else "its vault has no passphrase yet")
        context.output.hint("`authsome daemon unlock` asks for it")
    _warn(context, damage)
    return 0


def _damage(context: Context) -> str | None:
    """What the daemon has found wrong with its log; None also where we may not know."""
    if context.daemon.lock_state() != "ok":
        return None
    context.daemon.only_looks = True
    try:
        found = context.daemon.call("GET", "/audit/events?event=log_damaged&limit=1").get("events")
    except AuthsomeError:  # there is no identity, or one that nobody has let in
        return None
    return str(found[0]["detail"]) if isinstance(found, list) and found else None


def _remote_status(context: Context) -> int:
    daemon = context.daemon
    answer = daemon.health()
    damage = _damage(context)
    if context.output.as_json:
        context.output.result({"running": True, "url": daemon.url, **answer, "log_damaged": damage})
    context.output.line(f"the daemon at {daemon.url} answers (version {answer.get('version')})")
    _warn(context, damage)
    return 0


def configure_logs(parser: Parser) -> None:
    """The arguments of `daemon logs`."""
    parser.option("-n", "--lines", metavar="N", help="how many lines (default: 50)")
    parser.flag("-f", "--follow", help="go on showing what is written, until Ctrl-C")


def run_logs(args: Arguments, context: Context) -> int:
    """Show the end of the daemon's log."""
    _local(context)
    text = args.optional("lines") or "50"
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 6):
        raise UsageError("-n takes a number of lines")
    if context.output.as_json and args.flag("follow"):
        raise UsageError("--json is one object, and --follow has no end", hint="leave one of them away")
    path = context.settings.home.daemon_log
    try:
        file = _open(path)
    except FileNotFoundError:
        raise DaemonUnavailable("there is no log: the daemon never ran in this home") from None
    try:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = _lines(file)[-int(text) :]
        if context.output.as_json:
            context.output.result({"log": str(path), "lines": lines})
            return 0
        while True:
            for line in lines:
                context.output.line(line)
            if not args.flag("follow"):
                return 0
            context.output.flush()
            time.sleep(_POLL)
            newer = _newer(path, file)
            lines = _lines(file)  # to its end, before the next one is begun
            if newer is not None:
                file.close()
                file = newer
                lines += _lines(file)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    return os.fdopen(open_private(path, os.O_RDONLY), "rb")


def _lines(file: BinaryIO) -> list[str]:
    return file.read().decode("utf-8", "replace").splitlines()


def _newer(path: Path, file: BinaryIO) -> BinaryIO | None:
    """The log that has taken this one's place, if one has."""
    with suppress(FileNotFoundError):  # the daemon is about to make it
        newer = _open(path)
        if not os.path.samestat(os.fstat(newer.fileno()), os.fstat(file.fileno())):
            return newer
        newer.close()
    return None


def _local(context: Context) -> None:
    if not supervisor.may_start(context.settings):
        raise UsageError(
            "AUTHSOME_DAEMON_URL names a daemon that is not started or stopped from here",
            hint="unset it, or do so there",
        )


def _warn(context: Context, damage: str | None) -> None:
    if damage is not None:
        context.output.line(f"its log is not as it was written: {damage}")
        context.output.hint("see `authsome log verify`; somebody had the file")


def _tell(context: Context, state: DaemonState, verb: str, **more: str | None) -> int:
    if context.output.as_json:
        context.output.result(
            {
                "running": True,
                "pid": state.pid,
                "url": state.url,
                "version": state.version,
                "build": state.build,
                "home": str(context.settings.home.root),
                "log": str(context.settings.home.daemon_log),
                **more,
            }
        )
    context.output.line(f"the daemon {verb}: {state.url}, process {state.pid}, version {state.version}")
    return 0
