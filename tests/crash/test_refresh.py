"""Refreshes against a provider that rotates its refresh tokens and punishes the use of a spent one.

The provider is a certified one (`oidc-provider`); the processes are copies of `refresh_at_work.py`.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from authsome.home import Home, make_private_directory
from authsome.oauth import pkce
from fakes import oidc

WORK = Path(__file__).with_name("refresh_at_work.py")
CALLBACK = "http://127.0.0.1:7998/auth/callback/oauth"


@dataclass
class Copy:
    """One process at work."""

    pid: int
    output: Path

    def lines(self) -> list[str]:
        """What it has said, in whole lines."""
        text = self.output.read_text() if self.output.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def said(self, word: str) -> list[str]:
        """What it has said after that word."""
        return [line.partition(" ")[2] for line in self.lines() if line.startswith(f"{word} ")]

    def wait(self, word: str, patience: float = 20) -> list[str]:
        """Wait until it says that word."""
        deadline = time.monotonic() + patience
        while not (found := self.said(word)):
            assert time.monotonic() < deadline, f"no {word}: {self.lines()}"
            assert is_alive(self.pid) or self.said(word), f"ended without {word}: {self.lines()}"
            time.sleep(0.002)
        return found

    def wait_end(self, patience: float = 60) -> list[str]:
        """Wait until it has ended by itself."""
        deadline = time.monotonic() + patience
        while is_alive(self.pid):
            assert time.monotonic() < deadline, f"it does not end: {self.lines()}"
            time.sleep(0.01)
        return self.lines()

    def kill(self) -> list[str]:
        """Kill -9; what it had said."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_end()
        return self.lines()


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Works:
    """Where copies come from, and the home that they work on."""

    home: Home
    server: oidc.OidcServer
    key: str
    orders: IO[str]
    pids: IO[str]
    count: int = 0

    def start(self, **order: object) -> Copy:
        """A copy at work."""
        self.count += 1
        output = self.home.root.parent / f"said-{self.count}"
        line = {"home": str(self.home.root), "key": self.key, "output": str(output), **order}
        self.orders.write(json.dumps(line) + "\n")
        self.orders.flush()
        return Copy(int(self.pids.readline()), output)

    def log_in(self) -> dict[str, str]:
        """Fresh tokens, as the provider gives them to somebody who logs in."""
        verifier = pkce.new_verifier()
        query = (
            f"client_id=public&response_type=code&scope=openid+offline_access&prompt=consent&state=s"
            f"&code_challenge={pkce.challenge(verifier)}&code_challenge_method=S256&redirect_uri={CALLBACK}"
        )
        callback = self.server.approve(f"{self.server.authorization_url}?{query}")
        code = callback.partition("code=")[2].partition("&")[0]
        body = {"grant_type": "authorization_code", "client_id": "public", "code": code, "redirect_uri": CALLBACK}
        answer = self.server.exchange({**body, "code_verifier": verifier.reveal()})
        return {name: str(answer[name]) for name in ("access_token", "refresh_token")}


@pytest.fixture
def rotating() -> Iterator[oidc.OidcServer]:
    """A provider that rotates refresh tokens; the reuse of one ends the grant."""
    with oidc.serve(redirect_uris=[CALLBACK]) as server:
        yield server


@pytest.fixture
def works(tmp_path: Path, rotating: oidc.OidcServer) -> Iterator[Works]:
    """Copies on a fresh home, whose provider acme is `rotating`."""
    with at(tmp_path, rotating) as found:
        yield found


@contextmanager
def at(directory: Path, server: oidc.OidcServer) -> Iterator[Works]:
    """Copies on a fresh home."""
    home = Home(directory / "home")
    make_private_directory(home.providers)
    definition = server.definition("acme", api_url="https://acme.example.localhost")
    (home.providers / "acme.json").write_text(json.dumps(definition))
    with subprocess.Popen(
        [sys.executable, str(WORK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield Works(home, server, secrets.token_hex(32), process.stdin, process.stdout)
        process.stdin.close()


def test_fifty_callers_in_two_processes_on_one_database(works):
    """Threads of two daemons that share a database: one refresh at the provider, fifty successes. # SEC-77 # SEC-91"""
    works.start(login=works.log_in(), resolves=0).wait_end()
    works.server.clear_log()
    begin = time.monotonic() + 1
    copies = [works.start(alone=False, threads=25, resolves=1, at=begin) for _ in range(2)]
    lines = [copy.wait_end() for copy in copies]
    used = [copy.said("used") for copy in copies]
    assert [len(each) for each in used] == [25, 25], lines
    assert len({revision for each in used for revision in each}) == 1
    assert len(works.server.token_requests("refresh_token")) == 1


def test_the_claim_of_a_killed_process_holds_up_only_who_shares_its_database(works):
    """Killed while the provider has its question: a daemon that is alone takes over at once, and asks anew.

    # SEC-78 # SEC-91
    """
    works.start(login=works.log_in(), resolves=0).wait_end()
    works.server.plan("/token", hold="before")
    copy = works.start(resolves=1)
    works.server.wait_held()
    copy.kill()
    other = works.start(alone=False, resolves=1)
    time.sleep(0.5)
    assert other.said("used") == []  # the claim may be that of a living process
    other.kill()
    assert works.start(resolves=1).wait("used")
    works.server.release()
