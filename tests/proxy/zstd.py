"""Zstandard as a server packs it, with whichever library this Python has for it."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd as _library
elif sys.version_info >= (3, 12):
    from backports import zstd as _library
else:
    import zstandard as _library


class Packer:
    """Packs what comes in pieces."""

    def __init__(self, window: int = 1 << 20) -> None:
        bits = window.bit_length() - 1
        if sys.version_info >= (3, 12):
            options = {_library.CompressionParameter.window_log: bits}
            self._packer = _library.ZstdCompressor(options=options)
            self._block = _library.ZstdCompressor.FLUSH_BLOCK
            self._frame = _library.ZstdCompressor.FLUSH_FRAME
        else:
            parameters = _library.ZstdCompressionParameters.from_level(3, window_log=bits)
            self._packer = _library.ZstdCompressor(compression_params=parameters).compressobj()
            self._block = _library.COMPRESSOBJ_FLUSH_BLOCK
            self._frame = _library.COMPRESSOBJ_FLUSH_FINISH

    def process(self, data: bytes) -> bytes:
        """What is ready."""
        return bytes(self._packer.compress(data))

    def flush(self) -> bytes:
        """The rest of what has come, to be read now."""
        return bytes(self._packer.flush(self._block))

    def finish(self) -> bytes:
        """The end."""
        return bytes(self._packer.flush(self._frame))


def compress(data: bytes) -> bytes:
    """A whole frame."""
    packer = Packer()
    return packer.process(data) + packer.finish()


def with_window(data: bytes, size: int) -> bytes:
    """A frame whose decoding asks for this much memory."""
    packer = Packer(size)
    return packer.process(data) + packer.flush() + packer.finish()
