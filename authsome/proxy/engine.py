"""What the engines have in common: whom they serve, the port they serve on, and the TLS contexts that they keep."""

import logging
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from authsome.proxy.tenancy import Tenants

log = logging.getLogger(__name__)

BACKLOG: Final = 512
_CONTEXTS: Final = 256  # of a side: one that is needed again after so many others is made anew
_RESPITE_SECONDS: Final = 0.05

Key = TypeVar("Key", bound=Hashable)
Context_co = TypeVar("Context_co", covariant=True)


class Contexts(Generic[Key, Context_co]):
    """The TLS contexts that were made last, by what each is for."""

    def __init__(self, make: Callable[[Key], Context_co]) -> None:
        self._make = make
        self._made: OrderedDict[Key, Context_co] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Context_co:
        """The context for a key, made when there is none; from any thread."""
        with self._lock:
            context = self._made.get(key)
            if context is None:
                context = self._made[key] = self._make(key)
                if len(self._made) > _CONTEXTS:
                    self._made.popitem(last=False)
            return context


class Engine(ABC):
    """Serves the children of all tenants on one port."""

    def __init__(self, tenants: Tenants) -> None:
        self.tenants = tenants

    def listen(self, listener: socket.socket | None = None) -> int:
        """Serve on a socket that listens already, or on a free port of 127.0.0.1; returns the port."""
        if listener is None:
            listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        port: int = listener.getsockname()[1]
        self.tenants.reserve(port)
        threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True).start()
        return port

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                time.sleep(_RESPITE_SECONDS)  # out of descriptors, until some connection ends
                continue
            try:
                self._meet(connection)
            except Exception:  # the next one is to be met all the same
                log.exception("a connection could not be met")
                connection.close()

    @abstractmethod
    def _meet(self, connection: socket.socket) -> None:
        """Begin to serve a connection, in the background."""
