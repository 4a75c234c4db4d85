"""The threads that serve: few, so that they do not wrangle over the interpreter; more only while some are blocked.

Rule: no piece of work keeps others waiting for longer than a moment. Whoever knows that it will block (a client that
sends slowly, a provider) steps aside first, and another thread takes its place; whoever blocks unforeseen is put
aside by the watchman. A thread that was put aside ends with its work, unless it is needed again.
"""

import _thread
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

USUAL: Final = 1
"""Threads that take work. Most of a request is Python, of which one thread runs at a time; a second one costs more in
waking the other and being woken than it gains while that is in the kernel."""
_TICK: Final = 0.01  # seconds that work may block unforeseen before others stop waiting for it
_QUIET_TICKS: Final = 20  # without work, after which the watchman sleeps until there is some

_log: Final = logging.getLogger("authsome.daemon")


class _Worker:
    """One thread, as the others see it; each attribute but `aside` is written by the thread itself."""

    __slots__ = ("aside", "at_work", "turns")

    def __init__(self) -> None:
        self.aside = False
        self.at_work = False
        self.turns = 0


class Workers:
    """Threads that wait for work and do it, one piece at a time."""

    def __init__(
        self,
        wait: Callable[[], Callable[[], None] | None],
        *,
        usual: int = USUAL,
        is_left: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take what waits for work.

        Args:
            wait: returns the next piece of work, which raises nothing; None ends the thread that asked.
            usual: how many threads take work.
            is_left: whether there is work for which `wait` would not have to wait, and that wakes nobody who waits.
        """
        self._wait = wait
        self._is_left = is_left
        self._usual = usual
        self._changed = threading.Condition()
        self._workers: dict[int, _Worker] = {}  # by the thread's identifier
        self._taking = 0  # threads that take work: those that were not put aside
        self._threads = 0
        self._ending = False
        self._asleep = True
        self._alarm: SimpleQueue[None] = SimpleQueue()

    def start(self) -> None:
        """Start the usual threads, and the watchman.

        Raises:
            RuntimeError, MemoryError: there is no room for a thread.
        """
        with self._changed:
            self._threads += 1
            _thread.start_new_thread(self._watch, ())
            self._fill()

    def step_aside(self) -> None:
        """Let another thread take the caller's place, as it is going to block; does nothing in any other thread."""
        worker = self._workers.get(_thread.get_ident())
        if worker is not None and not worker.aside:
            with self._changed:
                self._put_aside(worker)

    def end(self, patience: float) -> None:
        """End: threads that are at work end with it. Call once `wait` answers None to everybody.

        Args:
            patience: seconds to wait for those that are not at work.
        """
        with self._changed:
            self._ending = True
            self._alarm.put(None)
            self._changed.wait_for(lambda: self._threads == sum(each.at_work for each in self._present()), patience)

    def _present(self) -> list[_Worker]:
        return list(self._workers.values())

    def _fill(self) -> None:
        """Start threads up to the usual number. Call with the lock held."""
        while self._taking < self._usual and not self._ending:
            # Not by `threading`: its start() waits for the new thread to say that it runs, for ever when there was no
            # memory left to say it.
            _thread.start_new_thread(self._work, (_Worker(),))
            self._threads += 1
            self._taking += 1

    def _put_aside(self, worker: _Worker) -> None:
        """Call with the lock held. A machine that has no room for a thread keeps the one that is there."""
        if worker.aside:
            return
        worker.aside = True
        self._taking -= 1
        try:
            self._fill()
        except (RuntimeError, MemoryError):
            _log.exception("no thread could be started")
            worker.aside = False
            self._taking += 1

    def _work(self, worker: _Worker) -> None:
        self._workers[_thread.get_ident()] = worker
        try:
            while self._stays(worker):
                work = self._wait()
                if work is None:
                    return
                worker.turns += 1
                worker.at_work = True
                if self._asleep:
                    self._asleep = False
                    self._alarm.put(None)
                try:
                    work()
                except Exception:  # noqa: BLE001  # the one that serves everybody does not end with one of them
                    _log.exception("unexpected error")
                worker.at_work = False
        finally:
            with self._changed:
                del self._workers[_thread.get_ident()]
                worker.at_work = False
                self._taking -= not worker.aside
                self._threads -= 1
                self._changed.notify_all()

    def _stays(self, worker: _Worker) -> bool:
        """Whether a thread takes more work: not when it was put aside and has been replaced, and leaves nothing."""
        if not worker.aside:
            return True
        with self._changed:
            if self._taking >= self._usual or self._ending:
                return self._is_left()  # who has taken this one's place may wait, and would not see it
            worker.aside = False
            self._taking += 1
            return True

    def _watch(self) -> None:
        """The watchman: sleeps while there is nothing to do, else looks every tick whether everybody gets on."""
        while not self._ending:
            self._alarm.get()
            quiet = 0
            before: dict[_Worker, int] = {}
            while not self._ending and (quiet < _QUIET_TICKS or not self._sleeps()):
                with suppress(Empty):
                    self._alarm.get(timeout=_TICK)
                now = {each: each.turns for each in self._present() if each.at_work and not each.aside}
                with self._changed:
                    for worker, turns in now.items():
                        if before.get(worker) == turns:
                            self._put_aside(worker)
                quiet = 0 if now else quiet + 1
                before = now
        with self._changed:
            self._threads -= 1
            self._changed.notify_all()

    def _sleeps(self) -> bool:
        """Leave it to the next who has work to raise the alarm, unless somebody has begun just now."""
        self._asleep = True
        if any(each.at_work and not each.aside for each in self._present()):
            self._asleep = False
        return self._asleep
