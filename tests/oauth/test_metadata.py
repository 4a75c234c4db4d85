"""Metadata: where it lies, whose it is, and what a 401 says of it."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import EndpointRefused
from authsome.message import HttpResponse
from authsome.oauth import metadata


@pytest.mark.parametrize(
    ("issuer", "documents"),
    [
        (
            "https://a.test",
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
        ),
        (
            "https://a.test/",
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
        ),
        (
            "https://a.test/o/",
            [
                "/.well-known/oauth-authorization-server/o",
                "/.well-known/openid-configuration/o",
                "/o/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_where_an_issuer_describes_itself(issuer, documents):
    """Between host and path (RFC 8414 §3.1), and only then where OpenID Connect has it. # SEC-101"""
    assert metadata.server_documents(issuer) == tuple("https://a.test" + path for path in documents)


def test_where_a_resource_describes_itself():
    """At its own place, then at its origin's (RFC 9728 §3.1)."""
    place = "https://a.test/.well-known/oauth-protected-resource"
    assert metadata.resource_documents("https://a.test/v1/mcp") == (f"{place}/v1/mcp", place)
    assert metadata.resource_documents("https://a.test/") == (place,)


@pytest.mark.parametrize(
    ("fields", "document", "scopes"),
    [
        (['Bearer resource_metadata="https://a.test/x", scope="a b"'], "https://a.test/x", ("a", "b")),
        (["Basic realm=x", 'DPoP resource_metadata="https://a.test/x"'], "https://a.test/x", ()),
        (['bearer realm="a, b=\\"c\\"", RESOURCE_METADATA=https://a.test/x'], "https://a.test/x", ()),
        (['Bearer resource_metadata="https://a.test/x", resource_metadata="https://b.test/"'], "https://a.test/x", ()),
        (["Bearer"], None, ()),
        ([], None, ()),
        (['Bearer scope="a \\"b é"'], None, ("a",)),
    ],
)
def test_what_a_401_says(fields, document, scopes):
    response = HttpResponse(401, tuple(("WWW-Authenticate", field) for field in fields))
    assert metadata.challenge(response) == metadata.Challenge(metadata=document, scopes=scopes)


@pytest.mark.parametrize("text", ["a" * 8192, "a-" * 4096, "a\t \t" * 2048, 'a="' + "\\a" * 4096, 'a="' * 2730])
def test_a_challenge_takes_no_time(text):
    """Time in proportion to its length, whatever a stranger sends. # SEC-95"""
    began = time.process_time()
    metadata.challenge(HttpResponse(401, (("WWW-Authenticate", text),)))
    assert time.process_time() - began < 0.2


@given(st.text(max_size=300))
def test_no_challenge_is_too_odd(text):
    """Whatever stands there is read without an error. # SEC-92"""
    metadata.challenge(HttpResponse(401, (("WWW-Authenticate", text),)))


@given(st.text(alphabet="abc/.%", max_size=12))
def test_no_other_issuer_is_taken_for_this_one(path):
    """Only the very same text, or an empty path for a slash, is the same issuer. # SEC-100"""
    issuer = "https://a.test/o"
    said = "https://a.test/" + path
    body = json.dumps({"issuer": said, "token_endpoint": "https://a.test/t"}).encode()
    if said == issuer:
        assert metadata.parse_server(HttpResponse(200, (), body), issuer=issuer, allow_private=False)
    else:
        with pytest.raises(EndpointRefused):
            metadata.parse_server(HttpResponse(200, (), body), issuer=issuer, allow_private=False)


def test_an_empty_path_is_a_slash():
    """Which of the two the server writes is what later answers are compared with (RFC 3986 §6.2.3, RFC 9207)."""
    body = json.dumps({"issuer": "https://a.test/", "token_endpoint": "https://a.test/t"}).encode()
    found = metadata.parse_server(HttpResponse(200, (), body), issuer="https://a.test", allow_private=False)
    assert found.issuer == "https://a.test/"


@pytest.mark.parametrize(
    "endpoint",
    ["http://a.test/t", "https://127.0.0.1/t", "https://localhost/t", "https://a.test/t#x", "javascript:x", 7],
)
def test_endpoints_that_no_definition_could_name(endpoint):
    """Of a public server no other endpoints are taken than a definition could have. # SEC-99 # SEC-103"""
    good = {"issuer": "https://a.test", "token_endpoint": "https://a.test/t"}
    found = metadata.parse_server(
        HttpResponse(200, (), json.dumps({**good, "registration_endpoint": endpoint}).encode()),
        issuer="https://a.test",
        allow_private=False,
    )
    assert found.registration_endpoint is None
    with pytest.raises(EndpointRefused):
        metadata.parse_server(
            HttpResponse(200, (), json.dumps({**good, "token_endpoint": endpoint}).encode()),
            issuer="https://a.test",
            allow_private=False,
        )


@pytest.mark.parametrize(
    ("name", "endpoint", "is_taken"),
    [
        ("authorization_endpoint", "https://a.test/a?p=policy", True),
        ("authorization_endpoint", "https://a.test/a?redirect_uri=https://evil.test", False),
        ("authorization_endpoint", "https://a.test/a?p", False),
        ("token_endpoint", "https://a.test/t?p=policy", True),
        ("registration_endpoint", "https://a.test/r?p=policy", False),
    ],
)
def test_endpoints_with_a_query(name, endpoint, is_taken):
    """A query of its own is taken where RFC 6749 §3.1 and §3.2 have it, unless it says what the flow itself says."""
    said = {"issuer": "https://a.test", "token_endpoint": "https://a.test/t", name: endpoint}
    response = HttpResponse(200, (), json.dumps(said).encode())
    found = metadata.parse_server(response, issuer="https://a.test", allow_private=False)
    assert getattr(found, name) == (endpoint if is_taken else None)


@pytest.mark.parametrize("address", ["https://[x", "https://a.test]/", "https://a\u2100b.test/"])
def test_addresses_that_are_none(address):
    """What cannot even be taken apart is refused like any other place, wherever it stands. # SEC-92"""
    with pytest.raises(EndpointRefused):
        metadata.server_documents(address)
    with pytest.raises(EndpointRefused):
        metadata.redirect_target("https://a.test/x", HttpResponse(302, (("Location", address),)))
    body = json.dumps({"resource": address}).encode()
    with pytest.raises(EndpointRefused):
        metadata.parse_resource(HttpResponse(200, (), body), document="https://a.test/d", used="https://a.test/")
