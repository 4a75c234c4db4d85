"""What the attacks share: a daemon that many of them may try, its owner, and a provider to steal from."""

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from fakes import api, definitions, oidc, program
from fakes.authority import Authority
from fakes.definitions import Define
from security import adversary
from security.adversary import Caller

if TYPE_CHECKING:
    from subprocess import Popen

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
def keyed(program: program.Program, define: Define, api_server: api.ApiServer) -> api.ApiServer:
    """A provider named keyed whose key is `KEY` and whose API is this server; connected."""
    define(definitions.keyed(api_server.url("/", host="api.example.localhost")))
    done = program("login", "keyed", "--stdin", input=KEY)
    assert done.returncode == 0, done.stderr
    return api_server


@pytest.fixture
def begin_login(start: Callable[..., "Popen[str]"]) -> Callable[..., tuple["Popen[str]", str]]:
    """Starts a login that knows its OAuth client already, and tells the link to be opened."""

    def begin(*args: str, client: oidc.Client | None = oidc.PUBLIC) -> tuple["Popen[str]", str]:
        given = ("--no-browser", "--stdin") if client else ()
        process = start("login", *args, *given)
        if client:
            fields = {"client_id": client.id} | ({"client_secret": client.secret} if client.secret else {})
            process.stdin.write(json.dumps(fields))
            process.stdin.close()
            process.stdin = None  # or `communicate` would close it once more
        return process, link_of(process)

    return begin


def link_of(process: "Popen[str]") -> str:
    """The link that a login prints."""
    said = ""
    while (found := re.search(r"http://127\.0\.0\.1:\S+", said)) is None:
        line = process.stderr.readline() if process.stderr else ""
        assert line, f"the command ended: {said}"
        said += line
    return found[0]
