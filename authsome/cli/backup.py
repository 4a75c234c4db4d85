"""`admin backup` and `admin restore`: everything in one encrypted file, and a home of it."""

from pathlib import Path

from authsome.cli import passphrase
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.cli.output import Stopwatch
from authsome.client import supervisor
from authsome.errors import UsageError
from authsome.home import read_config

_PATIENCE = 600.0  # seconds: a log of a million entries takes a few
_WHAT = "passphrase of this backup"
_POWERFUL = ("notify", "users")  # settings that name programs to run, and who may connect


def configure_backup(parser: Parser) -> None:
    """The arguments of `admin backup`."""
    parser.argument("file", "where to write it, on the daemon's machine")
    parser.option("--recipient", metavar="AGE1…", help="who can open it, by a key of age", many=True)
    parser.flag("--stdin", help="read the backup's passphrase from standard input")
    parser.flag("--server-only", help="leave out the keys of this machine's identities")
    parser.flag("--force", help="replace a file that is there")
    parser.examples = (
        "authsome admin backup ~/authsome.age",
        "authsome admin backup ~/authsome.age --recipient age1…",
    )


def run_backup(args: Arguments, context: Context) -> int:
    """Have the daemon write a backup."""
    context.refuse_inside_run("write a backup")
    path = Path(args.text("file")).absolute()
    recipients = args.many("recipient")
    body: dict[str, object] = {
        "file": str(path),
        "recipients": list(recipients),
        "identities": not args.flag("server-only"),
        "force": args.flag("force"),
    }
    if not recipients:
        given = passphrase.given(context.output, from_stdin=args.flag("stdin"), is_new=True, what=_WHAT)
        body["passphrase"] = given.reveal()
    context.output.progress(f"writing {path} … {Stopwatch()}")
    answer = context.daemon.call("POST", "/admin/backup", body, timeout=_PATIENCE)
    if context.output.as_json:
        context.output.result(answer)
        return 0
    context.output.line(f"written: {path}")
    if not answer["has_key"]:
        context.output.hint(f"the master key is not in it: to restore it takes the {answer['master_key']}, too")
    return 0


def configure_restore(parser: Parser) -> None:
    """The arguments of `admin restore`."""
    parser.argument("file", "the backup")
    parser.option("--identity", metavar="FILE", help="a key of age that opens it, as age-keygen writes it")
    parser.flag("--stdin", help="read the backup's passphrase from standard input")
    parser.flag("--force", help="set aside the vault that is there")
    parser.examples = ("authsome admin restore ~/authsome.age",)


def run_restore(args: Arguments, context: Context) -> int:
    """Make this home of a backup."""
    context.refuse_inside_run("restore a backup")
    if not supervisor.may_start(context.settings):
        raise UsageError("AUTHSOME_DAEMON_URL names a daemon elsewhere", hint="restore its home there, or unset it")
    from authsome.daemon import restoring  # noqa: PLC0415  # the server tower, for this alone

    path, key_file, force = Path(args.text("file")).absolute(), args.optional("identity"), args.flag("force")
    restoring.check_place(context.settings, path, force=force)
    given = None
    if key_file is None:
        given = passphrase.given(context.output, from_stdin=args.flag("stdin"), is_new=False, what=_WHAT)
    context.output.progress("reading the backup …")
    restored = restoring.restore(
        context.settings,
        path,
        identity_file=None if key_file is None else Path(key_file).absolute(),
        passphrase=given,
        force=force,
    )
    manifest, aside = restored.manifest, restored.set_aside
    powerful = [name for name in _POWERFUL if name in read_config(context.settings.home)]
    if context.output.as_json:
        context.output.result(
            {
                "home": str(context.settings.home.root),
                "created_at": manifest.created_at,
                "version": manifest.version,
                "master_key": "file" if manifest.has_key else manifest.master_key.value,
                "identities": list(manifest.identities),
                "set_aside": None if aside is None else str(aside),
                "settings": powerful,
            }
        )
        return 0
    context.output.line(f"restored: {context.settings.home.root}, as it was at {manifest.created_at}")
    if aside is not None:
        context.output.hint(f"the home before it is in {aside}")
    if powerful:  # anybody who knows a recipient can make a file for it
        named = " and ".join(powerful)
        context.output.hint(f"its config.json sets {named}: see that it is yours before the daemon starts")
    if not manifest.has_key:
        context.output.hint(f"its master key is not in the backup: give it as before ({manifest.master_key})")
    elif manifest.master_key.value == "keyring":
        context.output.hint("its master key is in a file now; authsome admin rekey --to keyring")
    return 0
