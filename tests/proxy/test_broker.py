"""The worker's line to the daemon: what one run asks does not keep the others waiting."""

import threading
from concurrent.futures import ThreadPoolExecutor

from authsome.proxy.broker import Broker, Line
from authsome.proxy.rules import Lease
from authsome.secret import Secret
from fakes import wire
from fakes.patience import PATIENCE, eventually


def test_a_run_that_asks_without_end_does_not_starve_another():
    """However many of its questions wait for a slow daemon, another run's are asked at once."""
    # SEC-194
    answer_to_greedy = threading.Event()
    waiting = []

    def serve(connection: wire.Connection) -> None:
        while request := wire.read_request(connection.reader, connection.writer):
            if "greedy" in (request.header("Authorization") or ""):
                waiting.append(request)
                answer_to_greedy.wait(PATIENCE)
            connection.writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"routes": []}')
            connection.writer.flush()

    with wire.listen(serve) as port, ThreadPoolExecutor(64) as threads:
        line = Line(f"http://127.0.0.1:{port}")
        greedy, modest = (
            Broker(line, Lease(run=run, secret=Secret("s"), password=Secret("p"), expires_at=None))
            for run in ("greedy", "modest")
        )
        asked = [threads.submit(greedy.routes) for _ in range(64)]
        assert eventually(lambda: len(waiting) == 16)
        assert modest.routes().routes == ()
        assert not any(each.done() for each in asked)  # nobody had to give up for it
        assert len(waiting) == 16
        answer_to_greedy.set()
        assert all(each.result().routes == () for each in asked)
        line.close()
