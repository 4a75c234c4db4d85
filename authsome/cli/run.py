"""`run`: a command behind the injecting proxy, whose place this process takes."""

from datetime import timedelta
from typing import Never

from authsome.cli import clients, times
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import AuthsomeError, Cancelled, UsageError

UNMATCHED = ("tunnel", "deny")
FAILED = 125
"""Exit status when authsome itself failed, so that it is not taken for the command's (as in `env` and `docker run`)."""
_INTERRUPTED = 130  # Ctrl-C before the command began: what a shell says of SIGINT
_NO_COMMAND = frozenset({126, 127})


def configure_run(parser: Parser) -> None:
    """The arguments of `run`."""
    parser.option("--connection", metavar="PROVIDER=NAME", help="use this connection of a provider", many=True)
    parser.option("--only", metavar="PROVIDER,…", help="carry only these providers' credentials", many=True)
    parser.option("--for", metavar="TIME", help="carry them for so long only: 90s, 15m, 2h")
    parser.option(
        "--unmatched", metavar="WHAT", help="requests to other hosts: tunnel (default) or deny", choices=UNMATCHED
    )
    parser.option("--explain", metavar="URL", help="start nothing, but say what would become of a request, and why")
    parser.rest("command", "the command and its arguments, as they are", unless="explain")
    parser.examples = (
        "authsome run -- curl https://api.github.com/user",
        "authsome run --only openai -- python my_agent.py",
        "authsome run --connection github=work -- git push",
        "authsome run --explain https://api.github.com/user",
    )
    parser.notes = clients.NOTES


def run_run(args: Arguments, context: Context) -> int:
    """Become the command, or say what would become of a request of its."""
    if (url := args.optional("explain")) is None:
        _become(args, context)
    return _explain(url, args, context)


def _become(args: Arguments, context: Context) -> Never:
    from authsome import archive  # noqa: PLC0415
    from authsome.proxy import launch, run  # noqa: PLC0415  # not for `proxy-worker`

    duration = _duration(args.optional("for"))
    wish = launch.Wish(
        args.many("command"),
        connections=_pinned(args.many("connection")),
        only=_only(args),
        seconds=int(duration.total_seconds()) if duration is not None else None,
        unmatched=args.optional("unmatched") or UNMATCHED[0],
        inside=context.environ.get("AUTHSOME_RUN", ""),
    )
    with context.daemon as daemon:
        run.run(
            wish,
            daemon=daemon,
            settings=context.settings,
            environ=context.environ,
            worker_command=[*archive.launch_command(), run.WORKER],
            notice=context.waiting,
        )


def _explain(url: str, args: Arguments, context: Context) -> int:
    from authsome.cli import explain  # noqa: PLC0415

    if args.many("command"):
        raise UsageError("--explain takes no command", hint="leave one of them out")
    if args.optional("for") is not None:
        raise UsageError("--for says nothing about one request", hint="leave it out")
    question = explain.Question(
        url=explain.parse_url(url),
        pinned=_pinned(args.many("connection")),
        only=_only(args),
        denies=args.optional("unmatched") == "deny",
    )
    with context.daemon as daemon:
        explain.tell(question, daemon, context.output)
    return 0


def _only(args: Arguments) -> tuple[str, ...]:
    """The names; an empty one is no name, and must not come to mean all of them."""
    names = tuple(name.strip() for text in args.many("only") for name in text.split(","))
    if not all(names):
        raise UsageError("--only names no provider where it should", hint="such as --only openai,github")
    return names


def exit_status(error: AuthsomeError) -> int:
    """What `run` ends with when there was no command, or none that could be started."""
    if isinstance(error, Cancelled):
        return _INTERRUPTED
    return error.exit_status if error.exit_status in _NO_COMMAND else FAILED


def _pinned(choices: tuple[str, ...]) -> dict[str, str]:
    pinned: dict[str, str] = {}
    for choice in choices:
        provider, equals, name = choice.partition("=")
        if not (provider and equals and name):
            raise UsageError("--connection takes PROVIDER=NAME", hint="such as --connection github=work")
        if pinned.setdefault(provider, name) != name:
            raise UsageError(f"--connection names two connections of {provider[:64]}")
    return pinned


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    duration = times.parse_duration(text)
    if not duration:
        raise UsageError("--for takes a length of time", hint="such as 90s, 15m or 2h")
    return duration


def configure_proxy_worker(_parser: Parser) -> None:
    """What the worker needs comes on standard input."""


def run_proxy_worker(_args: Arguments, _context: Context) -> int:
    """Be the proxy of all runs."""
    import gc  # noqa: PLC0415

    from authsome.proxy import worker  # noqa: PLC0415  # asyncio, and the engine's library

    gc.enable()  # off in short commands
    return worker.main()
