"""One thread for all connections that wait, and a few for those that need one.

Most of a connection's life is waiting: for the next request, for its answer. That is done here, for all of them at
once, and what can be done at once when something comes is done here as well (`quick`). Whatever may take long leaves:
it gets a thread of its own, and comes back when it waits again.

Rule: nothing in the loop's thread blocks.
"""

import logging
import select
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Protocol

log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
_IDLE_SECONDS: Final = 10.0
"""How long a thread without work stays."""


class Waiting(Protocol):
    """Something that waits in the loop."""

    def descriptors(self) -> tuple[int, ...]:
        """What it waits for."""

    def step(self, descriptor: int) -> bool:
        """One of these has something to say; False: it needs a thread now. Does not block."""

    def go_on(self) -> None:
        """Go on in a thread, to the end or until it waits again."""

    def release(self) -> None:
        """End: there is nobody to go on."""


class Loop:
    """Waits for all that were put into it."""

    def __init__(self) -> None:
        self._ready = _Ready()
        self._waiting: dict[int, Waiting] = {}
        self.hands = Hands()
        """The threads of those that do not wait."""
        self._lock = threading.Lock()
        self._has_begun = False

    def put(self, waiting: Waiting) -> None:
        """Have it wait; from now on it is the loop's, whichever thread it was before."""
        if not self._has_begun:
            self._begin()
        with self._lock:  # whoever is told of the first waits with leaving until the last is there
            for descriptor in waiting.descriptors():
                self._waiting[descriptor] = waiting
                self._ready.watch(descriptor)

    def forget(self, *descriptors: int) -> None:
        """Wait no longer for some of them, which may be closed then; in the loop's thread."""
        with self._lock:
            for descriptor in descriptors:
                if self._waiting.pop(descriptor, None) is not None:
                    self._ready.forget(descriptor)

    def _begin(self) -> None:
        with self._lock:
            if not self._has_begun:
                threading.Thread(target=self._run, name="loop", daemon=True).start()
                self._has_begun = True

    def _run(self) -> None:
        waiting = self._waiting
        while True:
            for descriptor in self._ready.wait():
                found = waiting.get(descriptor)
                if found is None:
                    continue
                try:
                    stays = found.step(descriptor)
                except Exception:
                    log.exception("a connection could not be served")
                    stays = False
                if not stays:
                    self.forget(*found.descriptors())
                    try:
                        self.hands.take(found.go_on)
                    except RuntimeError:  # there is no thread; the others wait on
                        found.release()


class Hands:
    """Threads for what may block: as many as are needed, and gone some time after."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._free = 0
        self._lock = threading.Lock()

    def take(self, work: Callable[[], None]) -> None:
        """Do it in a thread; it raises nothing.

        Raises:
            RuntimeError: there is no room for another thread.
        """
        with self._lock:
            is_somebody_free = self._free > 0
            self._free -= is_somebody_free
        if is_somebody_free:
            self._work.put(work)
        else:
            threading.Thread(target=self._do, args=(work,), name="child", daemon=True).start()

    def _do(self, work: Callable[[], None]) -> None:
        while True:
            work()
            with self._lock:
                self._free += 1
            try:
                work = self._work.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._free > 0:  # else somebody counts on us: what is to be done is about to come
                        self._free -= 1
                        return
                work = self._work.get()


if sys.platform == "linux":

    class _Ready:
        """Descriptors that have something to say."""

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def watch(self, descriptor: int) -> None:
            self._epoll.register(descriptor, select.EPOLLIN)

        def forget(self, descriptor: int) -> None:
            self._epoll.unregister(descriptor)

        def wait(self) -> list[int]:
            return [descriptor for descriptor, _ in self._epoll.poll(-1, _AT_ONCE)]

else:

    class _Ready:
        """Descriptors that have something to say."""

        def __init__(self) -> None:
            self._queue = select.kqueue()

        def watch(self, descriptor: int) -> None:
            self._queue.control([select.kevent(descriptor, select.KQ_FILTER_READ, select.KQ_EV_ADD)], 0)

        def forget(self, descriptor: int) -> None:
            self._queue.control([select.kevent(descriptor, select.KQ_FILTER_READ, select.KQ_EV_DELETE)], 0)

        def wait(self) -> list[int]:
            return [event.ident for event in self._queue.control(None, _AT_ONCE)]
