"""What the journeys share: providers that lead to servers on loopback."""

import html
import subprocess
import tempfile
from collections.abc import Callable
from subprocess import Popen

import pytest

from fakes import api, definitions, oidc
from fakes.definitions import Define


@pytest.fixture
def log_in(start: Callable[..., Popen[str]]) -> Callable[..., None]:
    """Logs in at an OAuth server, with the public client or one of our own: `log_in(server, "acme", "--force")`."""

    def finished(server: oidc.OidcServer, *args: str, login: str = "octocat") -> None:
        registers = "dcr_pkce" in args
        process = start("login", *args, "--no-browser", *(() if registers else ("--stdin",)))
        assert process.stdin
        assert process.stderr
        process.stdin.write("" if registers else '{"client_id": "public"}')
        process.stdin.close()
        line = ""
        while "http://127.0.0.1" not in line:
            line = process.stderr.readline()
            assert line
        visit(next(word for word in line.split() if word.startswith("http://127.0.0.1")), server, login)
        assert process.wait(20) == 0, process.stderr.read()

    return finished


def visit(link: str, server: oidc.OidcServer, login: str) -> None:
    """Go from the link to the provider and back, with curl as the browser."""
    with tempfile.NamedTemporaryFile() as jar:

        def curl(url: str) -> str:
            command = ["curl", "-s", "-c", jar.name, "-b", jar.name, "-o", "/dev/stderr", "-w", "%{redirect_url}", url]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout or done.stderr

        page = curl(curl(link))
        start = page.index(server.authorization_url)
        url = html.unescape(page[start : page.index('"', start)])
        curl(server.approve(url, login=login))


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
    define(definitions.keyed(api_server.url("/", host="api.example.localhost")))
    return api_server
