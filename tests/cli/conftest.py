"""What the journeys of the command line need: keys of the right form."""

from collections.abc import Callable

import pytest

from fakes.program import Program

OPENAI_KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
OTHER_KEY = "sk-proj-9876543210jihgfedcbaJIHGFEDCBA_-k"


@pytest.fixture
def connected(program: Program) -> Program:
    """The program with a key for openai stored."""
    done = program("login", "openai", "--stdin", input=OPENAI_KEY)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture
def said() -> Callable[[str], list[str]]:
    """The lines that a command said, without the word about waiting that it has for slow machines."""
    return lambda text: [line for line in text.splitlines() if not line.endswith(" …")]
