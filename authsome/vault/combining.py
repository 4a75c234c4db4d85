"""Combining: one thread carries out the transactions that others queue up meanwhile, all in one.

Under load the cost of a small transaction is not the transaction: it is the COMMIT, and the threads that wake up one
another for each. So whoever finds nobody at work leads: takes what is queued, runs it in one transaction, hands each
its result, and passes the lead on. A lone caller leads itself and waits for nobody.

Rules:
1. A body may be run twice, so it does nothing but read and write the database, and return.
2. Bodies of one transaction stand or fall together: where one fails, all are run again, each in one of its own.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Generic, TypeVar

from authsome.vault.writer import Transaction

Result = TypeVar("Result")

_MOST: Final = 32  # bodies in one transaction: nobody waits for more than these


class _Job(Generic[Result]):
    """One body, and what became of it."""

    __slots__ = ("body", "error", "leads", "result", "woken")

    def __init__(self, body: Callable[[Transaction], Result]) -> None:
        self.body = body
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.leads = False
        self.woken: threading.Lock | None = None
        """Held until the job is done or leads; None for one that nobody has to wake."""

    def wake(self, *, leads: bool) -> None:
        """Tell the job's thread to go on."""
        self.leads = leads
        if self.woken is not None:
            self.woken.release()


class Combiner:
    """The queue before one writer."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[Transaction]]) -> None:
        """Take what begins a transaction."""
        self._transaction = transaction
        self._guard = threading.Lock()
        self._queue: deque[_Job[object]] = deque()
        self._has_leader = False

    def run(self, body: Callable[[Transaction], Result]) -> Result:
        """The body's result, once the transaction that it was part of is committed.

        Raises:
            what the body or its transaction raised; nothing of it was kept then.
        """
        job = _Job(body)
        with self._guard:
            if self._has_leader:
                job.woken = threading.Lock()
                job.woken.acquire()
                self._queue.append(job)  # type: ignore[arg-type]  # its result goes to its own caller
            else:
                self._has_leader = job.leads = True
        if job.woken is None:
            self._lead([job])  # type: ignore[list-item]  # as above
        else:
            job.woken.acquire()
            if job.leads:
                with self._guard:
                    jobs = [self._queue.popleft() for _ in range(min(_MOST, len(self._queue)))]
                self._lead(jobs)
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # the body has returned

    def run_all(self, bodies: Sequence[Callable[[Transaction], Result]]) -> list[Result | Exception]:
        """What becomes of several bodies of one caller: each one's result, or what it raised.

        They share a transaction, unless one fails: then each has one of its own.
        """
        try:
            return list(self.run(lambda tx: [body(tx) for body in bodies]))
        except Exception as error:  # noqa: BLE001  # whose it was shows below
            if len(bodies) == 1:
                return [error]
        found: list[Result | Exception] = []
        for body in bodies:
            found += self.run_all([body])
        return found

    def _lead(self, jobs: list[_Job[object]]) -> None:
        """Carry out jobs, one's own first, and pass the lead on."""
        try:
            self._carry_out(jobs)
        except BaseException as error:
            for job in jobs:
                job.error = error
            raise
        finally:
            with self._guard:
                following = self._queue[0] if self._queue else None
                self._has_leader = following is not None
            for job in jobs[1:]:
                job.wake(leads=False)
            if following is not None:
                following.wake(leads=True)

    def _carry_out(self, jobs: list[_Job[object]]) -> None:
        if len(jobs) > 1:
            try:
                with self._transaction() as tx:
                    for job in jobs:
                        job.result = job.body(tx)
            except Exception:  # noqa: BLE001, S110  # whose it was shows below, where each is alone
                pass
            else:
                return
        for job in jobs:
            try:
                with self._transaction() as tx:
                    job.result = job.body(tx)
            except BaseException as error:  # noqa: BLE001  # its caller's, who may be another thread
                job.error = error
