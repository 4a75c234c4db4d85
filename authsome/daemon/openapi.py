"""The description of the HTTP API (OpenAPI 3.1), made from the router's own table."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

from authsome.daemon.router import Access, Endpoint, Router, Schema
from authsome.errors import AuthenticationFailed, AuthsomeError, DaemonBusy, RequestInvalid

_TEXT: Final[Mapping[str, object]] = {"type": "string"}

_Handler = TypeVar("_Handler")
_SECURITY: Final[Mapping[Access, Sequence[str]]] = {
    Access.OPEN: (),
    Access.PROOF: ("proof",),
    Access.KEY: ("proof",),
    Access.RUN: ("run",),
    Access.PROOF_OR_RUN: ("proof", "run"),
    Access.SESSION: ("session",),
    Access.BROWSER: ("browser",),
}
_SCHEMES: Final[Mapping[str, object]] = {
    "proof": {
        "type": "http",
        "scheme": "PoP",
        "description": "Proof of possession: a JWT (typ pop+jwt, alg EdDSA) over method, target and body, used once.",
    },
    "run": {"type": "http", "scheme": "Run", "description": "A run's identifier and secret, joined by a colon."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "authsome_session",
        "description": "A browser that is signed in to the dashboard; over TLS the name begins with __Host-.",
    },
    "browser": {
        "type": "apiKey",
        "in": "cookie",
        "name": "authsome_login_{id}",
        "description": "Set for the browser that followed the link of the login of that id.",
    },
}
_PROBLEM: Final[Mapping[str, object]] = {
    "type": "object",
    "description": "Problem details (RFC 9457)",
    "required": ["type", "title", "status", "detail", "code", "hint"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "The error's stable name"},
        "hint": {"type": ["string", "null"]},
    },
}


def document(router: Router[_Handler], *, version: str) -> dict[str, object]:
    """The whole description.

    Args:
        router: the table that serves the requests.
        version: of the program.
    """
    paths: dict[str, dict[str, object]] = {}
    for endpoint in router.endpoints:
        paths.setdefault(endpoint.template, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Authsome",
            "version": version,
            "description": "The local credential broker's own API. Every request names one of the daemon's own hosts.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": {"Problem": _PROBLEM}, "securitySchemes": _SCHEMES},
    }


def _operation(endpoint: Endpoint[_Handler]) -> dict[str, object]:
    operation: dict[str, object] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "security": [{name: []} for name in _SECURITY[endpoint.access]],
        "responses": _responses(endpoint),
    }
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in endpoint.names
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in endpoint.query.items()]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.request is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.request}}}
    return operation


def _operation_id(endpoint: Endpoint[_Handler]) -> str:
    words = endpoint.template.replace("{", "by_").replace("}", "").replace(".", "_").replace("-", "_").split("/")
    return "_".join([endpoint.method.lower(), *(word for word in words if word)])


def _responses(endpoint: Endpoint[_Handler]) -> dict[str, object]:
    answer: dict[str, object] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.response is not None:
        answer["content"] = {"application/json": {"schema": endpoint.response}}
    elif endpoint.status == 200:
        answer["content"] = {endpoint.media: {}}
    responses: dict[str, object] = {str(endpoint.status): answer}
    for status, kinds in sorted(_errors(endpoint).items()):
        described = "; ".join(f"`{kind.code}`: {(kind.__doc__ or '').splitlines()[0].rstrip('.')}" for kind in kinds)
        schema = {"$ref": "#/components/schemas/Problem"}
        responses[str(status)] = {"description": described, "content": {"application/problem+json": {"schema": schema}}}
    return responses


def _errors(endpoint: Endpoint[_Handler]) -> dict[int, list[type[AuthsomeError]]]:
    kinds: set[type[AuthsomeError]] = {RequestInvalid, DaemonBusy, *endpoint.errors}
    if _SECURITY[endpoint.access]:
        kinds.add(AuthenticationFailed)
    found: dict[int, list[type[AuthsomeError]]] = {}
    for kind in sorted(kinds, key=lambda kind: kind.code):
        found.setdefault(kind.http_status, []).append(kind)
    return found
