"""`init`, `whoami`, `doctor` and `log` tell the truth about this machine, and mend only what is theirs."""

import base64
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from authsome.home import write_private
from fakes.program import Program

KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"


def checks(program: Program, *words: str, status: int = 0) -> dict[str, list[str]]:
    done = program("doctor", "--json", *words)
    assert done.returncode == status, done.stdout
    found: dict[str, list[str]] = {}
    for check in json.loads(done.stdout)["checks"]:
        found.setdefault(check["check"], []).append(check["result"])
    return found


def test_init_makes_everything_once(program: Program):
    first = program.json("init")
    second = program.json("init")
    assert (first["created"], second["created"]) == (True, False)
    assert first["identity"] == second["identity"]
    assert first["principal"]["role"] == "admin"
    assert "the vault is there already" in program("init").stdout


def test_the_home_is_private_whatever_the_umask(program: Program):
    # SEC-118
    before = os.umask(0)
    try:
        assert program("init").returncode == 0
    finally:
        os.umask(before)
    for path in (program.home, *program.home.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_the_key_source_is_chosen_before_there_is_a_vault(program: Program):
    assert program("init", "--key-source", "file").returncode == 0
    assert json.loads((program.home / "config.json").read_text())["master_key"] == "file"
    assert program("init", "--key-source", "file").returncode == 0
    late = program("init", "--key-source", "keyring")
    assert late.returncode == 2
    assert "stays where it is" in late.stderr
    assert json.loads((program.home / "config.json").read_text())["master_key"] == "file"


def test_verbose_says_what_is_asked_of_whom(daemon: Program):
    """Each step on standard error, without what a request holds; and the result is the same."""
    plain, verbose = daemon("list", "--connected", "--json"), daemon("list", "--connected", "--json", "-v")
    assert (plain.stderr, verbose.stdout) == ("", plain.stdout)
    told = verbose.stderr.splitlines()
    assert told[0] == f"the daemon is at {daemon.url}, that of {daemon.home}"
    assert re.fullmatch(r"acting as \S+, whose key is in .*/identities/\S+\.key", told[1])
    assert [re.sub(r"\d+ ms", "N ms", line) for line in told[2:]] == [
        "GET /connections: 200 in N ms",
        "GET /providers: 200 in N ms",
    ]


def test_whoami_says_who(daemon: Program):
    answer = daemon.json("whoami")
    assert answer.keys() == {"identity", "principal", "limits", "daemon", "home"}
    text = daemon("whoami").stdout
    for word in (answer["identity"]["handle"], answer["identity"]["did"], daemon.url, str(daemon.home)):
        assert word in text


def test_an_identity_from_the_environment_is_unclaimed_at_first(daemon: Program):
    """Only the home's first identity is claimed by its bootstrap secret; a second one waits for the owner."""
    env = {"AUTHSOME_IDENTITY": "ci", "AUTHSOME_IDENTITY_KEY": base64.b64encode(b"s" * 32).decode()}
    assert daemon("whoami").returncode == 0
    done = daemon("whoami", env=env)
    assert done.returncode == 10
    assert "ci" in done.stderr


def test_looking_makes_nobody_known(daemon: Program):
    """`daemon status` and `doctor` neither make a key, nor register one that the daemon has not let in."""
    for words in (["daemon", "status"], ["doctor"]):
        assert daemon(*words).returncode == 0, words
    assert not list((daemon.home / "identities").glob("*"))
    assert daemon("whoami").returncode == 0
    env = {"AUTHSOME_IDENTITY": "ci", "AUTHSOME_IDENTITY_KEY": base64.b64encode(b"s" * 32).decode()}
    assert daemon("daemon", "status", env=env).returncode == 0
    done = daemon("doctor", env=env)
    assert "has not let in the identity ci" in done.stdout
    assert "authsome identity claim" in done.stdout
    with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=60)) as store:
        assert store.execute("SELECT count(*) FROM identities").fetchone() == (1,)


def test_a_home_that_cannot_be_written_is_said_to_be_one(daemon: Program):
    """By a daemon that is to start there, and by a command that wants one. # SEC-134"""
    assert daemon("whoami").returncode == 0
    assert daemon("daemon", "stop").returncode == 0
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    for words in (["daemon", "serve"], ["list"]):
        done = subprocess.run(
            [*namespace, "sh", "-c", mount, "sh", str(daemon.home), *daemon.argv(*words)],
            env=daemon.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 9, done.stderr
        assert "read-only" in done.stderr.lower()
        assert "writable" in done.stderr or "can be written to" in done.stderr


def test_doctor_before_anything_is_there(program: Program):
    found = checks(program)
    assert found["files"] == ["warn"]
    assert found["identity"] == ["warn"]
    assert program.processes() == {}
    assert not program.home.exists()


def test_doctor_when_all_is_well(daemon: Program):
    daemon("whoami")
    found = checks(daemon)
    assert {grade for grades in found.values() for grade in grades} == {"ok"}
    assert found.keys() == {"files", "daemon", "port", "vault", "log", "identity", "clock", "archive", "proxy CA"} | {
        "keychain",
        "clients",
    }
    assert all(line.startswith("ok ") for line in daemon("doctor").stdout.splitlines())


def test_doctor_finds_what_is_open_and_mends_it(daemon: Program):
    daemon("whoami")
    key = next((daemon.home / "identities").iterdir())
    key.chmod(0o644)
    (daemon.home / "providers").mkdir(exist_ok=True)
    (daemon.home / "providers").chmod(0o755)
    done = daemon("doctor")
    assert done.returncode == 1
    assert f"chmod 600 '{key}'" in done.stdout
    assert daemon("whoami").returncode == 9
    assert daemon("doctor", "--fix").returncode == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((daemon.home / "providers").stat().st_mode) == 0o700
    assert daemon("whoami").returncode == 0


def test_doctor_touches_nothing_that_is_not_ours(daemon: Program, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("x")
    elsewhere.chmod(0o644)
    (daemon.home / "providers").mkdir(mode=0o700, exist_ok=True)
    (daemon.home / "providers" / "link.json").symlink_to(elsewhere)
    assert checks(daemon, "--fix", status=1)["files"] == ["fail"]
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
    assert (daemon.home / "providers" / "link.json").is_symlink()


def test_doctor_looks_for_the_commands_that_tell(daemon: Program):
    """One that is there, one that is not, and a setting that is none."""
    config = daemon.home / "config.json"
    before = json.loads(config.read_text()) if config.exists() else {}
    for setting, status, said in (
        ({"error": ["true"]}, 0, "ok    notify    error is told by true"),
        ({"error": ["no-such-program"]}, 1, "fail  notify    no-such-program, the command for error, is not there"),
        ({"error": "true"}, 1, "fail  notify    config.json: notify.error is not a list of words"),
    ):
        write_private(config, json.dumps(before | {"notify": setting}).encode())
        done = daemon("doctor")
        assert (done.returncode, said in done.stdout) == (status, True), done.stdout


def test_doctor_sees_a_taken_port(program: Program):
    with socket.create_server(("127.0.0.1", program.port)):
        assert checks(program, status=1)["port"] == ["fail"]


def test_doctor_shows_no_secret(connected: Program):
    # SEC-143
    text = connected("doctor", "--verbose", env={"AUTHSOME_LOG_LEVEL": "debug"}).stdout
    master = (connected.home / "server" / "master.key").read_text().strip()
    seed = next((connected.home / "identities").iterdir()).read_text().strip()
    for secret in (KEY, master, seed):
        assert secret not in text


def test_the_log_tells_and_filters(connected: Program):
    connected("export", "openai")
    connected("logout", "openai")
    names = [event["event"] for event in connected.json("log")["events"]]
    assert names[-3:] == ["login", "export", "logout"]
    assert [event["event"] for event in connected.json("log", "-n", "1")["events"]] == ["logout"]
    assert [event["event"] for event in connected.json("log", "--event", "export")["events"]] == ["export"]
    assert len(connected.json("log", "--provider", "openai")["events"]) == 3
    assert connected.json("log", "--provider", "github")["events"] == []
    assert len(connected.json("log", "--since", "1h")["events"]) == len(names)
    assert connected.json("log", "--since", "2100-01-01")["events"] == []
    handle = connected.json("whoami")["identity"]["handle"]
    assert len(connected.json("log", "--identity", handle, "--event", "login")["events"]) == 1
    text = connected("log", "-n", "2").stdout.splitlines()
    assert len(text) == 2
    assert "logout" in text[1]
    assert KEY not in connected("log", "--json").stdout


def test_an_event_that_does_not_exist(daemon: Program):
    done = daemon("log", "--event", "lunch")
    assert done.returncode == 2
    assert "hint: one of login, " in done.stderr
    assert daemon("log", "--event", "logn").stderr.endswith("authsome: hint: did you mean login?\n")


def test_the_daemons_log_is_followed_into_its_next_file(program: Program):
    """What was written before the change is shown, too."""
    log = program.home / "server" / "daemon.log"
    for directory in (program.home, log.parent):
        directory.mkdir(mode=0o700)
    write_private(log, b"zero\none\n")
    process = program.start("daemon", "logs", "--follow", "-n", "1")
    try:
        assert process.stdout.readline() == "one\n"
        with log.open("ab") as file:
            file.write(b"two\n")
        log.rename(log.with_name("daemon.log.1"))
        write_private(log, b"three\n")
        assert [process.stdout.readline(), process.stdout.readline()] == ["two\n", "three\n"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_the_daemons_log_is_no_object_without_an_end(daemon: Program):
    done = daemon("daemon", "logs", "--json", "--follow")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "usage")


def test_a_number_of_lines_that_cannot_be_meant(daemon: Program):
    for words in (["log"], ["daemon", "logs"]):
        assert daemon(*words, "-n", "1" * 5000).returncode == 2


def test_the_log_can_be_followed(connected: Program):
    process = connected.start("log", "--follow", "-n", "1")
    assert process.stdout is not None
    assert "login" in process.stdout.readline()
    connected("export", "openai")
    assert "export" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 11


def test_the_log_is_followed_through_a_restart_of_the_daemon(connected: Program):
    process = connected.start("log", "--follow", "-n", "1")
    assert process.stdout is not None
    assert "login" in process.stdout.readline()
    assert connected("daemon", "stop").returncode == 0
    time.sleep(2.5)  # it looks once a second, so it has met nobody
    assert connected("daemon", "start").returncode == 0
    assert connected("export", "openai").returncode == 0
    assert "export" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 11


def test_a_check_that_cannot_look_says_where_and_what_to_do(program: Program):
    program.home.touch(mode=0o600)
    checks = {each["check"]: each for each in json.loads(program("doctor", "--json").stdout)["checks"]}
    assert checks["identity"]["message"] == f"{program.home / 'config.json'}: not a directory"
    assert checks["identity"]["hint"]


@pytest.mark.parametrize("words", [["list"], ["whoami"], ["log"], ["get", "openai"], ["doctor"], ["daemon", "status"]])
def test_json_is_one_object(connected: Program, words):
    done = connected(*words, "--json")
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stderr == ""
