"""Answers without the secret: whatever an API sends back of a credential is replaced on its way to the child.

Rule 1: what takes a secret's place has the secret's length. So no length, no range and no chunk changes, and an answer
without a secret is the same to the byte.
Rule 2: only what may be the beginning of a secret is held back, so that an event is passed on when it comes.
Rule 3: what cannot be read cannot be scanned. A coding that we cannot undo is not asked for, and not passed on.
"""

import base64
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Protocol
from urllib.parse import quote, quote_plus

from authsome.errors import EndpointUnreachable
from authsome.message import clean_line
from authsome.proxy import codings, digests
from authsome.proxy.codings import Decoder
from authsome.proxy.frames import Frames, Messages, websocket_head
from authsome.proxy.inject import Fields
from authsome.secret import Secret

SHORTEST: Final = 8  # bytes; whatever is shorter stands in ordinary text by chance
_FILLER: Final = b"authsome-placeholder-"  # of characters that mean nothing in JSON, a URL, a header or HTML
_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")


class Needles:
    """Every spelling of some secrets that is looked for, and what takes its place."""

    def __init__(self, secrets: Iterable[Secret[str]], values: Iterable[Secret[str]] = ()) -> None:
        """Take the secrets as they are, and the headers' values that were made of them."""
        plain = [each.reveal() for each in secrets]
        found: dict[bytes, bytes] = {}
        for text in plain:
            found.update(_spellings(text))
        for value in values:
            found.update(_basic_pair(value.reveal(), plain))
        found = {needle: mask for needle, mask in found.items() if len(needle) >= SHORTEST}
        ordered = sorted(found, key=len, reverse=True)
        self._masks = found
        self._pattern = re.compile(b"|".join(re.escape(needle) for needle in ordered))
        self._needles = tuple(ordered)

    def __bool__(self) -> bool:
        return bool(self._needles)

    def are_in(self, data: bytes) -> bool:
        """Whether any of them is there; much faster than a pattern."""
        for needle in self._needles:  # noqa: SIM110  # twice as fast as any(), and done for everything that passes
            if needle in data:
                return True
        return False

    def replaced(self, data: bytes) -> bytes:
        """A whole text without them."""
        return self._pattern.sub(self._mask, data) if self.are_in(data) else data

    def replaced_fields(self, fields: Fields) -> Fields:
        """Header fields without them."""
        if not self.are_in(b"\n".join([part for pair in fields for part in pair])):
            return fields
        return tuple((self.replaced(name), self.replaced(value)) for name, value in fields)

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """What can be passed on, without them, and the end that more bytes may make one of them."""
        held = self._first_beginning(data, 0)
        if not self.are_in(data):
            return (data, b"") if held == len(data) else (data[:held], data[held:])
        done, at = [], 0
        # A match before `held` is final: a longer one at its place would have to be held itself.
        while (match := self._pattern.search(data, at)) and match.start() < held:
            done += [data[at : match.start()], self._mask(match)]
            at = match.end()
            if at > held:
                held = self._first_beginning(data, at)
        done.append(data[at:held])
        return b"".join(done), data[held:]

    def _mask(self, match: re.Match[bytes]) -> bytes:
        return self._masks[match[0]]

    def _first_beginning(self, data: bytes, start: int) -> int:
        """Where the longest end of the data lies that one of them begins with but is longer than."""
        first = len(data)
        for needle in self._needles:
            at = max(start, len(data) - len(needle) + 1)
            while (at := data.find(needle[:1], at, first)) >= 0:
                if needle.startswith(data[at:]):
                    first = at
                    break
                at += 1
        return first


def _filler(length: int) -> bytes:
    return (_FILLER * (length // len(_FILLER) + 1))[:length]


def _spellings(text: str) -> Iterator[tuple[bytes, bytes]]:
    """The forms in which servers send a text back, each with a form of the same length that says nothing."""
    plain = text.encode("utf-8", "surrogatepass")
    if len(plain) < SHORTEST:
        return
    escaped = json.dumps(text)[1:-1]
    written = {text, escaped, json.dumps(text, ensure_ascii=False)[1:-1], escaped.replace("/", "\\/")}
    for encoded in (
        quote(text, safe=""),
        quote(text),
        quote(text, safe="!'()*"),
        quote(text, safe=":"),
        quote_plus(text),
    ):
        written |= {encoded, _PERCENT.sub(lambda part: part[0].lower(), encoded)}
    for each in written:
        needle = each.encode("utf-8", "surrogatepass")
        yield needle, _filler(len(needle))
    yield from zip(_base64_forms(plain), _base64_forms(_filler(len(plain))), strict=True)


def _base64_forms(plain: bytes) -> Iterator[bytes]:
    """What is in the Base64 (RFC 4648 §4, §5) of any text around it, by where in three bytes it begins.

    The characters at both ends that also depend on its neighbours are left out.
    """
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + plain)
        own = whole[(offset * 8 + 5) // 6 : (offset + len(plain)) * 8 // 6]
        yield own
        yield own.translate(_URL_SAFE)


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _basic_pair(value: str, plain: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
    """The Base64 of a Basic credential (RFC 7617), for which its password may be too short by itself."""
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        pair = base64.b64decode(encoded, validate=True)
    except ValueError:
        return  # a definition's own idea of Basic; the secret in it is looked for by itself
    masked = pair
    for text in plain:
        secret = text.encode()
        masked = masked.replace(secret, _filler(len(secret))) if secret else masked
    yield from zip(_whole_base64(pair), _whole_base64(masked), strict=True)


def _whole_base64(data: bytes) -> tuple[bytes, bytes]:
    encoded = base64.b64encode(data).rstrip(b"=")
    return encoded, encoded.translate(_URL_SAFE)


_MOST_WAITING: Final = 1024 * 1024  # bytes; a few of content decide about them, and empty blocks could go on for ever
_PORTION: Final = 256 * 1024  # bytes of decoded ones that an engine is given at a time


class Filter(Protocol):
    """What a body's content goes through."""

    @property
    def has_more(self) -> bool:
        """Whether what was fed has more in it than was had: nothing is to be fed until then, but for empty bytes."""

    def feed(self, data: bytes) -> bytes:
        """What of it can be passed on now."""

    @property
    def has_changed(self) -> bool:
        """Whether what was had is not, to the byte, what was fed."""

    def finish(self) -> bytes:
        """The rest, at the end of the body."""


class Scrubber:
    """Replaces secrets in a stream."""

    has_more: Final = False

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._held = b""
        self.has_changed = False

    def feed(self, data: bytes) -> bytes:
        """See `Filter`."""
        whole = self._held + data if self._held else data
        done, self._held = self._needles.split(whole)
        self.has_changed = self.has_changed or not whole.startswith(done)
        return done

    def finish(self) -> bytes:
        """See `Filter`."""
        held, self._held = self._held, b""
        done = self._needles.replaced(held)
        self.has_changed = self.has_changed or done != held
        return done


class Decoded:
    """Undoes a content coding, and replaces secrets in what was in it; the body goes on without the coding."""

    has_changed: Final = True

    def __init__(self, decoder: Decoder, needles: Needles) -> None:
        self._decoder = decoder
        self._scrubber = Scrubber(needles)
        self._blocks: Iterator[bytes] | None = None
        """What is still to be decoded of what was fed."""

    @property
    def has_more(self) -> bool:
        """See `Filter`."""
        return self._blocks is not None

    def feed(self, data: bytes) -> bytes:
        """See `Filter`.

        Raises:
            EndpointUnreachable: it is not coded as it says.
        """
        assert not (data and self.has_more)
        blocks = self._blocks or self._decoder.feed(data)
        self._blocks = None
        found: list[bytes] = []
        left = _PORTION
        for block in blocks:
            found.append(self._scrubber.feed(block))
            left -= len(block)
            if left <= 0:
                self._blocks = blocks
                break
        return b"".join(found)

    def finish(self) -> bytes:
        """See `Filter`."""
        self._decoder.finish()
        return self._scrubber.finish()


class Watched:
    """Passes a coding on untouched that the child did not ask for and may want to keep, and ends it at a secret."""

    has_more: Final = False
    has_changed: Final = False

    def __init__(self, decoder: Decoder, needles: Needles) -> None:
        self._decoder = decoder
        self._needles = needles
        self._tail = b""
        """Decoded bytes that may be the beginning of a secret."""
        self._decoded = 0
        self._waiting: deque[tuple[bytes, int]] = deque()
        """What has come, and how many bytes were decoded with it."""
        self._size = 0
        """Of what waits."""

    def feed(self, data: bytes) -> bytes:
        """See `Filter`.

        Raises:
            EndpointUnreachable: there is a secret in it, it is not coded as it says, or goes on and on without a byte.
        """
        for block in self._decoder.feed(data):
            text = self._tail + block
            if self._needles.are_in(text):
                raise EndpointUnreachable("the answer holds the credential, in a coding that was not asked for")
            self._decoded += len(block)
            self._tail = self._needles.split(text)[1]
        self._waiting.append((data, self._decoded))
        safe = self._decoded - len(self._tail)
        ready: list[bytes] = []
        while self._waiting and self._waiting[0][1] <= safe:
            ready.append(self._waiting.popleft()[0])
        self._size += len(data) - sum(map(len, ready))
        if self._size > _MOST_WAITING:
            raise EndpointUnreachable(
                "the answer goes on without a byte of content, in a coding that was not asked for"
            )
        return b"".join(ready)

    def finish(self) -> bytes:
        """See `Filter`."""
        self._decoder.finish()
        return b"".join(piece for piece, _ in self._waiting)


def narrowed(fields: Fields) -> tuple[Fields, frozenset[bytes]]:
    """A request's fields without what would make its answer unreadable for us, and the codings it then asks for.

    A part of a coded body cannot be decoded: with a Range (RFC 9110 §14.2) none is asked for. A WebSocket's messages
    come uncompressed, too (RFC 7692 is an extension, and an extension is an offer), and so do gRPC's.
    """
    names = {name.lower() for name, _ in fields}
    is_part = b"range" in names
    accepted: set[bytes] = set()
    found: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name.lower() == b"sec-websocket-extensions":
            continue
        if name.lower() in _MESSAGES_ACCEPTED:
            value = b"identity"  # noqa: PLW2901
        if name.lower() == b"accept-encoding":
            kept = [] if is_part else [each for each in value.split(b",") if _is_read(_coding(each))]
            accepted.update(_coding(each) for each in kept if not _REFUSED.search(each))
            value = value if len(kept) == value.count(b",") + 1 else b",".join(kept).strip() or b"identity"  # noqa: PLW2901
        found.append((name, value))
    return tuple(found), frozenset(accepted - {b"identity"})


_MESSAGES_ACCEPTED: Final = frozenset({b"grpc-accept-encoding", b"connect-accept-encoding"})
MESSAGES_CODED: Final = frozenset({b"grpc-encoding", b"connect-content-encoding"})
"""Of single messages in a body, by gRPC and its relative Connect."""


def _is_read(coding: bytes) -> bool:
    return coding == b"identity" or codings.is_known(coding)


_REFUSED: Final = re.compile(rb";[ \t]*[qQ]=0(?:\.0*)?[ \t]*\Z")


def _coding(entry: bytes) -> bytes:
    return entry.partition(b";")[0].strip().lower()


def answer(
    fields: Fields, needles: Needles, *, status: int, accepted: frozenset[bytes], has_body: bool
) -> tuple[Fields, Filter]:
    """A response's fields without secrets, and what its body goes through.

    Args:
        fields: as they came.
        needles: what is looked for.
        status: the response's.
        accepted: the codings that the request asked for (`narrowed`).
        has_body: whether one follows; a HEAD's fields tell of one that does not.

    Raises:
        EndpointUnreachable: the body is coded in a way that cannot be undone.
    """
    fields = needles.replaced_fields(fields)
    named = [
        _coding(each) for name, value in fields if name.lower() == b"content-encoding" for each in value.split(b",")
    ]
    named = [each for each in named if each not in {b"", b"identity"}]
    of_messages = [_coding(value) for name, value in fields if name.lower() in MESSAGES_CODED]
    of_messages = [each for each in of_messages if each not in {b"", b"identity"}]
    if has_body and not named and has_messages(fields):
        return _messages(fields, of_messages, needles)
    if not (named or of_messages) or not has_body:
        return fields, Scrubber(needles)
    is_asked_for = bool(named) and named[0] in accepted
    is_single = len(named) == 1 and not of_messages and status != _PARTIAL
    decoder = codings.decoder(named[0]) if is_single and (is_asked_for or named[0] in codings.PROMPT) else None
    if decoder is None:
        raise _unreadable([*named, *of_messages])
    if not is_asked_for:
        return fields, Watched(decoder, needles)
    gone = {b"content-encoding", b"content-length"}
    fields = digests.without(tuple(each for each in fields if each[0].lower() not in gone))
    return fields, Decoded(decoder, needles)


_PARTIAL: Final = 206
_MESSAGES: Final = re.compile(rb"application/(?:grpc(?!-web-text)|connect\+)")


def has_messages(fields: Fields) -> bool:
    """Whether the body is one message of gRPC's after the other, each with a head of its own."""
    return any(name.lower() == b"content-type" and _MESSAGES.match(value.strip().lower()) for name, value in fields)


def _messages(fields: Fields, coded: list[bytes], needles: Needles) -> tuple[Fields, Filter]:
    """The fields of an answer that consists of messages, and what these go through; `coded`: how some are compressed.

    Some servers compress them whatever was asked for, and whoever is answered cannot be counted on to undo it.
    """
    if not coded:
        return fields, Messages(Scrubber(needles), None)
    if len(coded) > 1 or codings.decoder(coded[0]) is None:
        raise _unreadable(coded)
    gone = {*MESSAGES_CODED, b"content-length"}
    fields = digests.without(tuple(each for each in fields if each[0].lower() not in gone))
    return fields, Messages(Scrubber(needles), lambda: _decoder(coded[0]))


def _decoder(coding: bytes) -> Decoder:
    found = codings.decoder(coding)
    assert found is not None
    return found


def _unreadable(named: Iterable[bytes]) -> EndpointUnreachable:
    names = clean_line(b", ".join(named).decode("latin-1"), 80)
    return EndpointUnreachable(
        f"the server compressed its answer in a way that was not asked for ({names}), so that it cannot be looked"
        " through for the credential",
        hint='"scrub": "off" in the provider\'s definition lets it pass unread: authsome register FILE --force',
    )


def upgraded(protocol: bytes | None, needles: Needles) -> Filter:
    """What the server's bytes go through behind a 101, in the protocol that was asked for."""
    is_websocket = protocol is not None and protocol.strip().lower() == b"websocket"
    return Frames(websocket_head, Scrubber(needles)) if is_websocket else Scrubber(needles)
