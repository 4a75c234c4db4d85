"""What an engine meets is met, whatever became of the connection before."""

import socket
import threading

from authsome.proxy.engine import Engine
from authsome.proxy.tenancy import Tenants
from fakes.patience import PATIENCE


class Startled(Engine):
    """Has no room for the first connection, as where no thread can be had."""

    def __init__(self) -> None:
        super().__init__(Tenants())
        self.met = 0
        self.is_done = threading.Event()

    def _meet(self, connection: socket.socket) -> None:
        self.met += 1
        if self.met == 1:
            raise RuntimeError
        connection.close()
        self.is_done.set()


def test_the_next_connection_is_met_all_the_same():
    """One that cannot be is closed, and the port goes on."""
    # SEC-191
    engine = Startled()
    port = engine.listen()
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            assert connection.recv(1) == b""
    assert engine.is_done.wait(PATIENCE)
