"""Placeholders that a child puts on a request: replaced where they are one, and nothing else is."""

import base64
import json
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import DaemonUnavailable
from authsome.proxy import inject, placeholders
from authsome.proxy.inject import Credential, Head
from authsome.secret import Secret
from fakes import daemon_api

ID, KEY = "id-placeholder-0000", "key/placeholder:0000"
ID_VALUE, KEY_VALUE = "the-id", 'r&=a/l "+\\é%2F:'
STAND_INS = ((ID, Secret(ID_VALUE)), (KEY, Secret(KEY_VALUE)))
JSON_FIELDS = ((b"Content-Type", b"application/json"), (b"Content-Length", b"9"))
FORM_FIELDS = ((b"Content-Type", b"application/x-www-form-urlencoded; charset=utf-8"), (b"Content-Length", b"9"))


@pytest.mark.parametrize(
    ("path", "result"),
    [
        (f"/bot{ID}/getMe", f"/bot{ID_VALUE}/getMe"),
        (f"/a/{ID}.json", f"/a/{ID_VALUE}.json"),
        (f"/{ID}/{ID}", f"/{ID_VALUE}/{ID_VALUE}"),
        ("/bot%69d%2dplaceholder%2D0000/x", f"/bot{ID_VALUE}/x"),
        (f"/{quote(KEY, safe='')}/%7e%zz", f"/{quote(KEY_VALUE, safe=':')}/%7e%zz"),
        ("/id-placeholder-000/x", "/id-placeholder-000/x"),
        ("/ID-placeholder-0000", "/ID-placeholder-0000"),
        ("/%2569d-placeholder-0000", "/%2569d-placeholder-0000"),
    ],
)
def test_in_a_path(path: str, result: str):
    """Wherever in it, in any spelling; what takes the place cannot leave its segment."""
    assert placeholders.in_path(path.encode(), STAND_INS) == result.encode()


def test_a_value_that_would_lead_elsewhere_is_not_put_into_a_path():
    """Two dots are a way up."""
    assert placeholders.in_path(b"/a/" + ID.encode(), ((ID, Secret("..")),)) == b"/a/" + ID.encode()


@pytest.mark.parametrize(
    ("pairs", "result"),
    [
        (f"a=1&key={ID}&b=%zz", f"a=1&key={ID_VALUE}&b=%zz"),
        (f"key={quote(KEY, safe='')}", f"key={quote(KEY_VALUE, safe='')}"),
        (f"key={KEY}&&=", f"key={quote(KEY_VALUE, safe='')}&&="),
        ("k=id%2Dplaceholder-000%30", f"k={ID_VALUE}"),
        (f"q=what+is+{ID}", f"q=what+is+{ID}"),
        (f"{ID}=1&{ID}", f"{ID}=1&{ID}"),
        (f"a=b={ID}", f"a=b={ID}"),
    ],
)
def test_in_a_query_and_a_form(pairs: str, result: str):
    """A whole value, in any spelling; no name, and no text that quotes it."""
    assert placeholders.in_query(pairs.encode(), STAND_INS) == result.encode()
    assert placeholders.in_body(FORM_FIELDS, pairs.encode(), STAND_INS) == result.encode()


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (f"Bearer {ID}", f"Bearer {ID_VALUE}"),
        (f"Token token={ID}, other={ID}", f"Token token={ID_VALUE}, other={ID_VALUE}"),
        (ID, ID_VALUE),
        ("Basic !!!", "Basic !!!"),
        ("Basic QQ", "Basic QQ"),
        ("plain", "plain"),
    ],
)
def test_in_a_header(value: str, result: str):
    """Anywhere in a value."""
    assert placeholders.in_field(b"X-Any", value.encode(), STAND_INS) == result.encode()


@pytest.mark.parametrize(
    ("pair", "result"),
    [
        (f"{ID}:{KEY}", f"{ID_VALUE}:{KEY_VALUE}"),
        (f"me@example.com/token:{KEY}", f"me@example.com/token:{KEY_VALUE}"),
        (f"{ID}:", f"{ID_VALUE}:"),
        ("me:mine", "me:mine"),
        (ID, ID_VALUE),
    ],
)
@pytest.mark.parametrize("scheme", ["Basic ", "basic  ", "BASIC "])
def test_in_a_basic_pair(scheme: str, pair: str, result: str):
    """Both parts of it; a pair without one stays as it was written."""
    written, wanted = (scheme + base64.b64encode(text.encode()).decode() for text in (pair, result))
    assert placeholders.in_field(b"Authorization", written.encode(), STAND_INS) == wanted.encode()


def test_a_user_name_does_not_end_in_the_middle_of_a_value():
    """A value with a colon is no user name: a server would read another password (RFC 7617 §2)."""
    pair = b"Basic " + base64.b64encode(f"{ID}:x".encode())
    assert placeholders.in_field(b"Authorization", pair, ((ID, Secret("a:b")),)) == pair


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Content-Type", b"Transfer-Encoding", b"Connection"])
def test_what_says_where_a_message_goes_and_how_it_is_read_is_left_alone(name: bytes):
    """Host above all."""
    # SEC-151
    assert placeholders.in_field(name, ID.encode(), STAND_INS) == ID.encode()


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ('{"a": "ID", "b" : [ "ID" ]}', '{"a": "the-id", "b" : [ "the-id" ]}'),
        ('{"a":"KEY"}', f'{{"a":{json.dumps(KEY_VALUE)}}}'),
        (r'{"a":"key\/placeholder:0000"}', f'{{"a":{json.dumps(KEY_VALUE)}}}'),
        (r'{"a":"\u0069d\u002Dplaceholder-000\u0030"}', '{"a":"the-id"}'),
        ('"ID"', '"the-id"'),
        ('{"ID" : 1, "ID":"x"}', '{"ID" : 1, "ID":"x"}'),
        ('{"a": "my ID"}', '{"a": "my ID"}'),
        (r'{"a": "\"ID"}', r'{"a": "\"ID"}'),
        (r'{"a": "\"ID\""}', r'{"a": "\"ID\""}'),
        (r'{"a": "TOKEN=ID\n"}', r'{"a": "TOKEN=ID\n"}'),
        ("not json", "not json"),
    ],
)
def test_in_json(body: str, result: str):
    """A whole string that is a value, however it is spelled; all else stays, to the space."""
    sent, wanted = (text.replace("ID", ID).replace("KEY", KEY).encode() for text in (body, result))
    assert placeholders.in_body(JSON_FIELDS, sent, STAND_INS) == wanted


TREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from([ID, KEY, f'"{ID}"', f"{ID} ", f"\\{KEY}", f'x"{KEY}']),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from([ID, KEY]), inner, max_size=4)
    ),
    max_leaves=12,
)


def _put_in(tree: object) -> object:
    """The same, by another way: the parsed tree."""
    if isinstance(tree, list):
        return [_put_in(each) for each in tree]
    if isinstance(tree, dict):
        return {name: _put_in(each) for name, each in tree.items()}
    return {ID: ID_VALUE, KEY: KEY_VALUE}.get(tree, tree) if isinstance(tree, str) else tree


@given(TREE, st.booleans(), st.sampled_from([None, 1]))
def test_json_means_the_same_but_for_placeholders(tree, is_ascii, indent):
    """Whatever the document, and however it was written."""
    written = json.dumps(tree, ensure_ascii=is_ascii, indent=indent).encode()
    found = placeholders.in_body(JSON_FIELDS, written, STAND_INS)
    assert json.loads(found) == _put_in(tree)
    if _put_in(tree) == tree:
        assert found == written


PAIRS = st.lists(st.tuples(st.text() | st.just(ID), st.text() | st.sampled_from([ID, KEY, f"{ID} "])), max_size=6)


@given(PAIRS)
def test_forms_mean_the_same_but_for_placeholders(pairs: list[tuple[str, str]]):
    """Whatever the fields."""
    written = urlencode(pairs).encode()
    found = placeholders.in_query(written, STAND_INS)
    values = {ID: ID_VALUE, KEY: KEY_VALUE}
    wanted = [(name, values.get(value, value)) for name, value in pairs]
    assert parse_qsl(found.decode(), keep_blank_values=True) == wanted
    if wanted == pairs:
        assert found == written


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_bytes_that_are_no_placeholder_stay_as_they_are(data: bytes, name: bytes):
    """Anything at all, as a path, a query, a header, a form and JSON."""
    # SEC-178
    assert placeholders.in_path(data, STAND_INS) == data
    assert placeholders.in_query(data, STAND_INS) == data
    assert placeholders.in_field(name, data, STAND_INS) == data
    assert placeholders.in_body(JSON_FIELDS, data, STAND_INS) == data
    assert placeholders.in_body(FORM_FIELDS, data, STAND_INS) == data


@given(st.text(alphabet="abc/.%25?=&", max_size=20), st.text(alphabet="abc/.%25?=&", max_size=20))
def test_what_stands_around_a_placeholder_stays(before: str, behind: str):
    """To the byte, percent signs that mean nothing too."""
    path = f"/{before}/x{ID}x/{behind}"
    found = placeholders.in_path(path.encode(), STAND_INS).decode()
    assert found == f"/{before}/x{ID_VALUE}x/{behind}"
    assert unquote(found) == unquote(path).replace(ID, ID_VALUE)


def test_what_was_put_in_is_not_looked_at_again():
    """A value that holds a placeholder is nobody's doing but the provider's."""
    each = ((ID, Secret(KEY)), (KEY, Secret(ID)))
    assert placeholders.in_field(b"X", f"{ID} {KEY}".encode(), each) == f"{KEY} {ID}".encode()


@pytest.mark.parametrize(
    ("change", "takes"),
    [
        ({}, True),
        ({"Content-Type": "application/vnd.api+json; charset=utf-8"}, True),
        ({"Content-Type": "Application/X-WWW-Form-URLEncoded"}, True),
        ({"Expect": "100-Continue"}, True),
        ({"Content-Length": str(placeholders.LARGEST_BODY)}, True),
        ({"Content-Length": str(placeholders.LARGEST_BODY + 1)}, False),
        ({"Content-Length": "0"}, False),
        ({"Content-Length": "99999999999"}, False),
        ({"Content-Length": None}, False),
        ({"Content-Length": None, "Transfer-Encoding": "chunked"}, False),
        ({"Content-Encoding": "gzip"}, False),
        ({"Content-Type": None}, False),
        ({"Content-Type": "text/plain"}, False),
        ({"Content-Type": "multipart/form-data; boundary=x"}, False),
        ({"Content-Type": "application/jsonl"}, False),
        ({"Content-Type": "application/json-seq"}, False),
        ({"Expect": "x"}, False),
        ({"Upgrade": "websocket"}, False),
    ],
)
def test_which_bodies_are_looked_through(change, takes):
    """Forms and JSON of a known length up to a bound, in no coding; all others stream through."""
    told = {"Content-Type": "application/json", "Content-Length": "10", **change}
    fields = tuple((name.encode(), value.encode()) for name, value in told.items() if value is not None)
    assert placeholders.takes_body(fields) is takes
    assert not placeholders.takes_body((*fields, (b"Content-Type", b"application/json"), (b"Content-Length", b"1")))


# ---- together with what is injected ------------------------------------------------------------------------


def _credential(**more: object) -> Credential:
    named = {"set": (("Authorization", Secret("Bearer real")),), **more}
    return Credential(
        provider="p",
        connection="c",
        credential_id="1",
        remove=("authorization", "x-api-key"),
        placeholders=STAND_INS,
        **named,  # type: ignore[arg-type]
    )


def test_ours_still_replaces_what_the_child_sent():
    """A placeholder under a name that the provider takes a credential by is gone; elsewhere it is replaced."""
    # SEC-154
    sent = ((b"authorization", b"Bearer " + ID.encode()), (b"X_Api_Key", ID.encode()), (b"X-Other", ID.encode()))
    put = inject.injected(Head(target=b"/", fields=sent), _credential())
    assert put.fields == ((b"X-Other", b"the-id"), (b"Authorization", b"Bearer real"))


def test_where_no_header_is_set_the_childs_own_way_stays():
    """With a credential in the query alone, a Basic pair of placeholders goes out filled; any other goes, as before."""
    pair, filled = (base64.b64encode(text) for text in (b"me:" + ID.encode(), b"me:the-id"))
    credential = _credential(set=(), query=(("key", Secret("q")),))
    sent = ((b"Authorization", b"Basic " + pair), (b"X-Api-Key", b"mine"))
    put = inject.injected(Head(target=b"/a?key=" + ID.encode() + b"&x=" + ID.encode(), fields=sent), credential)
    assert put == Head(target=b"/a?x=the-id&key=q", fields=((b"Authorization", b"Basic " + filled),))


def test_nothing_is_replaced_in_what_was_set():
    """A real value that holds the text of a placeholder is sent as it is."""
    credential = _credential(
        set=(("X-Set", Secret(f"Bearer {ID}")),), path=Secret(f"/bot{ID}"), query=(("key", Secret(ID)),)
    )
    put = inject.injected(Head(target=f"/a/{ID}?b={ID}".encode(), fields=()), credential)
    assert put.target == f"/bot{ID}?b=the-id&key={ID}".encode()
    assert put.fields == ((b"X-Set", f"Bearer {ID}".encode()),)


def test_a_body_has_its_new_length():
    """And is not asked for any more."""
    fields = (*JSON_FIELDS, (b"Expect", b"100-continue"))
    body = json.dumps({"k": ID}).encode()
    put, found = inject.injected_body(fields, body, _credential())
    assert found == b'{"k": "the-id"}'
    assert put == ((b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(found)))


@pytest.mark.parametrize("pair", [[ID, "a\r\nb"], [ID, "a\0b"], ["é-placeholder", "x"], ["", "x"]])
def test_a_value_that_no_request_can_hold_is_none(pair: list[str]):
    """The daemon leaves such values out; should one come all the same, nothing is sent."""
    # SEC-155
    with pytest.raises(DaemonUnavailable):
        inject.credential_from_json(daemon_api.bearer("real", placeholders=[pair]))


def test_another_process_is_told_of_them():
    """The full engine's has the same."""
    told = json.loads(json.dumps(daemon_api.bearer("real", placeholders=[[ID, "x"]])))
    credential = inject.credential_from_json(told)
    assert credential.placeholders == ((ID, Secret("x")),)
    assert inject.credential_from_json(json.loads(json.dumps(inject.credential_to_json(credential)))) == credential
