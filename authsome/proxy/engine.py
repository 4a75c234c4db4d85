"""What the engines have in common: whom they serve, the port they serve on, and the TLS contexts that they keep."""

import socket
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from authsome.clock import Clock
from authsome.proxy.tenancy import Tenants

if TYPE_CHECKING:
    from authsome.proxy.exchange import Memory  # with the scrubbing, which a worker loads after it is there

BACKLOG: Final = 512
_CONTEXTS: Final = 256  # of a side: one that is needed again after so many others is made anew

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


class Engine(ABC, Generic[Context_co]):
    """Serves the children of all tenants on one port."""

    def __init__(
        self,
        tenants: Tenants,
        *,
        clock: Clock,
        memory: "Memory",
        to_children: Callable[[str], Context_co],
        to_servers: Callable[[Path], Context_co],
    ) -> None:
        """Take whom it serves, the scrubber's memory, and how the TLS contexts are made."""
        self.tenants = tenants
        self.clock = clock
        self.memory = memory
        self._to_children = Contexts(to_children)
        self._to_servers = Contexts(to_servers)

    def listen(self, listener: socket.socket | None = None) -> int:
        """Serve on a socket that listens already, or on a free port of 127.0.0.1; returns the port."""
        if listener is None:
            listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        port: int = listener.getsockname()[1]
        self.tenants.reserve(port)
        self._start(listener)
        return port

    @abstractmethod
    def _start(self, listener: socket.socket) -> None:
        """Begin to accept what comes, in the background."""

    def server_context(self, host: str) -> Context_co:
        """The TLS context that stands in for a host."""
        return self._to_children.get(host)

    def client_context(self, trust: Path) -> Context_co:
        """The TLS context that verifies servers against these roots."""
        return self._to_servers.get(trust)
