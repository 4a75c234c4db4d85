"""A second pair of hands for work that leaves the interpreter: half of it is done on another processor meanwhile.

Rule: it helps whoever asks first; everybody else, and a machine without room for a thread, does it all alone.
"""

import _thread
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

WORTH: Final = 4
"""Tasks from which on it pays: to wake a thread, and to be woken by it, costs about as much as one of them."""

Task = Callable[[], None]


class Assistant:
    """One thread, started when it is first of use, that sleeps until it is asked."""

    def __init__(self) -> None:
        self._is_free = _thread.allocate_lock()
        self._asked: SimpleQueue[Sequence[Task]] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._has_started = False

    def share(self, tasks: Sequence[Task]) -> None:
        """Do tasks, half of them in the other thread; returns when all are done, or raises what one of them raised."""
        if len(tasks) < WORTH or not self._is_free.acquire(blocking=False):
            _do(tasks)
            return
        try:
            half = len(tasks) // 2 if self._is_there() else 0
            if half:
                self._asked.put(tasks[:half])
            try:
                _do(tasks[half:])
            finally:
                error = self._done.get() if half else None
            if error is not None:
                raise error
        finally:
            self._is_free.release()

    def _is_there(self) -> bool:
        if not self._has_started:
            try:
                _thread.start_new_thread(self._work, ())
            except (RuntimeError, MemoryError):
                return False
            self._has_started = True
        return True

    def _work(self) -> None:
        while True:
            tasks = self._asked.get()
            try:
                _do(tasks)
            except BaseException as error:  # noqa: BLE001  # whoever asked raises it
                self._done.put(error)
            else:
                self._done.put(None)


def _do(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task()
