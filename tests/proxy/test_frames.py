"""What comes in frames is looked through, and at the end of a frame nothing is held back of it."""

import gzip
import itertools
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage

from authsome.errors import EndpointUnreachable
from authsome.proxy import codings, frames, scrub
from authsome.proxy.frames import Frames, Messages
from authsome.proxy.scrub import Filter, Needles, Scrubber
from authsome.secret import Secret

SECRET = "sk-real-4f1d0c9b7a6e5d3c2b1a"
NEEDLES = Needles([Secret(SECRET)])
CONTENTS = st.lists(
    st.sampled_from([b"", b"s", b"yes", b"sk-re", SECRET.encode(), b"a" * 130, b"b" * 70_000]), max_size=6
)
CUTS = st.lists(st.integers(0, 300), max_size=8)


def packed(content: bytes, *, flags: int = 0) -> bytes:
    """A message of gRPC's."""
    return struct.pack(">BL", flags, len(content)) + content


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The data, cut."""
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def through(filter_: Filter, data: bytes, cuts: Sequence[int]) -> bytes:
    """What is had before the end is known."""
    return b"".join(filter_.feed(piece) for piece in pieces(data, cuts))


@given(CONTENTS, CUTS)
def test_frames_of_a_websocket(contents: list[bytes], cuts: list[int]):
    """Each is whole when it has come, with the secret replaced, whatever pieces it came in."""
    # SEC-163 SEC-164
    server = Connection(ConnectionType.SERVER)
    data = b"".join(server.send(BytesMessage(content)) for content in contents)
    wanted = b"".join(
        Connection(ConnectionType.SERVER).send(BytesMessage(NEEDLES.replaced(content))) for content in contents
    )
    filter_ = Frames(frames.websocket_head, Scrubber(NEEDLES))
    assert through(filter_, data, cuts) == wanted
    assert filter_.finish() == b""
    assert filter_.has_changed is (data != wanted)


@given(CONTENTS, CUTS)
def test_messages(contents: list[bytes], cuts: list[int]):
    """Those of gRPC, likewise."""
    # SEC-163 SEC-164
    data = b"".join(packed(content) for content in contents)
    wanted = b"".join(packed(NEEDLES.replaced(content)) for content in contents)
    filter_ = Messages(Scrubber(NEEDLES), None)
    assert through(filter_, data, cuts) == wanted
    assert filter_.finish() == b""


@given(CONTENTS, st.lists(st.booleans(), min_size=6, max_size=6), CUTS)
def test_compressed_messages(contents: list[bytes], are_packed: list[bool], cuts: list[int]):
    """Each that says so is undone, the others stay; other flags stay with both."""
    # SEC-163
    told = list(zip(contents, are_packed, strict=False))
    data = b"".join(packed(gzip.compress(each), flags=3) if is_ else packed(each, flags=2) for each, is_ in told)
    wanted = b"".join(packed(NEEDLES.replaced(content), flags=2) for content in contents)
    filter_ = Messages(Scrubber(NEEDLES), gzip_decoder)
    assert through(filter_, data, cuts) == wanted
    assert filter_.finish() == b""


@given(CUTS)
def test_what_is_called_messages_and_is_none(cuts: list[int]):
    """It is looked through as it comes."""
    # SEC-163
    data = f"plain text with {SECRET} in it".encode()
    filter_ = Messages(Scrubber(NEEDLES), gzip_decoder)
    assert through(filter_, data, cuts) + filter_.finish() == NEEDLES.replaced(data)


def gzip_decoder() -> codings.Decoder:
    """What undoes gzip."""
    found = codings.decoder(b"gzip")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "data",
    [
        packed(b"no gzip", flags=1),
        packed(gzip.compress(b"x" * 1000)[:-9], flags=1),
        packed(gzip.compress(bytes(frames.LARGEST_MESSAGE + 1)), flags=1),
        struct.pack(">BL", 1, frames.LARGEST_MESSAGE + 1),
        packed(gzip.compress(b"x"), flags=1)[:-1],
    ],
    ids=["noise", "half", "a bomb", "too long", "not whole"],
)
def test_a_message_that_cannot_be_undone_is_none(data: bytes):
    """Noise, half of one, one that ends too soon, and one that would fill the memory."""
    # SEC-163
    filter_ = Messages(Scrubber(NEEDLES), gzip_decoder)
    with pytest.raises(EndpointUnreachable):
        filter_.feed(data) + filter_.finish()  # type: ignore[unused-ignore]


def test_a_compressed_message_of_an_answer_that_does_not_say_how():
    """It cannot be looked through."""
    with pytest.raises(EndpointUnreachable):
        Messages(Scrubber(NEEDLES), None).feed(packed(b"x", flags=1))


@pytest.mark.parametrize(
    ("kind", "coding"),
    [
        (b"application/grpc", b"grpc-encoding"),
        (b"application/grpc+proto", b"grpc-encoding"),
        (b"application/grpc-web+proto", b"grpc-encoding"),
        (b"application/connect+json; charset=utf-8", b"connect-content-encoding"),
    ],
)
def test_an_answer_of_messages(kind: bytes, coding: bytes):
    """Its fields say no more that messages are compressed, nor what was true of them so."""
    # SEC-163
    fields = ((b"Content-Type", kind), (coding, b"gzip"), (b"Content-Length", b"7"), (b"Digest", b"md5=x"))
    left, filter_ = scrub.answer(fields, NEEDLES, status=200, accepted=frozenset(), has_body=True)
    assert left == fields[:1]
    assert filter_.feed(packed(gzip.compress(SECRET.encode()), flags=1)) == packed(NEEDLES.replaced(SECRET.encode()))
    plain = fields[:1] + fields[2:]
    left, filter_ = scrub.answer(plain, NEEDLES, status=200, accepted=frozenset(), has_body=True)
    assert (left, filter_.feed(packed(b"yes"))) == (plain, packed(b"yes"))
    with pytest.raises(EndpointUnreachable, match=r"\(snappy\)"):
        scrub.answer(
            ((b"Content-Type", kind), (coding, b"snappy")), NEEDLES, status=200, accepted=frozenset(), has_body=True
        )
