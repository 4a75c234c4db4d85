"""Requests and responses as values: bodies by their declared type, answers in one piece."""

import json
from threading import Event

import pytest

from authsome import errors
from authsome.daemon import messages
from authsome.daemon.messages import Request, Response

DATE = "Sat, 31 Jan 2026 12:00:00 GMT"


def request(*, body=b"", **headers):
    """A POST with these headers, underscores for hyphens; a tuple sends one twice."""
    values = {
        name.replace("_", "-"): value if isinstance(value, tuple) else (value,) for name, value in headers.items()
    }
    return Request(
        method="POST",
        path="/x",
        query="key=sesame",
        target="/x?key=sesame",
        headers=values,
        body=body,
        peer="127.0.0.1",
        received_over="http://127.0.0.1:7998",
        stopping=Event(),
    )


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_by_its_type(content_type):
    """JSON is taken when it is called that."""
    assert request(body=b'{"a":"b"}', content_type=content_type).json().text("a") == "b"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/problem+json",
        "application/json; charset=latin-1",
        "text/plain; application/json",
        "application/json, text/plain",
        "",
    ],
)
def test_json_by_another_type_is_refused(content_type):
    """What a page may post without asking first is never taken for JSON."""  # SEC-33
    with pytest.raises(errors.RequestInvalid):
        request(body=b"{}", content_type=content_type).json()


def test_json_of_no_type_or_two_is_refused():
    """A body says once what it is."""  # SEC-33
    for body in (request(body=b"{}"), request(body=b"{}", content_type=("application/json", "text/plain"))):
        with pytest.raises(errors.RequestInvalid):
            body.json()


def test_forms_by_their_type():
    """A form is taken as a form, and only as that."""
    assert request(body=b"a=b+c", content_type="application/x-www-form-urlencoded").form().text("a") == "b c"
    with pytest.raises(errors.RequestInvalid):
        request(body=b"a=b", content_type="application/json").form()
    assert request().query_fields().text("key") == "sesame"


def test_a_doubled_header_is_refused():
    """What may be sent once is not chosen from."""  # SEC-2
    with pytest.raises(errors.RequestInvalid):
        request(authorization=("PoP a", "PoP b")).header("authorization")
    assert request(authorization="PoP a").header("authorization") == "PoP a"
    assert request().header("authorization") is None


def test_the_repr_shows_no_secret():
    """Query, headers and body may hold secrets."""
    shown = repr(request(body=b"sesame", authorization="sesame")) + repr(Response(status=200, body=b"sesame"))
    assert "sesame" not in shown


@pytest.mark.parametrize("kind", errors.error_classes().values(), ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem(kind):
    """Problem details tell type, title, status, detail, code and hint; the client can rebuild the error."""
    answer = messages.problem(kind("told", hint="so"))
    details = json.loads(answer.body)
    assert answer.content_type == "application/problem+json"
    assert details.keys() == {"type", "title", "status", "detail", "code", "hint"}
    assert details["status"] == answer.status == kind.http_status
    rebuilt = errors.from_code(details["code"], details["detail"], details["hint"])
    assert (type(rebuilt), rebuilt.message, rebuilt.hint) == (kind, "told", "so")
    answer.to_bytes(date=DATE, keeps_alive=True)


def test_problems_say_what_would_do():
    """401 names the scheme, 405 the methods, 503 when to come back (RFC 9110 §15.5.2, §15.5.6, §15.6.4)."""
    assert ("WWW-Authenticate", "PoP") in messages.problem(errors.AuthenticationFailed()).headers
    assert ("Allow", "GET, HEAD") in messages.problem(errors.MethodNotAllowed(allowed=("GET", "HEAD"))).headers
    assert ("Retry-After", "1") in messages.problem(errors.DaemonBusy()).headers


@pytest.mark.parametrize(
    "location", ["/ui", "/auth/sessions/a?key=b", "https://provider.example/authorize?a=b", "http://127.0.0.1:1/x"]
)
def test_redirects(location):
    """After a POST comes a GET, here or at a provider."""
    answer = messages.redirect(location)
    assert answer.status == 303
    assert ("Location", location) in answer.headers


@pytest.mark.parametrize(
    "location",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https:///evil.example",
        "https://\\evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://evil.example",
        "evil",
        "",
        "/a\r\nSet-Cookie: b",
        "/a b",
        "/é",
    ],
)
def test_no_redirect_to_anything_else(location):
    """Nothing that a browser might take for another host, another scheme, or another header."""  # SEC-39 SEC-40
    with pytest.raises(ValueError, match="redirect"):
        messages.redirect(location)


@pytest.mark.parametrize(
    "header", [("A", "b\r\nC: d"), ("A\r\n", "b"), ("A b", "c"), ("A", "é"), ("A:", "b"), ("", "b")]
)
def test_headers_cannot_be_split(header):
    """A value from outside never becomes a header of its own."""
    with pytest.raises(ValueError, match="header"):
        Response(status=200, headers=(header,)).to_bytes(date=DATE, keeps_alive=True)


def test_an_answer_without_content_says_nothing_of_it():
    """204 and 304 have no length (RFC 9110 §8.6)."""
    data = Response(status=204, body=b"ignored").to_bytes(date=DATE, keeps_alive=True)
    assert b"Content-Length" not in data
    assert data.endswith(b"\r\n\r\n")
