"""A secret does not come back in any spelling, however it is cut, and whatever is no secret comes as it was sent."""

import base64
import gzip
import itertools
import json
import re
import subprocess
import sys
import tracemalloc
import zlib
from collections import deque
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import EndpointUnreachable
from authsome.proxy import codings, scrub
from authsome.proxy.scrub import Filter, Needles, Scrubber
from authsome.secret import Secret
from proxy import zstd

TOKEN = "sk-live/4f1d+0c9b=7a6e~5d"
"""With characters that every encoding writes in its own way."""
NEEDLES = Needles([Secret(TOKEN)])
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
CUTS = st.lists(st.integers(0, 300), max_size=8)

SPELLINGS = {
    "plain": TOKEN,
    "JSON": json.dumps(TOKEN),
    "JSON with escaped slashes": json.dumps(TOKEN).replace("/", "\\/"),
    "query": quote(TOKEN, safe=""),
    "path": quote(TOKEN),
    "form": quote_plus(TOKEN),
    "small hexadecimals": quote(TOKEN, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
    "Base64": base64.b64encode(TOKEN.encode()).decode(),
    "Base64 for URLs": base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("="),
    "Base64 of a header": base64.b64encode(f"Bearer {TOKEN}\n".encode()).decode(),
    "Base64 of a pair": base64.b64encode(f"user:{TOKEN}".encode()).decode(),
}


def through(filter_: Filter, data: bytes, cuts: list[int]) -> bytes:
    """What is left of a body that comes in pieces."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    found = [each for start, end in itertools.pairwise(places) for each in fed(filter_, data[start:end])]
    return b"".join([*found, filter_.finish()])


def fed(filter_: Filter, data: bytes) -> Iterator[bytes]:
    """What can be passed on of a piece, in portions."""
    yield filter_.feed(data)
    while filter_.has_more:
        yield filter_.feed(b"")


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_replaced(name: str):
    """By as many other bytes, at every place where the stream can be cut."""
    # SEC-163
    spelling = SPELLINGS[name].strip('"')
    data = f'{{"before": 1, "x": "{spelling}", "after": 2}}'.encode()
    whole = through(Scrubber(NEEDLES), data, [])
    for cut in range(len(data)):
        assert through(Scrubber(NEEDLES), data, [cut]) == whole
    assert len(whole) == len(data)
    assert whole.startswith(b'{"before": 1, "x": "')
    assert json.loads(whole).keys() == {"before", "x", "after"}
    assert whole.endswith(b'", "after": 2}')
    for piece in (TOKEN[i : i + 6] for i in range(len(TOKEN) - 6)):
        assert piece.encode() not in whole
        if name.startswith("Base64"):
            decoded = base64.b64decode(whole.split(b'"')[5] + b"==", altchars=b"-_")
            assert piece.encode() not in decoded


PHRASE = "it's (a) horse/battery: élan!*"
"""With a space, and with what some encoders leave as it is and others do not."""


@pytest.mark.parametrize(
    "spelling",
    [
        json.dumps(PHRASE)[1:-1],
        json.dumps(PHRASE, ensure_ascii=False)[1:-1],
        quote(PHRASE, safe=""),
        quote(PHRASE),
        quote(PHRASE, safe="!'()*"),
        quote(PHRASE, safe=":"),
        quote_plus(PHRASE),
        re.sub("%..", lambda part: part[0].lower(), quote_plus(PHRASE)),
    ],
    ids=["JSON", "JSON in UTF-8", "query", "path", "JavaScript", "path with colons", "form", "small hexadecimals"],
)
def test_every_spelling_of_a_phrase_is_replaced(spelling: str):
    """Also where encoders differ in what they leave as it is."""
    # SEC-163
    data = f'"{spelling}"'.encode()
    found = Needles([Secret(PHRASE)]).replaced(data)
    assert len(found) == len(data)
    assert found.startswith(b'"authsome-placeholder-')
    assert b"horse" not in found


def test_fields_are_without_secrets():
    """In their values and in their names, which a server may make of what it was sent."""
    # SEC-163
    secret = "canary0of0an0api0key"
    fields = ((b"X-One", b"a"), (f"X-{secret}".encode(), b"1"), (b"X-Two", f"it was {secret}".encode()))
    found = Needles([Secret(secret)]).replaced_fields(fields)
    assert [len(part) for pair in found for part in pair] == [len(part) for pair in fields for part in pair]
    assert found[0] == fields[0]
    assert secret.encode() not in b"".join(part for pair in found for part in pair)


@given(TEXT, TEXT)
def test_base64_is_found_inside_of_anything(before: str, after: str):
    """Whatever was encoded together with it, at all three places where it can begin."""
    # SEC-163
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        data = encode((before + TOKEN + after).encode())
        found = NEEDLES.replaced(data)
        assert len(found) == len(data)
        decoded = base64.b64decode(found, altchars=b"-_" if encode is base64.urlsafe_b64encode else b"+/")
        start = len(before.encode())
        assert decoded[:start] == before.encode()
        # A character at each border also holds bits of the neighbours, and of the secret's first and last byte.
        assert decoded[start + 1 : start + len(TOKEN) - 1] != TOKEN[1:-1].encode()
        assert TOKEN[2:8].encode() not in decoded[start:]


@given(st.binary(max_size=200), CUTS)
def test_what_holds_no_secret_is_not_touched(data: bytes, cuts: list[int]):
    """Every byte comes as it was sent."""
    # SEC-163
    if not NEEDLES.are_in(data):
        assert through(Scrubber(NEEDLES), data, cuts) == data


# Needles over two letters overlap, contain and repeat each other in every way that there is.
SMALL = st.text("ab", min_size=8, max_size=12)


@given(st.lists(SMALL, min_size=1, max_size=3), st.text("abc", max_size=80), CUTS)
def test_cutting_a_stream_changes_nothing(secrets: list[str], text: str, cuts: list[int]):
    """In pieces it comes out as in one piece, without any of the secrets, and as long as it was."""
    # SEC-163
    needles = Needles([Secret(secret) for secret in secrets])
    data = text.encode()
    found = through(Scrubber(needles), data, cuts)
    assert found == needles.replaced(data)
    assert len(found) == len(data)
    assert not any(secret.encode() in found for secret in secrets)


@given(st.lists(SMALL, min_size=1, max_size=3), st.text("abc", max_size=40))
def test_only_a_beginning_is_held_back(secrets: list[str], text: str):
    """What waits for more is the beginning of a secret, to the last byte."""
    needles = Needles([Secret(secret) for secret in secrets])
    passed, held = needles.split(text.encode())
    assert len(passed) + len(held) == len(text)
    assert not held or any(secret.encode().startswith(held) and secret.encode() != held for secret in secrets)


def test_an_event_is_passed_on_at_once():
    """An event's end begins no secret, so no event waits for the next one."""
    # SEC-164
    scrubber = Scrubber(NEEDLES)
    for number in range(3):
        event = b'data: {"delta": "sk-l%d"}\n\n' % number
        assert scrubber.feed(event) == event


@pytest.mark.parametrize("secret", ["x", "hunter2"])
def test_a_short_secret_is_not_looked_for(secret: str):
    """It would blank out ordinary words; a Basic pair with it is long enough."""
    assert not Needles([Secret(secret)])
    value = "Basic " + base64.b64encode(f"me@example.com:{secret}".encode()).decode()
    needles = Needles([Secret(secret)], [Secret(value)])
    found = needles.replaced(f"Authorization: {value}".encode())
    assert value.encode() not in found
    assert base64.b64decode(found.split()[-1]) != f"me@example.com:{secret}".encode()


def test_a_pair_keeps_the_users_name():
    """Of a Basic credential only the password is a secret."""
    value = "Basic " + base64.b64encode(f"me@example.com:{TOKEN}".encode()).decode()
    found = Needles([Secret(TOKEN)], [Secret(value)]).replaced(value.encode())
    assert base64.b64decode(found.split()[1]).startswith(b"me@example.com:authsome-")


def test_a_header_that_is_no_basic_credential_is_left_at_its_secret():
    """A definition may call anything Basic."""
    assert Needles([Secret(TOKEN)], [Secret(f"Basic {TOKEN}")]).replaced(TOKEN.encode()) != TOKEN.encode()


# ---- codings -----------------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header, as some servers send it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


IN_TEXT = [SPELLINGS[name].encode() for name in ("plain", "query", "Base64 of a header")]


def two_members(data: bytes) -> bytes:
    """Gzip in two members, cut where a secret may be."""
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


def two_frames(data: bytes) -> bytes:
    """Zstandard in two frames, cut where a secret may be, with one between them that holds nothing."""
    skipped = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    return zstd.compress(data[: len(data) // 2]) + skipped + zstd.compress(data[len(data) // 2 :])


CODED = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "two members": (b"gzip", two_members),
    "deflate": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate),
    "Brotli": (b"br", brotli.compress),
    "Zstandard": (b"zstd", zstd.compress),
    "two frames": (b"zstd", two_frames),
}

PROMPT = [name for name, (coding, _) in CODED.items() if coding in codings.PROMPT]


@pytest.mark.parametrize("name", CODED)
@given(st.lists(st.sampled_from([b"text ", b"sk-live", b"\n", *IN_TEXT]), max_size=12), CUTS)
def test_a_coding_that_was_asked_for_is_undone(name: str, parts: list[bytes], cuts: list[int]):
    """The child gets the content itself, every byte but the secret's as it was before it was compressed."""
    # SEC-163
    coding, compress = CODED[name]
    data = b"".join(parts)
    fields = ((b"Content-Encoding", coding), (b"Content-Length", b"7"), (b"ETag", b'"1"'))
    left, filter_ = scrub.answer(fields, NEEDLES, status=200, accepted=frozenset({coding}), has_body=True)
    assert left == ((b"ETag", b'"1"'),)
    assert through(filter_, compress(data), cuts) == NEEDLES.replaced(data)


@pytest.mark.parametrize("name", PROMPT)
@given(st.binary(max_size=400), CUTS)
def test_a_coding_that_was_not_asked_for_passes(name: str, data: bytes, cuts: list[int]):
    """Who did not ask for it may want to keep it as it is: a file that a server calls compressed."""
    # SEC-163
    coding, compress = CODED[name]
    fields = ((b"content-encoding", coding), (b"Content-Length", b"7"))
    left, filter_ = scrub.answer(fields, NEEDLES, status=200, accepted=frozenset(), has_body=True)
    assert left == fields
    packed = compress(data)
    assert through(filter_, packed, cuts) == packed


def test_a_coding_that_was_not_asked_for_holds_little_back():
    """A secret's beginning and then empty blocks, which decide nothing: it ends, and does not fill the memory."""
    compress = zlib.compressobj(wbits=31)
    filter_ = scrub.answer(((b"Content-Encoding", b"gzip"),), NEEDLES, status=200, accepted=frozenset(), has_body=True)[
        1
    ]
    filter_.feed(compress.compress(TOKEN[:4].encode()) + compress.flush(zlib.Z_FULL_FLUSH))
    empty = b"\0\0\0\xff\xff" * 100  # RFC 1951 §3.2.4
    with pytest.raises(EndpointUnreachable, match="without a byte of content"):
        deque(map(filter_.feed, [empty] * 2**13), maxlen=0)


@pytest.mark.parametrize("name", PROMPT)
@given(CUTS)
def test_a_secret_in_a_coding_that_was_not_asked_for_ends_the_answer(name: str, cuts: list[int]):
    """It cannot be replaced, so nothing that holds it is passed on."""
    # SEC-163
    coding, compress = CODED[name]
    packed = compress(b"before " * 10 + TOKEN.encode() + b" after")
    filter_ = scrub.answer(((b"Content-Encoding", coding),), NEEDLES, status=200, accepted=frozenset(), has_body=True)[
        1
    ]
    passed: list[bytes] = []
    edges = [0, *sorted(cuts), len(packed)]
    with pytest.raises(EndpointUnreachable):
        passed.extend(each for start, end in itertools.pairwise(edges) for each in fed(filter_, packed[start:end]))
    decoder = codings.decoder(coding)
    assert decoder is not None
    assert TOKEN.encode() not in b"".join(decoder.feed(b"".join(passed)))


def test_a_bomb_is_not_kept():
    """A hundred MiB of the same come out in the end, and nothing is left behind."""
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    filter_ = scrub.answer(
        ((b"Content-Encoding", b"gzip"),), NEEDLES, status=200, accepted=frozenset({b"gzip"}), has_body=True
    )[1]
    size = sum(len(each) for at in range(0, len(packed), 1024) for each in fed(filter_, packed[at : at + 1024]))
    assert size + len(filter_.finish()) == 100 << 20


BOMBS = {"br": brotli.compress(bytes(100 << 20)), "zstd": zstd.compress(bytes(100 << 20))}
BROKEN = {
    "gzip": [b"no gzip", gzip.compress(b"x" * 1000)[:-9]],
    "br": [b"no brotli" * 9, brotli.compress(b"x" * 1000)[:-1], brotli.compress(b"x") + b"y"],
    "zstd": [
        *(b"no zstandard", zstd.compress(b"x" * 1000)[:-1], zstd.compress(b"x")[:3], zstd.compress(b"x") + b"y"),
        zstd.compress(b"x") + zstd.compress(b"y")[:-1],
    ],
}


@pytest.mark.parametrize("coding", BOMBS)
def test_a_piece_that_grows_without_bounds_comes_in_portions(coding: str):
    """Some bytes can be gigabytes: they are had as there is room for them, and memory does not grow."""
    packed = BOMBS[coding]
    fields = ((b"Content-Encoding", coding.encode()),)
    filter_ = scrub.answer(fields, NEEDLES, status=200, accepted=frozenset({coding.encode()}), has_body=True)[1]
    tracemalloc.start()
    try:
        sizes = [len(filter_.feed(packed))]
        while filter_.has_more:
            sizes.append(len(filter_.feed(b"")))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert sum(sizes) + len(filter_.finish()) == 100 << 20
    assert max(sizes) < 1 << 20


@pytest.mark.parametrize("coding", BOMBS)
def test_what_is_decoded_comes_in_blocks(coding: str):
    """Not much is ever decoded at once."""
    decoder = codings.decoder(coding.encode())
    assert decoder is not None
    sizes = [len(block) for block in decoder.feed(BOMBS[coding])]
    decoder.finish()
    assert sum(sizes) == 100 << 20
    assert max(sizes) <= 128 * 1024


@pytest.mark.parametrize("size", [8, 16])
def test_a_zstandard_window_has_a_bound(size: int):
    """Eight MiB are what RFC 9659 lets a server ask for; more is not decoded."""
    packed = zstd.with_window(b"x" * 1000, size << 20)
    fields = ((b"Content-Encoding", b"zstd"),)
    filter_ = scrub.answer(fields, NEEDLES, status=200, accepted=frozenset({b"zstd"}), has_body=True)[1]
    if size == 8:
        assert through(filter_, packed, []) == b"x" * 1000
    else:
        with pytest.raises(EndpointUnreachable):
            filter_.feed(packed)


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_compressed_event_is_passed_on_at_once(coding: str):
    """What a server has flushed does not wait for what it sends next."""
    # SEC-164
    packer = brotli.Compressor() if coding == "br" else zstd.Packer()
    decoder = codings.decoder(coding.encode())
    assert decoder is not None
    for number in range(3):
        event = b"data: %d\n\n" % number
        packed = packer.process(event) + packer.flush()
        assert b"".join(decoder.feed(packed)) == event


@pytest.mark.parametrize(
    ("coding", "number"), [(coding, number) for coding, all_ in BROKEN.items() for number in range(len(all_))]
)
@given(CUTS)
def test_what_is_not_coded_as_it_says_is_no_answer(coding: str, number: int, cuts: list[int]):
    """Neither noise, nor half of an answer, nor what noise follows, is taken for a whole one."""
    asked = frozenset({coding.encode()})
    for accepted in (asked, frozenset[bytes]()) if coding == "gzip" else (asked,):
        fields = ((b"Content-Encoding", coding.encode()),)
        filter_ = scrub.answer(fields, NEEDLES, status=200, accepted=accepted, has_body=True)[1]
        with pytest.raises(EndpointUnreachable):
            through(filter_, BROKEN[coding][number], cuts)


@pytest.mark.parametrize("is_stubbed", [True, False])
def test_without_the_libraries_two_codings_are_unknown(is_stubbed):
    """As in the built archive, also where stubs stand in for them; and with them, nothing is loaded before a body."""
    # SEC-163
    code = (
        "from authsome.proxy import codings, scrub, stubs\n"
        f"if {is_stubbed}: stubs.install(); import brotli\n"
        "fields = ((b'Accept-Encoding', b'br, gzip, zstd'),)\n"
        "asked, accepted = scrub.narrowed(fields)\n"
        "assert asked == ((b'Accept-Encoding', b'gzip'),), asked\n"
        "assert codings.decoder(b'br') is codings.decoder(b'zstd') is None\n"
    )
    hidden = "class Without:\n def find_spec(self, name, *_):\n  if name.partition('.')[0] in LOST: return None\n"
    hidden += "  return PathFinder.find_spec(name, *_)\n"
    hide = (
        "import sys; from importlib.machinery import PathFinder\n"
        "LOST = {'brotli', 'zstandard', 'backports', '_zstd', 'compression'}\n"
        f"{hidden}sys.meta_path[sys.meta_path.index(PathFinder)] = Without()\n"
    )
    start = f"import sys; sys.path[:0] = {sys.path!r}\n"
    subprocess.run([sys.executable, "-c", start + hide + code], check=True)
    loads_none = (
        "import sys; from authsome.proxy import codings\n"
        "assert codings.is_known(b'br') and codings.is_known(b'zstd')\n"
        "assert not {'brotli', 'zstandard', 'backports.zstd', 'compression.zstd'} & sys.modules.keys()\n"
        "assert codings.decoder(b'br') and 'brotli' in sys.modules and codings.decoder(b'zstd')\n"
    )
    subprocess.run([sys.executable, "-c", start + loads_none], check=True)


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_library_that_does_not_load_is_none(coding: str, tmp_path):
    """Made for another platform, for example: what comes in its coding is refused."""
    # SEC-163
    for name in ("brotli.py", "zstandard.py", "backports/zstd.py", "_zstd.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise ImportError('wrong ELF class')\n")
    code = (
        f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\n"
        "from authsome.proxy import codings\n"
        f"assert codings.is_known({coding.encode()!r})\n"
        f"assert codings.decoder({coding.encode()!r}) is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_empty_body_has_no_coding():
    """Nothing is a whole answer, whatever it says."""
    filter_ = scrub.answer(
        ((b"Content-Encoding", b"gzip"),), NEEDLES, status=200, accepted=frozenset({b"gzip"}), has_body=True
    )[1]
    assert through(filter_, b"", []) == b""


@pytest.mark.parametrize(
    ("coding", "status", "has_body"),
    [
        ("compress", 200, True),
        ("dcb", 200, True),
        ("br", 206, True),
        ("gzip, br", 200, True),
        ("gzip, gzip", 200, True),
        ("gzip", 206, True),
    ],
)
def test_what_cannot_be_looked_through_is_refused(coding, status, has_body):
    """With the way out in its hint."""
    # SEC-163
    with pytest.raises(EndpointUnreachable) as refused:
        scrub.answer(
            ((b"Content-Encoding", coding.encode()),), NEEDLES, status=status, accepted=frozenset(), has_body=has_body
        )
    assert '"scrub": "off"' in str(refused.value.hint)


@pytest.mark.parametrize("coding", ["br", "gzip", "identity", ""])
def test_a_head_alone_keeps_what_it_tells(coding: str):
    """The answer to HEAD tells of a body that does not come."""
    # SEC-177
    fields = ((b"Content-Encoding", coding.encode()), (b"Content-Length", b"7"))
    assert scrub.answer(fields, NEEDLES, status=200, accepted=frozenset(), has_body=False)[0] == fields


def test_headers_are_looked_through():
    """Names and values, in every spelling."""
    # SEC-163
    fields = tuple((f"X-{number}".encode(), text.encode()) for number, text in enumerate(SPELLINGS.values()))
    found, _ = scrub.answer(fields, NEEDLES, status=200, accepted=frozenset(), has_body=True)
    assert [name for name, _ in found] == [name for name, _ in fields]
    assert all(len(new) == len(old) and new != old for (_, new), (_, old) in zip(found, fields, strict=True))
    assert not NEEDLES.are_in(b"\n".join(value for _, value in found))


# ---- what is asked for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "asked", "accepted"),
    [
        ("gzip, deflate", "gzip, deflate", {"gzip", "deflate"}),
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd", {"gzip", "deflate", "br", "zstd"}),
        ("gzip, compress, dcb, zstd", "gzip, zstd", {"gzip", "zstd"}),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "br;q=1.0, gzip;q=0.8", {"br", "gzip"}),
        ("BR, GZIP, DCZ", "BR, GZIP", {"br", "gzip"}),
        ("dcz", "identity", set()),
        ("br;q=0, zstd", "br;q=0, zstd", {"zstd"}),
        ("*", "identity", set()),
        ("", "identity", set()),
        ("identity", "identity", set()),
        ("gzip;q=0, identity", "gzip;q=0, identity", set()),
        ("gzip; q=0.000", "gzip; q=0.000", set()),
        ("gzip;q=0.5", "gzip;q=0.5", {"gzip"}),
        ("x-gzip", "x-gzip", {"x-gzip"}),
    ],
)
def test_only_what_can_be_undone_is_asked_for(sent: str, asked: str, accepted: set[str]):
    """And what the child wrote stays as it is where that is all of it."""
    # SEC-163
    fields, found = scrub.narrowed(((b"Accept", b"*/*"), (b"accept-encoding", sent.encode())))
    assert fields == ((b"Accept", b"*/*"), (b"accept-encoding", asked.encode()))
    assert {each.decode() for each in found} == accepted


def test_single_messages_come_uncompressed():
    """Those of gRPC and Connect: they are asked for as they are, and refused if they come otherwise."""
    # SEC-163
    fields, _ = scrub.narrowed(((b"grpc-accept-encoding", b"identity, deflate, gzip"), (b"te", b"trailers")))
    assert fields == ((b"grpc-accept-encoding", b"identity"), (b"te", b"trailers"))
    plain = ((b"grpc-encoding", b"identity"),)
    needles = scrub.Needles([Secret("secret-0123456789")])
    assert scrub.answer(plain, needles, status=200, accepted=frozenset(), has_body=True)[0] == plain
    for coded in (b"grpc-encoding", b"connect-content-encoding"):
        with pytest.raises(EndpointUnreachable):
            scrub.answer(((coded, b"gzip"),), needles, status=200, accepted=frozenset({b"gzip"}), has_body=True)


def test_no_coding_is_asked_for_in_the_childs_stead():
    """Without Accept-Encoding none is added; for a range none is asked for; no WebSocket is compressed."""
    assert scrub.narrowed(((b"Accept", b"*/*"),)) == (((b"Accept", b"*/*"),), frozenset())
    fields = ((b"Range", b"bytes=0-1"), (b"Accept-Encoding", b"gzip"))
    assert scrub.narrowed(fields) == ((fields[0], (b"Accept-Encoding", b"identity")), frozenset())
    offer = (b"Sec-WebSocket-Extensions", b"permessage-deflate")
    assert scrub.narrowed((offer, (b"Upgrade", b"websocket"))) == (((b"Upgrade", b"websocket"),), frozenset())
