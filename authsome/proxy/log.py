"""The worker's log: private, bounded, and without anything that passes through the proxy.

Rule: an exception is logged by its kind and where it came from, never by its text: a parser's error quotes its input.
"""

import logging
import os
import traceback
from typing import Final

from authsome.home import Home, open_private

_LIMIT: Final = 1024 * 1024
_OURS: Final = "authsome"


class PrivateLog(logging.Handler):
    """Appends to `proxy/proxy.log`, which starts again from nothing when it has grown to `_LIMIT`."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.setFormatter(_Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or a line and where an exception came from."""
        try:
            line = self.format(record).encode("utf-8", "replace") + b"\n"
            if os.fstat(self._descriptor).st_size > _LIMIT:
                os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, line)
        except OSError:
            pass  # a full disk must not stop the proxy

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        super().close()


class _Formatter(logging.Formatter):
    def formatException(self, ei: object) -> str:  # noqa: N802  # logging's name
        if not isinstance(ei, tuple) or ei[1] is None:
            return ""
        frames = traceback.extract_tb(ei[2])
        places = [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return "\n".join((*places, f"  {type(ei[1]).__name__}"))


def install(home: Home) -> PrivateLog:
    """Send our own log there, and everybody else's nowhere.

    Raises:
        UnsafeFile: the file is not private.
    """
    handler = PrivateLog(open_private(home.proxy / "proxy.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    root = logging.getLogger()
    root.handlers = [logging.NullHandler()]
    ours = logging.getLogger(_OURS)
    ours.handlers = [handler]
    ours.propagate = False
    ours.setLevel(logging.INFO)
    return handler
