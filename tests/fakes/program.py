"""Authsome as a user starts it: a process of its own, a clean environment, a home of its own.

Nothing of the developer's environment reaches it but PATH. What it would open in a browser is written down instead.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fakes import terminal
from fakes.patience import PATIENCE, eventually, is_running, wait
from fakes.ports import free_port

CHECKOUT: Final = Path(__file__).resolve().parents[2]
NOWHERE: Final = "http://127.0.0.1:9"
"""A proxy that nobody runs: what is not on loopback is refused at once, whether this machine has a network or not."""
_OPENER: Final = """#!/bin/sh
printf '%s\\n' "$1" >> "{record}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One installation: what to run, and the environment it runs in."""

    command: tuple[str, ...]
    directory: Path
    """Everything below it is this installation's: the user's home, AUTHSOME_HOME, temporary files."""
    port: int
    variables: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of every command."""

    @property
    def home(self) -> Path:
        """AUTHSOME_HOME; it does not exist before the program makes it."""
        return self.directory / "authsome home"

    @property
    def url(self) -> str:
        """The daemon's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def callback(self) -> str:
        """The redirect URI of OAuth logins."""
        return f"{self.url}/auth/callback/oauth"

    @property
    def opened(self) -> list[str]:
        """The URLs that were opened in the browser, oldest first."""
        record = self.directory / "opened"
        return record.read_text().splitlines() if record.exists() else []

    def wait_opened(self, *, count: int = 1) -> str:
        """Wait until the `count`th URL is opened, and return it."""
        wait(lambda: len(self.opened) >= count, f"a browser to be opened {count} times")
        return self.opened[count - 1]

    def environment(self, env: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The environment of a command; `env` adds variables, and takes away those that are None."""
        base: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
            "LANG": "C.UTF-8",
            "BROWSER": str(self.directory / "open"),
            "AUTHSOME_HOME": str(self.home),
            "AUTHSOME_PORT": str(self.port),
            "HTTPS_PROXY": NOWHERE,
            **self.variables,
            **(env or {}),
        }
        return {name: value for name, value in base.items() if value is not None}

    def argv(self, *args: str) -> list[str]:
        """The command line of one command; signals act on it as in a shell, whatever the tests were started with."""
        return ["env", "--default-signal", *self.command, *args]

    def __call__(
        self,
        *args: str,
        input: str | bytes | None = None,  # noqa: A002  # the word of subprocess.run
        env: Mapping[str, str | None] | None = None,
        timeout: float = PATIENCE,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, without a terminal; without `input` there is nothing on standard input."""
        text = input.decode() if isinstance(input, bytes) else input
        return subprocess.run(
            self.argv(*args),
            input="" if text is None else text,
            env=self.environment(env),
            cwd=cwd or self.directory,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    def json(self, *args: str, env: Mapping[str, str | None] | None = None) -> dict[str, object]:
        """Run one command with `--json` and return its object; it has to succeed."""
        done = self(*args, "--json", env=env)
        assert done.returncode == 0, f"{args} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        value: dict[str, object] = json.loads(done.stdout)
        return value

    def on_terminal(
        self, *args: str, env: Mapping[str, str | None] | None = None, cwd: Path | None = None
    ) -> AbstractContextManager[terminal.Terminal]:
        """Run one command on a terminal."""
        return terminal.spawn(self.argv(*args), environment=self.environment(env), directory=cwd or self.directory)

    def start(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002  # the word of subprocess.run
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.Popen[str]":
        """Start one command and leave it running, its standard streams as pipes; `input` is all it gets to read."""
        process = subprocess.Popen(
            self.argv(*args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(env),
            cwd=cwd or self.directory,
            encoding="utf-8",
        )
        if input is not None:
            assert process.stdin is not None
            process.stdin.write(input)
            process.stdin.close()
            process.stdin = None  # or `communicate` would close it once more
        return process

    def processes(self) -> dict[int, str]:
        """The processes of this installation, command line by pid: daemon, proxy workers, children."""
        mark = os.fsencode(self.directory)
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                zombie = not line
                if not zombie and (mark in line or mark in (entry / "environ").read_bytes()):
                    found[int(entry.name)] = line.replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return found

    def files(self) -> dict[Path, bytes]:
        """Every file of this installation, but those that go while others are read."""
        found = {}
        for path in self.directory.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
        return found

    def make_due(self) -> None:
        """Let every access token have ended, and none of them while a test is still busy with what comes before."""
        store = self.home / "server" / "store.db"
        with closing(sqlite3.connect(store, timeout=60, isolation_level=None)) as opened:
            opened.execute("UPDATE connections SET expires_at = 1 WHERE expires_at IS NOT NULL")

    def wait_gone(self, *, timeout: float = PATIENCE) -> dict[int, str]:
        """Wait until no process of this installation is left; returns those that are."""
        left: dict[int, str] = {}

        def is_over() -> bool:
            """One that ends has lost what it is known by before it lets go of its port."""
            ending = {pid: line for pid, line in left.items() if is_running(pid)}
            left.clear()
            left.update(ending | self.processes())
            return not left

        eventually(is_over, timeout=timeout)
        return left

    def wait_daemon(self) -> int:
        """Wait until a daemon runs, and return its pid."""
        state = self.home / "server" / "daemon.json"
        running: list[int] = []

        def is_there() -> bool:
            with suppress(OSError, ValueError):
                pid = int(json.loads(state.read_bytes())["pid"])
                running[:] = [pid] if is_running(pid) else []  # one that was killed has left its state behind
            return bool(running)

        wait(is_there, "a daemon")
        return running[0]


@contextmanager
def installed(
    directory: Path,
    *,
    command: Sequence[str] = (sys.executable, str(CHECKOUT / "authsome.py")),
    variables: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> Iterator[Program]:
    """An installation below `directory`. When the block ends its daemon is stopped, and no process may be left.

    Args:
        directory: an empty directory, or one that does not exist.
        command: what to run; default: the launcher of this checkout.
        variables: added to the environment of every command, such as AUTHSOME_CA_BUNDLE.
        patience: how many seconds its processes may take to end.
    """
    (directory / "tmp").mkdir(parents=True)
    opener = directory / "open"
    opener.write_text(_OPENER.format(record=directory / "opened"))
    opener.chmod(0o700)
    program = Program(command=tuple(command), directory=directory, port=free_port(), variables=variables or {})
    try:
        yield program
    finally:
        for log in sorted(program.home.rglob("*.log")):  # pytest shows it with a test that failed
            print(f"--- {log.relative_to(program.home)}\n{log.read_text(errors='replace')[-8000:]}")
        if program.processes():
            stopped = program("daemon", "stop")
            if left := program.wait_gone(timeout=patience):
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise AssertionError(
                    f"left after `daemon stop` (status {stopped.returncode}, {stopped.stderr.strip()}): {left}"
                )
