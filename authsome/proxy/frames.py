"""Streams of messages in frames: a WebSocket's (RFC 6455 §5.2), and those of gRPC and its relatives.

A filter holds back what may be the beginning of a secret. At the end of a frame it need not: what comes next is the
head of another one, so no secret goes on there. And whoever waits for the message before it answers has all of it.

Rule: what is no frame although it should be is looked through as a stream without any.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from authsome.errors import EndpointUnreachable

if TYPE_CHECKING:
    from authsome.proxy.codings import Decoder
    from authsome.proxy.scrub import Filter

LARGEST_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of a compressed message, as it comes and undone; those who send larger ones do not compress them unasked."""
_LONGEST_HEAD: Final = 14  # a WebSocket's
_EXTENDED: Final = {126: 2, 127: 8}  # bytes of a WebSocket's length that is not in the second byte itself
_MESSAGE_HEAD: Final = 5  # gRPC's: flags, and a length
_COMPRESSED: Final = 1
_FLAGS: Final = frozenset({0, 1, 2, 3, 128, 129})
"""With Connect's for the last one, and gRPC-Web's for its trailers."""


def websocket_head(data: bytes) -> tuple[int, int] | None:
    """How long the head of a WebSocket's frame is, and the content behind it; None: that has not come yet."""
    if len(data) < 2:
        return None
    length = data[1] & 127
    size = 2 + _EXTENDED.get(length, 0)
    if size > 2:
        length = int.from_bytes(data[2:size], "big")
    size += 4 if data[1] & 128 else 0  # a mask, which no server has
    return (size, length) if len(data) >= size else None


def message_head(data: bytes) -> tuple[int, int] | None:
    """The same for a message of gRPC."""
    return (_MESSAGE_HEAD, int.from_bytes(data[1:_MESSAGE_HEAD], "big")) if len(data) >= _MESSAGE_HEAD else None


class Frames:
    """The contents of frames go through a filter, each to its end; see `scrub.Filter`."""

    has_more: Final = False

    def __init__(self, head: Callable[[bytes], tuple[int, int] | None], through: "Filter") -> None:
        """Take what reads heads, and the filter."""
        self._head_of = head
        self._through = through
        self._rest = b""
        """Of a head that has not come to its end."""
        self._left = 0
        """Of the content at hand."""

    @property
    def has_changed(self) -> bool:
        """See `Filter`."""
        return self._through.has_changed

    def feed(self, data: bytes) -> bytes:
        """See `Filter`."""
        data, self._rest = self._rest + data, b""
        found: list[bytes] = []
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                found.append(self._content(piece))
                at += len(piece)
                continue
            head = self._head_of(data[at : at + _LONGEST_HEAD])
            if head is None:
                self._rest = data[at:]
                break
            size, self._left = head
            found.append(self._begin(data[at : at + size]))
            at += size
        return b"".join(found)

    def _begin(self, head: bytes) -> bytes:
        return head

    def _content(self, piece: bytes) -> bytes:
        done = self._through.feed(piece)
        return done if self._left else done + self._through.finish()

    def finish(self) -> bytes:
        """See `Filter`."""
        rest, self._rest = self._rest, b""
        return rest + self._through.finish()


class Messages(Frames):
    """Messages of gRPC: one that is compressed is undone, and goes on without that."""

    def __init__(self, through: "Filter", decoder: "Callable[[], Decoder] | None") -> None:
        """Take the filter, and what makes the decoder of a message; None: none of them is compressed."""
        super().__init__(message_head, through)
        self._decoder = decoder
        self._flags = 0
        self._packed: list[bytes] | None = None
        """What has come of a compressed message."""
        self._has_undone = False

    @property
    def has_changed(self) -> bool:
        """See `Filter`."""
        return self._has_undone or super().has_changed

    def _begin(self, head: bytes) -> bytes:
        if head[0] not in _FLAGS:  # whatever its type says, these are no messages
            self._left = sys.maxsize
            return self._through.feed(head)
        if not head[0] & _COMPRESSED:
            return head
        if self._decoder is None:
            raise EndpointUnreachable("a message is compressed, and the answer does not say how")
        if self._left > LARGEST_MESSAGE:
            raise _too_large()
        self._flags, self._packed, self._has_undone = head[0] & ~_COMPRESSED, [], True
        return b"" if self._left else self._undone()

    def _content(self, piece: bytes) -> bytes:
        if self._packed is None:
            return super()._content(piece)
        self._packed.append(piece)
        return b"" if self._left else self._undone()

    def _undone(self) -> bytes:
        """The message at hand, which has come whole."""
        assert self._decoder is not None
        assert self._packed is not None
        packed, self._packed = b"".join(self._packed), None
        decoder = self._decoder()
        blocks, size = [], 0
        for block in decoder.feed(packed):
            blocks.append(block)
            size += len(block)
            if size > LARGEST_MESSAGE:
                raise _too_large()
        decoder.finish()
        content = self._through.feed(b"".join(blocks)) + self._through.finish()
        return bytes([self._flags]) + len(content).to_bytes(_MESSAGE_HEAD - 1, "big") + content

    def finish(self) -> bytes:
        """See `Filter`.

        Raises:
            EndpointUnreachable: in the middle of a compressed message.
        """
        if self._packed is not None:
            raise EndpointUnreachable("the answer ends in the middle of a compressed message")
        return super().finish()


def _too_large() -> EndpointUnreachable:
    return EndpointUnreachable(f"a compressed message is larger than {LARGEST_MESSAGE >> 20} MiB")
