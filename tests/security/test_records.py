"""The record of what happened: there before a secret leaves, telling who and where, and never what."""

import http.client
import json
import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

from fakes.patience import PATIENCE
from fakes.ports import free_port
from security import adversary
from security.conftest import KEY


def events(caller):
    """The log, oldest first."""
    return list(reversed(caller.ask("GET", "/audit/events?limit=200").json()["events"]))


def request_for(api):
    """What a worker asks for a request to `api`, with a path and query of the child's."""
    return {"method": "POST", "host": "api.example.localhost", "port": api.port, "path": "/v1/x?token=in-a-query"}


def test_every_act_is_told(program, keyed):
    """Who, what, where, when, and how it ended; a query is not kept. # SEC-181 # SEC-184"""
    mine = adversary.owner(program)
    resolved = mine.ask("POST", "/proxy/resolve", request_for(keyed))
    assert KEY.encode() in resolved.body
    refused = mine.ask("POST", "/proxy/resolve", {**request_for(keyed), "host": "elsewhere.example"})
    assert refused.status == 404
    mine.ask("POST", "/connections/keyed/default/secrets", {"purpose": "export"})
    program("run", "--", "true")
    adversary.newcomer(program, "nobody").ask("GET", "/whoami")
    mine.ask("POST", "/connections/keyed/default/logout", {})
    # Told by the worker, once its child is gone.
    adversary.wait(lambda: any(each["event"] == "run_ended" for each in events(mine)), "the run's end")
    told = events(mine)
    assert {"claim", "login", "resolve", "denied", "export", "run", "run_ended", "logout"} <= {
        each["event"] for each in told
    }
    for each in told:
        assert each["at"]
        assert each["event"] == "denied" or each["identity"] == mine.handle
        # The worker tells an end in the run's name; a caller who was refused has proven nothing.
        assert each["event"] in {"denied", "run_ended"} or each["proof"]
    (one,) = [each for each in told if each["event"] == "resolve"]
    wanted = {
        "provider": "keyed",
        "connection": "default",
        "method": "POST",
        "host": "api.example.localhost",
        "path": "/v1/x",
    }
    assert {name: one[name] for name in wanted} == wanted
    assert "in-a-query" not in str(told)


def test_no_record_no_secret(program, keyed):
    """While the log cannot be written no secret leaves; as soon as it can, it does. # SEC-182"""
    mine = adversary.owner(program)
    with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")  # another program holds the database
        answer = mine.ask("POST", "/proxy/resolve", request_for(keyed))
        store.execute("ROLLBACK")
    assert answer.status in {503, 507}
    assert KEY.encode() not in answer.body
    assert KEY.encode() in mine.ask("POST", "/proxy/resolve", request_for(keyed)).body


def test_no_room_for_the_record(program, keyed):
    """A database that may not grow refuses to give a secret, says why, and goes on when there is room.

    # SEC-182 # SEC-133
    """
    mine = adversary.owner(program)
    pid = program.wait_daemon()
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    statuses = set()
    for _ in range(3):
        answer = mine.ask("POST", "/proxy/resolve", request_for(keyed))
        statuses.add(answer.status)
        assert KEY.encode() not in answer.body
    assert statuses <= {503, 507}
    resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
    assert KEY.encode() in mine.ask("POST", "/proxy/resolve", request_for(keyed)).body
    assert adversary.alive(pid)


def test_many_at_once_on_a_slow_disk(program, keyed):  # SEC-186
    """64 connections, and 3 ms for each sync: every request is answered and on record, with few syncs for all.

    How long they wait is measured: `python3 tests/bench --only scale`.
    """
    mine = adversary.owner(program)
    assert program("daemon", "stop").returncode == 0
    trace = program.directory / "syncs"
    slow = ("--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=3000")
    traced = replace(program, command=("strace", "-f", "-qq", "-o", str(trace), *slow, *program.command))

    def send(_: int) -> list[int]:
        with closing(http.client.HTTPConnection("127.0.0.1", program.port, timeout=PATIENCE)) as connection:
            return [resolved(connection) for _ in range(20)]

    def resolved(connection: http.client.HTTPConnection) -> int:
        body = json.dumps(request_for(keyed)).encode()
        token = mine.token("POST", "/proxy/resolve", body)
        headers = {"Authorization": f"PoP {token}", "Content-Type": "application/json"}
        connection.request("POST", "/proxy/resolve", body, headers)
        answer = connection.getresponse()
        assert KEY.encode() in answer.read()
        return answer.status

    with traced.start("daemon", "serve") as process, ThreadPoolExecutor(64) as pool:
        program.wait_daemon()
        assert program("whoami").returncode == 0
        before = len(trace.read_text().splitlines())
        assert list(pool.map(send, range(64))) == [[200] * 20] * 64
        assert len(trace.read_text().splitlines()) - before <= 64
        assert program("log", "verify").returncode == 0
        assert program("daemon", "stop").returncode == 0
        process.communicate(timeout=PATIENCE)
    assert before > 0
    with closing(sqlite3.connect(program.home / "server" / "store.db")) as store:
        assert store.execute("SELECT count(*) FROM audit WHERE event = 'resolve'").fetchone() == (64 * 20,)


def test_nobody_is_told_that_we_run(program):
    """Starting, listing and stopping ask nobody: no telemetry, no look for updates. # SEC-213

    A login tries its key on that key's provider, and on nobody else.
    """
    port = free_port()
    with adversary.stranger(port) as listener:
        proxy = f"http://127.0.0.1:{port}"
        env = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"), proxy)
        for command in (
            ["daemon", "start"],
            ["whoami"],
            ["list"],
            ["login", "openai", "--stdin", "--no-verify"],
            ["log"],
            ["daemon", "restart"],
        ):
            done = program(*command, env=env, input="sk-" + "a1B2" * 12)
            assert done.returncode == 0, done.stderr
        assert listener.received == []
        done = program("login", "openai", "--force", "--stdin", env=env, input="sk-" + "a1B2" * 12)
        assert done.returncode == 0, done.stderr
    assert {head.partition(b"\r\n")[0] for head in listener.received} == {b"CONNECT api.openai.com:443 HTTP/1.1"}
