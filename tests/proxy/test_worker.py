"""A worker's life: the first run starts it, all share it, and without it nothing goes out."""

import base64
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authsome.home import Home, make_private_directory, write_private
from authsome.proxy import authority, bundles, launch
from authsome.proxy.plain import Unusual
from fakes import daemon_api
from fakes.patience import PATIENCE, eventually, ever_longer
from proxy.conftest import ENGINES
from proxy.support import HOST, OTHER_HOST, Runner, listener_pid


def is_listening(port: int) -> bool:
    """Whether anything takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def writers(runner: Runner) -> list[int]:
    """The processes whose standard error is the workers' log."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "fd" / "2").readlink() == runner.home / "proxy" / "proxy.log":
                found.append(int(process.name))
    return found


def configure(runner: Runner, **proxy: object) -> None:
    """Write the settings of the proxy."""
    runner.home.mkdir(mode=0o700, exist_ok=True)
    path = runner.home / "config.json"
    path.write_text(json.dumps({"proxy": proxy}))
    path.chmod(0o600)


def test_the_run_ends_with_its_child_and_the_worker_stays(runner: Runner):
    """The daemon is told, and the credential opens nothing more; the next run has the same worker."""
    # SEC-138
    with runner.proxy() as proxy:
        port, pid = proxy.port, proxy.pid
        assert len(runner.daemon.live) == 1
        assert proxy.is_admitted()
    assert eventually(lambda: not runner.daemon.live and not proxy.is_admitted())
    with runner.proxy() as again:
        assert (again.port, again.pid) == (port, pid)
        assert not proxy.is_admitted()
    assert len(runner.workers()) == 1


def test_the_run_ends_when_its_child_is_killed(runner: Runner):
    """Kill -9 of the command ends its credential within seconds, and open connections with it; no other run's."""
    # SEC-138
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as other, other.open(HOST, runner.server.port) as others, runner.proxy() as proxy:
        wire, tunnel = proxy.open(HOST, runner.server.port), proxy.tunnel(f"{OTHER_HOST}:{runner.server.port}")
        assert wire.request("GET", "/echo", host).status == 200
        proxy.end()
        for each in (wire, tunnel):
            assert each.reader.read() == b""
            each.close()
        assert not proxy.is_admitted()
        assert eventually(lambda: len(runner.daemon.live) == 1)
        assert others.request("GET", "/echo", host).status == 200
        assert other.is_admitted()


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
        with runner.proxy() as again:
            assert again.pid != pid
            assert again.is_admitted()
            assert not is_listening(port)
    assert runner.server.requests == []


def test_sigterm_ends_the_run(runner: Runner):
    """A worker that is asked to end tells the daemon first."""
    # SEC-139
    with runner.proxy() as proxy:
        os.kill(proxy.pid, signal.SIGTERM)
        assert eventually(lambda: not runner.daemon.live)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_terminals_signals_do_not_reach_it(runner: Runner, number: signal.Signals):
    """Interrupt and hang-up are the child's business."""
    with runner.proxy() as proxy:
        os.kill(proxy.pid, number)
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200


def test_a_run_whose_time_is_over_serves_nobody(runner: Runner):
    """After its expiry a run opens nothing and injects nothing, on connections that were open before too."""
    assert runner("true").returncode == 0  # a worker is there
    assert any(use_up(runner, timedelta(seconds=seconds)) for seconds in ever_longer(2))


def use_up(runner: Runner, life: timedelta) -> bool:
    """Use a run that lives so long, before and after its end; False if its end was there first."""
    expires_at = datetime.now(UTC) + life
    runner.daemon.expires_at = expires_at.isoformat()
    host = f"Host: {HOST}:{runner.server.port}"
    runner.server.requests.clear()
    with runner.proxy() as proxy, proxy.connect() as wire:
        authority_ = f"{HOST}:{runner.server.port}"
        status = wire.request("CONNECT", authority_, f"Host: {authority_}", proxy.authorization).status
        with wire.secure(proxy.context, HOST) if status == 200 else wire as secure:
            if status == 200:
                status = secure.request("GET", "/echo", host).status
            if status != 200:
                assert datetime.now(UTC) >= expires_at
                return False
            time.sleep(max((expires_at - datetime.now(UTC)).total_seconds(), 0) + 0.1)
            answer = secure.request("GET", "/echo", host)
            assert (answer.status, answer.json()["detail"]) == (403, "the run's time is over")
        with proxy.connect() as fresh:
            assert fresh.request("CONNECT", f"{HOST}:443", f"Host: {HOST}", proxy.authorization).status == 403
    assert len(runner.server.requests) == 1
    return True


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
        assert child.wait(timeout=PATIENCE) == 0
    directory = runner.home / "proxy"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = list(directory.iterdir())
    assert {path.name for path in files} >= {"authority.pem", "authority.record", "proxy.log", "node_preload.cjs"}
    (place,) = runner.sockets()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*files, place)} == {0o600}
    with_key = [path.name for path in files if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert with_key == ["authority.pem"]


def test_it_is_not_started_by_hand():
    """Without a station on its input it says so and ends."""
    command = [sys.executable, str(Path(__file__).with_name("start_worker.py"))]
    done = subprocess.run(command, input=b"{}\n", capture_output=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert b"authsome run" in done.stderr


# ---- one worker for all runs -------------------------------------------------------------------------------


def test_two_runs_at_once_do_not_know_each_other(runner: Runner):
    """They share a worker; what each is given is asked for with its own secret, which its own password leads to."""
    # SEC-149 SEC-170
    host, port = f"Host: {HOST}:{runner.server.port}", runner.server.port
    with runner.proxy() as first:
        runs = [runner.daemon.run]
        with runner.proxy() as second:
            runs.append(runner.daemon.run)
            assert (first.port, first.pid) == (second.port, second.pid)
            user, _, password = urlsplit(first.url).netloc.rpartition("@")[0].partition(":")
            mixed = base64.b64encode(f"{urlsplit(second.url).username}:{password}".encode()).decode()
            assert user != urlsplit(second.url).username
            with first.connect() as wire:
                answer = wire.request("CONNECT", f"{HOST}:{port}", "Host: x", f"Proxy-Authorization: Basic {mixed}")
                assert answer.status == 407
            for proxy in (first, second, first):
                with proxy.open(HOST, port) as wire:
                    assert wire.request("GET", "/echo", host).status == 200
    asked = [each for each in runner.daemon.requests if each.path == "/proxy/resolve"]
    named = [(each.header("Authorization") or "").removeprefix("Run ").partition(":")[0] for each in asked]
    assert named == [runs[0], runs[1], runs[0]]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_whose_credentials_are_long_in_coming_holds_up_no_other(runner: Runner):
    """However many of its requests wait, another run's are answered meanwhile."""
    # SEC-194
    host, port = f"Host: {HOST}:{runner.server.port}", runner.server.port
    with runner.proxy() as greedy, ExitStack() as waiting:
        name = runner.daemon.run
        runner.daemon.held.add(name)
        wires = [waiting.enter_context(greedy.open(HOST, port)) for _ in range(40)]
        for wire in wires:
            wire.send(f"GET /echo HTTP/1.1\r\n{host}\r\n\r\n")
        assert eventually(lambda: [each.path for each in runner.daemon.requests].count("/proxy/resolve") == 16)
        with runner.proxy() as modest, modest.open(HOST, port) as wire:
            assert wire.request("GET", "/echo", host).status == 200
        runner.daemon.held.discard(name)
        assert [wire.answer().status for wire in wires] == [200] * 40


def test_a_connection_stays_with_the_run_that_opened_it(runner: Runner):
    """Another run's credential on it is refused, whatever it is worth elsewhere."""
    # SEC-149
    runner.unmatched = "deny"
    url = f"http://{OTHER_HOST}:1/"
    with runner.proxy() as first, runner.proxy() as second, first.connect() as wire:
        host = f"Host: {OTHER_HOST}"
        assert wire.request("GET", url, host, first.authorization).status == 403
        answer = wire.request("GET", url, host, second.authorization)
        assert (answer.status, answer.json()["detail"]) == (400, "this connection belongs to another run")


def test_twenty_runs_at_once_start_one_worker(runner: Runner):
    """Whoever is first starts it, the others wait for that one, and all of them work."""
    # SEC-189 SEC-196
    url = runner.server.url("/echo", host=HOST)
    children = [runner.start("curl", "-sS", "--fail", url) for _ in range(20)]
    for child in children:
        child.communicate(timeout=PATIENCE)
    assert [child.returncode for child in children] == [0] * 20
    assert runner.log().count("listening on port") == 1
    assert len(runner.server.to("/echo")) == 20
    assert eventually(lambda: not runner.daemon.live)


def test_a_worker_begins_while_its_daemon_starts(runner: Runner):
    """It is the one that then serves; where there is one already, it ends without a word."""
    runner.starts_daemon = True
    assert runner.output("curl", "-sS", "--fail", runner.server.url("/echo", host=HOST))
    (worker,) = runner.workers()
    assert eventually(lambda: writers(runner) == [worker])
    before = runner.log()
    assert runner("true").returncode == 0
    assert eventually(lambda: writers(runner) == [worker])
    assert [line for line in runner.log().removeprefix(before).splitlines() if "run " not in line] == []


def test_twenty_workers_that_begin_at_once_leave_one(runner: Runner):
    """The others find nothing to do."""
    # SEC-189
    runner.starts_daemon = True
    children = [runner.start("true") for _ in range(20)]
    for child in children:
        child.communicate(timeout=120)
    assert [child.returncode for child in children] == [0] * 20
    assert runner.log().count("listening on port") == 1
    assert eventually(lambda: writers(runner) == runner.workers())


def test_a_run_whose_worker_is_killed_under_it_starts_another(runner: Runner):
    """A worker may be gone at any moment, between being found and being asked too."""
    # SEC-137
    assert runner("true").returncode == 0
    for delay in range(10):
        before = runner.workers()
        with runner.start("true") as child:
            time.sleep(delay / 50)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            assert child.wait(timeout=PATIENCE) == 0
    assert runner("true").returncode == 0


def test_another_daemon_has_another_worker(runner: Runner):
    """What runs have in common names the worker: daemon, build, authority, settings, a far daemon's extra roots."""
    facts = {
        "url": "http://127.0.0.1:7998",
        "is_supervised": False,
        "extra": "",
        "authority": "1 2 3",
        "settings": None,
    }
    names = [
        launch.worker_name(**{**facts, **more})  # type: ignore[arg-type]
        for more in (
            {},
            {"url": "http://127.0.0.1:7999"},
            {"is_supervised": True},
            {"extra": "/company.pem"},
            {"authority": "1 2 4"},
            {"settings": {"idle_minutes": 5}},
        )
    ]
    assert len(set(names)) == len(names)
    assert launch.worker_name(**{**facts, "is_supervised": True, "extra": "/x"}) == names[2]  # type: ignore[arg-type]
    with runner.proxy() as first, daemon_api.serve() as other:
        other.routes, other.credentials = runner.daemon.routes, runner.daemon.credentials
        runner.daemon, kept = other, runner.daemon
        try:
            with runner.proxy() as second:
                assert first.pid != second.pid
        finally:
            runner.daemon = kept


def test_it_leaves_when_nobody_needs_it(runner: Runner):
    """After `proxy.idle_minutes` without a run: process, port and socket are gone."""
    # SEC-137
    configure(runner, idle_minutes=0.01)
    with runner.proxy() as proxy:
        port = proxy.port
        time.sleep(1)
        assert proxy.is_admitted()
    assert eventually(lambda: not runner.workers())
    assert not is_listening(port)
    assert runner.sockets() == []
    assert runner("true").returncode == 0


def test_one_that_leaves_at_once_serves_whoever_comes(runner: Runner):
    """However short its patience, a run that finds it is served by it, or by the next."""
    configure(runner, idle_minutes=0)
    assert [runner("true").returncode for _ in range(5)] == [0] * 5
    children = [runner.start("true") for _ in range(5)]
    assert [child.wait(timeout=PATIENCE) for child in children] == [0] * 5
    for child in children:
        child.communicate()


@pytest.mark.parametrize("setting", ['"soon"', "-1", "true", "1e9"])
def test_a_patience_that_is_not_understood_is_told(runner: Runner, setting):
    """125 and one line; no command without a proxy."""
    configure(runner, idle_minutes=json.loads(setting))
    done = runner("sh", "-c", "echo ran")
    assert (done.returncode, done.stdout) == (125, b"")
    assert b'"proxy" in' in done.stderr
    assert b"idle_minutes" in done.stderr


def test_it_leaves_once_nobody_is_looking_for_it(runner: Runner):
    """While a start, of this home or of another that shares the directory, holds the lock, it waits a moment only."""
    with runner.proxy() as proxy:
        pid = proxy.pid
        (place,) = runner.sockets()
        lock = os.open(place.with_name("worker.lock"), os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.unlink()
    time.sleep(0.5)
    assert pid in runner.workers()
    os.close(lock)
    assert eventually(lambda: pid not in runner.workers())


def test_it_leaves_when_its_place_is_gone(runner: Runner):
    """A worker that no run can find any more serves its children to their end, and then goes."""
    with runner.proxy() as proxy:
        pid = proxy.pid
        (place,) = runner.sockets()
        place.unlink()
        assert runner("true").returncode == 0
        assert listener_pid(proxy.port) == pid
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
    assert eventually(lambda: pid not in runner.workers())
    assert len(runner.workers()) == 1


def replace_by_another(path: Path) -> None:
    """As an upgrade does."""
    other = path.with_suffix(".new")
    other.write_bytes(b"another build")
    other.replace(path)


@pytest.mark.parametrize(("change", "leaves"), [(replace_by_another, True), (Path.unlink, True), (Path.exists, False)])
def test_it_leaves_when_its_archive_is_replaced(runner: Runner, change: Callable[[Path], object], leaves: bool):  # noqa: FBT001
    """It serves its children to their end first; with the archive as it was, it stays for the next run."""
    # SEC-137
    archive = runner.directory / "authsome.pyz"
    archive.write_bytes(b"a build")
    runner.worker_options.append(f"--archive={archive}")
    with runner.proxy() as proxy:
        pid = proxy.pid
        change(archive)
        with runner.proxy() as another:
            assert another.pid == pid
        assert pid in runner.workers()
        with proxy.open(HOST, runner.server.port) as wire:
            assert wire.request("GET", "/echo", f"Host: {HOST}:{runner.server.port}").status == 200
    assert eventually(lambda: pid not in runner.workers(), timeout=PATIENCE if leaves else 1) is leaves


def test_an_end_is_noticed_without_the_kernels_word(runner: Runner):
    """Where there is no pidfd_open(2), a run ends within a second all the same."""
    # SEC-138
    runner.worker_options.append("--no-pidfd")
    with runner.proxy() as proxy:
        assert proxy.is_admitted()
        proxy.end()
        assert eventually(lambda: not proxy.is_admitted())
    assert eventually(lambda: not runner.daemon.live)


def test_the_end_of_a_run_ends_those_in_it(runner: Runner):
    """What a command has left behind in a run of its own has no network either, in however many of them."""
    # SEC-138
    host = f"Host: {HOST}:{runner.server.port}"
    with runner.proxy() as outer:
        runner.environ["AUTHSOME_RUN"] = outer.environ["AUTHSOME_RUN"]
        with runner.proxy() as inner:
            runner.environ["AUTHSOME_RUN"] = inner.environ["AUTHSOME_RUN"]
            with runner.proxy() as innermost, innermost.open(HOST, runner.server.port) as wire:
                del runner.environ["AUTHSOME_RUN"]
                with runner.proxy() as free:
                    assert wire.request("GET", "/echo", host).status == 200
                    outer.end()
                    assert wire.reader.read() == b""
                    assert eventually(lambda: len(runner.daemon.live) == 1)
                    assert [each.is_admitted() for each in (outer, inner, innermost, free)] == [False] * 3 + [True]
    assert "the daemon knew of" not in runner.log()


def test_a_renewal_leaves_running_children_alone(runner: Runner):
    """The child of before goes on with its bundle and its worker; the next has others."""
    # SEC-175
    assert any(renew(runner, timedelta(seconds=seconds)) for seconds in ever_longer(3))


def renew(runner: Runner, left: timedelta) -> bool:
    """Let an authority that is to be renewed in a moment serve before and after; False if it was renewed at once."""
    ours = authority.create(datetime.now(UTC) + left - (authority.LIFETIME - authority.RENEWAL))
    make_private_directory(runner.home)
    make_private_directory(runner.home / "proxy")
    write_private(bundles.authority_path(Home(runner.home)), ours.to_pem())
    host, port = f"Host: {HOST}:{runner.server.port}", runner.server.port
    with runner.proxy() as first:
        if bundles.authority_path(Home(runner.home)).read_bytes() != ours.to_pem():
            assert datetime.now(UTC) >= ours.renew_at
            return False
        with first.open(HOST, port) as before:
            time.sleep(max((ours.renew_at - datetime.now(UTC)).total_seconds(), 0) + 1)
            with runner.proxy() as second, second.open(HOST, port) as after, first.open(HOST, port) as fresh:
                assert first.pid != second.pid
                assert [wire.request("GET", "/echo", host).status for wire in (before, after, fresh)] == [200] * 3
    return True


def test_what_a_killed_worker_leaves_is_swept(runner: Runner):
    """Its socket, and those of workers of other builds that were killed; nobody's that lives."""
    # SEC-137
    assert runner("true").returncode == 0
    (place,) = runner.sockets()
    old, living = place.with_name(f"{place.stem}0.sock"), place.with_name(f"{place.stem}1.sock")
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as listener:
        dead.bind(str(old))
        listener.bind(str(living))
        listener.listen()
        for pid in runner.workers():
            os.kill(pid, signal.SIGKILL)
        assert runner("true").returncode == 0
        assert set(runner.sockets()) == {place, living}
    living.unlink()


def test_what_is_no_assignment_is_refused(runner: Runner):
    """Half a line, garbage, and silence leave the worker as it was."""
    with runner.proxy() as proxy:
        (place,) = runner.sockets()
        for line, answer in ((b"{}\n", b'"usage"'), (b"\xff\n", b'"usage"'), (b"half", b""), (b"", b"")):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(place))
                caller.sendall(line)
                caller.shutdown(socket.SHUT_WR)
                assert answer in caller.recv(4096)
        assert proxy.is_admitted()


def test_the_daemon_is_told_of_an_end_when_it_can_be(runner: Runner):
    """The credential is dead at once; a daemon that is down then is told when it is back, at the latest at the end."""
    # SEC-138
    with runner.proxy() as proxy:
        runner.daemon.is_down = True
    assert eventually(lambda: not proxy.is_admitted())
    assert runner.daemon.live
    runner.daemon.is_down = False
    runner.stop_workers()
    assert not runner.daemon.live


def test_a_home_whose_path_is_too_long_for_a_socket(runner: Runner):
    """The socket is in a private directory below /tmp then."""
    deep = runner.directory / ("d" * 100) / "authsome home"
    runner.environ["AUTHSOME_HOME"], runner.home = str(deep), deep
    for _ in range(2):
        assert runner("true").returncode == 0
    assert len(runner.workers()) == 1
    place = launch.socket_path(str(deep / "proxy"), "worker-x.sock")
    assert place.startswith("/tmp/authsome-")
    assert stat.S_IMODE(Path(place).parent.stat().st_mode) == 0o700


def test_a_place_that_others_may_write_to_is_not_trusted(tmp_path: Path):
    """Whoever listens there may be anybody."""
    # SEC-119
    place = tmp_path / "proxy"
    place.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "w.sock"))
        listener.listen()
        launch.dial(str(place / "w.sock")).close()
        place.chmod(0o770)
        with pytest.raises(Unusual):
            launch.dial(str(place / "w.sock"))
