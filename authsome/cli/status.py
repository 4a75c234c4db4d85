"""`whoami`, `init`, `doctor`: this machine's part in it."""

from authsome.cli.answer import member
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.client.api import JsonObject
from authsome.errors import UsageError

KEY_SOURCES = ("file", "keyring")


def configure_whoami(_parser: Parser) -> None:
    """`whoami` takes no arguments."""


def run_whoami(_args: Arguments, context: Context) -> int:
    """Say who the daemon takes us for."""
    answer = context.daemon.call("GET", "/whoami")
    if context.output.as_json:
        context.output.result(answer)
        return 0
    _show(answer, context)
    return 0


def _show(answer: JsonObject, context: Context) -> None:
    identity, principal, daemon = (member(answer, name) for name in ("identity", "principal", "daemon"))
    line = context.output.line
    line(f"identity   {identity.get('handle')}")
    line(f"key        {identity.get('did')}")
    line(f"           fingerprint {identity.get('fingerprint')}")
    line(f"principal  {principal.get('name')} ({principal.get('role')})")
    if any((given := member(answer, "limits")).values()):
        from authsome.cli import limits  # noqa: PLC0415  # most identities have none

        line(f"limits     {limits.words(given)}")
    line(f"daemon     {context.daemon.url} (version {daemon.get('version')}, process {daemon.get('pid')})")
    if home := answer.get("home"):
        line(f"home       {home}")


def configure_init(parser: Parser) -> None:
    """The arguments of `init`."""
    parser.option(
        "--key-source",
        metavar="WHERE",
        help="where the new vault's master key is kept: file (default) or keyring",
        choices=KEY_SOURCES,
    )


def run_init(args: Arguments, context: Context) -> int:
    """Make the home, its vault and its identity, unless they are there; start the daemon."""
    home = context.settings.home
    existed = home.database.exists()
    if (source := args.optional("key-source")) is not None:
        _choose(source, context, existed=existed)
    answer = context.daemon.call("GET", "/whoami")
    if context.output.as_json:
        context.output.result({"created": not existed, **answer})
        return 0
    context.output.line(f"the vault is {'there already' if existed else 'ready'}: {home.root}")
    _show(answer, context)
    context.output.hint("next: authsome login PROVIDER")
    return 0


def _choose(source: str, context: Context, *, existed: bool) -> None:
    from authsome.client.supervisor import start_lock  # noqa: PLC0415  # only when a choice is made
    from authsome.home import read_config, write_config  # noqa: PLC0415

    settings = context.settings
    if settings.master_key is not None or settings.master_key_file is not None:
        raise UsageError("--key-source contradicts the master key in the environment", hint="leave one of them away")
    with start_lock(settings.home):
        config = read_config(settings.home)
        if existed and config.get("master_key", "file") != source:
            raise UsageError(
                "this vault is made, and its master key stays where it is", hint="`authsome doctor` says where that is"
            )
        write_config(settings.home, {**config, "master_key": source})


def configure_doctor(parser: Parser) -> None:
    """The arguments of `doctor`."""
    parser.flag("--fix", help="mend what is ours to mend: modes of our files; on macOS, offer trust in the proxy")


def run_doctor(args: Arguments, context: Context) -> int:
    """Check everything."""
    from authsome.cli import doctor  # noqa: PLC0415  # its checks need much that `whoami` does without

    return doctor.examine(context, fix=args.flag("fix"))
