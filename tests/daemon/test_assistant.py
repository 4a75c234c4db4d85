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
    assert len({thread for _, thread in done}) == (0 if not count else 1 if count < WORTH else 2)


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
