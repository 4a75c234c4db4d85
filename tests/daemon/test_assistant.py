"""The second pair of hands: everything is done once, whoever does it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from authsome.daemon.assistant import WORTH, Assistant


@pytest.mark.parametrize("count", [0, 1, WORTH - 1, WORTH, 33])
def test_every_task_is_done_once(count):
    """Shared or not, nothing is left out or done twice; few tasks are not worth another thread."""
    done: list[tuple[int, int]] = []
    tasks = [lambda number=number: done.append((number, threading.get_ident())) for number in range(count)]
    Assistant().share(tasks)
    assert sorted(number for number, _ in done) == list(range(count))
    assert count >= WORTH or {thread for _, thread in done} <= {threading.get_ident()}


def test_two_work_at_once():
    """The assistant begins at the other end of the pile while whoever asked is at its first task."""
    meeting = threading.Barrier(2, timeout=60)
    Assistant().share([meeting.wait, *[lambda: None] * (WORTH - 2), meeting.wait])


def test_nobody_waits_for_what_is_not_begun():
    """While the assistant is kept by a task of somebody else's, all is done without it."""
    assistant = Assistant()
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert released.wait(60)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(assistant.share, [released.wait, *[lambda: None] * (WORTH - 2), hold])
        assert held.wait(60)
        for _ in range(3):
            done: list[int] = []
            assistant.share([lambda found=done: found.append(threading.get_ident())] * WORTH)
            assert done == [threading.get_ident()] * WORTH
        released.set()
        other.result(60)


def test_many_who_ask_at_once():
    """One is helped, the others help themselves."""
    assistant = Assistant()
    done: list[int] = []

    def ask(place: int) -> None:
        for _ in range(50):
            assistant.share([lambda: done.append(place)] * WORTH)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    assert sorted(done) == sorted(list(range(16)) * 50 * WORTH)


@pytest.mark.parametrize("place", [0, WORTH - 1])
def test_what_a_task_raises_is_raised(place):
    """By whichever thread it was met; the next tasks are done as ever."""
    assistant = Assistant()

    def fail() -> None:
        raise ValueError("this one")

    tasks = [lambda: None] * WORTH
    tasks[place] = fail
    with pytest.raises(ValueError, match="this one"):
        assistant.share(tasks)
    done: list[int] = []
    assistant.share([lambda: done.append(1)] * WORTH)
    assert len(done) == WORTH
