"""The help pages, printed from the command table and from what each command takes."""

from authsome.cli.arguments import Parser
from authsome.cli.main import COMMANDS, CREDENTIALS, MACHINE, MAIN

_GLOBAL = (
    ("--json", "one JSON object on standard output, and no questions"),
    ("-q, --quiet", "results and errors only"),
    ("-v, --verbose", "say what is asked of which daemon, and how long it takes"),
    ("--no-color", "no colours (also NO_COLOR)"),
    ("--version", "show the version"),
    ("-h, --help", "show this"),
)


def overview() -> str:
    """The page of `authsome --help`."""
    parts = [
        "authsome: log in once, then run any command with the credential on its requests.\n",
        "usage: authsome COMMAND [options]\n",
    ]
    for group in (MAIN, CREDENTIALS, MACHINE):
        rows = [
            (command.name, command.summary) for command in COMMANDS if command.group == group and not command.hidden
        ]
        parts.append(f"{group}\n{_rows(rows)}")
    parts.append(f"Anywhere\n{_rows(_GLOBAL)}")
    parts.append(
        "Start with `authsome tour`, or with\n"
        "  authsome login openai\n"
        "  authsome run -- python my_agent.py\n\n"
        "`authsome COMMAND --help` says more about one command.\n"
    )
    return "\n".join(parts)


def family(name: str) -> str:
    """The page of a word that several commands begin with."""
    rows = [(each.name, each.summary) for each in COMMANDS if each.name.startswith(name + " ") and not each.hidden]
    return f"usage: authsome {name} COMMAND\n\n{_rows(rows)}"


def page(parser: Parser) -> str:
    """The page of one command."""
    words = [f"authsome {parser.command}"]
    if any(not option.hidden for option in parser.options):
        words.append("[options]")
    for positional in parser.positionals:
        name = positional.name.upper() + ("…" if positional.many else "")
        words.append(name if positional.required else f"[{name}]")
    if parser.remainder:
        words.append(f"[--] {parser.remainder.name.upper()}…")
    parts = [f"{parser.summary}\n", f"usage: {' '.join(words)}\n"]
    places = [*parser.positionals, *([parser.remainder] if parser.remainder else [])]
    if places:
        parts.append(_rows([(each.name.upper(), each.help) for each in places]))
    shown = [option for option in parser.options if not option.hidden]
    if shown:
        parts.append(
            "Options\n"
            + _rows(
                [(", ".join(each.names) + (f" {each.metavar}" if each.metavar else ""), each.help) for each in shown]
            )
        )
    parts.append(f"Anywhere\n{_rows(_GLOBAL)}")
    if parser.examples:
        parts.append("Examples\n" + "".join(f"  {example}\n" for example in parser.examples))
    if parser.notes:
        parts.append("Notes\n" + "".join(f"  {note}".rstrip() + "\n" for note in parser.notes))
    return "\n".join(parts)


def _rows(rows: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    size = max(len(left) for left, _ in rows)
    return "".join(f"  {left.ljust(size)}  {right}\n" for left, right in rows)
