"""A loopback port that nothing listens on."""

import socket


def free_port() -> int:
    """A port that was free a moment ago, and that the kernel does not hand to anybody else soon."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
