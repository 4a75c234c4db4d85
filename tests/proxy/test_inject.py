"""Heads, before and after."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import DaemonUnavailable, RequestInvalid
from authsome.proxy import inject
from authsome.proxy.inject import Credential, Head
from authsome.secret import Secret
from fakes import daemon_api

BEARER = Credential(
    provider="p",
    connection="c",
    credential_id="1",
    set=(("Authorization", Secret("Bearer real")),),
    remove=("Authorization", "X-Api-Key"),
)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([(b"A", b"1"), (b"a", b"2")], [(b"A", b"1"), (b"a", b"2")]),
        ([(b"Keep-Alive", b"x"), (b"TE", b"gzip"), (b"Proxy-Authorization", b"x"), (b"Proxy-Connection", b"x")], []),
        ([(b"Connection", b"X-Hop, close"), (b"x-hop", b"1"), (b"Y", b"2")], [(b"Y", b"2"), (b"Connection", b"close")]),
        ([(b"Connection", b"keep-alive")], [(b"Connection", b"keep-alive")]),
        (
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")],
            [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")],
        ),
        ([(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")], []),
        ([(b"Upgrade", b"websocket")], []),
        ([(b"Connection", b"upgrade"), (b"Upgrade", b"a"), (b"Upgrade", b"b")], []),
        (
            [(b"Transfer-Encoding", b"chunked"), (b"Trailer", b"x")],
            [(b"Transfer-Encoding", b"chunked"), (b"Trailer", b"x")],
        ),
    ],
)
def test_what_is_meant_for_one_hop_stays(fields, kept):
    """Hop-by-hop headers go, and those that Connection lists; the wish to close and a clean upgrade are passed on."""
    # SEC-156
    assert inject.forwardable(tuple(fields)) == tuple(kept)


def test_grpc_keeps_its_te():
    """`te: trailers`, and no other, is passed on over HTTP/2."""
    assert inject.forwardable(((b"te", b"trailers"),), keep_trailers_option=True) == ((b"te", b"trailers"),)
    assert inject.forwardable(((b"te", b"trailers, gzip"),), keep_trailers_option=True) == ()


@pytest.mark.parametrize(
    "field",
    [
        (b"X", b"a\r\n b"),
        (b"X", b"a\rb"),
        (b"X", b"a\nb"),
        (b"X", b"\0"),
        (b"X\n", b"a"),
        (b"Connection", b"content-length"),
        (b"Connection", b"close, Host"),
        (b"Connection", b"Transfer-Encoding"),
    ],
)
def test_what_may_be_read_two_ways_is_refused(field):
    """Line breaks, NUL, and a Connection that would take framing away."""
    # SEC-155
    with pytest.raises(RequestInvalid):
        inject.forwardable((field,))


@pytest.mark.parametrize(
    "name", [b"Authorization", b"authorization", b"AUTHORIZATION", b"X-Api-Key", b"x_api_key", b"X-api_KEY "]
)
def test_every_spelling_is_replaced(name):
    """Ours is the only one left."""
    # SEC-154
    head = Head(target=b"/", fields=((name, b"mine"), (b"A", b"1"), (name, b"mine")))
    assert inject.injected(head, BEARER).fields == ((b"A", b"1"), (b"Authorization", b"Bearer real"))


HEADER = st.tuples(
    st.sampled_from([b"Authorization", b"aUTHORIZATION", b"X_Api_Key", b"Accept", b"Host"]), st.binary(max_size=5)
)


@given(st.lists(HEADER, max_size=8))
def test_there_is_always_exactly_one(fields):
    """Whatever came, exactly one Authorization goes out, nothing of its siblings, and the rest as it was."""
    # SEC-154
    found = inject.injected(Head(target=b"/", fields=tuple(fields)), BEARER).fields
    names = [name.lower().replace(b"_", b"-") for name, _ in found]
    assert names.count(b"authorization") == 1
    assert b"x-api-key" not in names
    assert [f for f in found if f[0] in {b"Accept", b"Host"}] == [f for f in fields if f[0] in {b"Accept", b"Host"}]


@pytest.mark.parametrize(
    ("target", "result"),
    [
        (b"/p", b"/p?key=a%2Fb%26c"),
        (b"/p?", b"/p?key=a%2Fb%26c"),
        (b"/p?x=1", b"/p?x=1&key=a%2Fb%26c"),
        (b"/p?key=mine&x=1&key=mine", b"/p?x=1&key=a%2Fb%26c"),
        (b"/p?k%65y=mine", b"/p?key=a%2Fb%26c"),
        (b"/p?key", b"/p?key=a%2Fb%26c"),
        (b"/p?Key=kept&akey=kept", b"/p?Key=kept&akey=kept&key=a%2Fb%26c"),
        (b"/p?a=%zz&b=%ff", b"/p?a=%zz&b=%ff&key=a%2Fb%26c"),
    ],
)
def test_a_query_parameter_takes_the_place_of_the_childs(target, result):
    """Every spelling of its name goes; the other parameters stay byte for byte."""
    credential = Credential(provider="p", connection="c", credential_id="1", query=(("key", Secret("a/b&c")),))
    assert inject.injected(Head(target=target, fields=()), credential).target == result


def test_companions_yield():
    """A companion header is set only where the child has none, in any spelling."""
    credential = Credential(
        provider="p", connection="c", credential_id="1", default=(("X-Version", "1"), ("X-New", "2"))
    )
    head = Head(target=b"/", fields=((b"x_version", b"9"),))
    assert inject.injected(head, credential).fields == ((b"x_version", b"9"), (b"X-New", b"2"))


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b", "\u20ac"])
def test_a_value_that_no_header_holds_is_not_sent_in_part(value):
    """The daemon refuses such values; should one come all the same, nothing is sent."""
    credential = Credential(provider="p", connection="c", credential_id="1", set=(("Authorization", Secret(value)),))
    with pytest.raises(DaemonUnavailable):
        inject.injected(Head(target=b"/", fields=()), credential)


def test_alt_svc_does_not_lead_the_child_away():
    """An intercepted host's responses do not name HTTP/3."""
    assert inject.response_fields(((b"alt-svc", b'h3=":443"'), (b"A", b"1"))) == ((b"A", b"1"),)


def test_the_daemons_answer_is_read():
    """What the daemon answers, as its API describes it."""
    answer = daemon_api.bearer("real", default=[["X-V", "1"]], query=[["k", "v"]], path="/bot")
    found = inject.credential_from_json(json.loads(json.dumps(answer)))
    assert (found.provider, found.connection, found.credential_id) == ("example", "default", "example-1")
    assert found.set == (("Authorization", Secret("Bearer real")),)
    assert found.default == (("X-V", "1"),)
    assert found.remove == ("Authorization", "X-Api-Key")
    assert found.query == (("k", Secret("v")),)
    assert found.path == Secret("/bot")
    assert "real" not in repr(found)


@pytest.mark.parametrize(
    "change",
    [
        {"provider": None},
        {"credential_id": 1},
        {"set": {}},
        {"set": [["a"]]},
        {"set": [["a", 1]]},
        {"set": ["ab"]},
        {"remove": "Authorization"},
        {"query": None},
    ],
)
def test_an_answer_of_another_form_is_none(change):
    """Nothing is guessed."""
    with pytest.raises(DaemonUnavailable):
        inject.credential_from_json({**daemon_api.bearer("real"), **change})
