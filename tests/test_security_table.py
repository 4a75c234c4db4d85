"""The table of `docs/security.md` is true: every case once, held by tests that are there and say so."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
CASES: Final = range(1, 215)
CITATION: Final = re.compile(r"\bSEC-(\d+)\b")
ROW: Final = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \|")
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LIMIT: Final = re.compile(r"limit: .+")


def functions_of(path: Path) -> Iterator[tuple[str, str]]:
    """Every test of a file: its name, and its text with the comments before and beside it."""
    lines = path.read_text("utf-8").splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            while first and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            yield node.name, "\n".join(lines[first : node.end_lineno])


@pytest.fixture(scope="module")
def citations() -> Mapping[tuple[str, str], set[int]]:
    """The cases that each test cites."""
    found: dict[tuple[str, str], set[int]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, text in functions_of(path):
            key = (path.relative_to(ROOT).as_posix(), name)
            found.setdefault(key, set()).update(int(number) for number in CITATION.findall(text))
    return found


@pytest.fixture(scope="module")
def rows() -> list[tuple[int, str, str]]:
    """The table: number, words, what holds it."""
    lines = (ROOT / "docs" / "security.md").read_text("utf-8").splitlines()
    matches = [ROW.fullmatch(line) for line in lines]
    return [(int(match[1]), match[2].strip(), match[3].strip()) for match in matches if match]


def test_every_case_is_there_once(rows):
    """All 214, in order, each with words."""
    assert [number for number, _, _ in rows] == list(CASES)
    assert all(words for _, words, _ in rows)


def test_every_case_is_held_or_says_why_not(rows):
    """A row names tests, or a limit; nothing else."""
    for number, _, held in rows:
        rest = TEST.sub("", held).replace(",", "").strip()
        assert (not rest) if TEST.search(held) else LIMIT.fullmatch(held), (number, held)


def test_every_named_test_exists_and_cites_its_case(rows, citations):
    """Who is said to hold a case is there, and says so itself."""
    wrong = [
        f"{number}: {path}::{name}"
        for number, _, held in rows
        for path, name in TEST.findall(held)
        if number not in citations.get((path, name), set())
    ]
    assert wrong == []


def test_every_citation_is_in_the_table(rows, citations):
    """A case that some test cites is held by a test in its row, and no test cites a case that there is not."""
    cited = set().union(*citations.values())
    assert cited <= set(CASES)
    held = {number for number, _, held in rows if TEST.search(held)}
    assert sorted(cited - held) == []
