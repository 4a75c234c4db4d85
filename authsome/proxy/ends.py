"""Runs that have ended here, and of which the daemon is to be told.

Rule: a run's end does not wait for the daemon. Here its credential is dead already; there its secret, which nobody
knows any more, dies when the daemon can be told.
"""

import logging
import queue
import threading
from typing import Final

from authsome.errors import AuthsomeError, DaemonUnavailable
from authsome.proxy.broker import Broker

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 15.0
"""How soon a daemon that could not be told is told again, and how long a worker that leaves waits for it."""


class Ends:
    """Runs that have ended here, and of which the daemon is to be told: in order, by one thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Broker | None] = queue.SimpleQueue()
        self._told = threading.Event()

    def put(self, broker: Broker) -> None:
        """Have the daemon told."""
        self._queue.put(broker)

    def finish(self) -> None:
        """Wait until it has been told of all, or cannot be."""
        self._queue.put(None)
        self._told.wait(RETRY_SECONDS)

    def tell(self) -> None:
        """Tell the daemon until `finish`; one that cannot be asked just now is told later."""
        waiting: list[Broker] = []
        is_finishing = False
        while not is_finishing:
            try:
                broker = self._queue.get(timeout=RETRY_SECONDS if waiting else None)
            except queue.Empty:
                pass
            else:
                is_finishing = broker is None
                if broker is not None:
                    waiting.append(broker)
                if not self._queue.empty():
                    continue
            waiting = [each for each in waiting if not _end(each)]
        self._told.set()


def _end(broker: Broker) -> bool:
    """Tell the daemon of a run's end; False: it cannot be asked now."""
    try:
        broker.end()
    except DaemonUnavailable as error:
        logger.warning("the daemon could not be told of a run's end: %s", error.message)
        return False
    except AuthsomeError as error:
        logger.warning("the daemon knew of a run's end: %s", error.message)
    return True
