"""The table of `docs/clients.md` is true: a row for every client that a test runs, and a test for every row."""

import re
from pathlib import Path
from typing import Final

import pytest

from authsome.proxy.environment import Grant, for_child
from test_security_table import TEST, functions_of

ROOT: Final = Path(__file__).resolve().parent.parent
CITATION: Final = re.compile(r"# CLIENT (.+)")
ROW: Final = re.compile(r"\| `([^`|]+)` \| ([^|]+) \|([^|]*)\| ([^|]+) \|")


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, set[str]]]:
    """What each client goes by, and the tests that hold it."""
    matches = ROW.findall((ROOT / "docs" / "clients.md").read_text("utf-8"))
    found = {name: (ways, {f"{path}::{test}" for path, test in TEST.findall(held)}) for name, ways, _, held in matches}
    assert len(found) == len(matches), "a client has two rows"
    return found


def test_every_client_has_its_tests(rows):
    """A row names just the tests that say they run the client, and each client that a test runs has a row."""
    cited: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, text in functions_of(path):
            for client in (each for line in CITATION.findall(text) for each in line.split(", ")):
                cited.setdefault(client, set()).add(f"{path.relative_to(ROOT).as_posix()}::{name}")
    assert {client: tests for client, (_, tests) in rows.items()} == cited


def test_what_clients_go_by_is_what_a_run_sets(rows):
    """A variable in the table is one that every child has; another word in backticks is another row's client."""
    grant = Grant(run="run", password="password", hosts=(), placeholders={})
    given = for_child({}, grant, port=1, bundle="/bundle.pem", node_preload="/preload")
    for client, (ways, _) in rows.items():
        assert set(re.findall(r"`([^`]+)`", ways)) <= given.keys() | rows.keys() - {client}, client
