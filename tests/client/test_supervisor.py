"""One home has one daemon: started when needed, recognised by its lock, never confused with a stranger."""

import base64
import fcntl
import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authsome.client import supervisor
from authsome.errors import UsageError
from authsome.home import Home, Settings, settings_from, write_private
from fakes import wire
from fakes.patience import PATIENCE, is_running, wait
from fakes.program import Program


@contextmanager
def stranger() -> Iterator[tuple[int, list[bytes]]]:
    """A program on a port that is no daemon, and everything that anybody ever sent it."""
    heard: list[bytes] = []

    def answer(connection: wire.Connection) -> None:
        heard.append(connection.socket.recv(65536))
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with wire.listen(answer) as port:
        yield port, heard


@contextmanager
def held(home: Home, pid: int) -> Iterator[None]:
    """The home's lock, held as a daemon of that pid would."""
    home.server.mkdir(parents=True, mode=0o700, exist_ok=True)
    with home.daemon_lock.open("w") as file:
        home.daemon_lock.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{pid}\n")
        file.flush()
        yield


def state_of(home: Home, **changes: object) -> None:
    state = {"pid": 4711, "url": "http://127.0.0.1:1", "version": "1", "build": "b", "archive": None, **changes}
    write_private(home.daemon_state, json.dumps(state).encode())


def test_a_daemon_is_its_lock_and_its_word_together(settings: Settings):
    """No lock, no state, a state of somebody else, or one that cannot be read: there is no daemon."""
    # SEC-122, SEC-123
    home = settings.home
    assert supervisor.running(home) is None
    with held(home, 4711):
        assert supervisor.running(home) is None
        state_of(home, pid=4712)
        assert supervisor.running(home) is None
        state_of(home, pid="4711")
        assert supervisor.running(home) is None
        write_private(home.daemon_state, b"{")
        assert supervisor.running(home) is None
        state_of(home)
        found = supervisor.running(home)
        assert found is not None
        assert (found.pid, found.url) == (4711, "http://127.0.0.1:1")
    assert supervisor.running(home) is None


def test_the_daemon_gets_no_secret_and_nothing_of_a_run(home):
    # SEC-128
    key = base64.b64encode(b"k" * 32).decode()
    environ = {
        "AUTHSOME_HOME": str(home),
        "AUTHSOME_MASTER_KEY": key,
        "AUTHSOME_IDENTITY": "ci",
        "AUTHSOME_IDENTITY_KEY": key,
        "AUTHSOME_CA_BUNDLE": "roots.pem",
        "AUTHSOME_LOG_LEVEL": "debug",
        "HTTPS_PROXY": "http://proxy:3128",
        "OPENAI_API_KEY": "sk-real",
        "LD_PRELOAD": "/tmp/evil.so",
        "PYTHONPATH": "/tmp/evil",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/bin",
    }
    given = supervisor.daemon_environment(settings_from(environ), environ)
    assert key not in given.values()
    assert given.keys() == {
        "AUTHSOME_HOME",
        "AUTHSOME_HOST",
        "AUTHSOME_PORT",
        "AUTHSOME_IDENTITY",
        "AUTHSOME_CA_BUNDLE",
        "AUTHSOME_LOG_LEVEL",
        "HTTPS_PROXY",
        "LC_ALL",
        "PATH",
    }
    assert Path(given["AUTHSOME_CA_BUNDLE"]).is_absolute()
    inside = environ | {"AUTHSOME_RUN": "r1", "AUTHSOME_RUN_SECRET": "s", "SSL_CERT_FILE": "/bundle"}
    assert not {"HTTPS_PROXY", "AUTHSOME_RUN", "AUTHSOME_RUN_SECRET", "SSL_CERT_FILE"} & set(
        supervisor.daemon_environment(settings_from(environ), inside)
    )


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        (None, True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("https://127.0.0.1:8000", False),
        ("https://broker.example", False),
    ],
)
def test_only_a_daemon_on_this_machine_is_started(settings: Settings, url, answer):
    assert supervisor.may_start(settings._replace(daemon_url=url)) is answer


def test_plain_http_to_elsewhere_is_refused(settings: Settings):
    with pytest.raises(UsageError):
        supervisor.may_start(settings._replace(daemon_url="http://10.0.0.1:7998"))


def test_the_daemon_starts_when_needed_and_serves_all_that_follow(program: Program):
    first = program.json("whoami")
    second = program.json("whoami")
    assert first == second
    status = program.json("daemon", "status")
    assert status["url"] == program.url
    assert status["home"] == str(program.home)
    assert program("daemon", "start").stdout.startswith("the daemon runs already")


def test_twenty_at_once_get_one_daemon_and_one_identity(program: Program):
    # SEC-196
    started = [program.start("whoami", "--json") for _ in range(20)]
    ended = [(*process.communicate(timeout=PATIENCE), process.returncode) for process in started]
    assert {status for *_, status in ended} == {0}, ended
    answers = [json.loads(out) for out, *_ in ended]
    assert len({answer["daemon"]["pid"] for answer in answers}) == 1
    assert len({answer["identity"]["did"] for answer in answers}) == 1
    assert len(list((program.home / "identities").iterdir())) == 1


def test_after_a_kill_the_next_command_starts_another(program: Program):
    """The state file of the one that was killed says nothing any more, whoever has its port by then."""
    # SEC-122
    pid = program.json("whoami")["daemon"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not is_running(pid), "its end")
    status = program("daemon", "status")
    assert (status.returncode, "not running" in status.stderr) == (9, True)
    assert program.json("whoami")["daemon"]["pid"] != pid


def test_a_stranger_on_the_port_is_sent_nothing(program: Program):
    """Neither when it has the port that we want, nor when a dead daemon's state file points to it."""
    # SEC-123
    with stranger() as (port, heard):
        done = program("whoami", env={"AUTHSOME_PORT": str(port)})
        assert done.returncode == 9
        assert "AUTHSOME_PORT" in done.stderr
        assert "Traceback" not in done.stderr
        home = Home(program.home)
        state_of(home, pid=1, url=f"http://127.0.0.1:{port}")
        program.json("whoami")
        assert not any(heard)


def test_the_master_key_is_in_no_environment_and_no_argument(program: Program):
    """From the first moment of the daemon's life: its processes are looked at all the while."""
    # SEC-128, SEC-141
    key = secrets.token_bytes(32)
    shown = {key, base64.b64encode(key), key.hex().encode()}
    environ = {"AUTHSOME_MASTER_KEY": base64.b64encode(key).decode()}
    client = program.start("daemon", "start", env=environ)
    leaks, seen = [], set()
    while client.poll() is None or not seen:
        for pid, line in program.processes().items():
            if " daemon serve" not in line:
                continue  # the user's own command has what its user gave it
            try:
                text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            seen.add(pid)
            if any(form in text for form in shown):
                leaks.append(text)
    _, err = client.communicate()
    assert client.returncode == 0, err
    assert program.wait_daemon() in seen
    assert not leaks
    assert program.json("whoami")["principal"]["role"] == "admin"


def test_serve_drops_the_master_key_from_its_own_environment(program: Program):
    # SEC-128
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    server = program.start("daemon", "serve", env={"AUTHSOME_MASTER_KEY": key})
    assert server.stderr is not None
    assert any("Ctrl-C stops" in line for line in iter(server.stderr.readline, ""))
    pid = program.wait_daemon()
    assert pid == server.pid
    assert key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    server.terminate()
    server.communicate(timeout=60)
    assert server.returncode == 0


def test_the_cause_of_a_failed_start_is_told_with_its_hint(program: Program):
    """Another master key than the vault was made with; nothing is changed by it."""
    # SEC-114
    keys = [base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2)]
    assert program("init", env={"AUTHSOME_MASTER_KEY": keys[0]}).returncode == 0
    assert program("daemon", "stop").returncode == 0
    wrong = program("whoami", "--json", env={"AUTHSOME_MASTER_KEY": keys[1]})
    assert wrong.returncode == 9
    assert json.loads(wrong.stdout)["error"] == "master_key_mismatch"
    assert "made with" in json.loads(wrong.stdout)["hint"]
    none = program("whoami")
    assert none.returncode == 9
    assert len([line for line in none.stderr.splitlines() if not line.endswith(" …")]) <= 2
    assert program("whoami", env={"AUTHSOME_MASTER_KEY": keys[0]}).returncode == 0


def test_a_daemon_of_another_version_is_told_apart(daemon: Program):
    # SEC-197
    path = daemon.home / "server" / "daemon.json"
    state = json.loads(path.read_bytes())
    write_private(path, json.dumps(state | {"version": "99.0"}).encode())
    done = daemon("whoami")
    assert done.returncode == 9
    assert "version 99.0" in done.stderr
    assert "authsome daemon restart" in done.stderr
    write_private(path, json.dumps(state).encode())
    assert daemon("whoami").returncode == 0


def test_a_url_on_this_machine_says_where_to_start(program: Program, free_port):
    url = f"http://127.0.0.1:{free_port}"
    assert program.json("whoami", env={"AUTHSOME_DAEMON_URL": url})["daemon"]["url"] == url
    moved = program("whoami", env={"AUTHSOME_DAEMON_URL": program.url})
    assert moved.returncode == 9
    assert url in moved.stderr


def test_a_daemon_elsewhere_is_neither_started_nor_stopped(program: Program, free_port):
    env = {"AUTHSOME_DAEMON_URL": f"https://127.0.0.1:{free_port}"}
    for words in (["daemon", "start"], ["daemon", "stop"], ["daemon", "restart"], ["daemon", "logs"]):
        assert program(*words, env=env).returncode == 2
    gone = program("whoami", env=env)
    assert gone.returncode == 9
    assert "not started from here" in gone.stderr
    assert program.processes() == {}


def test_a_wait_of_more_than_a_moment_is_explained(program: Program):
    home = Home(program.home)
    home.server.mkdir(parents=True, mode=0o700)
    home.root.chmod(0o700)
    with home.start_lock.open("w") as file:
        home.start_lock.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        process = program.start("daemon", "start")
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting for another authsome to start the daemon …\n"
    out, _ = process.communicate(timeout=60)
    assert "the daemon started" in out


def test_stop_waits_for_the_end(daemon: Program):
    pid = daemon.wait_daemon()
    assert daemon("daemon", "stop").stdout == "the daemon has stopped\n"
    assert not is_running(pid)
    again = daemon("daemon", "stop")
    assert (again.returncode, again.stdout) == (0, "no daemon was running\n")


def test_the_log_is_shown(daemon: Program):
    shown = daemon("daemon", "logs", "-n", "1")
    assert shown.returncode == 0
    assert daemon.url in shown.stdout
    assert len(shown.stdout.splitlines()) == 1
    assert daemon.json("daemon", "logs")["lines"]
