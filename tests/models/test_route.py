"""Routes: a credential goes where its provider says, and nowhere that only looks like it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsome.models.route import HostPattern, Route, RouteTable, canonical_host

API = HostPattern(host="api.example.com")
SUFFIX = HostPattern(host="example.com", is_suffix=True)


def route(
    provider: str,
    host: str,
    *,
    prefix: str = "/",
    suffix: bool = False,
    connection: str = "default",
    private: bool = False,
) -> Route:
    pattern = HostPattern(host=host, path_prefix=prefix, is_suffix=suffix)
    return Route(provider=provider, connection=connection, pattern=pattern, allow_private_addresses=private)


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM", "api.example.com"),
        ("127.0.0.1", "127.0.0.1"),
        ("api.example.com.", None),
        ("", None),
        (".", None),
        ("api..com", None),
        ("-a.com", None),
        ("a_b.com", None),
        ("[::1]", None),
        ("user@api.example.com", None),
        ("api.example.com:443", None),
        ("api.example.com/", None),
        ("api.example.com\n", None),
        ("api.example.com\x00", None),
        ("\u212aelvin.example", None),  # the Kelvin sign is a k in lower case
        ("a" * 64 + ".com", None),
        ("a." * 127 + "com", None),
    ],
)
def test_canonical_host(host: str, canonical: str | None):
    assert canonical_host(host) == canonical


@pytest.mark.parametrize(
    ("pattern", "host", "port", "matches"),
    [
        (API, "api.example.com", 443, True),
        (API, "API.EXAMPLE.COM", 443, True),
        (API, "api.example.com", 8443, False),
        (API, "api.example.com", 80, False),
        (API, "api.example.com.", 443, False),
        (API, "api.example.com.evil.test", 443, False),
        (API, "xapi.example.com", 443, False),
        (API, "example.com", 443, False),
        (API, "a.api.example.com", 443, False),
        (API, "аpi.example.com", 443, False),  # noqa: RUF001  # Cyrillic
        (API, "xn--pi-7kc.example.com", 443, False),
        (SUFFIX, "api.example.com", 443, True),
        (SUFFIX, "a.b.example.com", 443, True),
        (SUFFIX, "example.com", 443, False),
        (SUFFIX, "evilexample.com", 443, False),
        (SUFFIX, ".example.com", 443, False),
        (SUFFIX, "example.com.evil.test", 443, False),
        (HostPattern(host="h.test", port=8443), "h.test", 8443, True),
        (HostPattern(host="h.test", port=8443), "h.test", 443, False),
    ],
)
def test_matches_address(pattern: HostPattern, host: str, port: int, *, matches: bool):
    # SEC-151
    assert pattern.matches_address(host, port) is matches


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("/v1", True),
        ("/v1/", True),
        ("/v1/x", True),
        ("/v1/projects/group%2Fname", True),  # what GitLab's API asks for
        ("/v1/files/key%2Erb", True),
        ("/v1//x", True),
        ("/v1/a...b", True),
        ("/v1x", False),
        ("/v", False),
        ("/", False),
        ("", False),
        ("/V1/x", False),
        ("/v1/../x", False),
        ("/v1/..", False),
        ("/v1/./x", False),
        ("/v1/%2e%2e/x", False),
        ("/v1/%2E./x", False),
        ("/v1/x/..%2f..%2f..", False),
        ("/v1/..%5cx", False),
        ("/v1/..\\x", False),
        ("/v1/..;a=b/x", False),
        ("/v1/%252e%252e/x", False),
        ("//v1/x", False),
        ("/%761/x", False),
        ("/x/../v1/", False),
    ],
)
def test_matches_path(path: str, *, matches: bool):
    """A path lies below a prefix if everybody agrees that it does."""
    # SEC-171
    assert HostPattern(host="h.test", path_prefix="/v1/").matches_path(path) is matches


@pytest.mark.parametrize(
    ("routes", "host", "path", "decision"),
    [
        ([route("a", "h.test")], "h.test", "/", "a"),
        ([route("a", "h.test")], "h.test", "/x/../y", "a"),  # one connection only: any reading is its own
        ([route("a", "h.test")], "other.test", "/", "none"),
        ([], "h.test", "/", "none"),
        ([route("a", "h.test"), route("b", "h.test")], "h.test", "/", "ambiguous"),
        ([route("a", "h.test"), route("a", "h.test", connection="b")], "h.test", "/", "ambiguous"),
        ([route("a", "h.test"), route("b", "test", suffix=True)], "h.test", "/", "a"),
        ([route("a", "h.test", suffix=True), route("b", "test", suffix=True)], "x.h.test", "/", "a"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/b/x", "b"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/bx", "a"),
        ([route("a", "h.test", prefix="/a/"), route("b", "h.test", prefix="/ab/")], "h.test", "/ab/x", "b"),
        ([route("a", "h.test", prefix="/a/"), route("b", "h.test", prefix="/ab/")], "h.test", "/abc", "none"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/a/../b/x", "ambiguous"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/a/%2e%2e/b/x", "ambiguous"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "//b/x", "ambiguous"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/%62/x", "ambiguous"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/B/x", "ambiguous"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/b%2fx", "ambiguous"),
        ([route("a", "h.test"), route("b", "h.test", prefix="/b/")], "h.test", "/b/x%2Fy", "b"),
        ([route("a", "h.test"), route("a", "h.test", prefix="/b/")], "h.test", "/a/../b/x", "a"),
    ],
)
def test_decide(routes: list[Route], host: str, path: str, decision: str):
    """The most specific route, and none when two connections have equal claims or readers could differ."""
    # SEC-171
    found = RouteTable(routes=tuple(routes)).decide(host, 443, path)
    assert (found if isinstance(found, str) else found.provider) == decision


@given(st.text(alphabet="/ab.%2eEfFcC5\\;", max_size=16))
@example(";\\b")
def test_two_connections_never_swap(path: str):
    """Whatever the path, a request that some server reads as the other connection's gets nothing."""
    # SEC-171
    table = RouteTable(routes=(route("a", "h.test"), route("b", "h.test", prefix="/b/")))
    found = table.decide("h.test", 443, "/" + path)
    assert found != "none"
    if isinstance(found, str):
        return
    lenient = "/" + path
    for _ in range(3):
        for written, meant in (
            ("%2e", "."),
            ("%2E", "."),
            ("%2f", "/"),
            ("%2F", "/"),
            ("%5c", "/"),
            ("%5C", "/"),
            ("\\", "/"),
        ):
            lenient = lenient.replace(written, meant)
        if lenient.count("%") == 0:
            break
    segments: list[str] = []
    for segment in lenient.lower().split("/"):
        plain = segment.partition(";")[0]
        if plain == "..":
            segments = segments[:-1]
        elif plain not in {"", "."}:
            segments.append(segment)
    assert (found.provider == "b") == (segments[:1] == ["b"])


def test_private_addresses_need_everybody_s_word():
    """An address may be private only if every provider that names it says so."""
    both = RouteTable(routes=(route("a", "h.test", private=True), route("b", "h.test", prefix="/b/")))
    one = RouteTable(routes=(route("a", "h.test", private=True),))
    assert one.allows_private_addresses("h.test", 443)
    assert not both.allows_private_addresses("h.test", 443)
    assert not one.allows_private_addresses("other.test", 443)


def test_opens():
    """TLS is opened for the addresses that routes name, whatever their paths."""
    table = RouteTable(routes=(route("a", "h.test", prefix="/a/"),))
    assert table.opens("h.test", 443)
    assert not table.opens("h.test", 8443)
    assert not table.opens("xh.test", 443)
