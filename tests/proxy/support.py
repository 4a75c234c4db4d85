"""Runs of the real proxy for tests: whole commands behind it, and its bare socket for clients that lie."""

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import urlsplit

from authsome.home import Home, make_private_directory, read_config, write_config
from authsome.proxy import launch
from fakes.api import ApiServer
from fakes.daemon_api import DaemonApi
from fakes.patience import PATIENCE, eventually, is_running

START_RUN: Final = Path(__file__).with_name("start_run.py")
TOKEN: Final = "sk-real-4f1d0c9b7a6e5d3c2b1a"
PLACEHOLDER: Final = "sk-placeholder-000000000000"
HOST: Final = "api.example.localhost"
OTHER_HOST: Final = "other.example.localhost"
"""A host that no route names."""


@dataclass(slots=True, kw_only=True)
class Runner:
    """Runs commands as children of runs."""

    daemon: DaemonApi
    server: ApiServer
    """What answers for `HOST`."""
    home: Path
    directory: Path
    environ: dict[str, str]
    worker_options: list[str] = field(default_factory=lambda: ["--open-tunnels"])
    unmatched: str = "tunnel"
    engine: str = "auto"
    """`proxy.engine` in config.json."""
    python: str = sys.executable
    starts_daemon: bool = False
    """Whether runs are told that their daemon has to be started first."""

    def plan(self, *command: str) -> list[str]:
        """The command line that becomes `command` behind the proxy."""
        answer = dict(self.daemon.call("POST", "/proxy/runs", {}))
        plan = {
            "command": command,
            "daemon_url": self.daemon.url,
            "answer": answer,
            "worker_options": self.worker_options,
            "unmatched": self.unmatched,
            "starts_daemon": self.starts_daemon,
        }
        make_private_directory(self.home)
        config = read_config(Home(self.home))
        section = config.setdefault("proxy", {})
        assert isinstance(section, dict)
        section["engine"] = self.engine
        write_config(Home(self.home), config)
        path = self.directory / f"plan-{self.daemon.run}.json"
        path.write_text(json.dumps(plan))
        return [self.python, str(START_RUN), str(path)]

    def __call__(
        self, *command: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            self.plan(*command),
            input=stdin,
            capture_output=True,
            env={**self.environ, **(environ or {})},
            cwd=self.directory,
            timeout=timeout,
            check=False,
        )

    def output(self, *command: str, **more: object) -> bytes:
        """Run a command that must succeed; what it wrote."""
        done = self(*command, **more)  # type: ignore[arg-type]
        assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-4000:], self.log())
        return done.stdout

    def log(self) -> str:
        """The workers' log."""
        path = self.home / "proxy" / "proxy.log"
        return path.read_text() if path.exists() else ""

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command, its standard streams in our hands."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.plan(*command), env=self.environ, cwd=self.directory, stdin=pipe, stdout=pipe)

    def workers(self) -> list[int]:
        """The processes of this home's workers that are running, the newest last."""
        started = re.findall(r"^\S+ \S+ (\d+) INFO .*listening", self.log(), re.MULTILINE)
        return [int(pid) for pid in started if is_worker(int(pid))]

    def sockets(self) -> list[Path]:
        """Where this home's workers are to be found."""
        directory = self.home / "proxy"
        elsewhere = Path(launch.socket_path(f"{directory}/{'x' * 100}", "worker-x.sock")).parent
        place = Path(launch.socket_path(str(directory), f"worker-{'x' * 100}")).name.partition("-")[0]
        return [*directory.glob("*.sock"), *elsewhere.glob(f"{place}-*.sock")]

    def stop_workers(self) -> None:
        """End them."""
        for pid in self.workers():
            os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: not self.workers())

    @contextmanager
    def proxy(self) -> Iterator["Proxy"]:
        """A worker to talk to directly: its child only waits."""
        code = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
        with subprocess.Popen(
            self.plan(self.python, "-c", code),
            env=self.environ,
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            assert child.stdin is not None
            line = child.stdout.readline()
            assert line, self.log()
            try:
                yield Proxy(child=child, environ=json.loads(line))
            finally:
                child.stdin.close()
                child.wait(timeout=PATIENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response, read by a client that hides nothing."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> dict[str, object]:
        """The body as JSON."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class Wire:
    """A client's connection, on which anything can be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.reader: IO[bytes] = connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.reader.close()
        self.socket.close()

    def send(self, data: bytes | str) -> Self:
        """Send bytes as they are."""
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def answer(self, method: str = "GET") -> Answer:
        """Read one response."""
        line = self.reader.readline()
        assert line, "the connection ended without an answer"
        status = int(line.split()[1])
        headers = []
        while (line := self.reader.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        lowered = {name.lower(): value for name, value in headers}
        body = b""
        if method not in {"HEAD", "CONNECT"} or status != 200:
            if lowered.get("transfer-encoding") == "chunked":
                while size := int(self.reader.readline(), 16):
                    body += self.reader.read(size)
                    self.reader.readline()
                self.reader.readline()
            elif "content-length" in lowered and method != "HEAD":
                body = self.reader.read(int(lowered["content-length"]))
        return Answer(status=status, headers=tuple(headers), body=body)

    def request(self, method: str, target: str, *headers: str, body: bytes = b"") -> Answer:
        """Send a request with exactly these headers, and read its response."""
        self.send("".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", *headers, "")).encode() + body)
        return self.answer(method)

    def secure(self, context: ssl.SSLContext, server_name: str | None) -> "Wire":
        """Begin TLS."""
        return Wire(context.wrap_socket(self.socket, server_hostname=server_name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A running worker."""

    child: subprocess.Popen[bytes]
    environ: Mapping[str, str]

    @property
    def url(self) -> str:
        """The child's HTTPS_PROXY."""
        return self.environ["HTTPS_PROXY"]

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def authorization(self) -> str:
        """The header that the run's child sends."""
        parts = urlsplit(self.url)
        pair = f"{parts.username}:{parts.password}".encode()
        return f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}"

    @property
    def context(self) -> ssl.SSLContext:
        """A client that trusts what the child is told to trust."""
        return ssl.create_default_context(cafile=self.environ["SSL_CERT_FILE"])

    @property
    def pid(self) -> int:
        """The worker's process."""
        return listener_pid(self.port)

    def is_admitted(self) -> bool:
        """Whether the run's credential opens anything: 403 is an answer to one that does, about where it leads."""
        try:
            with self.connect() as wire:
                return wire.request("CONNECT", "127.0.0.1:1", "Host: x", self.authorization).status != 407
        except (OSError, AssertionError):  # nobody listens, or it was cut with the run
            return False

    def connect(self) -> Wire:
        """A connection to the proxy itself."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(connection)

    def tunnel(self, authority: str) -> Wire:
        """A connection that CONNECT has opened."""
        wire = self.connect()
        answer = wire.request("CONNECT", authority, f"Host: {authority}", self.authorization)
        assert answer.status == 200, answer
        return wire

    def open(self, host: str, port: int, *, server_name: str | None = None) -> Wire:
        """TLS to a host through the proxy."""
        return self.tunnel(f"{host}:{port}").secure(self.context, server_name or host)

    def watchful(self, tunnel: Wire, server_name: str) -> ssl.SSLSocket:
        """TLS in a tunnel that raises `SSLError` at an end without a goodbye."""
        context = self.context
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # which Debian's Python sets
        return context.wrap_socket(tunnel.socket, server_hostname=server_name, suppress_ragged_eofs=False)

    def end(self) -> None:
        """End the child, as a crash would."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(timeout=PATIENCE)


def is_worker(pid: int) -> bool:
    """Whether a process is there and is a worker, up to its very end, when it has no command line any more."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"start_worker" in line or (not line and is_running(pid))


def listener_pid(port: int) -> int:
    """The process that listens on a loopback port (Linux)."""
    wanted = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1] == wanted and row[3] == "0A"}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                for link in (process / "fd").iterdir():
                    with suppress(OSError):  # one that was closed meanwhile
                        if str(link.readlink()) in {f"socket:[{inode}]" for inode in inodes}:
                            return int(process.name)
    raise LookupError(port)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return found


def peak(pid: int) -> int:
    """The most memory that a worker and the process of its full engine ever had resident, in bytes (Linux)."""
    found = 0
    for each in (pid, *children(pid)):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                found += int(line.split()[1]) * 1024
    assert found
    return found


def descriptors(pid: int) -> int:
    """How many descriptors a worker and the process of its full engine have open (Linux)."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in (pid, *children(pid)))


def resident(pid: int) -> int:
    """A process's resident memory, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise LookupError(pid)
