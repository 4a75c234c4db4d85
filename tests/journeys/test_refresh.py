"""Refreshes by the real daemon: many ask, it is killed, and the provider is strict."""

import json
import os
import secrets
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

from fakes import oidc
from fakes.patience import PATIENCE
from security import adversary

BODY = {"method": "GET", "host": "api.example.localhost", "path": "/"}
ROUNDS = 12
REFUSED = "127.0.0.1: invalid_grant (planned by the test)"


def test_fifty_at_once_and_one_refresh(program, log_in, define):
    """Fifty requests for a credential that is due: one refresh at the provider, fifty answers. # SEC-77 # SEC-91"""
    with oidc.serve(redirect_uris=[program.callback]) as server:
        define(server.definition("acme"))
        log_in(server, "acme")
        caller = adversary.owner(program)
        program.make_due()
        start = threading.Barrier(50)

        def ask(_: int) -> adversary.Answer:
            start.wait()
            return caller.ask("POST", "/proxy/resolve", BODY)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(ask, range(50)))
        assert [answer.status for answer in answers] == [200] * 50
        (refresh,) = server.token_requests("refresh_token")
        assert {str(answer.json()["set"]) for answer in answers} == {
            str([["Authorization", f"Bearer {refresh.answer['access_token']}"]])
        }


def test_what_is_in_use_is_refreshed_before_anybody_waits(program, log_in, define):
    """In the background, once; a connection that nobody uses is left alone."""
    with oidc.serve(redirect_uris=[program.callback], access_token_ttl=2) as server:
        define(server.definition("acme"))
        log_in(server, "acme")
        log_in(server, "acme", "--connection", "resting")
        use_in_time(server, adversary.owner(program), log_in)
        adversary.wait(lambda: server.token_requests("refresh_token"), "a refresh in the background")
        time.sleep(2)
        assert len(server.token_requests("refresh_token")) == 1
        adversary.wait(lambda: program.json("log", "--event", "refresh")["events"], "its entry")
        events = program.json("log", "--event", "refresh")["events"]
        assert {each["connection"] for each in events} == {"default"}
        assert None in {each.get("identity") for each in events}


def test_the_daemon_killed_around_a_refresh(program, log_in, define):
    """Kill -9, and start again: a login is lost only where the provider had spent its token. # SEC-78"""
    with oidc.serve(redirect_uris=[program.callback], access_token_ttl=1) as server:
        define(server.definition("acme"))
        log_in(server, "acme")
        caller = adversary.owner(program)
        server.plan("/token", delay=0.015, times=-1)
        lost = 0
        for number in range(ROUNDS):
            is_quiet = number % 3 == 0  # however slow the machine is, some are killed when all is stored
            server.lifetime(3600 if is_quiet else 1)
            asked = len(server.token_requests("refresh_token"))
            asking = Asking(caller)
            asking.start()

            def refreshes(asked: int = asked) -> bool:
                program.make_due()  # again, as a refresh in the background may have stored a fresh token just after
                return len(server.token_requests("refresh_token")) > asked

            adversary.wait(refreshes, "a refresh")
            if is_quiet:
                asking.wait_served()
            else:
                time.sleep(secrets.randbelow(40) / 1000)
            adversary.kill(program.wait_daemon())
            asking.stop.set()
            asking.join(PATIENCE)
            assert program("daemon", "start").returncode == 0
            answer = caller.ask("POST", "/proxy/resolve", BODY)
            if answer.status != 200:
                assert answer.code == "login_required", answer
                assert_spent_twice(server)
                assert "the daemon was stopped before the provider's answer was stored" in str(answer.json()["detail"])
                lost += 1
                server.clear_log()
                log_in(server, "acme", "--force")
        assert lost < ROUNDS
        with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60)) as store:
            assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        log = (program.home / "server" / "daemon.log").read_text()
        assert "Traceback" not in log


def test_a_daemon_that_is_stopped_finishes_its_refresh(program, log_in, define):
    """SIGTERM while the provider takes its time: the answer is waited for and stored. # SEC-78 # SEC-139

    The refresh is one in the background, or on a machine that is too slow for that one that a request waits for.
    """
    with (
        oidc.serve(redirect_uris=[program.callback], access_token_ttl=4) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        define(server.definition("acme"))
        log_in(server, "acme")
        caller = adversary.owner(program)
        server.plan("/token", hold="after")
        server.lifetime(3600)
        asked = pool.submit(caller.ask, "POST", "/proxy/resolve", BODY)
        server.wait_held()
        pid = program.wait_daemon()
        os.kill(pid, signal.SIGTERM)
        adversary.wait(lambda: not (program.home / "server" / "daemon.json").exists(), "the daemon to stop")
        assert adversary.alive(pid)
        server.release()
        assert asked.result(60).status == 200
        adversary.wait(lambda: not adversary.alive(pid), "the daemon's end")
        (refresh,) = server.token_requests("refresh_token")
        assert refresh.status == 200
        assert program("daemon", "start").returncode == 0
        answer = caller.ask("POST", "/proxy/resolve", BODY)
        assert answer.json()["set"] == [["Authorization", f"Bearer {refresh.answer['access_token']}"]]
        assert len(server.token_requests("refresh_token")) == 1


def test_a_login_that_the_provider_ends_is_told(program, log_in, define, tmp_path):
    """It is marked, once; the user's command hears of it, and so does whoever looks. # SEC-80"""
    with oidc.serve(redirect_uris=[program.callback], access_token_ttl=2) as server:
        define(server.definition("acme"))
        log_in(server, "acme", "--connection", "work")
        told = tmp_path / "told"
        config = program.home / "config.json"
        command = ["sh", "-c", f"cat > {told}.new; env >> {told}.new; mv {told}.new {told}"]
        config.write_text(json.dumps(json.loads(config.read_text()) | {"notify": {"login_needed": command}}))
        server.plan_error(times=-1)
        time.sleep(2)
        for _ in range(3):
            done = program("export", "acme")
            assert done.returncode == 5
            assert done.stderr.splitlines() == [
                f"authsome: error: acme no longer accepts the login work: {REFUSED}",
                "authsome: hint: log in again: authsome login acme",
            ]
        assert len(server.token_requests("refresh_token")) == 1
        adversary.wait(told.exists, "the command")
        text = told.read_text()
        assert json.loads(text.splitlines()[0])["hint"] == "log in again: authsome login acme"
        assert "AUTHSOME_EVENT=login_needed\n" in text
        listed = program("list", "--connected")
        assert listed.stdout.splitlines()[1].split()[:4] == ["acme", "work", "login", "needed"]
        assert f"authsome: warning: acme (work): {REFUSED}" in listed.stderr
        assert f"acme (work) is over: {REFUSED}" in program("doctor").stdout
        (event,) = program.json("log", "--event", "refresh_failed")["events"]
        assert event["detail"] == f"final: {REFUSED}"
        server.clear_plans()
        log_in(server, "acme", "--connection", "work", "--force")
        assert program.json("get", "acme")["problem"] is None


def test_a_provider_that_is_down_is_waited_for(program, log_in, define):
    """The login is kept, shown as expired with the cause, and works again once the provider does. # SEC-81"""
    with oidc.serve(redirect_uris=[program.callback], access_token_ttl=2) as server:
        define(server.definition("acme"))
        log_in(server, "acme")
        server.plan("/token", status=503, times=-1)
        time.sleep(2)
        done = program("export", "acme")
        assert done.returncode == 5
        assert done.stderr.splitlines() == [
            "authsome: error: acme: the token has expired and 127.0.0.1: answered 503",
            "authsome: hint: the login is kept; try again in a moment",
        ]
        assert program.json("get", "acme")["status"] == "expired"
        assert "problem        127.0.0.1: answered 503\n" in program("get", "acme").stdout
        assert "acme (default) cannot be refreshed: 127.0.0.1: answered 503" in program("doctor").stdout
        server.lifetime(3600)
        server.clear_plans()
        adversary.wait(lambda: program("export", "acme").returncode == 0, "the provider")
        assert program.json("get", "acme")["status"] == "connected"


def use_in_time(server: oidc.OidcServer, caller: adversary.Caller, log_in: Callable[..., None]) -> None:
    """Log in, and use the token before it is due, however slow the machine is; those after it live long."""
    for seconds in (4, 16, 64, 256):
        server.lifetime(seconds)
        log_in(server, "acme", "--force")
        server.lifetime(3600)
        server.clear_log()
        assert caller.ask("POST", "/proxy/resolve", BODY).status == 200
        if not server.token_requests("refresh_token"):
            return
    raise AssertionError("no token lives long enough to be used")


def assert_spent_twice(server: oidc.OidcServer) -> None:
    """The refused refresh token is one that the provider had been given before."""
    given = [request.form["refresh_token"] for request in server.token_requests("refresh_token") if request.form]
    assert len(given) > len(set(given)), "a login was lost that the provider would have kept"


class Asking(threading.Thread):
    """Wants the credential all the time."""

    def __init__(self, caller: adversary.Caller) -> None:
        super().__init__()
        self.caller = caller
        self.stop = threading.Event()
        self.served = 0

    def run(self) -> None:
        while not self.stop.wait(0.01):
            with suppress(OSError, ValueError):  # killed in between
                self.served += self.caller.ask("POST", "/proxy/resolve", BODY).status == 200

    def wait_served(self) -> None:
        """Wait until two more answers have come, the second of them to a question that was asked from now on."""
        enough = self.served + 2
        adversary.wait(lambda: self.served >= enough, "an answer")
