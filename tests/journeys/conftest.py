"""What the journeys share: providers that lead to servers on loopback."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from subprocess import Popen

import pytest

from fakes import api, oidc, program

Define = Callable[[Mapping[str, object]], None]


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
def start(program: program.Program) -> Iterator[Callable[..., Popen[str]]]:
    """Starts a command and leaves it running until the test ends."""
    with ExitStack() as stack:

        def started(*args: str) -> Popen[str]:
            process = stack.enter_context(program.start(*args))
            stack.callback(process.kill)
            return process

        yield started


@pytest.fixture
def acme(define: Define, oidc_server: oidc.OidcServer, api_server: api.ApiServer) -> oidc.OidcServer:
    """An OAuth provider named acme whose API is `api_server`."""
    definition = oidc_server.definition("acme", api_url=api_server.url("/", host="api.example.localhost"))
    definition["export"] = {"env": {"ACME_TOKEN": {"value": "{access_token}", "placeholder": "acme-placeholder"}}}
    define(definition)
    return oidc_server


@pytest.fixture
def keyed(define: Define, api_server: api.ApiServer) -> api.ApiServer:
    """A provider named keyed that takes an API key and whose API is `api_server`."""
    define(
        {
            "schema_version": 1,
            "name": "keyed",
            "auth_type": "api_key",
            "api_url": api_server.url("/", host="api.example.localhost"),
            "allow_private_addresses": True,
            "api_key": {"key_pattern": "^kk-[a-z0-9]{20,}$", "key_pattern_hint": "a key begins with kk-"},
            "inject": {"header": "Authorization", "template": "Bearer {api_key}"},
            "export": {"env": {"KEYED_API_KEY": {"value": "{api_key}", "placeholder": "kk-placeholder00000000000000"}}},
        }
    )
    return api_server
