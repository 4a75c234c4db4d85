"""Which connections have something to say, as the kernel knows it: each told once, to one of the threads that wait."""

import select
import sys
from typing import Final

MOST: Final = 16
"""Descriptors that are told at once."""

if sys.platform == "linux":

    class Readiness:
        """Descriptors that are watched until they can be read; any number of threads may wait."""

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def add(self, descriptor: int) -> None:
            """Watch a descriptor that was not watched before, once. Closing it ends that."""
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

        def watch(self, descriptor: int) -> None:
            """Watch a descriptor once more, after it was told."""
            self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

        def watch_always(self, descriptor: int) -> None:
            """Tell every thread that waits, as long as the descriptor can be read."""
            self._epoll.register(descriptor, select.EPOLLIN)

        def wait(self) -> list[int]:
            """Descriptors that can be read, or have ended: one at least, and what is ready with it."""
            while True:
                if found := self._epoll.poll(maxevents=MOST):
                    return [descriptor for descriptor, _ in found]

        @property
        def closed(self) -> bool:
            """Whether it was closed."""
            return self._epoll.closed

        def close(self) -> None:
            """Give the kernel's table back; nobody may wait any more."""
            self._epoll.close()

else:

    class Readiness:
        """Descriptors that are watched until they can be read; any number of threads may wait."""

        def __init__(self) -> None:
            self._queue = select.kqueue()

        def add(self, descriptor: int) -> None:
            """Watch a descriptor that was not watched before, once. Closing it ends that."""
            self._change(descriptor, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)

        def watch(self, descriptor: int) -> None:
            """Watch a descriptor once more, after it was told."""
            self.add(descriptor)

        def watch_always(self, descriptor: int) -> None:
            """Tell every thread that waits, as long as the descriptor can be read."""
            self._change(descriptor, select.KQ_EV_ADD)

        def wait(self) -> list[int]:
            """Descriptors that can be read, or have ended: one at least, and what is ready with it."""
            while True:
                if found := self._queue.control(None, MOST):
                    return [event.ident for event in found]

        @property
        def closed(self) -> bool:
            """Whether it was closed."""
            return self._queue.closed

        def close(self) -> None:
            """Give the kernel's table back; nobody may wait any more."""
            self._queue.close()

        def _change(self, descriptor: int, flags: int) -> None:
            self._queue.control([select.kevent(descriptor, select.KQ_FILTER_READ, flags)], 0)
