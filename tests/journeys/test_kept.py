"""What a proxy keeps of the daemon's answers: what holds when each request is asked for, holds with it."""

import fcntl
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes import api, definitions
from fakes.patience import PATIENCE, wait
from fakes.program import Program

KEY = "kk-0123456789abcdefghijklmnop"
_OTHER = "kk-zyxwvutsrqponmlkjihgfedcba"
_CHILD = """
import http.client, os, ssl, sys
from urllib.parse import urlsplit
import base64
at, proxy = urlsplit(sys.argv[1]), urlsplit(os.environ["HTTPS_PROXY"])
pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=trust)
connection.set_tunnel(at.hostname, at.port, {"Proxy-Authorization": f"Basic {pair}"})
for line in sys.stdin:
    method, path, *named = line.split()
    connection.request(method, path, headers={"Authsome-Connection": named[0]} if named else {})
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)
"""


class Asking:
    """A child of a run that makes requests, one after the other, on one connection."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def __call__(self, path: str, *, method: str = "GET", connection: str = "") -> int:
        """Make a request; its status."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{method} {path} {connection}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """Let it end by itself."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def logged_in(program: Program, keyed: api.ApiServer) -> api.ApiServer:
    """The `keyed` provider, connected."""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    return keyed


@pytest.fixture
def asking(start: Callable[..., "subprocess.Popen[str]"], logged_in: api.ApiServer) -> Iterator[Asking]:
    """A child whose proxy has something to keep: it has made two requests."""
    process = start("run", "--", sys.executable, "-c", _CHILD, logged_in.url("/", host="api.example.localhost"))
    asking = Asking(process)
    assert (asking("/one"), asking("/two")) == (200, 200)
    yield asking
    process.kill()


def _entries(program: Program, *, event: str = "resolve") -> list[dict[str, object]]:
    events = program.json("log", "-n", "200", "--event", event)["events"]
    assert isinstance(events, list)
    return events


def _asked(program: Program) -> int:
    """How many resolves the daemon itself has answered: those that are not taken from what a proxy wrote down."""
    _entries(program)
    with sqlite3.connect(f"file:{program.home}/server/store.db?mode=ro", uri=True) as store:
        (resolved,) = store.execute("SELECT count(*) FROM audit WHERE event = 'resolve'").fetchone()
        (used,) = store.execute("SELECT coalesce(sum(next), 0) FROM spools").fetchone()
    return int(resolved) - int(used)


def _keys(server: api.ApiServer) -> list[str]:
    return [(request.header("authorization") or "").removeprefix("Bearer ") for request in server.requests]


def test_every_use_has_its_entry(program, asking, logged_in):
    """A request that nobody asked the daemon for is in the log like one that was: once, in order, without its query."""
    before = _asked(program)
    for number in range(20):
        assert asking(f"/n/{number}?secret=1") == 200
    entries = _entries(program)
    assert [each["path"] for each in entries] == ["/one", "/two", *(f"/n/{number}" for number in range(20))]
    assert {(each["provider"], each["connection"], each["method"], each["host"]) for each in entries} == {
        ("keyed", "default", "GET", "api.example.localhost")
    }
    assert len({(each["run"], each["identity"], each["principal"]) for each in entries}) == 1
    assert [each["at"] for each in entries] == sorted(str(each["at"]) for each in entries)
    assert _keys(logged_in) == [KEY] * 22
    assert _asked(program) - before < 5, "the daemon was asked all the same"
    asking.end()
    wait(lambda: not any((program.home / "proxy" / "spool").iterdir()), "what was taken in to go")
    assert _entries(program, event="uses_in_doubt") == []


def test_what_changes_counts_for_the_next_request(program, asking, logged_in):
    """Login, logout, another default: the very next request on a kept connection goes by it. # SEC-169"""
    assert asking("/a") == 200
    assert program("login", "keyed", "--stdin", "--connection", "work", input=_OTHER).returncode == 0
    assert program("set-default", "keyed", "work").returncode == 0
    assert asking("/b") == 200
    assert _keys(logged_in)[-1] == _OTHER
    assert asking("/c", connection="default") == 200
    assert (asking("/d"), asking("/e", connection="default"), asking("/f")) == (200, 200, 200)  # SEC-170
    assert _keys(logged_in)[-3:] == [_OTHER, KEY, _OTHER]
    count = len(logged_in.requests)
    for name in ("work", "default"):
        assert program("logout", "keyed", "--connection", name).returncode == 0
    assert asking("/g") == 424
    assert len(logged_in.requests) == count
    assert [each["path"] for each in _entries(program)][-3:] == ["/d", "/e", "/f"]


def test_logging_out_is_never_late(program, asking, logged_in):
    """Twenty times over: no request that follows a logout carries a credential. # SEC-169"""
    for _ in range(20):
        assert asking("/x") == 200
        assert asking("/y") == 200
        assert program("logout", "keyed").returncode == 0
        assert asking("/z") == 424
        assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    assert [request.path for request in logged_in.requests].count("/z") == 0


def test_a_login_opens_its_hosts_at_once(program, start, define, logged_in):
    """Routes are kept like credentials, and are no later: the very next CONNECT goes by what is connected. # SEC-169"""
    url = logged_in.url("/x", host="other.example.localhost")
    curl = f"curl -s -o /dev/null -w '%{{http_connect}} %{{http_code}}\n' {url}"
    child = start("run", "--", "sh", "-c", f"{curl}; {curl}; read go; {curl}; read go; {curl}")
    assert [child.stdout.readline() for _ in range(2)] == ["403 000\n"] * 2  # no tunnel leads to this machine
    define({**definitions.keyed(logged_in.url("/", host="other.example.localhost")), "name": "other"})
    assert program("login", "other", "--stdin", input=_OTHER).returncode == 0
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.readline() == "200 200\n"
    assert _keys(logged_in) == [_OTHER]
    assert program("logout", "other").returncode == 0
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.readline() == "403 000\n"


def test_without_its_daemon_a_proxy_keeps_nothing(program, asking, logged_in):
    """Killed, its daemon is gone for the very next request, which is answered 502 and not sent. # SEC-136"""
    assert asking("/a") == 200
    daemon = next(pid for pid, command in program.processes().items() if "daemon serve" in command)
    _kill(daemon)
    count = len(logged_in.requests)
    assert asking("/b") == 502
    assert len(logged_in.requests) == count
    assert program("daemon", "start").returncode == 0
    assert [each["path"] for each in _entries(program)][:3] == ["/one", "/two", "/a"]


def test_a_killed_proxy_loses_no_entry(program, asking):
    """What it wrote down is taken in after its end; that it ended without a word is on record. # SEC-182"""
    for number in range(5):
        assert asking(f"/n/{number}") == 200
    worker = next(pid for pid, command in program.processes().items() if "proxy-worker" in command)
    _kill(worker)
    assert [each["path"] for each in _entries(program)] == ["/one", "/two", *(f"/n/{number}" for number in range(5))]
    (doubt,) = _entries(program, event="uses_in_doubt")
    assert doubt["detail"] == "its proxy has ended without a word"


def test_where_nothing_can_be_written_down_the_daemon_is_asked(program, asking, logged_in):
    """No use without its line: a spool that has no place means a question for each request. # SEC-182"""
    (program.home / "proxy" / "spool").chmod(0o500)
    worker = next(pid for pid, command in program.processes().items() if "proxy-worker" in command)
    with subprocess.Popen(["prlimit", f"--pid={worker}", "--fsize=0"]) as limited:
        assert limited.wait() == 0
    before = _asked(program)
    for number in range(5):
        assert asking(f"/n/{number}") == 200
    assert _asked(program) - before == 5
    assert _keys(logged_in) == [KEY] * 7


def test_what_somebody_else_writes_is_not_believed(program, asking):
    """Lines that its proxy did not write, and lines that are gone, are seen; the true ones are kept. # SEC-183"""
    assert asking("/a") == 200
    (spool,) = (program.home / "proxy" / "spool").glob("[!.]*")
    with spool.open("ab") as file:
        file.write(b"99 1764000000000000 GET evil.example / keyed default " + b"0" * 32 + b"\n")
    assert asking("/b") == 200
    assert [each["path"] for each in _entries(program)] == ["/one", "/two", "/a", "/b"]
    (doubt,) = _entries(program, event="uses_in_doubt")
    assert doubt["detail"] == "1 line was not written by its proxy"
    size = _used(asking, spool)
    os.truncate(spool, size)
    assert asking("/after") == 200
    paths = [str(each["path"]) for each in _entries(program)]
    assert paths[-1] == "/after"
    assert re.fullmatch(r"use [0-9]+ is missing|what was written down has been shortened", _doubts(program)[-1])


@pytest.mark.parametrize("held", [True, False], ids=["held", "gone"])
def test_a_spool_that_is_kept_from_the_daemon_is_used_no_more(program, asking, held):
    """By a file in its place that somebody holds, or by removing it: it is said, and from then on each is asked for.

    # SEC-182 # SEC-183
    """
    assert asking("/a") == 200
    (spool,) = (program.home / "proxy" / "spool").glob("[!.]*")
    _used(asking, spool)
    _entries(program)
    false = spool.with_name(".false")
    with false.open("wb") as file:
        false.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if held:
            false.rename(spool)
        else:
            spool.unlink()
        number = 0
        while not any(each.endswith("missing") for each in _doubts(program)):
            assert asking(f"/lost/{number}") == 200
            number += 1
            assert number < 10_000
        before = _asked(program)
        assert [asking(f"/then/{number}") for number in range(5)] == [200] * 5
        assert _asked(program) - before == 5
        paths = [each["path"] for each in _entries(program)]
        assert paths[-5:] == [f"/then/{number}" for number in range(5)]


@pytest.mark.parametrize("was_looked_at", [True, False], ids=["later", "at once"])
def test_a_proxy_that_was_killed_with_its_spool_removed_is_on_record(program, asking, was_looked_at):
    """Its end alone would say nothing, for nothing is found; also before anybody has looked at its uses. # SEC-183"""
    (spool,) = (program.home / "proxy" / "spool").glob("[!.]*") if asking("/a") == 200 else ()
    _used(asking, spool)
    if was_looked_at:
        _entries(program)
    _kill(next(pid for pid, command in program.processes().items() if "proxy-worker" in command))
    spool.unlink()
    for _ in range(2):
        _entries(program)
    assert [each for each in _doubts(program) if "gone" in each] == ["what its proxy had written down is gone"]


@pytest.mark.usefixtures("logged_in")
def test_a_run_ends_although_its_uses_cannot_be_taken_in(program):
    """A child cannot keep its run's secret alive by a file in the way; who reads the log is told of it. # SEC-138"""
    spool = program.home / "proxy" / "spool"
    assert program("run", "--", "sh", "-c", f"touch '{spool}'").returncode == 0
    told = program("log")
    assert (told.returncode, "spool cannot be read" in told.stderr) == (9, True)
    with sqlite3.connect(f"file:{program.home}/server/store.db?mode=ro", uri=True) as store:
        query = "SELECT count(*) FROM audit WHERE event = 'run_ended'"
        wait(lambda: store.execute(query).fetchone() == (1,), "the run's end")


def _doubts(program: Program) -> list[str]:
    return [str(each["detail"]) for each in _entries(program, event="uses_in_doubt")]


def _used(asking: Asking, spool: Path) -> int:
    """Make a request that nobody is asked about; how long what is written down was before."""
    for _ in range(20):  # now and then one is asked about
        size = spool.stat().st_size
        assert asking("/used") == 200
        if spool.stat().st_size > size:
            return size
    raise AssertionError("every request was asked about")


def _kill(pid: int) -> None:
    """Kill a process, and wait until all of its threads are gone."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], PATIENCE)[0]
    finally:
        os.close(descriptor)
