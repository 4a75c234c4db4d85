"""Other processes of this machine: the child itself, whoever holds the daemon's port, a second daemon, a killed one."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from fakes import definitions
from fakes.patience import PATIENCE
from fakes.program import installed
from security import adversary
from security.adversary import ask
from security.conftest import KEY


def child_of(program, mark):
    """The pid of the run's child, once it has taken the command line's place."""
    found = []

    def there():
        found[:] = [pid for pid, line in program.processes().items() if line.startswith(f"sh -c {mark}")]
        return found

    adversary.wait(there, "the child")
    return found[0]


def worker_of(program):
    """The pid of the only proxy worker."""
    (pid,) = [pid for pid, line in program.processes().items() if "proxy-worker" in line]
    return pid


def resolve(program, credentials, api):
    """Ask the daemon for the key of `api`, as a worker does, with these credentials."""
    body = json.dumps({"method": "GET", "host": "api.example.localhost", "port": api.port, "path": "/"}).encode()
    headers = (("Authorization", f"Run {credentials}"), ("Content-Type", "application/json"))
    return ask(program.port, "POST", "/proxy/resolve", *headers, body=body)


def test_what_the_child_holds_opens_nothing(program, keyed):
    """The password in the child's proxy URL is good for the proxy alone: the daemon gives it no credential.

    # SEC-144
    """
    done = program("run", "--", "sh", "-c", "env; cat /proc/self/environ")
    given = re.search(r"HTTPS_PROXY=http://([^@]+)@", done.stdout)[1]
    run, _, password = given.partition(":")
    with_child = f"curl -s -H 'Authorization: Run '${{u#http://}} {program.url}/proxy/routes"
    asked = program(
        "run",
        "--",
        "sh",
        "-c",
        f"u=${{HTTPS_PROXY%@*}}; {with_child}; {with_child.replace('routes', 'resolve')} -d '{{}}'",
    )
    assert "api.example.localhost" not in asked.stdout
    assert asked.stdout.count("authentication_failed") >= 1
    for guess in (given, f"{run}:{password[::-1]}", f"{run}:", f":{password}", password, run):
        answer = resolve(program, guess, keyed)
        assert (answer.status, answer.code) == (401, "authentication_failed")
    assert KEY not in done.stdout + asked.stdout


def test_a_live_childs_password_opens_nothing(program, keyed, start):
    """Not while the run lives either: this is what the child could try at any moment. # SEC-144"""
    child = start("run", "--", "sh", "-c", "echo $HTTPS_PROXY; read stop")
    given = re.search(r"http://([^@]+)@", child.stdout.readline())[1]
    answer = resolve(program, given, keyed)
    assert (answer.status, KEY.encode() in answer.body) == (401, False)
    routes = ask(program.port, "GET", "/proxy/routes", ("Authorization", f"Run {given}"))
    assert routes.status == 401


def test_a_worker_tells_a_stranger_nothing(program, keyed, start):
    """When the daemon is gone and somebody else holds its port, the run's secret is not sent there.

    # SEC-123 # SEC-136
    """
    url = keyed.url("/", host="api.example.localhost")
    script = f"read go; curl -s -o /dev/null -w '%{{http_code}}' {url}; read stop"
    child = start("run", "--", "sh", "-c", script)
    child_of(program, "read go")
    adversary.kill(program.wait_daemon())
    with adversary.stranger(program.port) as listener:
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.read(3) in {"502", "503"}
    assert listener.tokens == []
    assert keyed.requests == []


@pytest.mark.parametrize(
    "command", [("whoami",), ("list",), ("login", "openai", "--stdin"), ("run", "--", "true"), ("daemon", "status")]
)
def test_a_command_tells_a_stranger_nothing(daemon, mine, command):
    """With a stranger on its port no command sends a proof or a key, and each says what is wrong. # SEC-123"""
    del mine
    adversary.kill(daemon.wait_daemon())
    with adversary.stranger(daemon.port) as listener:
        done = daemon(*command, input="sk-" + "a1B2" * 12)
    assert listener.tokens == []
    assert not any(b"sk-a1B2" in data for data in listener.received)
    if command[0] != "daemon":
        assert (done.returncode, "taken" in done.stderr) == ((125 if command[0] == "run" else 9), True), done.stderr


def test_the_child_fails_closed_while_the_daemon_is_dead(program, keyed, start):
    """After kill -9 of the daemon the child gets an error, not its answer without a key; with a new daemon it works.

    # SEC-136
    """
    url = keyed.url("/", host="api.example.localhost")
    script = f"while read go; do curl -s -o /dev/null -w '%{{http_code}} ' {url}; echo; done"
    child = start("run", "--", "sh", "-c", script)
    child_of(program, "while read go")

    def request():
        child.stdin.write("go\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    assert request() == "200"
    adversary.kill(program.wait_daemon())
    assert request() in {"502", "503"}
    assert len(keyed.requests) == 1
    assert program("daemon", "start").returncode == 0
    assert request() == "200"
    assert {seen.header("authorization") for seen in keyed.requests} == {f"Bearer {KEY}"}


def test_a_killed_run_is_dead_within_seconds(program, keyed, start):
    """Kill -9 of the command ends its credential, at the proxy and at the daemon. # SEC-137 # SEC-138"""
    child = start("run", "--", "sh", "-c", "echo $HTTPS_PROXY; read stop")
    proxy = child.stdout.readline().strip()

    def status() -> str:
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-x", proxy, "http://127.0.0.1:1/"]
        return subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE, text=True).stdout

    assert status() == "403"  # the credential is known; that address is not for anybody
    os.kill(child_of(program, "echo"), signal.SIGKILL)
    adversary.wait(lambda: status() == "407", "the run's end")
    url = keyed.url("/", host="api.example.localhost")
    late = subprocess.run(["curl", "-sk", "-x", proxy, url], capture_output=True, check=False, timeout=PATIENCE)
    assert late.returncode != 0
    assert resolve(program, proxy.removeprefix("http://").partition("@")[0], keyed).status == 401
    assert keyed.requests == []


def test_one_daemon_for_a_home(daemon, mine):
    """A second daemon refuses and names the first; a killed one's files do not stop the next. # SEC-122"""
    pid = daemon.wait_daemon()
    second = daemon("daemon", "serve")
    assert (second.returncode, str(pid) in second.stderr) == (9, True)
    assert mine.ask("GET", "/whoami").status == 200
    adversary.kill(pid)
    lock = daemon.home / "server" / "daemon.lock"
    lock.write_text(f"{os.getpid()}\n")  # a process that lives, and is no daemon
    assert daemon("whoami").returncode == 0
    assert adversary.alive(os.getpid())


def test_twenty_commands_and_no_daemon(program):
    """Twenty commands at once in an empty home: one daemon, one identity, no error. # SEC-196"""
    started = [program.start("whoami", "--json") for _ in range(20)]
    answers = [process.communicate(timeout=PATIENCE) for process in started]
    assert [process.returncode for process in started] == [0] * 20, [err for _, err in answers if err]
    said = [json.loads(out) for out, _ in answers]
    assert len({str(each["identity"]) for each in said}) == 1
    assert sum("daemon serve" in line for line in program.processes().values()) == 1


@pytest.mark.parametrize("place", ["", "server"])
def test_directories_that_others_could_write(program, place):
    """A home in which somebody else could exchange files is refused, and so is a link in its place. # SEC-119"""
    assert program("whoami").returncode == 0
    assert program("daemon", "stop").returncode == 0
    directory = program.home / place
    for mode in (0o777, 0o770, 0o702):
        directory.chmod(mode)
        done = program("whoami")
        assert (done.returncode, "can be written by others" in done.stderr) == (9, True), done.stderr
    directory.chmod(0o700)
    real = directory.rename(directory.with_name("real"))
    directory.symlink_to(real)
    done = program("whoami")
    assert (done.returncode, "not a directory of ours" in done.stderr) == (9, True), done.stderr
    directory.unlink()
    real.rename(directory)
    assert program("whoami").returncode == 0


def test_a_home_of_any_name_works(tmp_path, authority, api_server):
    """One so deep that no socket's address holds its path, with blanks and other letters, serves a run. # SEC-121"""
    variables = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
    with installed(tmp_path / ("\u00e9 \U0001f511 " + "a" * 190), variables=variables) as program:
        definitions.put(program.home, definitions.keyed(api_server.url("/", host="api.example.localhost")))
        assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
        done = program("run", "--", "curl", "-sf", *[api_server.url("/", host="api.example.localhost")] * 2)
        assert done.returncode == 0, done.stderr
        assert len(api_server.requests) == 2
        assert program("daemon", "stop").returncode == 0
        assert "warning" not in (program.home / "server" / "daemon.log").read_text()


def test_modes_whatever_the_umask(program, keyed):
    """With umask 0 every directory is 0700 and every file 0600, those of a run too. # SEC-118"""
    del keyed
    for command in (["list"], ["run", "--", "true"], ["daemon", "restart"], ["login", "openai", "--stdin"]):
        done = subprocess.run(
            program.argv(*command),
            env=program.environment(),
            input="sk-" + "a1B2" * 12,
            text=True,
            capture_output=True,
            umask=0,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    wrong = {}
    for path in (program.home, *program.home.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600):
            wrong[str(path)] = oct(mode)
    assert wrong == {}


def widen(path: Path) -> None:
    path.chmod(0o644)


def symlink(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def hard_link(path: Path) -> None:
    os.link(path, path.with_suffix(".other"))


def give_away(path: Path) -> None:
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("spoil", [widen, symlink, hard_link, give_away], ids=lambda spoil: spoil.__name__)
def test_files_that_others_could_have_touched(daemon, mine, spoil):
    """A key, database or master key that is readable, linked or foreign is refused, not read, and left as it is.

    # SEC-119
    """
    assert mine.ask("GET", "/whoami").status == 200
    key_file = next((daemon.home / "identities").iterdir())
    for path in (key_file, daemon.home / "server" / "store.db", daemon.home / "server" / "master.key"):
        daemon("daemon", "stop")
        before, mode = path.read_bytes(), path.stat().st_mode
        spoil(path)
        done = daemon("whoami")
        assert done.returncode == 9, (path, done)
        assert path.name in done.stderr
        assert "Traceback" not in done.stderr
        assert path.read_bytes() == before
        for extra in (path.with_suffix(".real"), path.with_suffix(".other")):
            if extra.exists() and path.is_symlink():
                path.unlink()
                extra.rename(path)
            elif extra.exists():
                extra.unlink()
        os.chown(path, os.getuid(), os.getgid())
        path.chmod(stat.S_IMODE(mode))
    assert daemon("whoami").returncode == 0


def test_no_core_dumps_and_no_master_key_in_the_environment(program, keyed, start):
    """Daemon and worker leave no core file, and a master key from the environment is in nobody's.

    # SEC-128 # SEC-129
    """
    import base64  # noqa: PLC0415

    del keyed
    start("run", "--", "sh", "-c", "read stop")
    child_of(program, "read stop")
    for pid in (program.wait_daemon(), worker_of(program)):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0\s", limits)
    other = program.home.parent / "another home"
    secret = base64.b64encode(os.urandom(32)).decode()
    from fakes.ports import free_port  # noqa: PLC0415

    env = {"AUTHSOME_HOME": str(other), "AUTHSOME_MASTER_KEY": secret, "AUTHSOME_PORT": str(free_port())}
    assert program("whoami", env=env).returncode == 0
    pid = json.loads((other / "server" / "daemon.json").read_bytes())["pid"]
    try:
        for part in ("environ", "cmdline"):
            assert secret.encode() not in Path(f"/proc/{pid}/{part}").read_bytes()
        assert not (other / "server" / "master.key").exists()
        child = program("run", "--", "sh", "-c", "env", env=env)
        assert secret not in child.stdout + child.stderr
    finally:
        assert program("daemon", "stop", env=env).returncode == 0


def has_read(connection):
    """Whether the other side of a connection on loopback has read all that was sent to it (Linux)."""
    ours, theirs = (f"0100007F:{port:04X}" for _, port in (connection.getsockname(), connection.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[4].partition(":")[2] for row in rows if row[1:3] == [theirs, ours]] == ["00000000"]


def test_stopping_lets_requests_end(daemon, mine):
    """SIGTERM: what is being answered is answered, and the daemon is gone within seconds. # SEC-139"""
    session = mine.ask("POST", "/auth/sessions", {"provider": "openai"}).json()
    path = f"/auth/sessions/{session['id']}?wait=25&status=input"
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=60) as connection:
        proof = f"Authorization: PoP {mine.token('GET', path)}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n{proof}\r\n\r\n".encode())
        adversary.wait(lambda: has_read(connection), "the daemon to read it")
        time.sleep(1)  # until it waits
        pid = daemon.wait_daemon()
        os.kill(pid, signal.SIGTERM)
        received = b""
        while more := connection.recv(65536):
            received += more
    answer = adversary.parse(received)
    assert answer is not None
    assert (answer.status, answer.json()["status"]) == (200, "input")
    adversary.wait(lambda: not adversary.alive(pid), "the daemon's end")
    assert not (daemon.home / "server" / "daemon.json").exists()


def test_clients_that_leave_are_not_news(daemon, mine):
    """A client that hangs up in the middle, or resets, leaves no traceback and no unrest. # SEC-148"""
    import struct  # noqa: PLC0415

    for number in range(30):
        connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
        head = f"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n"
        connection.sendall((head + "\r\n" * (number % 2)).encode()[: None if number % 3 else 20])
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert mine.ask("GET", "/whoami").status == 200
    log = (daemon.home / "server" / "daemon.log").read_text()
    assert "Traceback" not in log
    assert "error" not in log.lower()
