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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from authsome.home import Home, make_private_directory
from authsome.oauth import pkce
from fakes import oidc
from fakes.patience import PATIENCE
from security import adversary

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

    def wait(self, *words: str, patience: float = PATIENCE) -> list[str]:
        """Wait until it says one of these words; what it has said after the first of them."""
        deadline = time.monotonic() + patience
        while not any(self.said(word) for word in words):
            assert time.monotonic() < deadline, f"no {words}: {self.lines()}"
            assert adversary.alive(self.pid) or any(map(self.said, words)), f"ended without {words}: {self.lines()}"
            time.sleep(0.002)
        return self.said(words[0])

    def wait_end(self, patience: float = PATIENCE) -> list[str]:
        """Wait until it has ended by itself."""
        deadline = time.monotonic() + patience
        while adversary.alive(self.pid):
            assert time.monotonic() < deadline, f"it does not end: {self.lines()}"
            time.sleep(0.01)
        return self.lines()

    def kill(self) -> list[str]:
        """Kill -9; what it had said."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_end()
        return self.lines()


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


# ---- killed ------------------------------------------------------------------------------------------------

ROUNDS = 190
HELD = 12
"""In every so many rounds the provider spends the token and keeps its answer to itself: the login is surely lost."""


def test_killed_at_random_moments_around_a_refresh(works, record_property):
    """Kill -9, again and again: a login is lost only where the provider had spent its token and we have no answer.

    Whatever was handed out was durable, no refresh is without its entry, every database opens and is whole. # SEC-78
    """
    login: dict[str, str] | None = works.log_in()
    used = logins = lost = held = 0
    is_lost_for_sure = False
    for number in range(ROUNDS):
        logins += login is not None
        copy = works.start(login=login)
        login = None
        revision, refreshed, _ = copy.wait("state")[0].split()
        assert int(revision) >= used, "what was handed out was not stored"
        assert int(revision) == int(refreshed) + 2 * logins, "an act without its entry, or an entry without its act"
        if is_lost_for_sure:
            assert "was cut short: the daemon was stopped" in copy.wait("lost")[0]
            is_lost_for_sure = False
        elif number % HELD == HELD - 2:
            is_lost_for_sure = holds_back(works.server, copy)
            held += is_lost_for_sure
        elif number % 2:
            time.sleep(secrets.randbelow(100) / 1000)
        else:  # however slow the machine is, some are killed at work and not on the way there
            copy.wait("used", "lost")
            time.sleep(secrets.randbelow(20) / 1000)
        said = copy.kill()
        works.server.release()
        assert not copy.said("failed"), said
        used = max([used, *map(int, copy.said("used"))])
        if copy.said("lost"):
            assert_spent(works.server)
            lost += 1
            login = works.log_in()
            works.server.clear_log()
    record_property("lost", f"{lost} of {ROUNDS}, {held} of them for sure")
    print(f"lost {lost}, of them for sure {held}; {used} refreshes")
    assert 1 <= held <= lost < ROUNDS // 2
    assert used > ROUNDS // 3


def test_killed_around_a_refresh_at_a_provider_that_forgives(tmp_path):
    """Where a refresh token may be used again, no kill loses anything. # SEC-78"""
    with oidc.serve(redirect_uris=[CALLBACK], rotate=False) as server, at(tmp_path, server) as works:
        works.start(login=works.log_in(), resolves=0).wait_end()
        for _ in range(25):
            copy = works.start()
            copy.wait("used")
            time.sleep(secrets.randbelow(30) / 1000)
            said = copy.kill()
            assert not copy.said("failed"), said
            assert not copy.said("lost"), said


def holds_back(server: oidc.OidcServer, copy: Copy) -> bool:
    """Have the provider keep back its next answer to a copy; False when an earlier kill has lost the login already."""
    server.plan("/token", hold="after")
    while not copy.said("lost"):
        with suppress(TimeoutError):
            server.wait_held(timeout=0.1)
            return True
    server.clear_plans()
    return False


def assert_spent(server: oidc.OidcServer) -> None:
    """The login that is lost is one whose refresh token the provider had been given twice: the answer did not last."""
    given = [request.form["refresh_token"] for request in server.token_requests("refresh_token") if request.form]
    answered = [request for request in server.token_requests("refresh_token") if request.status == 200]
    assert len(given) > len(set(given)), "a login was lost that the provider would have kept"
    assert len(answered) >= 1
