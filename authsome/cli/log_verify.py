"""`log verify`: whether the record of what happened is whole, asked of the daemon or read off an export."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from authsome.cli import log_walk
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.client import seen_logs
from authsome.client.seen_logs import Seen
from authsome.errors import LogDamaged, StorageFailed, UsageError, reason_of
from authsome.identity import did, proof
from authsome.models import log_export
from authsome.models.chain import Flaw

_LONGEST_LINE = 64 * 1024  # characters; an entry has a tenth of it


def configure_verify(parser: Parser) -> None:
    """The arguments of `log verify`."""
    parser.option("--file", metavar="EXPORT", help="check an export (`log export`) instead, without the daemon")
    parser.option("--key", metavar="KEY", help="the key that has to have signed it: did:key:…, or a file with that")
    parser.flag("--anew", help="begin with what is there, whatever this machine has seen of the log")
    parser.examples = ("authsome log verify", "authsome log verify --file audit.ndjson --key did:key:z6Mk…")


def run_verify(args: Arguments, context: Context) -> int:
    """Check the chain from its beginning to its end, and name the first entry that is not right."""
    wanted = _wanted_key(args.optional("key"))
    if (name := args.optional("file")) is not None:
        return _verify_file(Path(name), wanted, context)
    return _verify_online(wanted, context, anew=args.flag("anew"))


def _verify_online(wanted: str | None, context: Context, *, anew: bool) -> int:
    def tell(count: int, of: int) -> None:
        context.output.progress(f"checked {count:,} of {of:,} entries")

    found = log_walk.walk(context, tell, wanted=wanted, anew=anew)
    if found.flaw is not None:
        return _damaged(context, found.flaw, found.entries, found.hint)
    output = context.output
    try:
        seen = Seen(key=found.key, entry=found.last, mark=found.mark)
        seen_logs.remember(context.settings.home, log_walk.name_of(context), seen)
    except StorageFailed as error:
        output.hint(f"what was seen of the log could not be kept: {error.message}")
    if output.as_json:
        output.result(
            {
                "whole": True,
                "entries": found.entries,
                "first": found.first,
                "last": found.last,
                "before_chain": found.before_chain,
                "checkpoints": found.checkpoints,
                "key": found.key,
                "known": found.is_known,
            }
        )
        return 0
    _say_whole(context, entries=found.entries, first=found.first, last=found.last)
    if found.before_chain >= found.first:
        span = "entry 1 is" if found.before_chain == 1 else f"entries {found.first} to {found.before_chain} are"
        output.line(f"{span} older than the chain: what was done to them before it began, nobody can tell")
    output.line(f"signed by {found.key}{', as before' if found.is_known else ''}")
    if not found.is_known:
        output.hint("this machine had not seen this log before, and knows it from now on")
    return 0


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
        raise UsageError(
            f"{path} cannot be read: {reason_of(error)}", hint="name a file that `authsome log export` has written"
        ) from error
    if verdict.flaw is not None:
        return _damaged(context, verdict.flaw, verdict.entries)
    first, key = verdict.header.begins.id + 1, verdict.header.key
    output = context.output
    if output.as_json:
        output.result(
            {
                "whole": True,
                "entries": verdict.entries,
                "first": first,
                "last": verdict.last,
                "checkpoints": 1,
                "key": key,
            }
        )
        return 0
    _say_whole(context, entries=verdict.entries, first=first, last=verdict.last)
    output.line(f"signed by {key}")
    if wanted is None:
        output.hint("the export itself names that key; --key says which one it has to be")
    return 0


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE + 1):
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
            raise UsageError(
                "--key takes a did:key, or a file that holds one", hint="as `authsome log verify` prints it"
            ) from error
    try:
        did.public_key_from_did(text)
    except ValueError as error:
        raise UsageError("--key takes the did:key of an Ed25519 key", hint="`authsome log verify` prints it") from error
    return text


def _say_whole(context: Context, *, entries: int, first: int, last: int) -> None:
    span = f", {first} to {last}" if entries else ""
    context.output.line(f"the log is whole: {entries:,} {'entry' if entries == 1 else 'entries'}{span}")


def _damaged(context: Context, flaw: Flaw, good: int, hint: str | None = None) -> int:
    before = f"the {good:,} entries before it are as they were written" if good > 1 else "see who could write to it"
    error = LogDamaged(flaw.problem, hint=hint or before)
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
