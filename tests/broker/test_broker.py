"""The broker: use cases that are made when they are first asked for."""

import threading

from broker.conftest import House


def test_a_use_case_is_made_once_whoever_asks(house: House):
    """Threads that ask for it at the same moment get the same one."""
    found: list[object] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait(60)
        found.append(house.broker.entrance)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len({id(each) for each in found}) == 1
    assert house.broker.entrance is found[0]
