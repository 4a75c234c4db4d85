"""The daemon's door while its vault is being opened: that it lives is told at once, everything else waits.

Rule: nobody is turned away because he came early; and nobody is answered from behind the door before it is open.
"""

import threading
from collections.abc import Callable

from authsome import __version__
from authsome.daemon.messages import Request, Response, json_response
from authsome.errors import DaemonUnavailable, MethodNotAllowed

HEALTH = "/health"


def health(build: str, status: str = "ok") -> Response:
    """GET /health: what can be said without the vault."""
    return json_response({"status": status, "version": __version__, "build": build})


def health_asked(request: Request, build: str, status: str = "ok") -> Response:
    """The same for a request that came to it.

    Raises:
        MethodNotAllowed: it is no GET or HEAD.
    """
    if request.method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(allowed=("GET", "HEAD"))
    return health(build, status)


class Gate:
    """Handles the requests of a daemon that is starting, and passes them on once it has started."""

    def __init__(self, build: str, step_aside: Callable[[], None]) -> None:
        """Take the build that `health` names, and what a thread that is going to wait calls."""
        self._build = build
        self._step_aside = step_aside
        self._decided = threading.Event()
        self._inner: Callable[[Request], Response] | None = None
        self._porter: Callable[[Request], Response] | None = None

    def lock(self, porter: Callable[[Request], Response]) -> None:
        """Have somebody else answer for now: the vault cannot be opened without a passphrase."""
        self._porter = porter

    def unlock(self) -> None:
        """Let everybody wait again: the vault is being opened."""
        self._porter = None

    def open(self, inner: Callable[[Request], Response]) -> None:
        """Let everybody in."""
        self._inner = inner
        self._decided.set()

    def close(self) -> None:
        """Send away whoever still waits: the daemon could not start, or ends."""
        self._decided.set()

    def handle(self, request: Request) -> Response:
        """The answer to a request.

        Raises:
            AuthsomeError: what is to be answered as a problem.
        """
        if not self._decided.is_set():
            if (porter := self._porter) is not None:
                return porter(request)
            if request.path == HEALTH:
                return health_asked(request, self._build)
            self._step_aside()
            self._decided.wait()
        if self._inner is None:
            raise DaemonUnavailable("the daemon is stopping")
        return self._inner(request)
