"""A worker's life: it begins with its run, ends with it however that ends, and leaves the child nothing without it."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.support import HOST, Runner, eventually, listener_pid


def is_listening(port: int) -> bool:
    """Whether anything takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def is_running(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def test_the_run_ends_with_its_child(runner: Runner):
    """The daemon is told, the port is closed, and the process is gone."""
    with runner.proxy() as proxy:
        port, pid = proxy.port, proxy.pid
        assert len(runner.daemon.live) == 1
    assert eventually(lambda: not runner.daemon.live and not is_listening(port) and not is_running(pid))


def test_the_run_ends_when_its_child_is_killed(runner: Runner):
    """Kill -9 of the command ends its credential within seconds, and open connections with it."""
    # SEC-138
    with runner.proxy() as proxy:
        port, pid = proxy.port, proxy.pid
        wire = proxy.open(HOST, runner.server.port)
        assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
        proxy.end()
        assert wire.reader.read() == b""
        wire.close()
        assert eventually(lambda: not runner.daemon.live and not is_listening(port) and not is_running(pid), timeout=5)


def test_what_the_child_leaves_behind_has_no_network(runner: Runner):
    """A process that outlives the command can have nothing injected any more."""
    # SEC-138
    url = runner.server.url("/late", host=HOST)
    script = f"(sleep 2; curl -sS '{url}' > late 2>&1; echo $? > status) & exit 0"
    assert runner("sh", "-c", script).returncode == 0
    assert eventually(lambda: (runner.directory / "status").exists() and (runner.directory / "status").read_text())
    assert (runner.directory / "status").read_text().strip() not in {"", "0"}
    assert runner.server.to("/late") == []


def test_a_killed_worker_leaves_no_network(runner: Runner):
    """Kill -9 of the proxy: the child's requests fail, rather than go out by themselves."""
    # SEC-137
    with runner.proxy() as proxy:
        pid, port = proxy.pid, proxy.port
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not is_listening(port))
        done = subprocess.run(
            ["curl", "-sS", runner.server.url("/echo", host=HOST)],
            env=dict(proxy.environ),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 7  # could not connect
    assert runner.server.requests == []


def test_sigterm_ends_the_run(runner: Runner):
    """A worker that is asked to end tells the daemon first."""
    # SEC-139
    with runner.proxy() as proxy:
        os.kill(proxy.pid, signal.SIGTERM)
        assert eventually(lambda: not runner.daemon.live, timeout=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_terminals_signals_do_not_reach_it(runner: Runner, number: signal.Signals):
    """Interrupt and hang-up are the child's business."""
    with runner.proxy() as proxy:
        os.kill(proxy.pid, number)
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200


def test_a_run_whose_time_is_over_serves_nobody(runner: Runner):
    """After its expiry a run opens nothing and injects nothing, on connections that were open before too."""
    expires_at = datetime.now(UTC) + timedelta(seconds=3)
    runner.daemon.expires_at = expires_at.isoformat()
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as proxy, proxy.open(HOST, runner.server.port) as wire:
        assert wire.request("GET", "/echo", host).status == 200
        time.sleep(max((expires_at - datetime.now(UTC)).total_seconds(), 0) + 0.1)
        answer = wire.request("GET", "/echo", host)
        assert (answer.status, answer.json()["detail"]) == (403, "the run's time is over")
        with proxy.connect() as fresh:
            assert fresh.request("CONNECT", f"{HOST}:443", f"Host: {HOST}", proxy.authorization).status == 403
    assert len(runner.server.requests) == 1


def test_it_has_a_session_of_its_own_and_no_secrets_around(runner: Runner):
    """Session, directory, descriptors, environment and core limit of the process are its own."""
    # SEC-129 SEC-141
    runner.environ |= {
        "SECRET_OF_THE_CALLER": "canary",
        "SSLKEYLOGFILE": str(runner.directory / "keys"),
        "PYTHONPATH": "/x",
    }
    with runner.proxy() as proxy:
        pid = proxy.pid
        process = Path(f"/proc/{pid}")
        assert os.getsid(pid) != os.getsid(proxy.child.pid)
        assert process.joinpath("cwd").readlink() == Path("/")
        environ = process.joinpath("environ").read_bytes()
        assert b"canary" not in environ
        assert b"SSLKEYLOGFILE" not in environ
        assert b"PYTHONPATH" not in environ
        limits = process.joinpath("limits").read_text()
        assert limits.split("Max core file size")[1].split()[0] == "0"
        streams = [process.joinpath("fd", str(number)).readlink() for number in (0, 1)]
        assert streams == [Path("/dev/null")] * 2
    assert not (runner.directory / "keys").exists()


def test_everything_it_leaves_is_private(runner: Runner):
    """Directory 0700 and files 0600 whatever the umask; no key of the authority in what the child is given."""
    # SEC-118 SEC-175 SEC-176
    with subprocess.Popen(
        ["sh", "-c", 'umask 0; exec "$@"', "sh", *runner.plan("true")], env=runner.environ, cwd=runner.directory
    ) as child:
        assert child.wait(timeout=30) == 0
    directory = runner.home / "proxy"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = list(directory.iterdir())
    assert {path.name for path in files} >= {"authority.pem", "authority.json", "proxy.log", "node_preload.cjs"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    with_key = [path.name for path in files if b"PRIVATE KEY" in path.read_bytes()]
    assert with_key == ["authority.pem"]


def test_it_is_not_started_by_hand():
    """Without an assignment on its input it says so and ends."""
    command = [sys.executable, str(Path(__file__).with_name("start_worker.py"))]
    done = subprocess.run(command, input=b"{}\n", capture_output=True, check=False, timeout=30)
    assert done.returncode == 2
    assert b"authsome run" in done.stderr


def test_two_runs_at_once_do_not_know_each_other(runner: Runner):
    """Each worker takes only its own run's credential."""
    with runner.proxy() as first, runner.proxy() as second:
        assert first.port != second.port
        assert listener_pid(first.port) != listener_pid(second.port)
        with first.connect() as wire:
            answer = wire.request("CONNECT", f"{HOST}:{runner.server.port}", "Host: x", second.authorization)
        assert answer.status == 407
