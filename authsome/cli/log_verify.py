"""`log verify`: whether the record of what happened is whole, asked of the daemon or read off an export."""

from collections.abc import Iterator
from pathlib import Path

from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import LogDamaged, UsageError
from authsome.identity import did, proof
from authsome.models import log_export
from authsome.models.chain import Flaw

_LONGEST_LINE = 64 * 1024  # characters; an entry has a tenth of it


def configure_verify(parser: Parser) -> None:
    """The arguments of `log verify`."""
    parser.option("--file", metavar="EXPORT", help="check an export (`log export`) instead, without the daemon")
    parser.option("--key", metavar="KEY", help="the key that has to have signed it: did:key:…, or a file with that")
    parser.examples = ("authsome log verify", "authsome log verify --file audit.ndjson --key did:key:z6Mk…")


def run_verify(args: Arguments, context: Context) -> int:
    """Check the chain from its beginning to its end, and name the first entry that is not right."""
    wanted = _wanted_key(args.optional("key"))
    if (name := args.optional("file")) is not None:
        return _verify_file(Path(name), wanted, context)
    return _verify_online(wanted, context)


def _verify_online(wanted: str | None, context: Context) -> int:
    reached: int | None = None
    checkpoints = 0
    while True:
        query = f"?after={reached}" if reached is not None else ""
        answer = context.daemon.call("GET", f"/audit/verification{query}", timeout=120)
        begins, reached, last = (_number(answer, name) for name in ("begins_after", "reached", "last"))
        checkpoints += _number(answer, "checkpoints")
        flaw = answer.get("flaw")
        key = str(answer.get("key"))
        if wanted is not None and key != wanted:
            return _damaged(context, Flaw(begins + 1, f"this server signs with {key}, not with that key"), 0)
        if isinstance(flaw, dict):
            found = Flaw(_number(flaw, "entry"), str(flaw["problem"]))
            return _damaged(context, found, reached - begins)
        if answer.get("done"):
            break
        context.output.progress(f"checked {reached - begins:,} of {last - begins:,} entries")
    return _whole(context, entries=reached - begins, first=begins + 1, last=reached, key=key, checkpoints=checkpoints)


def _verify_file(path: Path, wanted: str | None, context: Context) -> int:
    def public(key: str) -> bytes:
        if wanted is not None and key != wanted:
            raise ValueError("another key")
        return did.public_key_from_did(key)

    try:
        with path.open(encoding="ascii", newline="\n") as file:
            verdict = log_export.verify(
                _lines(file),
                proof.is_signed,
                public,
                tell=lambda count: context.output.progress(f"checked {count:,} entries"),
            )
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no export of the log", hint="make one with `authsome log export`") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if verdict.flaw is not None:
        return _damaged(context, verdict.flaw, verdict.entries)
    first, key = verdict.header.begins.id + 1, verdict.header.key
    status = _whole(context, entries=verdict.entries, first=first, last=verdict.last, key=key, checkpoints=1)
    if wanted is None:
        context.output.hint("the export itself names that key; --key says which one it has to be")
    return status


def _lines(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        if len(line) > _LONGEST_LINE or not line.endswith("\n"):
            yield ""  # no line of ours: what follows is not believed
            return
        yield line[:-1]


def _wanted_key(text: str | None) -> str | None:
    if text is None:
        return None
    if not text.startswith("did:"):
        try:
            text = Path(text).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("--key takes a did:key, or a file that holds one") from error
    try:
        did.public_key_from_did(text)
    except ValueError as error:
        raise UsageError("--key takes the did:key of an Ed25519 key", hint="`authsome log verify` prints it") from error
    return text


def _whole(  # noqa: PLR0913  # each by name
    context: Context, *, entries: int, first: int, last: int, key: str, checkpoints: int
) -> int:
    output = context.output
    if output.as_json:
        output.result(
            {"whole": True, "entries": entries, "first": first, "last": last, "checkpoints": checkpoints, "key": key}
        )
        return 0
    span = f", {first} to {last}" if entries else ""
    output.line(f"the log is whole: {entries:,} entries{span}")
    output.line(f"signed by {key}")
    return 0


def _damaged(context: Context, flaw: Flaw, good: int) -> int:
    error = LogDamaged(flaw.problem, hint=f"the {good:,} entries before it are as they were written")
    if context.output.as_json:
        context.output.result(
            {
                "whole": False,
                "entry": flaw.entry,
                "entries": good,
                "error": error.code,
                "message": error.message,
                "hint": error.hint,
            }
        )
    else:
        context.output.error(error)
    return error.exit_status


def _number(answer: object, name: str) -> int:
    value = answer.get(name) if isinstance(answer, dict) else None
    return value if isinstance(value, int) else 0
