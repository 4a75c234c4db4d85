"""The head parser takes what RFC 9112 calls well formed, and nothing that two parsers could read differently."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.daemon import head
from authsome.daemon.head import Head, Refused

TOKENS = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_categories=["Cc"]), max_size=40)


@given(method=TOKENS, fields=st.lists(st.tuples(TOKENS, VALUES), max_size=20))
def test_what_is_well_formed_is_read_as_it_stands(method, fields):
    """Every token is a name, every line of text a value; names fold their case, values lose outer blanks."""
    lines = [f"{method} /path?q HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    parsed = head.parse("\r\n".join(lines).encode("latin-1"))
    assert (parsed.method, parsed.target, parsed.version) == (method, "/path?q", (1, 1))
    expected: dict[str, tuple[str, ...]] = {}
    for name, value in fields:
        expected[name.lower()] = (*expected.get(name.lower(), ()), value.strip("\t "))
    assert parsed.fields == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data):
    """There is no third outcome, and what is parsed holds no control character but the tab."""
    try:
        parsed = head.parse(b"GET / HTTP/1.1\r\nA: " + data)
    except Refused:
        return
    values = [value for values in parsed.fields.values() for value in values]
    assert not any(ord(character) < 32 and character != "\t" for value in values for character in value)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_an_unfinished_head_is_refused_only_when_it_is_lost(data, start):
    """What `check_unfinished` refuses cannot be completed to a head that parses."""
    unfinished = b"GET / HTTP/1.1\r\nA: " + data
    try:
        head.check_unfinished(unfinished, min(start, len(unfinished)))
    except Refused:
        with pytest.raises(Refused):
            head.parse(unfinished.partition(b"\r\n\r\n")[0] if b"\r\n\r\n" not in data else b"")


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ((1, 1), (), True),
        ((1, 1), ("keep-alive",), True),
        ((1, 1), ("close",), False),
        ((1, 1), ("te", "foo , Close"), False),
        ((1, 1), ("closed",), True),
        ((1, 0), ("keep-alive",), False),
    ],
)
def test_keeping_alive(version, connection, keeps):
    """RFC 9112 §9.3, without HTTP/1.0's extension."""
    assert Head("GET", "/", version, {"connection": connection}).keeps_alive is keeps


def test_the_repr_shows_no_secret():
    """Targets and header values may hold codes and tokens."""
    shown = repr(Head("GET", "/?code=sesame", (1, 1), {"authorization": ("sesame",)}))
    assert "sesame" not in shown
