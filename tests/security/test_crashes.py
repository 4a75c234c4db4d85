"""The daemon killed at random moments under load: what it has acknowledged is there, and nothing is half there."""

import itertools
import resource
import secrets
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from fakes.patience import PATIENCE
from security import adversary

ROUNDS = 20
SECONDS = 25.0
"""Whichever comes first; a nightly run may take more rounds."""


class Client(threading.Thread):
    """Logs in and resolves without pause, and remembers what was acknowledged."""

    def __init__(self, caller, name):
        super().__init__()
        self.caller = caller
        self.prefix = name
        self.acknowledged = {}
        self.resolved = 0
        self.stop = threading.Event()

    def run(self):
        for number in itertools.count():
            if self.stop.is_set():
                return
            try:
                self.log_in(f"{self.prefix}-{number}", "sk-" + secrets.token_hex(24))
                body = {"method": "GET", "host": "api.openai.com", "path": "/"}
                self.resolved += self.caller.ask("POST", "/proxy/resolve", body).status == 200
            except (OSError, ValueError):  # killed in between
                time.sleep(0.02)

    def log_in(self, name, key):
        begun = self.caller.ask("POST", "/auth/sessions", {"provider": "openai", "connection": name})
        if begun.status != 201:
            return
        target = f"/auth/sessions/{begun.json()['id']}/resume"
        done = self.caller.ask("POST", target, {"fields": {"api_key": key}})
        if done.status == 200 and done.json()["status"] == "completed":
            self.acknowledged[name] = key


def known(clients):
    """How many logins have been acknowledged so far."""
    return sum(len(client.acknowledged) for client in clients)


def integrity(program):
    """What SQLite says of the database."""
    with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60)) as store:
        return store.execute("PRAGMA integrity_check").fetchall()


def test_killed_under_load(daemon, mine):
    """Kill -9 at random moments: every acknowledged login is there, whole, with its own key, and in the log.

    # SEC-131
    """
    clients = [Client(mine, f"client{number}") for number in range(3)]
    for client in clients:
        client.start()
    deadline = time.monotonic() + SECONDS
    rounds = 0
    try:
        while rounds < 5 or (rounds < ROUNDS and time.monotonic() < deadline):
            before = known(clients)
            if rounds % 2:  # however slow the machine is, some are killed at work and not on the way there
                adversary.wait(lambda: known(clients) > before + 1, "logins")  # noqa: B023
            time.sleep(secrets.randbelow(400) / 1000)
            adversary.kill(daemon.wait_daemon())
            assert daemon("daemon", "start").returncode == 0
            rounds += 1
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(PATIENCE)
    acknowledged = {name: key for client in clients for name, key in client.acknowledged.items()}
    assert len(acknowledged) >= rounds - 1
    assert sum(client.resolved for client in clients) > 0
    assert integrity(daemon) == [("ok",)]
    stored = {row["connection"] for row in mine.ask("GET", "/connections").json()["connections"]}
    assert acknowledged.keys() <= stored
    for name in stored:  # those whose acknowledgement was lost are whole, too
        answer = mine.ask("POST", f"/connections/openai/{name}/secrets", {"purpose": "export"})
        assert answer.status == 200, (name, answer)
        assert answer.json()["fields"]["api_key"] == acknowledged.get(name, answer.json()["fields"]["api_key"])
    with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=60)) as store:
        logged = {name for (name,) in store.execute("SELECT connection FROM audit WHERE event = 'login'")}
        defaults = store.execute("SELECT count(*) FROM connections WHERE is_default = 1").fetchone()
    assert stored <= logged  # no act without its entry
    assert defaults == (1,)
    assert daemon("doctor").returncode in {0, 1}
    assert not any("Traceback" in line for line in (daemon.home / "server" / "daemon.log").read_text().splitlines())


def test_out_of_memory(daemon, mine):
    """Without memory a request fails; with memory again everything is there. # SEC-140"""
    login = Client(mine, "before")
    login.log_in("before", "sk-" + "a1B2" * 12)
    pid = daemon.wait_daemon()
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.prlimit(pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    statuses = []
    for _ in range(6):
        with suppress(OSError):  # a client that is not answered goes away
            statuses.append(mine.ask("GET", "/connections", timeout=1).status)
    assert set(statuses) <= {0, 200, 500, 503, 507}
    if adversary.alive(pid):
        resource.prlimit(pid, resource.RLIMIT_AS, old)
    else:
        assert daemon("daemon", "start").returncode == 0
    assert mine.ask("GET", "/connections").status == 200
    answer = mine.ask("POST", "/connections/openai/before/secrets", {"purpose": "export"})
    assert answer.json()["fields"] == {"api_key": "sk-" + "a1B2" * 12}
    assert integrity(daemon) == [("ok",)]


def test_runs_in_parallel(program, keyed):
    """Twenty runs at once, each with a hundred requests: every one gets through, with the key. # SEC-189"""
    url = keyed.url("/v1/[1-100]", host="api.example.localhost")
    started = [
        program.start("run", "--", "curl", "-sf", "-o", "/dev/null", "-w", "%{http_code} ", url) for _ in range(20)
    ]
    answers = [process.communicate(timeout=PATIENCE) for process in started]
    assert [process.returncode for process in started] == [0] * 20, [err for _, err in answers if err]
    assert all(out.split() == ["200"] * 100 for out, _ in answers)
    assert len(keyed.requests) == 2000
    assert len({request.header("authorization") for request in keyed.requests}) == 1


def test_requests_leave_nothing_behind(daemon, mine):
    """After thousands of requests the daemon has the descriptors and threads that it had before. # SEC-193"""

    def counts():
        pid = daemon.wait_daemon()
        return [len(list(adversary.entries(f"/proc/{pid}/{kind}"))) for kind in ("fd", "task")]

    for _ in range(20):
        mine.ask("GET", "/whoami")
    adversary.wait(lambda: counts()[1] < 12, "the threads to end")
    before = counts()
    for _ in range(1500):
        adversary.ask(daemon.port, "GET", "/whoami")
    adversary.wait(
        lambda: all(now <= then + 3 for now, then in zip(counts(), before, strict=True)), f"no more than {before}"
    )
