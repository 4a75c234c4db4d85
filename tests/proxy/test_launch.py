"""`run` becomes the command: status, signals, terminal, descriptors and process group are the command's own."""

import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authsome.proxy import launch
from fakes import terminal
from fakes.patience import PATIENCE, eventually
from proxy.support import HOST, TOKEN, Runner


@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_the_status_is_the_commands(runner: Runner, status: int):
    """Whatever the command exits with."""
    # SEC-180
    assert runner("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGPIPE, signal.SIGXFSZ])
def test_a_signals_death_is_the_commands(runner: Runner, number: signal.Signals):
    """A command that a signal ends was ended by that signal, also by those that Python ignores for itself."""
    # SEC-180
    assert runner("sh", "-c", f"kill -{int(number)} $$").returncode == -number


def test_a_signal_to_the_process_reaches_the_command(runner: Runner):
    """The process that was started is the command itself."""
    # SEC-180
    code = (
        "import os, signal, sys\n"
        "signal.signal(15, lambda *_: sys.exit(7)); print(os.getpid(), flush=True); signal.pause()"
    )
    with runner.start(runner.python, "-c", code) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) == child.pid
        child.terminate()
        assert child.wait(timeout=60) == 7


def test_standard_streams_and_arguments_are_untouched(runner: Runner):
    """Input, output and errors, and arguments with spaces and quotes, pass without a shell."""
    # SEC-180 SEC-214
    code = "import json, sys; print(json.dumps(sys.argv[1:])); sys.stderr.write(sys.stdin.read())"
    arguments = ["a b", "$(id)", "'quo\"ted'", "", "*", "\u00e4"]
    done = runner(runner.python, "-c", code, *arguments, stdin=b"in\0put")
    assert json.loads(done.stdout) == arguments
    assert done.stderr == b"in\0put"


def test_a_pipeline_ends_with_the_command(runner: Runner):
    """The worker holds none of the caller's descriptors, so a reader sees the end as soon as the command is gone."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        runner.plan("sh", "-c", "echo hello"),
        env=runner.environ,
        cwd=runner.directory,
        pass_fds=(writer,),
        stdout=writer,
    ) as child:
        os.close(writer)
        assert child.wait(timeout=60) == 0
        ready, _, _ = select.select([reader], [], [], PATIENCE)
        assert ready
        assert os.read(reader, 100) == b"hello\n"
        ready, _, _ = select.select([reader], [], [], PATIENCE)
        assert ready
        assert os.read(reader, 100) == b""
    os.close(reader)


def test_the_child_inherits_what_the_caller_gave_and_no_more(runner: Runner):
    """Descriptors that the caller opened for the command arrive; none of ours does."""
    reader, writer = os.pipe()
    code = (
        "import os; p = '/proc/self/fd/'\n"
        "print(sorted(int(name) for name in os.listdir(p) if os.path.exists(p + name)))"
    )
    with subprocess.Popen(
        runner.plan(runner.python, "-c", code),
        env=runner.environ,
        cwd=runner.directory,
        pass_fds=(reader,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        out, _ = child.communicate(timeout=60)
    os.close(reader)
    os.close(writer)
    assert json.loads(out) == [0, 1, 2, reader]


def test_the_child_has_no_child_that_it_did_not_start(runner: Runner):
    """Waiting for children finds none: the worker belongs to nobody but init."""
    code = "import os\ntry:\n    print(os.waitpid(-1, os.WNOHANG))\nexcept ChildProcessError:\n    print('none')"
    assert runner.output(runner.python, "-c", code) == b"none\n"


@pytest.mark.parametrize(
    ("name", "status"),
    [("no-such-command-anywhere", 127), ("./missing", 127), ("./not-executable", 126), ("./directory", 126)],
)
def test_commands_that_cannot_start(runner: Runner, name: str, status: int):
    """127 when there is none, 126 when it may not be executed; before a run is asked for or a worker started."""
    # SEC-180
    (runner.directory / "not-executable").write_text("#!/bin/sh\n")
    (runner.directory / "directory").mkdir()
    done = runner(name)
    assert done.returncode == status
    assert name.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert runner.log() == ""


@pytest.mark.parametrize(
    "words", [["--only", ""], ["--only="], ["--only", ","], ["--only", "a,,b"], ["--only=a", "--only="]]
)
def test_the_short_road_takes_no_empty_name(words: list[str]):
    """`--only "$UNSET"` must not come to mean every provider; the long road says what is wrong."""
    assert launch._wish(["--only=a,b", "--", "true"], inside="").only == ("a", "b")
    with pytest.raises(launch.Unusual):
        launch._wish([*words, "--", "true"], inside="")


def test_a_command_is_found_as_execvp_finds_it(tmp_path: Path):
    """The first executable file on PATH; one that is not executable is passed over, and remembered."""
    for place, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tool").write_text("#!/bin/sh\n")
        (tmp_path / place / "tool").chmod(mode)
    path = f"{tmp_path}/missing:{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert launch.find_command("tool", {"PATH": path}) == f"{tmp_path}/b/tool"
    assert launch.find_command("tool", {"PATH": f"{tmp_path}/a"}) == ""
    assert launch.find_command("tool", {"PATH": f"{tmp_path}/missing"}) is None


def test_a_worker_that_cannot_start_is_told_with_its_cause(runner: Runner):
    """125, one line with the cause, one with a hint; and the command is not run without a proxy."""
    runner.environ["HTTPS_PROXY"] = "socks5://127.0.0.1:1"
    done = runner("sh", "-c", "echo ran")
    assert done.returncode == 125
    assert done.stdout == b""
    assert done.stderr.splitlines()[0] == b"authsome: error: HTTPS_PROXY is not the URL of a proxy"
    assert len(done.stderr.splitlines()) == 2


def test_extra_roots_that_are_none_are_a_usage_error(runner: Runner):
    """AUTHSOME_CA_BUNDLE must name a file with certificates."""
    for path in (runner.directory / "missing.pem", runner.directory / "empty.pem"):
        (runner.directory / "empty.pem").write_text("nothing")
        done = runner("true", environ={"AUTHSOME_CA_BUNDLE": str(path)})
        assert done.returncode == 125
        assert str(path).encode() in done.stderr


# ---- on a terminal -----------------------------------------------------------------------------------------


def test_the_terminal_is_the_commands(runner: Runner):
    """It is a terminal, in the foreground, with its size; Ctrl-C reaches the command and leaves the worker alone."""
    # SEC-180
    code = (
        "import os, sys, time, urllib.request as u\n"
        "size = tuple(os.get_terminal_size())\n"
        "try:\n"
        "    print(os.isatty(0), os.isatty(1), os.tcgetpgrp(0) == os.getpgrp(), size, flush=True)\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    print('status', u.urlopen(sys.argv[1]).status, flush=True)\n"
        "    sys.exit(3)"
    )
    command = runner.plan(runner.python, "-c", code, runner.server.url("/echo", host=HOST))
    with terminal.spawn(command, environment=runner.environ, directory=runner.directory) as screen:
        screen.expect(r"True True True \(120, 40\)")
        screen.interrupt()
        screen.expect("status 200")
        assert screen.wait() == 3


def test_job_control(runner: Runner):
    """A shell behind the proxy stops and continues its jobs."""
    # SEC-180
    (runner.directory / "job.py").write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGCONT, lambda *_: os.write(1, b'going on\\n'))\n"
        "os.write(1, b'begun\\n')\n"
        "time.sleep(600)\n"
    )
    runner.environ["PS1"] = "ready> "
    command = runner.plan("bash", "--norc", "--noprofile", "-i")
    with terminal.spawn(command, environment=runner.environ, directory=runner.directory) as screen:
        screen.expect("ready> ")
        screen.send_line(f"{runner.python} job.py")
        screen.expect("begun")
        screen.send(terminal.CTRL_Z)
        screen.expect("Stopped")
        screen.expect("ready> ")
        screen.send_line("fg")
        screen.expect("going on")
        screen.interrupt()
        screen.expect("KeyboardInterrupt")
        screen.expect("ready> ")
        screen.send_line("exit 5")
        assert screen.wait() == 5


def test_nothing_secret_is_ever_in_argv_or_environment(runner: Runner):
    """While a run starts and works, no process shows the credential or the run's secret, the child included."""
    # SEC-141
    seen: dict[str, bytes] = {}
    code = "import sys, urllib.request as u; u.urlopen(sys.argv[1]).read(); sys.stdin.read()"
    before = set(Path("/proc").iterdir())
    given = b"HTTPS_PROXY="
    with runner.start(runner.python, "-c", code, runner.server.url("/echo", host=HOST)) as child:
        own = f"{child.pid} environ"
        while child.poll() is None:
            for process in set(Path("/proc").iterdir()) - before:
                if process.name.isdigit():
                    for part in ("cmdline", "environ"):
                        try:
                            key = f"{process.name} {part}"
                            seen[key] = seen.get(key, b"") + process.joinpath(part).read_bytes()
                        except OSError:
                            continue
            if child.stdin and not child.stdin.closed and runner.server.requests and given in seen.get(own, b""):
                child.stdin.close()  # it may end now: it was seen at work
            time.sleep(0.005)
    assert given + f"http://{runner.daemon.run}:".encode() in seen[own]
    for canary in (TOKEN, runner.daemon.secret):
        assert not [key for key, text in seen.items() if canary.encode() in text]
    assert eventually(lambda: not runner.daemon.live)


def test_the_child_cannot_ask_the_daemon_itself(runner: Runner):
    """What the child knows of its run opens the proxy and nothing else: the daemon knows the run by another secret."""
    # SEC-149
    url = urlsplit(runner.output("printenv", "HTTPS_PROXY").decode().strip())
    assert url.password
    assert url.password != runner.daemon.secret
    assert runner.daemon.secret not in runner.output("env").decode()
