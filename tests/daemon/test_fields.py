"""Bodies and queries are read strictly, and errors name fields, not values."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.daemon import fields
from authsome.daemon.fields import Fields
from authsome.errors import RequestInvalid, RequestTooLarge

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=50)


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=10))
def test_forms_survive_the_way(values):
    """What a browser encodes is what is read."""
    parsed = fields.parse_form(urlencode(values).encode())
    assert {name: secret.reveal() for name, secret in parsed.rest().items()} == values


@given(st.dictionaries(TEXT, TEXT, max_size=10), st.booleans())
def test_json_survives_the_way(values, ascii_only):
    """What a client dumps is what is read."""
    parsed = fields.parse_json(json.dumps(values, ensure_ascii=ascii_only).encode())
    assert {name: secret.reveal() for name, secret in parsed.rest().items()} == values


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a"',
        b"{",
        b"{}{}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"{'a': 1}",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\\"' + b"[" * 100 + b'", "b": ' + b"[" * 33 + b"]" * 33 + b"}",
    ],
    ids=lambda body: f"{len(body)} bytes {body[:20]!r}",
)
def test_what_is_no_object_is_refused(body):
    """Anything but one UTF-8 object with distinct names and modest depth; deep nesting costs no stack."""  # SEC-23
    with pytest.raises(RequestInvalid):
        fields.parse_json(body)


def test_brackets_in_strings_are_no_nesting():
    """A key file in JSON, as a string, is taken."""
    key = json.dumps({"nested": [[[]]] * 100})
    assert fields.parse_json(json.dumps({"key": key}).encode()).secret("key").reveal() == key


@pytest.mark.parametrize(
    "body",
    [b"a=1&a=2", b"a=%", b"a=%4", b"a=%zz", b"a=%ff", b"%ff=a", b"a=\xc3\xa9", b"&".join([b"a"] * 101), b"a&&b", b"=a"],
)
def test_malformed_forms_are_refused(body):
    """No name twice, no broken escape, no bytes that are not UTF-8."""
    with pytest.raises(RequestInvalid):
        fields.parse_form(body)


def test_large_forms_are_refused():
    """64 KiB are far more than any form of ours."""
    with pytest.raises(RequestTooLarge):
        fields.parse_form(b"a=" + b"b" * fields.FORM_LIMIT)


WRONG = [
    ("text", {}, {}),
    ("text", {"name": ""}, {}),
    ("text", {"name": None}, {}),
    ("text", {"name": 1}, {}),
    ("text", {"name": "a\nb"}, {}),
    ("text", {"name": "a\x9b"}, {}),
    ("text", {"name": "\ud800"}, {}),
    ("text", {"name": "a" * (fields.TEXT_LIMIT + 1)}, {}),
    ("optional_text", {"name": []}, {}),
    ("document", {}, {}),
    ("document", {"name": ""}, {}),
    ("document", {"name": {}}, {}),
    ("document", {"name": "a" * (fields.DOCUMENT_LIMIT + 1)}, {}),
    ("secret", {}, {}),
    ("secret", {"name": ""}, {}),
    ("secret", {"name": 1}, {}),
    ("secret", {"name": "a" * (fields.SECRET_LIMIT + 1)}, {}),
    ("secrets", {"name": []}, {}),
    ("secrets", {"name": {"a": 1}}, {}),
    ("boolean", {"name": 1}, {}),
    ("boolean", {"name": "true"}, {}),
    ("integer", {"name": True}, {"minimum": 0, "maximum": 9}),
    ("integer", {"name": 1.0}, {"minimum": 0, "maximum": 9}),
    ("integer", {"name": "1"}, {"minimum": 0, "maximum": 9}),
    ("integer", {"name": 10}, {"minimum": 0, "maximum": 9}),
    ("integer", {"name": -1}, {"minimum": 0, "maximum": 9}),
    ("strings", {"name": "a"}, {}),
    ("strings", {"name": [1]}, {}),
    ("strings", {"name": ["a\0"]}, {}),
    ("objects", {"name": {}}, {}),
    ("objects", {"name": [{}, "a"]}, {}),
    ("mapping", {"name": ["a"]}, {}),
    ("mapping", {"name": {"a": None}}, {}),
    ("mapping", {"name": {"a\n": "b"}}, {}),
]


@pytest.mark.parametrize(("reader", "values", "options"), WRONG)
def test_wrong_values_are_refused_by_name(reader, values, options):
    """The error says which field; the value, which may be a secret, it does not repeat."""
    with pytest.raises(RequestInvalid, match='"name') as caught:
        getattr(Fields(values), reader)("name", **options)
    assert "\n" not in caught.value.message


def test_right_values_are_read():
    """Each reader gives its type; absent is None, False or empty."""
    read = Fields(
        {
            "a": "x",
            "b": "-----\nkey\n",
            "c": True,
            "d": 3,
            "e": ["x", "y"],
            "f": {"x": "y"},
            "g": {"k": "v"},
            "h": None,
            "i": "{\n}\n",
            "j": [{"k": "v"}, {}],
        }
    )
    assert read.text("a") == "x"
    assert read.secret("b").reveal() == "-----\nkey\n"
    assert [each.optional_text("k") for each in read.objects("j")] == ["v", None]
    assert read.objects("absent") == ()
    assert read.document("i") == "{\n}\n"
    assert read.boolean("c") is True
    assert read.integer("d", minimum=0, maximum=9) == 3
    assert read.strings("e") == ("x", "y")
    assert read.mapping("f") == {"x": "y"}
    assert {name: value.reveal() for name, value in read.secrets("g").items()} == {"k": "v"}
    assert read.optional_text("h") is None
    assert read.optional_text("absent") is None
    assert read.boolean("absent") is False
    assert read.boolean("absent", default=True) is True
    assert read.integer("absent", minimum=0, maximum=9) is None
    assert read.strings("absent") == ()
    assert read.mapping("absent") == {}
    assert read.secrets("absent") == {}
    read.done()


def test_numbers_in_a_query_are_text():
    """Queries and forms know only text; whole numbers, true and false are understood in it."""
    read = fields.parse_query("limit=50&all=true&none=false&bad=1e3&arabic=%D9%A1")
    assert read.integer("limit", minimum=1, maximum=100) == 50
    assert read.boolean("all") is True
    assert read.boolean("none") is False
    for name in ("bad", "arabic"):
        with pytest.raises(RequestInvalid, match=name):
            read.integer(name, minimum=0, maximum=10_000)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_is_none_is_refused(text):
    """Also one that is no time only once it is told in UTC."""
    with pytest.raises(RequestInvalid, match='"since" must be a time'):
        Fields({"since": text}).moment("since")


def test_what_nobody_read_is_refused():
    """An unknown field is a mistake or an attempt; its name is shown inert."""  # SEC-200
    read = Fields({"known": "x", "role\n\x1b[31m": "admin"})
    read.text("known")
    with pytest.raises(RequestInvalid, match="unknown field") as caught:
        read.done()
    assert "\n" not in caught.value.message
    assert "\x1b" not in caught.value.message
    assert "admin" not in caught.value.message
