"""What the documents name exists, and what exists is in the documents."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from authsome.cli.main import COMMANDS
from authsome.errors import AuthsomeError, error_classes
from authsome.models.audit import Event

ROOT: Final = Path(__file__).resolve().parents[1]
RUN_STATUSES: Final = frozenset({125, 126, 127})  # `run`'s own, beside the child's
COMMAND_NAMES: Final = frozenset(command.name for command in COMMANDS if not command.hidden)
VARIABLE: Final = re.compile(r"\bAUTHSOME_[A-Z]+(?:_[A-Z]+)*\b")


def documents() -> Iterator[Path]:
    """What a user reads; decisions are history and may name what is gone."""
    yield ROOT / "README.md"
    yield from (path for path in sorted((ROOT / "docs").rglob("*.md")) if "decisions" not in path.parts)


@pytest.fixture(scope="module")
def text() -> str:
    """All documents in one."""
    return "\n".join(path.read_text("utf-8") for path in documents())


def first_cells(text: str, header: str) -> list[str]:
    """The first column of every table whose first header cell is `header`."""
    cells: list[str] = []
    inside = False
    for line in text.splitlines():
        first = line.split("|")[1].strip() if line.startswith("|") else None
        if first is None:
            inside = False
        elif inside:
            cells.append(first)
        elif first == header:
            inside = True
    assert cells, f"no document has a table of which the first column is headed '{header}'"
    return [cell for cell in cells if cell.strip("-: ")]


def listed(text: str, header: str) -> set[str]:
    """What those cells hold in backticks."""
    return {span for cell in first_cells(text, header) for span in re.findall(r"`([^`]+)`", cell)}


def command_in(words: str) -> str | None:
    """The command that these words begin with: `admin principals list`, `daemon stop`, or `login PROVIDER`."""
    parts = words.split()
    return next((name for size in (3, 2, 1) if (name := " ".join(parts[:size])) in COMMAND_NAMES), None)


def test_commands_are_listed(text):
    """The tables of commands name every command, and no other; `daemon start`, `stop` stands for both."""
    found: set[str | None] = set()
    for cell in first_cells(text, "command"):
        spans = re.findall(r"`([^`]+)`", cell)
        family = (command_in(spans[0]) or "").rpartition(" ")[0]
        for span in spans:
            named = (command_in(f"{family} {span}"), command_in(span))
            found.add(max(named, key=lambda name: len((name or "").split())))
    assert found == COMMAND_NAMES


def test_commands_that_are_shown_exist(text):
    """Every example is of a command that exists."""
    code = "\n".join(re.findall(r"(?ms)^```.*?^```|`[^`\n]+`", text))
    shown = re.findall(r"\bauthsome(?:\.pyz|\.py)? ([a-z][a-z-]+(?: [a-z][a-z-]+){0,2})", code)
    assert shown
    assert [words for words in shown if not command_in(words)] == []


def test_exit_statuses(text):
    """The table of exit statuses is that of the errors; those of `run` are told beside it."""
    statuses = {kind.exit_status for kind in error_classes().values()} - RUN_STATUSES | {0}
    assert sorted(first_cells(text, "exit status"), key=int) == [str(status) for status in sorted(statuses)]
    assert all(re.search(rf"\b{status}\b", text) for status in RUN_STATUSES)


def test_error_codes(text):
    """Every error code that `--json` and problem details can carry is listed, and no other."""
    assert listed(text, "code") == error_classes().keys()


def test_audit_events(text):
    """Every audit event is listed, and no other."""
    assert listed(text, "event") == {event.value for event in Event}


def test_environment_variables(text):
    """Every AUTHSOME_* variable that the code names is listed, and no other."""
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "authsome").rglob("*.py"))
    assert set(VARIABLE.findall(text)) == set(VARIABLE.findall(code))


def test_links(text):
    """Every relative link leads to a file of the project."""
    del text
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents()
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("kind", sorted(error_classes().values(), key=lambda kind: kind.code))
def test_errors_speak_for_themselves(kind):
    """Every error has a code, an exit status, an HTTP status, and a text as `authsome: error:` takes it."""
    said = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
    assert re.fullmatch(r"[a-z][a-z_]*", kind.code)
    assert kind.exit_status in {*range(1, 12), *RUN_STATUSES}
    assert 400 <= kind.http_status <= 599
    assert said
    assert said[0].islower(), "an error's text goes on after a colon"


def test_error_codes_are_unique():
    """No two errors share a code, or the client could not tell which one the daemon meant."""

    def all_of(kind: type[AuthsomeError]) -> Iterator[type[AuthsomeError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from all_of(child)

    classes = list(all_of(AuthsomeError))
    assert len({kind.code for kind in classes}) == len(classes)


def test_decisions_are_numbered_once():
    """Each has the number of its file's name in its heading, and no two have the same."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert [page.read_text("utf-8").partition(". ")[0] for page in pages] == [f"# {number}" for number in numbers]
    assert len(set(numbers)) == len(pages)
