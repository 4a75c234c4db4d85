"""Content codings undone (RFC 9110 §8.4): gzip, deflate, Brotli (RFC 7932), Zstandard (RFC 8878).

Rule 1: a bomb does not fill the memory. What is decoded comes in blocks, one when it is asked for: some bytes of Brotli
or Zstandard are gigabytes.
Rule 2: what breaks off, or is not coded as it says, is an error and never a whole body.
Rule 3: the libraries of Brotli and Zstandard are loaded when the first such body comes. Where there are none, as in the
built archive, these two codings are unknown; a stub (`stubs.py`) is none.
"""

import sys
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Protocol

from authsome.errors import EndpointUnreachable

_BLOCK: Final = 64 * 1024  # of decoded bytes at a time
_WINDOW: Final = 8 * 1024 * 1024  # bytes; what a content coding may ask for at most (RFC 9659 §3)
_GZIP: Final = frozenset({b"gzip", b"x-gzip"})
PROMPT: Final = _GZIP | {b"deflate"}
"""Of these a byte is decoded when it has come, not with the rest of its block: who has the bytes has nothing unseen."""
_LIBRARIES: Final = {
    b"br": "brotli",
    b"zstd": "_zstd"  # what a Python built without it lacks of compression.zstd
    if sys.version_info >= (3, 14)
    else "backports.zstd"
    if sys.version_info >= (3, 12)
    else "zstandard",
}
_GZIP_MAGIC: Final = b"\x1f\x8b"


class Decoder(Protocol):
    """Undoes the coding of one body."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is in it, in blocks; to be had to the end before more is fed.

        Raises:
            EndpointUnreachable: it is not coded as it says.
        """

    def finish(self) -> None:
        """The body has ended.

        Raises:
            EndpointUnreachable: in the middle of its coding.
        """


def is_known(coding: bytes) -> bool:
    """Whether a coding, in small letters, can be undone here; loads nothing."""
    return coding in PROMPT or (coding in _LIBRARIES and _is_installed(_LIBRARIES[coding]))


def decoder(coding: bytes) -> Decoder | None:
    """What undoes a coding; None: nothing here does."""
    if not is_known(coding):
        return None
    if coding in PROMPT:
        return _Zlib(coding)
    try:
        return _Brotli() if coding == b"br" else _Zstandard()
    except ImportError:  # made for another platform, or half of it
        return None


@cache  # some 100 µs, for what does not change while a process lives
def _is_installed(name: str) -> bool:
    from importlib.util import find_spec  # noqa: PLC0415  # only here

    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a stub comes from nowhere


def _not_as_it_says() -> EndpointUnreachable:
    return EndpointUnreachable("the answer is not compressed as it says")


def _check_whole(is_whole: bool) -> None:  # noqa: FBT001  # what it checks
    if not is_whole:
        raise EndpointUnreachable("the answer ends in the middle of its compressed data")


class _Zlib:
    """Undoes gzip (RFC 1952, several members too) or deflate, with zlib's header (RFC 1950) or, as some do, without."""

    def __init__(self, coding: bytes) -> None:
        self._is_gzip = coding in _GZIP
        self._decompressor = zlib.decompressobj(31) if self._is_gzip else None
        self._first = b""
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Decoder`."""
        self._has_begun = self._has_begun or bool(data)
        if self._decompressor is None:
            data, self._first = self._first + data, b""
            if len(data) < 2:
                self._first = data
                return
            has_header = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._decompressor = zlib.decompressobj(15 if has_header else -15)
        try:
            yield from self._blocks(data)
        except zlib.error as error:
            raise _not_as_it_says() from error

    def _blocks(self, data: bytes) -> Iterator[bytes]:
        assert self._decompressor is not None
        while data:
            if self._decompressor.eof:
                if not self._is_gzip or not _GZIP_MAGIC.startswith(data[:2]):
                    return  # padding
                self._decompressor = zlib.decompressobj(31)
            block = self._decompressor.decompress(data, _BLOCK)
            if block:
                yield block
            data = self._decompressor.unconsumed_tail or self._decompressor.unused_data
            if not data and len(block) == _BLOCK:
                yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        """What the decompressor has taken in and not given out yet."""
        assert self._decompressor is not None
        while block := self._decompressor.decompress(b"", _BLOCK):
            yield block

    def finish(self) -> None:
        """See `Decoder`."""
        _check_whole(not self._has_begun or (self._decompressor is not None and self._decompressor.eof))


class _Brotli:
    """Undoes Brotli, whose window has at most 16 MiB by itself; a body is one stream, and nothing follows it."""

    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]  # noqa: PLC0415  # rule 3

        self._error = brotli.error
        self._decompressor = brotli.Decompressor()
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Decoder`."""
        self._has_begun = self._has_begun or bool(data)
        block = b""
        while data or block or not self._decompressor.can_accept_more_data():
            try:
                block = self._decompressor.process(data, output_buffer_limit=_BLOCK)
            except self._error as error:
                raise _not_as_it_says() from error
            data = b""
            if block:
                yield block

    def finish(self) -> None:
        """See `Decoder`."""
        _check_whole(not self._has_begun or self._decompressor.is_finished())


if sys.version_info < (3, 12):

    class _Zstandard:
        """Undoes Zstandard, several frames too."""

        _STEP: Final = 64
        """Bytes at a time: its library has no bound for what comes out, and four bytes are a block of up to 128 KiB."""

        def __init__(self) -> None:
            import zstandard  # noqa: PLC0415  # rule 3

            self._error = zstandard.ZstdError
            self._library = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
            self._frame: Any = None

        def feed(self, data: bytes) -> Iterator[bytes]:
            """See `Decoder`."""
            for at in range(0, len(data), self._STEP):
                rest = data[at : at + self._STEP]
                while rest:
                    if self._frame is None or self._frame.eof:
                        self._frame = self._library.decompressobj()
                    try:
                        found = self._frame.decompress(rest)
                    except self._error as error:
                        raise _not_as_it_says() from error
                    rest = self._frame.unused_data
                    for start in range(0, len(found), _BLOCK):
                        yield found[start : start + _BLOCK]

        def finish(self) -> None:
            """See `Decoder`."""
            _check_whole(self._frame is None or self._frame.eof)

else:

    class _Zstandard:
        """Undoes Zstandard, several frames too."""

        def __init__(self) -> None:
            if sys.version_info >= (3, 14):
                from compression import zstd  # noqa: PLC0415  # rule 3
            else:
                from backports import zstd  # noqa: PLC0415  # rule 3

            self._library = zstd
            self._options = {zstd.DecompressionParameter.window_log_max: _WINDOW.bit_length() - 1}
            self._frame: Any = None

        def feed(self, data: bytes) -> Iterator[bytes]:
            """See `Decoder`."""
            while data or (self._frame is not None and not self._frame.eof and not self._frame.needs_input):
                if self._frame is None or self._frame.eof:
                    self._frame = self._library.ZstdDecompressor(options=self._options)
                try:
                    block = self._frame.decompress(data, _BLOCK)
                except self._library.ZstdError as error:
                    raise _not_as_it_says() from error
                data = self._frame.unused_data if self._frame.eof else b""
                if block:
                    yield block

        def finish(self) -> None:
            """See `Decoder`."""
            _check_whole(self._frame is None or self._frame.eof)
