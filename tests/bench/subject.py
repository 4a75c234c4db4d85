"""What is measured: a daemon of ours or of upstream, how it is started, who calls it, and what it costs."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

OURS = "authsome"
KEY = "sk-" + "x" * 48
_PATIENCE = 60.0  # seconds; upstream needs four on a busy machine
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs, and what the daemon wants to see signed."""

    handle: str
    did: str
    seed: str
    audience: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One installation with a home of its own, one API key in it."""

    name: str
    serve: tuple[str, ...]
    """Runs the daemon in the foreground."""
    port: int
    environment: Mapping[str, str]
    identity: Identity
    target: str
    """The path that resolves a credential."""
    body: str

    @property
    def url(self) -> str:
        """The daemon's URL."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, from when it answers to when it has ended."""
        log = Path(self.environment["HOME"]) / "serve.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.serve, cwd=log.parent, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            if not _answers(process, self.port):
                raise RuntimeError(f"{self.name} does not answer: {log.read_text()[-2000:]}")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until /health answers, which upstream has at the same place; False when it never does."""
    request = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request)
            if connection.recv(12) == b"HTTP/1.1 200":
                return True
        time.sleep(0.002)
    return False


def rss(pid: int, *, peak: bool = False) -> float:
    """Resident memory in MiB, of now or the most there ever was."""
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def cpu(pid: int) -> float:
    """Processor time used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
