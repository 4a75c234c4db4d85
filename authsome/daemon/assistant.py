"""A second pair of hands for work that leaves the interpreter: some of it is done on another processor meanwhile.

Rule: nobody waits for what the assistant has yet to begin. Both take from one pile, so on a machine that has no
processor to spare whoever asked does it all alone.
"""

import _thread
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

WORTH: Final = 4
"""Tasks from which on it pays: to wake a thread costs a part of one of them."""

Task = Callable[[], None]


class _Pile:
    """The tasks of one who asked, and a note from the assistant for each that it has done."""

    __slots__ = ("done", "tasks")

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = deque(tasks)
        self.done: SimpleQueue[BaseException | None] = SimpleQueue()


class Assistant:
    """One thread, started when it is first of use, that sleeps until it is asked."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Pile] = SimpleQueue()
        self._starting = _thread.allocate_lock()
        self._has_started = False

    def share(self, tasks: Sequence[Task]) -> None:
        """Do tasks, some of them in the other thread; returns when all are done, or raises what one of them raised."""
        if len(tasks) < WORTH or not self._asked.empty() or not self._is_there():
            for task in tasks:
                task()
            return
        pile = _Pile(tasks)
        self._asked.put(pile)
        others, error = len(tasks), None
        while pile.tasks:
            try:
                task = pile.tasks.popleft()
            except IndexError:  # the assistant took the last one
                break
            others -= 1
            try:
                task()
            except BaseException as raised:  # noqa: BLE001  # raised below, once nobody works on any of them
                error = raised
        for _ in range(others):
            error = pile.done.get() or error
        if error is not None:
            raise error

    def _is_there(self) -> bool:
        with self._starting:
            if not self._has_started:
                try:
                    _thread.start_new_thread(self._work, ())
                except (RuntimeError, MemoryError):
                    return False
                self._has_started = True
        return True

    def _work(self) -> None:
        while True:
            _help(self._asked.get())


def _help(pile: _Pile) -> None:
    """Take tasks from a pile, the last one first, as long as there are any."""
    while pile.tasks:
        try:
            task = pile.tasks.pop()
        except IndexError:  # whoever asked took the last one
            return
        try:
            task()
        except BaseException as error:  # noqa: BLE001  # whoever asked raises it
            pile.done.put(error)
        else:
            pile.done.put(None)
