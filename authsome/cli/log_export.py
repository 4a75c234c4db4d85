"""`log export`: the log as lines of JSON that can be checked anywhere, or as records for a collector (OTLP)."""

import os
import secrets
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from authsome import clock
from authsome.cli import times
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import StorageFailed, UsageError, reason_of
from authsome.models import log_export

_PAGE = 1000  # entries of one request


def configure_export(parser: Parser) -> None:
    """The arguments of `log export`."""
    parser.option("--format", metavar="FORMAT", help="ndjson (default)", choices=("ndjson",))
    parser.option("--output", metavar="FILE", help="write to this file, private to you, instead of standard output")
    parser.option("--since", metavar="WHEN", help="begin with the first entry since: 1h, 2d, 2026-01-31")
    parser.option("--otlp", metavar="URL", help="send to an OpenTelemetry collector (OTLP/HTTP) instead")
    parser.examples = (
        "authsome log export --output audit.ndjson",
        "authsome log export --since 1d --otlp https://collector.example.com:4318",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An export that the daemon has begun."""

    after: int
    upto: int
    header: Mapping[str, object]
    checkpoint: Mapping[str, object] | None


def run_export(args: Arguments, context: Context) -> int:
    """Export the log, oldest entry first."""
    url, file = args.optional("otlp"), args.optional("output")
    if url is not None and (file is not None or args.optional("format") is not None):
        raise UsageError("--otlp goes to a collector, so --output and --format do not go with it")
    if context.output.as_json and url is None and file is None:
        raise UsageError("with --json an export goes to a file", hint="name it with --output")
    sender = None
    if url is not None:
        from authsome.cli.otlp import Collector  # noqa: PLC0415  # transport is for this alone

        sender = Collector(url, context)
    since = args.optional("since")
    body = {"since": times.parse_since(since, clock.now()).isoformat()} if since is not None else {}
    begun = _begin(context, body)
    if sender is not None:
        count = sender.send(begun, _pages(context, begun))
        place = sender.url
    else:
        with _opened(file, context) as write:
            count = _write(write, begun, context)
        place = file or ""
    _tell(context, begun, count, place)
    return 0


def _begin(context: Context, body: Mapping[str, object]) -> Begun:
    answer = context.daemon.call("POST", "/audit/exports", body)
    header, checkpoint = answer.get("header"), answer.get("checkpoint")
    after, upto = answer.get("after"), answer.get("upto")
    return Begun(
        after=after if isinstance(after, int) else 0,
        upto=upto if isinstance(upto, int) else 0,
        header=header if isinstance(header, dict) else {},
        checkpoint=checkpoint if isinstance(checkpoint, dict) else None,
    )


def _pages(context: Context, begun: Begun) -> Iterator[Sequence[Mapping[str, object]]]:
    """The entries, page by page; no more than one page is kept."""
    after = begun.after
    while after < begun.upto:
        query = urllib.parse.urlencode({"after": after, "upto": begun.upto, "limit": _PAGE})
        entries = context.daemon.call("GET", f"/audit/exports?{query}", timeout=120).get("entries")
        page = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        if not page:
            return
        yield page
        last = page[-1].get("id")
        after = last if isinstance(last, int) else begun.upto
        context.output.progress(f"exported up to entry {after:,} of {begun.upto:,}")


def _write(write: Callable[[str], object], begun: Begun, context: Context) -> int:
    count = 0
    write(log_export.render(begun.header) + "\n")
    for page in _pages(context, begun):
        write("".join(log_export.render(entry) + "\n" for entry in page))
        count += len(page)
    if begun.checkpoint is not None:
        write(log_export.render(begun.checkpoint) + "\n")
    return count


@contextmanager
def _opened(file: str | None, context: Context) -> Iterator[Callable[[str], object]]:
    """Where the lines go. A file is private, and takes the place of one that is there only when it is whole."""
    if file is None:
        yield context.output.raw
        return
    path = Path(file)
    is_replaced = path.is_file() or not path.exists()  # not a pipe or a device
    if is_replaced:
        path = path.resolve()
    target = path.with_name(f".{path.name}.{secrets.token_hex(8)}") if is_replaced else path
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW if is_replaced else 0
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as stream:
                yield stream.write
                stream.flush()
                if is_replaced:
                    os.fsync(descriptor)
            if is_replaced:
                target.replace(path)
        except BaseException:
            if is_replaced:
                target.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageFailed(f"{file} could not be written: {reason_of(error)}") from error


def _tell(context: Context, begun: Begun, count: int, place: str) -> None:
    output, key = context.output, str(begun.header.get("key"))
    if output.as_json:
        output.result(
            {"entries": count, "after": begun.after, "upto": begun.upto, "place": place, "key": key,
             "whole": begun.checkpoint is not None}
        )  # fmt: skip
        return
    what = f"exported {count:,} entries{f' to {place}' if place else ''}"
    output.note(f"{what}, signed by {key}" if begun.checkpoint else f"{what}: yours alone, so they are no chain")
