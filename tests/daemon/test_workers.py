"""The workers: few threads, and nobody waits for one that is blocked."""

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest

from authsome.daemon.messages import json_response
from authsome.daemon.server import Limits
from authsome.daemon.workers import USUAL, Workers
from fakes.patience import eventually

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 60.0  # seconds for what takes some hundredths


class Crew:
    """Workers whose work comes from a queue."""

    def __init__(self, usual: int = USUAL) -> None:
        self.queue: SimpleQueue = SimpleQueue()
        self.workers = Workers(self.queue.get, usual=usual)
        self.workers.start()

    def end(self) -> None:
        """Let everybody end."""
        for _ in range(64):
            self.queue.put(None)
        self.workers.end(ENOUGH)

    def settles_at(self, threads: int) -> bool:
        """Whether there are soon just so many threads, the watchman among them."""
        return eventually(lambda: self.workers._threads == threads)


@pytest.fixture
def crew():
    crew = Crew()
    yield crew
    crew.end()
    assert crew.workers._threads == 0


@pytest.mark.parametrize("foreseen", [True, False])
def test_nobody_waits_for_who_is_blocked(crew, foreseen):
    """However many are blocked, having stepped aside or not, the next piece of work is done."""  # SEC-190
    release, done = threading.Event(), threading.Event()

    def block():
        if foreseen:
            crew.workers.step_aside()
        release.wait(ENOUGH)

    for _ in range(20):
        crew.queue.put(block)
    crew.queue.put(done.set)
    assert done.wait(ENOUGH)
    assert crew.workers._threads <= 20 + USUAL + 1
    release.set()
    assert crew.settles_at(USUAL + 1)


def test_threads_that_get_on_stay_as_few_as_they_are(crew):
    """Work by the thousand is done by the same threads, and by another only in place of one that looked blocked.

    As one may on a busy machine, which runs the watchman and not the worker.
    """
    used, done, replaced = set(), threading.Semaphore(0), []
    put_aside = crew.workers._put_aside
    crew.workers._put_aside = lambda worker: (replaced.append(worker), put_aside(worker))

    def work():
        used.add(threading.get_ident())
        done.release()

    for _ in range(5000):
        crew.queue.put(work)
    for _ in range(5000):
        assert done.acquire(timeout=ENOUGH)
    assert len(used) <= USUAL + len(replaced)
    assert len(replaced) < 100


def test_stepping_aside_is_for_workers(crew):
    """In any other thread, and a second time, it does nothing."""
    before = crew.workers._threads
    crew.workers.step_aside()
    assert crew.workers._threads == before
    seen: SimpleQueue = SimpleQueue()

    def twice():
        crew.workers.step_aside()
        crew.workers.step_aside()
        seen.put(crew.workers._taking)

    crew.queue.put(twice)
    assert seen.get(timeout=ENOUGH) == USUAL


def test_work_that_goes_on_when_all_end_is_not_waited_for():
    """Who is at work when the end comes ends with its work."""
    crew = Crew(usual=1)
    begun, release = threading.Event(), threading.Event()
    crew.queue.put(lambda: (begun.set(), release.wait(ENOUGH)))
    assert begun.wait(ENOUGH)
    started = time.monotonic()
    crew.end()
    assert time.monotonic() - started < ENOUGH / 2
    release.set()
    assert crew.settles_at(0)


WAKING = """
import sys, threading, time
from queue import SimpleQueue
from authsome.daemon.workers import Workers
import resource
queue = SimpleQueue()
workers = Workers(queue.get)
workers.start()
release = threading.Event()
queue.put(lambda: None)
if sys.argv[1] == "blocked":
    queue.put(lambda: release.wait(60))

def switches():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    time.sleep(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

# The first spans of time may see its beginning; the last one is what it comes to.
print(next((found for _ in range(10) if (found := switches()) <= 2), "it wakes up all the time"))
"""


@pytest.mark.parametrize("state", ["idle", "blocked"])
def test_the_watchman_sleeps_when_there_is_nothing_to_see(state):
    """A moment after the last work, and while a long poll waits, nothing wakes up."""  # SEC-198
    done = subprocess.run(
        [sys.executable, "-c", WAKING, state], cwd=ROOT, stdout=subprocess.PIPE, check=True, env={**os.environ}
    )
    assert done.stdout.decode().strip() in {"0", "1", "2"}


# ---- the server's ------------------------------------------------------------------------------------------


def test_blocked_handlers_do_not_keep_others_waiting(run_server):
    """As many requests as there are places may be blocked; another is answered meanwhile."""  # SEC-190
    release = threading.Event()

    def handle(request):
        if request.path == "/blocked":
            release.wait(ENOUGH)
        return json_response({})

    served = run_server(handle, limits=Limits(connections=32))
    with ExitStack() as stack:
        blocked = [stack.enter_context(served.client()) for _ in range(31)]
        for client in blocked:
            client.send(served.head("GET", "/blocked"))
        with served.client() as other:
            for _ in range(3):
                other.send(served.head())
                other.expect(200)
        release.set()
        for client in blocked:
            client.expect(200)


def test_slow_senders_do_not_keep_others_waiting(run_server):
    """Halves of heads and bodies hold no worker."""  # SEC-190
    served = run_server(limits=Limits(connections=64))
    with ExitStack() as stack:
        slow = [stack.enter_context(served.client()) for _ in range(40)]
        for number, client in enumerate(slow):
            whole = served.head("POST", "/", "Content-Length: 2") + b"ab"
            client.send(whole[: len(whole) // 2] if number % 2 else whole[:-1])
        assert served.get().status == 200
        for number, client in enumerate(slow):
            whole = served.head("POST", "/", "Content-Length: 2") + b"ab"
            client.send(whole[len(whole) // 2 :] if number % 2 else whole[-1:])
            client.expect(200)
            client.send(served.head())
            client.expect(200)


def test_who_reads_slowly_keeps_nobody_waiting(run_server):
    """An answer that does not fit the kernel's buffers is sent aside, whole."""
    big = os.urandom(8_000_000)

    def handle(request):
        return json_response({}) if request.path == "/" else json_response({"big": big.hex()})

    served = run_server(handle)
    with ExitStack() as stack:
        slow = [stack.enter_context(served.client()) for _ in range(6)]
        for client in slow:
            client.send(served.head("GET", "/big"))
        assert served.get().body == b"{}"
        for client in slow:
            assert len(client.expect(200).body) == 16_000_010


def test_idle_connections_have_no_threads(run_server):
    """Two hundred connections that wait cost no thread."""  # SEC-192
    served = run_server()
    with ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(200)]
        for client in clients:
            client.send(served.head())
            client.expect(200)
        assert eventually(lambda: served.server._workers._threads <= USUAL + 1)  # one that looked blocked was replaced
