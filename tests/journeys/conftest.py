"""What the journeys share: providers that lead to servers on loopback."""

from collections.abc import Callable
from subprocess import Popen

import pytest

from fakes import api, oidc
from fakes.definitions import Define
from fakes.visitor import Visitor


@pytest.fixture
def log_in(begin_login: Callable[..., tuple[Popen[str], str]]) -> Callable[..., None]:
    """Logs in at an OAuth server, with the public client or one of our own: `log_in(server, "acme", "--force")`."""

    def finished(server: oidc.OidcServer, *args: str, login: str = "octocat") -> None:
        process, link = begin_login(*args, client=None if "dcr_pkce" in args else oidc.PUBLIC)
        Visitor().log_in(link, server, login=login)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err

    return finished


@pytest.fixture
def acme(define: Define, oidc_server: oidc.OidcServer, api_server: api.ApiServer) -> oidc.OidcServer:
    """An OAuth provider named acme whose API is `api_server`."""
    definition = oidc_server.definition("acme", api_url=api_server.url("/", host="api.example.localhost"))
    definition["export"] = {"env": {"ACME_TOKEN": {"value": "{access_token}", "placeholder": "acme-placeholder"}}}
    define(definition)
    return oidc_server
