"""What makes an API server an MCP server that wants a token: its 401, and the metadata that says where to get one."""

import json
from collections.abc import Mapping

from fakes.api import Answer, ApiServer

HOST = "api.example.localhost"
_JSON = (("Content-Type", "application/json"),)


def document(value: Mapping[str, object], *, status: int = 200) -> Answer:
    """A JSON document."""
    return Answer(status=status, headers=_JSON, body=json.dumps(value).encode())


def challenge(text: str) -> Answer:
    """A 401 with these words in WWW-Authenticate."""
    return Answer(status=401, headers=(("WWW-Authenticate", text),), body=b"")


def protect(server: ApiServer, *issuers: str, path: str = "/mcp", **more: object) -> str:
    """Make `path` want a token of these issuers; returns its URL. `more` goes into the metadata."""
    address = server.url(path, host=HOST)
    place = f"/.well-known/oauth-protected-resource{path}"
    server.answers[path] = challenge(
        f'Bearer error="invalid_token", resource_metadata="{server.url(place, host=HOST)}"'
    )
    server.answers[place] = document({"resource": address, "authorization_servers": list(issuers), **more})
    return address


def describe(server: ApiServer, *, path: str = "", **more: object) -> str:
    """Let the server say that it is an authorization server, too, with its endpoints below `path`; returns the issuer.

    A member of `more` that is None is left out.
    """
    issuer = server.url(path, host=HOST)
    metadata: dict[str, object | None] = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "registration_endpoint": f"{issuer}/register",
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
        "code_challenge_methods_supported": ["S256"],
        **more,
    }
    said = {name: value for name, value in metadata.items() if value is not None}
    server.answers[f"/.well-known/oauth-authorization-server{path}"] = document(said)
    server.answers[f"{path}/register"] = document({"client_id": "registered-client"}, status=201)
    tokens = {"access_token": "an-access-token", "token_type": "Bearer", "refresh_token": "a-refresh-token"}
    server.answers[f"{path}/token"] = document(tokens)
    return issuer
