"""Heads are read in one way or not at all, and bodies end where their framing says, however they come in pieces."""

import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.proxy import http1
from authsome.proxy.http1 import Body, Refused

GOOD = b"GET /a?b=%20 HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nX-Text: \t a\tb \xff \r\n\r\n"


def test_a_request_is_read():
    """Names as they came, values without the blanks around them, order kept."""
    found = http1.parse_request(GOOD)
    assert (found.method, found.target, found.minor) == (b"GET", b"/a?b=%20", 1)
    assert found.fields == ((b"Host", b"h"), (b"X-Empty", b""), (b"X-Text", b"a\tb \xff"))
    assert GOOD.decode("latin-1") not in repr(found)


def test_a_response_is_read():
    """With a reason, an empty one, or none."""
    for line, reason in ((b"HTTP/1.1 200 All good", b"All good"), (b"HTTP/1.0 299 ", b""), (b"HTTP/1.1 404", b"")):
        found = http1.parse_response(line + b"\r\nA: b\r\n\r\n")
        assert (found.reason, found.fields) == (reason, ((b"A", b"b"),))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /  HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b" GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\t HTTP/1.1\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\n\r\n",
        b"GET /\xe4 HTTP/1.1\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x0bb\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x7fb\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\xa0: a\r\n\r\n",
    ],
)
def test_what_is_malformed_is_refused(head: bytes):
    """Line ends, folding, blanks before a colon, controls: no reading is tried."""
    # SEC-155
    with pytest.raises(Refused):
        http1.parse_request(head)


@pytest.mark.parametrize(
    "line", [b"HTTP/2 200", b"HTTP/1.1 99", b"HTTP/1.1 2000", b"HTTP/1.1  200", b"200 OK", b"HTTP/1.1 600"]
)
def test_status_lines_are_read_strictly(line: bytes):
    """What is no status line is no response."""
    with pytest.raises(Refused):
        http1.parse_response(line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("buffer", "length"),
    [
        (b"", 0),
        (b"GET / HTTP/1.1\r\nHost", 0),
        (GOOD, len(GOOD)),
        (GOOD + b"body", len(GOOD)),
        (GOOD[:-1], 0),
        (b"a\r", 0),
    ],
)
def test_where_a_head_ends(buffer: bytes, length: int):
    """Behind its empty line; what follows is not looked at."""
    assert http1.head_length(buffer) == length


def test_a_head_that_cannot_become_good_is_refused_early():
    """A bare line end or a NUL, and a head without end, are not waited out."""
    for buffer in (b"GET / HTTP/1.1\nHost: h\n\n", b"GET / HTTP/1.1\r\nX\0", b"a\rb"):
        with pytest.raises(Refused):
            http1.head_length(buffer)
    with pytest.raises(Refused) as refused:
        http1.head_length(b"GET / HTTP/1.1\r\nX: " + b"a" * http1.HEAD_LIMIT)
    assert refused.value.status == 431


def request(*lines: bytes, version: bytes = b"1.1") -> http1.Request:
    """A POST with these header lines."""
    return http1.parse_request(b"\r\n".join((b"POST / HTTP/" + version, *lines, b"", b"")))


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 3", b"Content-Length: 4"),
        (b"Content-Length: 3", b"content-length: 3"),
        (b"Content-Length: 3, 3",),
        (b"Content-Length: -1",),
        (b"Content-Length: +3",),
        (b"Content-Length: 0x3",),
        (b"Content-Length: 3 3",),
        (b"Content-Length: 3_0",),
        (b"Content-Length:",),
        (b"Content-Length: 9999999999999999999",),
        (b"Content-Length: \xb2",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: \x0bchunked".replace(b"\x0b", b'"') + b'"',),
        (b"Transfer-Encoding: chunked;q=1",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding:",),
        (b"TRANSFER-ENCODING: cow",),
    ],
)
def test_ambiguous_framing_is_refused(lines: tuple[bytes, ...]):
    """CL.TE, TE.CL, CL.CL, odd lengths and any coding but chunked, in requests and in responses."""
    # SEC-155
    with pytest.raises(Refused):
        http1.request_body(request(*lines))
    response = http1.parse_response(b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b"")))
    with pytest.raises(Refused):
        http1.response_body(response, b"GET")


def test_chunks_are_of_version_1_1():
    """A transfer coding in HTTP/1.0 is read differently by everybody (RFC 9112 §6.1)."""
    with pytest.raises(Refused):
        http1.request_body(request(b"Transfer-Encoding: chunked", version=b"1.0"))


@pytest.mark.parametrize(
    ("method", "status", "lines", "kind"),
    [
        (b"GET", 200, (b"Content-Length: 3",), http1.Counted),
        (b"GET", 200, (b"Transfer-Encoding: Chunked",), http1.Chunked),
        (b"GET", 200, (), http1.UntilClose),
    ],
)
def test_how_a_responses_body_is_framed(method, status, lines, kind):
    """By its coding, its length, or the end of the connection, in this order (RFC 9112 §6.3)."""
    response = http1.parse_response(b"\r\n".join((b"HTTP/1.1 %d X" % status, *lines, b"", b"")))
    body = http1.response_body(response, method)
    assert isinstance(body, kind)
    assert not body.is_complete


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"GET", 101), (b"GET", 103)]
)
@pytest.mark.parametrize("line", [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: y"])
def test_responses_without_a_body(method, status, line):
    """HEAD, 1xx, 204 and 304 end with their head, whatever their headers tell of."""
    # SEC-177
    response = http1.parse_response(b"HTTP/1.1 %d X\r\n%b\r\n\r\n" % (status, line))
    assert http1.response_body(response, method).is_complete


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The data, cut at these places."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(places):
        yield data[start:end]


def read(body: Body, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Content, and what is left behind the end, of a body that comes in pieces."""
    content, beyond = b"", b""
    for piece in pieces(data, cuts):
        if body.is_complete:
            beyond += piece
        else:
            found, beyond = body.feed(piece)
            content += found
    return content, beyond


CUTS = st.lists(st.integers(0, 400), max_size=12)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=20), CUTS)
def test_chunks_hold_what_was_put_in(parts: list[bytes], beyond: bytes, cuts: list[int]):
    """Whatever the chunks and the pieces: the content comes out whole, and what is behind it is not touched."""
    trailers = ((b"X-Sum", b"1"), (b"X-Other", b"a b"))
    for end, wanted in ((http1.last_chunk(()), ()), (http1.last_chunk(trailers), trailers)):
        body = http1.Chunked()
        data = b"".join(http1.chunk(part) for part in parts) + end + beyond
        assert read(body, data, cuts) == (b"".join(parts), beyond)
        assert body.trailers == wanted
        assert body.close()


@given(st.binary(max_size=60), st.integers(0, 60), CUTS)
def test_a_length_is_kept_to(data: bytes, length: int, cuts: list[int]):
    """A counted body is its length and no byte more."""
    body = http1.Counted(length)
    content, beyond = read(body, data, cuts)
    assert content + beyond == data
    assert len(content) == min(length, len(data))
    assert body.close() is (len(data) >= length)


def test_chunk_extensions_are_read_over():
    """They are for one hop (RFC 9112 §7.1.1)."""
    body = http1.Chunked()
    assert body.feed(b'3;a=b;c="d"\r\nabc\r\nA ;x\r\n0123456789\r\n000\r\n\r\n') == (b"abc0123456789", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3;\x00\r\nabc\r\n",
        b"3;a\rb\r\nabc\r\n",
        b"1000000000000000\r\n",
        b"g\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: y\n\r\n\r\n",
        b"3;" + b"a" * 20000,
        b"0\r\nX: " + b"a" * http1.HEAD_LIMIT,
    ],
)
def test_malformed_chunks_are_refused(data: bytes):
    """Sizes in plain hexadecimal, CRLF behind line and data, headers as strict as elsewhere, and all of it bounded."""
    # SEC-155
    with pytest.raises(Refused):
        http1.Chunked().feed(data)


def test_a_body_that_breaks_off_is_not_complete():
    """Only a body without a length ends with its connection."""
    # SEC-172
    chunked = http1.Chunked()
    chunked.feed(b"3\r\nabc\r\n")
    assert not chunked.close()
    assert not http1.Counted(1).close()
    assert http1.UntilClose().close()


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_noise(data: bytes):
    """Whatever comes is read or refused."""
    for parse in (http1.head_length, http1.parse_request, http1.parse_response, http1.Chunked().feed):
        with suppress(Refused):
            parse(data)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("lines", "version", "is_last"),
    [
        ((), b"1.1", False),
        ((b"Connection: keep-alive",), b"1.1", False),
        ((b"Connection: x, Close",), b"1.1", True),
        ((b"Connection: x", b"connection: close"), b"1.1", True),
        ((b"Connection: keep-alive",), b"1.0", True),
    ],
)
def test_which_message_is_the_last(lines, version, is_last):
    """`close` in any Connection line, and version 1.0 always."""
    assert request(*lines, version=version).is_last is is_last
