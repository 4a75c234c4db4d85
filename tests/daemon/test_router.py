"""A path has one spelling, and each method of it one endpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.daemon.router import Access, Endpoint, Router
from authsome.errors import MethodNotAllowed, NotFound


def endpoint(method, template):
    """An endpoint whose handler is its own line."""
    return Endpoint(
        method=method, template=template, handler=f"{method} {template}", access=Access.PROOF, summary="does something"
    )


ROUTER = Router(
    [
        endpoint("GET", "/health"),
        endpoint("GET", "/connections"),
        endpoint("GET", "/connections/{provider}/{connection}"),
        endpoint("POST", "/connections/{provider}/{connection}"),
        endpoint("POST", "/connections/{provider}/revoke"),
        endpoint("POST", "/connections/{provider}/{connection}/logout"),
        endpoint("DELETE", "/proxy/runs/{run}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "handler", "values"),
    [
        ("GET", "/health", "GET /health", {}),
        ("HEAD", "/health", "GET /health", {}),
        (
            "GET",
            "/connections/github/work",
            "GET /connections/{provider}/{connection}",
            {"provider": "github", "connection": "work"},
        ),
        (
            "GET",
            "/connections/github/a%20b%C3%A9",
            "GET /connections/{provider}/{connection}",
            {"provider": "github", "connection": "a bé"},
        ),
        (
            "GET",
            "/connections/github/%252e%252e",
            "GET /connections/{provider}/{connection}",
            {"provider": "github", "connection": "%2e%2e"},
        ),
        ("POST", "/connections/github/revoke", "POST /connections/{provider}/revoke", {"provider": "github"}),
        (
            "GET",
            "/connections/github/revoke",
            "GET /connections/{provider}/{connection}",
            {"provider": "github", "connection": "revoke"},
        ),
        ("DELETE", "/proxy/runs/r1", "DELETE /proxy/runs/{run}", {"run": "r1"}),
    ],
)
def test_found(method, path, handler, values):
    """The most literal template that takes the method wins; names are decoded once."""
    match = ROUTER.match(method, path)
    assert match.endpoint.handler == handler
    assert match.values == values


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/Health",
        "/health/",
        "//health",
        "/%68ealth",
        "/health%00",
        "/connections/github",
        "/connections//work",
        "/connections/github/",
        "/connections/github/.",
        "/connections/github/..",
        "/connections/github/%2e%2e",
        "/connections/github/a%2Fb",
        "/connections/github/a%5Cb",
        "/connections/github/a\\b",
        "/connections/github/%00",
        "/connections/github/a%0Ab",
        "/connections/github/%C2%9B",
        "/connections/github/%ff",
        "/connections/github/%",
        "/connections/github/%4",
        "/connections/github/" + "a" * 201,
        "/x/../health",
    ],
)
def test_not_found(path):
    """No second spelling, no dot segment, no slash or control character smuggled in by encoding."""
    with pytest.raises(NotFound):
        ROUTER.match("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", ("GET", "HEAD")),
        ("DELETE", "/connections/a/b", ("GET", "HEAD", "POST")),
        ("GET", "/proxy/runs/r1", ("DELETE",)),
        ("HEAD", "/proxy/runs/r1", ("DELETE",)),
    ],
)
def test_another_method(method, path, allowed):
    """What is there but does not take the method says which it takes."""
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTER.match(method, path)
    assert caught.value.allowed == allowed


@given(st.text("/%.{}abZ0-", max_size=40))
def test_any_path_is_found_or_not(path):
    """There is no third outcome, and no value holds a slash."""
    try:
        match = ROUTER.match("GET", path)
    except (NotFound, MethodNotAllowed):
        return
    assert not any("/" in value for value in match.values.values())


def test_a_table_names_nothing_twice():
    """Two handlers for one method of one path are a mistake, whatever their names are called."""
    with pytest.raises(ValueError, match="twice"):
        Router([endpoint("GET", "/a/{b}"), endpoint("GET", "/a/{c}")])
