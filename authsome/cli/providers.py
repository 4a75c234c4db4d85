"""`register`, `remove`: providers of one's own.

Rule: nothing is registered that nobody has read: what a definition will be allowed to do is shown and agreed to first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from authsome.cli import prompt, segments
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.client.api import JsonObject
from authsome.errors import ConnectionExists, NotAllowed, ProviderInvalid, UsageError, reason_of

_PATIENCE = 60.0  # seconds: a provider may have to be told, and takes its time
_LARGEST = 256 * 1024  # bytes: as much as the daemon takes


# ---- register --------------------------------------------------------------------------------------------------------


def configure_register(parser: Parser) -> None:
    """The arguments of `register`."""
    parser.argument("file", "a definition in JSON, comments allowed; `authsome inspect openai` shows the form")
    parser.flag("--yes", help="agree to what the definition says, without being asked")
    parser.flag("--force", help="take the place of a definition of the same name")
    parser.examples = ("authsome register acme.json", "authsome register github.json --force --yes")


def run_register(args: Arguments, context: Context) -> int:
    """Look a definition through, have it agreed to, and register it."""
    context.refuse_inside_run("change where credentials go")
    path = Path(args.text("file"))
    body: dict[str, object] = {"definition": _read(path), "source": path.name, "force": args.flag("force")}
    review = context.daemon.call("POST", "/providers", body)
    for line in _told(review):
        context.output.note(line)
    if not args.flag("yes"):
        _agree(context, review)
    body |= {"confirmed": True, "allow_private_addresses": bool(review.get("allow_private_addresses"))}
    done = context.daemon.call("POST", "/providers", body)
    output = context.output
    if output.as_json:
        output.result(done)
        return 0
    output.line(good=f"registered {done['provider']}")
    if not done.get("connections"):
        output.hint(f"next: authsome login {done['provider']}")
    return 0


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {reason_of(error)}", hint="name a file that holds a definition"
        ) from None
    if len(data) > _LARGEST:
        raise ProviderInvalid(f"{path.name}: is larger than {_LARGEST // 1024} KiB")
    if not data.strip():
        raise ProviderInvalid(
            f"{path.name}: is empty", hint="`authsome inspect openai` shows what a definition looks like"
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProviderInvalid(f"{path.name}: is not UTF-8") from None


def _told(review: JsonObject) -> Iterator[str]:
    """What a definition will be allowed to do, in lines."""
    name, replaced = review["provider"], review.get("replaced")
    connected = [*_texts(review, "connections")]
    if others := review.get("connections_of_others"):
        connected.append(f"{others} of other principals")
    yield f"{name} ({review['display_name']}), a definition of your own:"
    yield from _row("sends the credential to", _texts(review, "hosts"))
    yield from _row("logs in at", _texts(review, "endpoints"))
    yield from _row("sets for a run's child", _texts(review, "environment"))
    variables = review.get("variables")
    if isinstance(variables, dict):
        yield from _row("asks for", [f"{key} (default: {value})" if value else key for key, value in variables.items()])
    if review.get("allow_private_addresses"):
        yield from _row("may reach", ["this machine, and addresses of private networks"])
    if replaced is not None:
        whose = "authsome's own definition" if replaced == "bundled" else "the one that you registered before"
        yield from _row("takes the place of", [whose])
        yield from _row("where that sent nothing", _texts(review, "new_hosts"))
    if connected:
        yield from _row("takes over what is connected", connected)
    if review.get("forgets_client"):
        yield from _row("forgets the OAuth client", ["it was given for other endpoints; the next login asks for one"])


def _row(label: str, values: Sequence[str]) -> Iterator[str]:
    for number, value in enumerate(values):
        yield f"  {'' if number else label:<28}  {value}"


def _agree(context: Context, review: JsonObject) -> None:
    """Have somebody say yes who has been shown it (--quiet shows nothing); to private addresses by a question more."""
    if context.output.as_json or context.output.quiet or not prompt.possible():
        raise NotAllowed("nobody is there to agree to what this definition may do", hint="read it, then say so: --yes")
    questions = [f"register {review['provider']}?"]
    if review.get("allow_private_addresses"):
        questions.append("may its hosts lie on this machine or a private network?")
    if not all(prompt.confirm(context.output, question) for question in questions):
        raise NotAllowed("nothing was registered")


# ---- remove ----------------------------------------------------------------------------------------------------------


def configure_remove(parser: Parser) -> None:
    """The arguments of `remove`."""
    parser.argument("provider", "the name of a provider that you registered")
    parser.flag("--yes", help="forget what is connected there too, without being asked")


def run_remove(args: Arguments, context: Context) -> int:
    """Drop a definition, with what was connected by it."""
    context.refuse_inside_run("change where credentials go")
    provider, output = args.text("provider"), context.output
    target = f"/providers/{segments.named(provider)}"
    try:
        gone = context.daemon.call("DELETE", target + ("?forget=true" if args.flag("yes") else ""), timeout=_PATIENCE)
    except ConnectionExists as error:
        if output.as_json or not prompt.possible():
            raise
        if not prompt.confirm(output, f"{error.message}; forget that, too?"):
            raise NotAllowed("nothing was removed") from None
        gone = context.daemon.call("DELETE", target + "?forget=true", timeout=_PATIENCE)
    if output.as_json:
        output.result(gone)
        return 0
    output.line(f"removed the definition of {provider}")
    forgotten = gone.get("forgotten")
    for each in forgotten if isinstance(forgotten, list) else []:
        output.line(f"forgot {provider} ({each['connection']})")
    if forgotten:
        output.hint("credentials live on there until they expire; `authsome revoke` before removing ends them")
    if gone.get("unregistered") is False:
        output.note(f"authsome is still registered with {provider}: that could not be given back")
    if gone.get("restored"):
        output.hint(f"{provider} is again as authsome brings it along")
    return 0


def _texts(review: JsonObject, name: str) -> list[str]:
    found = review.get(name)
    return [str(each) for each in found] if isinstance(found, list) else []
