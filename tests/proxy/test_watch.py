"""The end of a process is noticed, by whichever means the system has, and its number alone is not taken for it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from authsome.proxy import watch
from authsome.proxy.watch import Watch
from proxy.support import eventually

Begin = Callable[[int], Watch]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be ended."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("begin", [watch.begin, watch._Poll])
def test_a_process_is_there_until_it_has_ended(process: subprocess.Popen[bytes], begin: Begin):
    """Killed, it is over, whether or not anybody has asked for its status."""
    # SEC-138
    watched = begin(process.pid)
    assert not watched.is_over()
    process.kill()
    if watched.fileno() >= 0:
        assert select.select([watched], [], [], 10)[0]
    assert eventually(watched.is_over)
    assert process.returncode is None, "nobody has reaped it"
    process.wait()
    assert watched.is_over()
    watched.close()


@pytest.mark.parametrize("begin", [watch.begin, watch._Poll])
def test_a_process_that_has_ended_is_not_waited_for(process: subprocess.Popen[bytes], begin: Begin):
    """There is nothing to watch then."""
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        begin(process.pid)


def test_another_process_of_that_number_is_another(process: subprocess.Popen[bytes]):
    """When a process has the number of one that began before it, that one is over."""
    # SEC-138
    watched = watch._Poll(process.pid)
    assert not watched.is_over()
    before = watch._start_of(os.getpid())
    assert before not in {None, watched._start}
    watched._start = before
    assert watched.is_over()


def test_a_name_that_looks_like_the_rest_misleads_nobody():
    """A process may call itself anything, a parenthesis and numbers included."""
    code = "open('/proc/self/comm', 'w').write('x) Z 1 2 3'); print(flush=True); import sys; sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watched = watch._Poll(process.pid)
        assert not watched.is_over()
        os.kill(process.pid, signal.SIGKILL)
        assert eventually(watched.is_over)
