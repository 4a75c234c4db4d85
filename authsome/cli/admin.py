"""`admin import-upstream`: what concerns the whole vault."""

from collections import Counter
from pathlib import Path

from authsome.cli.answer import objects
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.cli.output import Stopwatch

_PATIENCE = 120.0  # seconds: a keyring may have to be unlocked by hand
_WORDS = {"imported": "imported", "kept": "kept as it is here", "left out": "left out"}
_REHEARSED = {**_WORDS, "imported": "would be imported"}


def configure_import_upstream(parser: Parser) -> None:
    """The arguments of `admin import-upstream`."""
    parser.argument("dir", "what AUTHSOME_HOME was for upstream authsome 0.3 or 0.7")
    parser.option("--master-key-file", metavar="FILE", help="where its master key is, if not where upstream puts it")
    parser.flag("--dry-run", help="only say what would be done")
    parser.flag("--force", help="overwrite what is here under the same name")
    parser.examples = (
        "authsome admin import-upstream ~/old-authsome --dry-run",
        "authsome admin import-upstream ~/old-authsome",
    )


def run_import_upstream(args: Arguments, context: Context) -> int:
    """Take over what a home of upstream's holds, and say of each thing what became of it."""
    context.refuse_inside_run("change what is stored")
    body: dict[str, object] = {
        "directory": str(Path(args.text("dir")).absolute()),
        "force": args.flag("force"),
        "dry_run": args.flag("dry-run"),
    }
    if (key_file := args.optional("master-key-file")) is not None:
        body["master_key_file"] = str(Path(key_file).absolute())
    output = context.output
    output.progress(f"reading that home … {Stopwatch()}, Ctrl-C stops")
    report = context.daemon.call("POST", "/admin/import-upstream", body, timeout=_PATIENCE)
    if output.as_json:
        output.result(report)
        return 0
    items = objects(report, "items")
    words = _REHEARSED if args.flag("dry-run") else _WORDS
    if items:
        rows = [
            (str(each["what"]), _name(each), words[str(each["outcome"])], str(each["reason"] or "")) for each in items
        ]
        output.table(("WHAT", "NAME", "OUTCOME", "WHY"), rows)
    unreadable = report.get("unreadable")
    for each in unreadable if isinstance(unreadable, list) else []:
        output.note(f"authsome: warning: not readable: {each}")
    if report.get("foreign"):
        output.note(f"{report['foreign']} connections of other principals stay where they are")
    counts = Counter(str(each["outcome"]) for each in items)
    output.hint(", ".join(f"{counts[outcome]} {said}" for outcome, said in words.items()))
    if counts["imported"] and not args.flag("dry-run"):
        output.hint(
            "stop upstream's daemon now: where a refresh token serves once, two programs end each other's logins"
        )
    return 0


def _name(item: dict[str, object]) -> str:
    return f"{item['provider']} {item['connection']}" if item.get("connection") else str(item["provider"])
