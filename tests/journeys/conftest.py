"""What the journeys share: providers that lead to servers on loopback."""

import pytest

from fakes import api, definitions, oidc
from fakes.definitions import Define


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
