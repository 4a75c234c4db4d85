"""`admin rekey`, `daemon unlock`, `daemon lock`: the keys of the vault.

Rule: keys and passphrases come from the terminal or from standard input, and go to the daemon alone.
"""

import time

from authsome.cli import passphrase
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.cli.output import Stopwatch
from authsome.client import supervisor
from authsome.errors import DaemonUnavailable, UsageError, VaultDamaged

_SOURCES = ("file", "keyring", "environment", "passphrase")
_PATIENCE = 120.0  # seconds: a keyring may have to be unlocked by hand
_PAUSE = 0.2  # seconds between looks at how far it has come


def configure_rekey(parser: Parser) -> None:
    """The arguments of `admin rekey`."""
    parser.option(
        "--to",
        metavar="SOURCE",
        help="where the new master key is to be (default: where it is)",
        choices=_SOURCES,
    )
    parser.flag("--master-only", help="change the master key alone; what it protects stays sealed as it is")
    parser.flag("--stdin", help="read the new passphrase or key from standard input")
    parser.flag("--status", help="only say how far the last one has come")
    parser.examples = (
        "authsome admin rekey",
        "authsome admin rekey --to passphrase",
        "(umask 077; openssl rand -base64 32 | tee new.key) | authsome admin rekey --to environment --stdin",
    )


def run_rekey(args: Arguments, context: Context) -> int:
    """Change the master key, and seal everything with new keys."""
    context.refuse_inside_run("change keys")
    if args.flag("status"):
        return _told(context, context.daemon.call("GET", "/admin/rekey"), waits=False)
    wanted = args.optional("to")
    source = wanted or str(context.daemon.call("GET", "/admin/rekey")["source"])
    body: dict[str, object] = {"to": source, "master_only": args.flag("master-only")}
    if source == "passphrase":
        given = passphrase.given(context.output, from_stdin=args.flag("stdin"), is_new=True)
        body["passphrase"] = given.reveal()
    elif source == "environment":
        key = passphrase.given(
            context.output, from_stdin=args.flag("stdin"), is_new=True, what="master key, 32 bytes in base64"
        )
        body["key"] = key.reveal()
    elif args.flag("stdin"):
        raise UsageError(f"a key in the {source} is made, not given", hint="leave --stdin away")
    state = context.daemon.call("POST", "/admin/rekey", body, timeout=_PATIENCE)
    return _told(context, state, waits=True)


def _told(context: Context, state: dict[str, object], *, waits: bool) -> int:
    """Wait for the end, where that is wanted, and say how it went."""
    output, watch = context.output, Stopwatch()
    while waits and state["running"]:
        output.progress(f"sealing anew: {state['done']} of {state['total']} … {watch}; Ctrl-C leaves it to the daemon")
        time.sleep(_PAUSE)
        state = context.daemon.call("GET", "/admin/rekey")
    if state["problem"]:
        raise VaultDamaged(str(state["problem"]), hint="what could be renewed was; see `authsome doctor`")
    if output.as_json:
        output.result(state)
        return 0
    if state["running"]:
        output.line(f"under way: {state['done']} of {state['total']} values are sealed anew")
        return 0
    output.line(f"the master key is in: {state['source']}; {state['done']} values were sealed anew")
    if state["damaged"]:
        output.note(f"authsome: warning: {state['damaged']} of them were damaged before, and were left as they are")
    if waits and state["source"] == "environment":
        output.hint("the daemon's next start needs the new key in AUTHSOME_MASTER_KEY or AUTHSOME_MASTER_KEY_FILE")
    elif waits and (context.settings.master_key is not None or context.settings.master_key_file is not None):
        output.hint("unset AUTHSOME_MASTER_KEY and AUTHSOME_MASTER_KEY_FILE: what they give opens nothing any more")
    return 0


def configure_unlock(parser: Parser) -> None:
    """The arguments of `daemon unlock`."""
    parser.flag("--stdin", help="read the passphrase from standard input")
    parser.examples = ("authsome daemon unlock", "pass show authsome | authsome daemon unlock --stdin")


def run_unlock(args: Arguments, context: Context) -> int:
    """Give a locked vault its passphrase."""
    context.refuse_inside_run("unlock the vault")
    state = context.daemon.lock_state()
    if state != "ok":
        given = passphrase.given(context.output, from_stdin=args.flag("stdin"), is_new=state == "new")
        context.daemon.unlock(given)
    if context.output.as_json:
        context.output.result({"locked": False, "was_locked": state != "ok"})
    context.output.line("the vault is open" if state != "ok" else "the vault was open")
    return 0


def configure_lock(_parser: Parser) -> None:
    """`daemon lock` takes no arguments."""


def run_lock(_args: Arguments, context: Context) -> int:
    """Put a daemon that knows no key in the place of the one that does."""
    if not supervisor.may_start(context.settings):
        raise UsageError("AUTHSOME_DAEMON_URL names a daemon that is not started from here", hint="lock it there")
    before = supervisor.running(context.settings.home)
    if before is None:
        raise DaemonUnavailable("the daemon is not running, so nothing is open", hint="it starts when it is needed")
    if context.daemon.lock_state() == "ok" and context.daemon.call("GET", "/admin/rekey")["source"] != "passphrase":
        raise UsageError(
            "this vault's key is no passphrase: a daemon finds it by itself",
            hint="authsome admin rekey --to passphrase",
        )
    context.daemon.close()
    supervisor.stop(context.settings.home, notice=context.waiting)
    supervisor.ensure_running(context.settings, environ=context.environ, notice=context.waiting)
    if context.output.as_json:
        context.output.result({"locked": True})
    context.output.line("the vault is locked")
    return 0
