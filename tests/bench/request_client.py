"""The client of the measurements of single requests; which proxy it goes through, its environment says.

request_client.py URL REQUESTS SECONDS CLIENTS…   prints JSON: milliseconds for a new connection and for a request on a
                                                  kept one, and requests per second with so many at the same time
"""

import json
import socket
import ssl
import statistics
import sys
import time
from typing import IO
from urllib.parse import urlsplit

from stream_client import connect, get, head_length, trust

_OPENINGS = 10


def ask(reader: IO[bytes], connection: socket.socket, url: str) -> None:
    """One request, and all of its answer."""
    get(connection, url)
    answer(reader)


def answer(reader: IO[bytes]) -> None:
    """Read over one answer."""
    length = head_length(reader)
    if length is None:
        while size := int(reader.readline(), 16):
            reader.read(size + 2)
        reader.readline()
    else:
        reader.read(length)


def opened(url: str, context: ssl.SSLContext) -> float:
    """Milliseconds to the first answer on a new connection."""
    began = time.perf_counter()
    reader, connection = connect(url, context)
    ask(reader, connection, url)
    seconds = time.perf_counter() - began
    connection.close()
    return seconds * 1000


def one(url: str, count: int) -> float:
    """Milliseconds to an answer on a kept connection; the median."""
    reader, connection = connect(url)
    ask(reader, connection, url)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        ask(reader, connection, url)
        times.append(time.perf_counter() - began)
    connection.close()
    return statistics.median(times) * 1000


def many(url: str, count: int, seconds: float, clients: int) -> tuple[int, float]:
    """Requests on so many connections, each with one under way, as many and as long as said: how many, and a second."""
    pairs = [connect(url) for _ in range(clients)]
    for reader, connection in pairs:
        ask(reader, connection, url)
    began = time.perf_counter()
    for _, connection in pairs:
        get(connection, url)
    rounds = 1
    while rounds * clients < count or time.perf_counter() - began < seconds:
        rounds += 1
        for reader, connection in pairs:  # whoever has its answer asks again, while the others still wait
            answer(reader)
            get(connection, url)
    for reader, _ in pairs:
        answer(reader)
    took = time.perf_counter() - began
    for _, connection in pairs:
        connection.close()
    return rounds * clients, rounds * clients / took


if __name__ == "__main__":
    address, total, least = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    assert urlsplit(address).scheme == "https"
    roots = trust()
    rates = {number: many(address, total, least, int(number)) for number in sys.argv[4:]}
    figures = {
        "opened": statistics.median(opened(address, roots) for _ in range(_OPENINGS)),
        "one": one(address, total),
        "many": {number: rate for number, (_, rate) in rates.items()},
        "requests": _OPENINGS + total + sum(count for count, _ in rates.values()),
    }
    print(json.dumps(figures))
