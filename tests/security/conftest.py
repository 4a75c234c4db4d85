"""What the attacks share: a daemon that many of them may try, its owner, and a provider to steal from."""

from collections.abc import Iterator

import pytest

from fakes import api, program
from fakes.authority import Authority
from security import adversary
from security.adversary import Caller

KEY = "kk-secret0canary0of0an0api0key"


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[program.Program]:
    """A running daemon for attacks that do not hurt each other."""
    directory = tmp_path_factory.mktemp("target") / "user"
    with program.installed(directory, variables={"AUTHSOME_CA_BUNDLE": str(authority.certificate)}) as installation:
        done = installation("login", "openai", "--stdin", input="sk-" + "a1B2" * 12)
        assert done.returncode == 0, done.stderr
        yield installation


@pytest.fixture(scope="session")
def caller(target: program.Program) -> Caller:
    """The owner of `target`."""
    return adversary.owner(target)


@pytest.fixture
def mine(daemon: program.Program) -> Caller:
    """The owner of this test's own daemon."""
    assert daemon("whoami").returncode == 0
    return adversary.owner(daemon)


@pytest.fixture
def keyed(program: program.Program, keyed: api.ApiServer) -> api.ApiServer:
    """The provider named keyed, connected with `KEY`."""
    done = program("login", "keyed", "--stdin", input=KEY)
    assert done.returncode == 0, done.stderr
    return keyed
