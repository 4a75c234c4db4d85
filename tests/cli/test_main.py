"""The way from words to an exit status: help, versions, suggestions, errors in one line, and no traceback ever."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authsome import __version__
from authsome.cli.arguments import Parser
from authsome.cli.main import COMMANDS, Command
from authsome.cli.start import _load
from fakes.program import Program

CHECKOUT = Path(__file__).resolve().parents[2]
SHOWN = [command for command in COMMANDS if not command.hidden]


def test_every_row_of_the_table_is_a_command():
    """Each names functions that exist, and a summary in lower case without a full stop."""
    for command in COMMANDS:
        module = _load(command)
        parser = Parser(command.name, command.summary)
        getattr(module, f"configure_{command.function}")(parser)
        assert callable(getattr(module, f"run_{command.function}"))
        assert command.summary[0].islower()
        assert not command.summary.endswith(".")


def test_the_providers_in_examples_are_there():
    """Who tries an example gets what it promises, and not that there is no such provider."""
    bundled = {path.stem for path in (CHECKOUT / "providers").glob("*.json")}
    named = set()
    for command in COMMANDS:
        parser = Parser(command.name, command.summary)
        getattr(_load(command), f"configure_{command.function}")(parser)
        for example in parser.examples:
            named |= set(re.findall(r"authsome (?:login|export|honeytoken) ([a-z][a-z0-9-]*)(?= |$)", example))
            named |= set(re.findall(r"(?<=--only )[a-z0-9-]+|(?<=--connection )[a-z0-9-]+(?==)", example))
    assert {"github", "openai", "stripe"} <= named <= bundled


@pytest.mark.parametrize("words", [["--version"], ["whoami", "--version"], ["--quiet", "--version", "list"]])
def test_version(program: Program, words):
    done = program(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"authsome {__version__}\n", "")


def test_version_as_json(program: Program):
    assert program.json("--version") == {"version": __version__}


def test_help_names_every_command_and_fits_a_terminal(program: Program):
    done = program("--help")
    assert done.returncode == 0
    for command in SHOWN:
        assert f"  {command.name} " in done.stdout
    assert "proxy-worker" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert program("help").stdout == done.stdout


def test_without_a_command_the_help_is_an_error(program: Program):
    done = program()
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: authsome COMMAND" in done.stderr


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.name)
def test_every_command_has_a_page(program: Program, command: Command):
    done = program(*command.name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: authsome {command.name}" in done.stdout
    assert program("help", *command.name.split()).stdout == done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


@pytest.mark.parametrize(
    ("words", "status", "error", "hint"),
    [
        (["lst"], 2, "there is no command lst", "did you mean list?"),
        (["daemon", "strat"], 2, "daemon has no such command", "did you mean daemon start?"),
        (["sk-" + "A" * 40], 2, "there is no such command", None),
        (["--frobnicate"], 2, "there is no such option before a command", None),
        (["login"], 2, "login needs a provider", None),
        (["login", "a", "b"], 2, "login takes one argument, and was given more", "a key is never an argument"),
        (["get", "../x"], 2, "that is not a name", None),
        (["export", "-f"], 2, "export has no option -f", None),
        (["export", "--connection", "x"], 2, "--connection goes with exactly one provider", "authsome export PROVIDER"),
        (["log", "-n", "many"], 2, "-n takes a number of events", None),
        (["log", "--since", "soon"], 2, "--since takes a duration or a date", None),
        (["daemon", "status"], 9, "the daemon is not running", "authsome daemon start"),
        (["run"], 125, "no command to run was given", None),
        (["run", "--for", "ever", "true"], 125, "--for takes a length of time", None),
        (["run", "--only", "", "true"], 125, "what follows --only is empty", "may be unset"),
        (["run", "--only=", "--", "true"], 125, "what follows --only is empty", "may be unset"),
        (["run", "--only", ",", "true"], 125, "--only names no provider where it should", "--only openai,github"),
        (["run", "--only", "openai,", "--", "true"], 125, "--only names no provider where it should", None),
        (["run", "--explain", "https://x.example", "true"], 125, "--explain takes no command", "leave one of them out"),
        (["run", "--", ""], 127, "'': command not found", None),
        (["log", "verify", "--file", "/nowhere"], 2, "/nowhere cannot be read: no such file", "authsome log export"),
        (["log", "verify", "--key", "x"], 2, "--key takes a did:key", "as `authsome log verify` prints it"),
        (["run", "--connection", "x", "true"], 125, "--connection takes PROVIDER=NAME", None),
        (["run", "--connection", "a=x", "--connection", "a=y", "true"], 125, "names two connections of a", None),
    ],
)
def test_a_mistake_is_told_in_two_lines(program: Program, words, status, error, hint):
    done = program(*words)
    assert done.returncode == status
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("authsome: error: ")
    assert error in lines[0]
    assert all(line.startswith("authsome: hint: ") for line in lines[1:])
    assert len(lines) <= 2
    if hint:
        assert hint in lines[1]
    assert not program.home.exists() or words[0] == "get"


@pytest.mark.parametrize("words", [["--json", "daemon", "status"], ["daemon", "status", "--json"]])
def test_an_error_under_json_is_one_object(program: Program, words):
    done = program(*words)
    assert done.returncode == 9
    assert json.loads(done.stdout).keys() == {"error", "message", "hint"}
    assert json.loads(done.stdout)["error"] == "daemon_unavailable"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTHSOME_PORT", "99999"),
        ("AUTHSOME_PORT", "http"),
        ("AUTHSOME_DAEMON_URL", "127.0.0.1:7998"),
        ("AUTHSOME_DAEMON_URL", "http://user:pass@127.0.0.1"),
        ("AUTHSOME_MASTER_KEY", "c2hvcnQtc2VjcmV0"),
        ("AUTHSOME_IDENTITY_KEY", "c2hvcnQtc2VjcmV0"),
        ("AUTHSOME_LOG_LEVEL", "loud"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named_and_a_secret_not_shown(program: Program, name, value):
    done = program("whoami", env={name: value})
    assert done.returncode == 2
    assert name in done.stderr
    assert "c2hvcnQ" not in done.stdout + done.stderr


def test_a_reader_that_has_enough_is_no_error(program: Program):
    command = [*program.command, "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=program.environment())
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["--version", "--json"], ["list"], ["list", "--json"], ["log", "export"]]
)
def test_a_full_disk_is_told(daemon: Program, words, unbuffered):
    """Also when it is full before the end, which is when a buffer is, or there is none."""
    environment = daemon.environment({"PYTHONUNBUFFERED": unbuffered})
    with Path("/dev/full").open("wb") as full:
        command = [*daemon.command, *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == b"authsome: error: the output could not be written: no space left on device\n"


@pytest.mark.parametrize("redirections", ["2>/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_nobody_to_be_told_is_no_reason_for_another_status(daemon: Program, redirections):
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *daemon.command, "get", "openai"]
    assert subprocess.run(command, env=daemon.environment(), check=False).returncode == 3


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["whoami"], ["login", "openai", "--stdin"]])
def test_a_closed_stream_leads_nowhere(daemon: Program, words):
    """Without that, the socket to the daemon would have the number of standard output."""
    for redirections, status in ((">&-", 0), ("<&-", 0)):
        command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *daemon.command, *words]
        key = b"sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
        environment = daemon.environment()
        done = subprocess.run(command, input=key, capture_output=True, env=environment, check=False)
        assert b"unexpected" not in done.stderr
        assert b"Traceback" not in done.stderr
        if "login" not in words:
            assert (done.returncode, done.stderr) == (status, b"")
        elif redirections == "<&-":
            assert done.returncode == 2
            assert b"nothing on standard input" in done.stderr


@pytest.mark.parametrize("words", [["--json"], ["--json", "identity"], ["identity", "--json"], ["daemon", "--json"]])
def test_no_command_under_json_is_an_object_too(program: Program, words):
    done = program(*words)
    assert (done.returncode, json.loads(done.stdout)["error"], done.stderr) == (2, "usage", "")


def test_a_file_that_cannot_be_used_is_named(daemon: Program):
    """It is no fault of ours, and so not told as one."""
    blocked = daemon.directory / "blocked"
    blocked.mkdir(mode=0o700)
    (blocked / "identities").touch(mode=0o600)
    done = daemon("identity", "list", env={"AUTHSOME_HOME": str(blocked)})
    assert done.returncode == 1
    assert f"{blocked / 'identities'}: not a directory" in done.stderr
    assert "hint: look at its owner" in done.stderr


def test_a_fault_of_ours_is_one_line_without_its_content(tmp_path):
    """No traceback, and nothing of the exception's text, which may quote a secret."""
    # SEC-143
    code = """
import sys
from authsome.cli import connections, main
def broken(args, context):
    raise ValueError("sk-SECRET-in-an-exception")
connections.run_list = broken
sys.exit(main.main(["list"]))
"""
    for level, lines in (("info", 2), ("debug", 5)):
        environment = {"HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "AUTHSOME_LOG_LEVEL": level}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment, text=True, check=False
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "SECRET" not in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) >= lines
        assert re.search(r"authsome: error: something unexpected went wrong \(ValueError in <string>:5\)", done.stderr)


def modules(tmp_path: Path, *words: str, **environ: str) -> set[str]:
    """The modules that a command loads, beyond those of a bare interpreter."""
    code = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
before = set(sys.modules)
from authsome.cli.main import main
status = main({list(words)!r})
assert status in (0, 9), status
sys.stderr.write(" ".join(sorted(set(sys.modules) - before)))
"""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **environ}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_the_version_costs_no_imports(tmp_path):
    """`--version` loads the command table and nothing else of ours, and nothing of the standard library."""
    assert modules(tmp_path, "--version") == {"authsome", "authsome.cli", "authsome.cli.main"}


WHOAMI_MODULES = {
    "ours": {
        "authsome",
        "authsome.archive",
        "authsome.archive.boot",
        "authsome.cli",
        "authsome.cli.answer",
        "authsome.cli.arguments",
        "authsome.cli.context",
        "authsome.cli.main",
        "authsome.cli.output",
        "authsome.cli.start",
        "authsome.cli.status",
        "authsome.client",
        "authsome.client.api",
        "authsome.client.detach",
        "authsome.client.keys",
        "authsome.client.supervisor",
        "authsome.client.wire",
        "authsome.clock",
        "authsome.errors",
        "authsome.home",
        "authsome.identity",
        "authsome.identity.did",
        "authsome.identity.ed25519",
        "authsome.identity.handle",
        "authsome.identity.key",
        "authsome.identity.signing",
        "authsome.message",
        "authsome.secret",
    },
    "cryptography": {
        "cryptography",
        "cryptography.__about__",
        "cryptography.hazmat",
        "cryptography.hazmat.bindings",
        "cryptography.hazmat.bindings._rust",
        "cryptography.utils",
    },
}
"""What `whoami` may load: of ours, and of the one library that it signs with."""

RUN_MODULES = {
    "authsome",
    "authsome.archive",
    "authsome.archive.boot",
    "authsome.cli",
    "authsome.cli.main",
    "authsome.clock",
    "authsome.identity",
    "authsome.identity.did",
    "authsome.identity.ed25519",
    "authsome.identity.signing",
    "authsome.proxy",
    "authsome.proxy.environment",
    "authsome.proxy.launch",
    "authsome.proxy.peer",
    "authsome.proxy.plain",
    "authsome.proxy.trust",
}
"""What `run` may load of ours when everything is running."""
RUN_LIBRARIES = {
    *("_cffi_backend", "_json", "_sha2", "_sha256", "_socket", "binascii", "fcntl", "types"),
    *("__future__", "_openssl", "_openssl.lib"),
}
"""And of everybody else's, besides the library that signs: what is written in C, or loaded by that library."""

HEAVY = {
    "argparse",
    "asyncio",
    "ctypes",
    "datetime",
    "email",
    "encodings.idna",
    "gettext",
    "hashlib",
    "hmac",
    "http",
    "http.client",
    "importlib.metadata",
    "jwt",
    "keyring",
    "locale",
    "logging",
    "mitmproxy",
    "random",
    "secrets",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "traceback",
    "zipfile",
}
"""What each costs a start between half a millisecond and a hundred."""


def test_whoami_loads_what_it_needs_and_no_more(daemon: Program):
    """The command that is measured: a module that slips in here makes every command slower."""
    assert daemon("whoami").returncode == 0
    loaded = modules(daemon.directory, "whoami", AUTHSOME_HOME=str(daemon.home), AUTHSOME_PORT=str(daemon.port))
    assert {name for name in loaded if name.partition(".")[0] == "authsome"} == WHOAMI_MODULES["ours"]
    assert {name for name in loaded if name.startswith("cryptography")} <= WHOAMI_MODULES["cryptography"]
    assert loaded & HEAVY == set()


def test_a_short_command_ends_at_once_and_a_failed_one_with_its_status(daemon: Program):
    """`program` leaves without the interpreter's winding up: nothing that was said may be lost by it."""
    assert daemon("whoami").stdout.endswith(f"home       {daemon.home}\n")
    for words, status in ((["get", "nosuch"], {4}), (["get"], {2})):
        done = daemon(*words)
        assert done.returncode in status
        assert done.stderr.endswith("\n")


WATCHED = """
import atexit, sys
atexit.register(print, "wound up")
sys.argv = ["authsome.py", *sys.argv[1:]]
del sys.modules["atexit"]
from authsome.archive import boot
sys.exit(boot.run())
"""


@pytest.mark.parametrize(("words", "status"), [(["whoami"], 0), (["get"], 2)])
def test_the_launcher_does_not_wind_up(daemon: Program, words, status):
    """What starts a command, from a checkout and from the archive, takes that way out."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words],
        cwd=CHECKOUT, env=daemon.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert "wound up" not in done.stdout


def modules_of_run(program: Program, *words: str) -> set[str]:
    """The modules that `run` has loaded when it becomes the command, beyond those of a bare interpreter."""
    code = f"""
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
before = set(sys.modules)
def become(path, command, environ):
    sys.stderr.write(" ".join(sorted(set(sys.modules) - before)))
    sys.stderr.flush()
    os._exit(0)
os.execve = become
from authsome.cli.main import main
main({list(words)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=program.environment(), text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


def test_run_takes_the_short_road(connected: Program):
    """With daemon and worker running it loads next to nothing, whatever usual options it has; it is paid all day."""
    assert connected("run", "--", "true").returncode == 0  # starts the worker
    for options in ([], ["--only", "openai"], ["--connection=openai=default", "--unmatched", "deny"]):
        loaded = modules_of_run(connected, "run", *options, "--", "true")
        assert {name for name in loaded if name.partition(".")[0] == "authsome"} == RUN_MODULES
        others = {name for name in loaded if name.partition(".")[0] not in {"authsome", "cryptography"}}
        assert others <= RUN_LIBRARIES, others - RUN_LIBRARIES
        assert {name for name in loaded if name.startswith("cryptography")} <= WHOAMI_MODULES["cryptography"]


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["--for", "1h", "--", "true"], {}),
        (["--quiet", "--", "true"], {}),
        (["--", "no-such-command-anywhere"], {}),
        (["--only", "nosuch", "--", "true"], {}),
        (["--connection", "openai", "--", "true"], {}),
        (["--", "true"], {"AUTHSOME_IDENTITY": "nobody-here"}),
        (["--", "true"], {"AUTHSOME_CA_BUNDLE": "/no/such/file"}),
    ],
)
def test_whatever_is_unusual_takes_the_long_road(connected: Program, words, environ):
    """Which knows every option, and tells every mistake; the short one says nothing and does nothing."""
    assert connected("run", "--", "true").returncode == 0
    done = connected("run", *words, env=environ)
    if words[0] in {"--for", "--quiet"}:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode in {125, 127}
        assert done.stderr.startswith("authsome: error: ")
    assert connected("daemon", "status").returncode == 0


def test_a_damaged_home_takes_the_long_road(connected: Program):
    """Files that others may write, a worker that is gone, a bundle that was removed: all is told, or mended."""
    # SEC-119
    assert connected("run", "--", "true").returncode == 0
    for path in (connected.home / "proxy").glob("bundle-*.pem"):
        path.unlink()
    assert connected("run", "--", "true").returncode == 0
    (connected.home / "proxy" / "node_preload.cjs").write_text("")
    assert connected("run", "--", "true").returncode == 0
    assert (connected.home / "proxy" / "node_preload.cjs").stat().st_size > 0
    (connected.home / "config.json").chmod(0o644)
    done = connected("run", "--", "true")
    assert done.returncode == 125
    assert "config.json can be read or written by others" in done.stderr
