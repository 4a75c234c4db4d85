"""What the attacks share: a daemon that many of them may try, its owner, and a provider to steal from."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fakes import api, oidc, program
from fakes.authority import Authority
from security import adversary
from security.adversary import Caller

if TYPE_CHECKING:
    from subprocess import Popen

KEY = "kk-secret0canary0of0an0api0key"
Define = Callable[[Mapping[str, object]], None]


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
def define(program: program.Program) -> Define:
    """Puts a provider definition where a user would."""

    def write(definition: Mapping[str, object]) -> None:
        for directory in (program.home, program.home / "providers"):
            directory.mkdir(mode=0o700, exist_ok=True)
        path = program.home / "providers" / f"{definition['name']}.json"
        path.write_text(json.dumps(definition))
        path.chmod(0o600)

    return write


@pytest.fixture
def keyed(program: program.Program, define: Define, api_server: api.ApiServer) -> api.ApiServer:
    """A provider named keyed whose key is `KEY` and whose API is this server; connected."""
    define(keyed_definition(api_server.url("/", host="api.example.localhost")))
    done = program("login", "keyed", "--stdin", input=KEY)
    assert done.returncode == 0, done.stderr
    return api_server


def keyed_definition(api_url: str, **changes: object) -> dict[str, object]:
    """The definition of a provider that takes an API key."""
    return {
        "schema_version": 1,
        "name": "keyed",
        "auth_type": "api_key",
        "api_url": api_url,
        "allow_private_addresses": True,
        "api_key": {"key_pattern": "^kk-[a-z0-9]{20,}$", "key_pattern_hint": "a key begins with kk-"},
        "inject": {"header": "Authorization", "template": "Bearer {api_key}"},
        "export": {"env": {"KEYED_API_KEY": {"value": "{api_key}", "placeholder": "kk-placeholder00000000000000"}}},
        **changes,
    }


@pytest.fixture
def start(program: program.Program) -> Iterator[Callable[..., "Popen[str]"]]:
    """Starts a command and leaves it running until the test ends."""
    with ExitStack() as stack:

        def started(*args: str, **options: object) -> "Popen[str]":
            process = stack.enter_context(program.start(*args, **options))  # type: ignore[arg-type]
            stack.callback(process.kill)
            return process

        yield started


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
