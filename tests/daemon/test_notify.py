"""Notices: the user's command is run, apart from us, with the details and without a secret; and not too often."""

import json
import logging
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from authsome.daemon import notify
from authsome.daemon.notify import Notifier
from authsome.errors import UsageError
from authsome.home import Home, make_private_directory, write_config
from authsome.models.notice import Notice, Occasion, commands
from fakes.patience import ever_longer, is_running, wait

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCRIPT = """#!/bin/sh
{ cat; env; pwd; ps -o sid= -p $$; } > "$1"
"""


class Moment:
    """A clock that the test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def moment():
    """The clock that nobody sets but the test."""
    return Moment()


@pytest.fixture
def place(home):
    """A home."""
    make_private_directory(home)
    return Home(home)


@pytest.fixture
def notifier(place, moment):
    """What is under test."""
    return made(place, moment)


def made(place, moment, **options):
    environ = {"PATH": "/usr/bin:/bin", "AUTHSOME_MASTER_KEY": "canary-key", "LANG": "C.UTF-8"}
    return Notifier(place, environ, clock=lambda: NOW, steady=moment, **options)


@pytest.fixture
def script(tmp_path):
    """A command that writes down what it is told."""
    path = tmp_path / "tell me"
    path.write_text(SCRIPT)
    path.chmod(0o700)
    return str(path)


def notice(occasion=Occasion.LOGIN_NEEDED, connection="work", provider="acme"):
    return Notice(
        occasion=occasion,
        provider=provider,
        connection=connection,
        message='acme no longer accepts the login work: $(rm -rf ~) "; exit',
        hint="log in again: authsome login acme --connection work",
    )


def at_work():
    """How many commands are."""
    return sum(thread.name == "notify" for thread in threading.enumerate())


def wait_over():
    """Wait until no command is at work."""
    wait(lambda: not at_work(), "its end")


def until(path):
    """A command that lasts until there is a file."""
    return ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.05; done', str(path)]


def test_the_command_is_told_everything_but_secrets(place, notifier, script, tmp_path):
    """The details on standard input, the main ones as variables; a session and a directory of its own."""
    told = tmp_path / "told; $(touch no)"
    write_config(place, {"notify": {"login_needed": [script, str(told)]}})
    notifier(notice())
    wait_over()
    first, *rest = told.read_text().splitlines()
    assert json.loads(first) == {
        "event": "login_needed",
        "at": "2026-06-01T12:00:00Z",
        "provider": "acme",
        "connection": "work",
        "message": notice().message,
        "hint": notice().hint,
    }
    assert {"AUTHSOME_EVENT=login_needed", "AUTHSOME_PROVIDER=acme", "AUTHSOME_CONNECTION=work", "/"} <= set(rest)
    assert "canary-key" not in told.read_text()
    assert rest[-1].strip() != str(os.getsid(0))


def test_a_damaged_log_is_told_without_a_connection(place, notifier, script, tmp_path):  # SEC-183
    """Also where it happens twice in a moment, once."""
    told = tmp_path / "told"
    write_config(place, {"notify": {"log_damaged": [script, str(told)]}})
    for _ in range(2):
        notifier(Notice.of_log("entry 3 was changed"))
    wait_over()
    first, *rest = told.read_text().splitlines()
    details = json.loads(first)
    assert (details["event"], details["provider"], details["connection"]) == ("log_damaged", None, None)
    assert "entry 3 was changed" in details["message"]
    assert "AUTHSOME_EVENT=log_damaged" in rest
    assert not any(line.startswith(("AUTHSOME_PROVIDER=", "AUTHSOME_CONNECTION=")) for line in rest)


def test_nothing_is_run_that_is_not_asked_for(place, notifier, script, tmp_path):
    """Neither without the setting nor for another occasion."""
    notifier(notice())
    write_config(place, {"notify": {"login_needed": [script, str(tmp_path / "told")]}})
    notifier(notice(Occasion.ERROR))
    wait_over()
    assert not (tmp_path / "told").exists()


def test_the_same_is_not_told_again_for_a_while(place, notifier, tmp_path, moment):
    """But something else is, and the same later."""
    write_config(place, {"notify": {"login_needed": ["sh", "-c", f"echo >> '{tmp_path / 'told'}'"]}})
    counts = []
    for after, connection in ((0, "work"), (1, "work"), (0, "home"), (298, "work"), (1, "work")):
        moment.seconds += after
        notifier(notice(connection=connection))
        wait_over()
        counts.append(len((tmp_path / "told").read_text().splitlines()))
    assert counts == [1, 1, 2, 2, 3]


def test_nobody_waits_for_a_command(place, notifier, tmp_path):
    """Whoever has the user told goes on at once."""
    write_config(place, {"notify": {"error": until(tmp_path / "end")}})
    notifier(notice(Occasion.ERROR))
    assert at_work() == 1
    (tmp_path / "end").touch()
    wait_over()


def test_a_command_that_hangs_is_ended(place, moment, tmp_path, caplog):
    """With all that it started, and the log says so."""
    pid = tmp_path / "pid"
    write_config(place, {"notify": {"error": ["sh", "-c", f"sleep 600 & echo $! > '{pid}'; wait"]}})
    for seconds in ever_longer(0.5):
        made(place, moment, patience=timedelta(seconds=seconds))(notice(Occasion.ERROR))
        wait_over()
        if pid.exists() and pid.read_text().endswith("\n"):  # else it was ended on the way there
            break
    assert "took too long" in caplog.text
    wait(lambda: not is_running(int(pid.read_text())), "what it started to end")


def test_few_commands_run_at_a_time(place, notifier, tmp_path, caplog):
    """A storm of notices is no storm of processes."""
    write_config(place, {"notify": {"error": until(tmp_path / "end")}})
    for number in range(notify.MOST + 3):
        notifier(notice(Occasion.ERROR, provider=f"acme-{number}"))
    assert at_work() == notify.MOST
    assert caplog.text.count("other commands are still at it") == 3
    (tmp_path / "end").touch()
    wait_over()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"notify": {"error": ["/no/such program"]}}, "no such file or directory"),
        ({"notify": {"error": ["false"]}}, "status 1"),
        ({"notify": {"error": ["cat", "-"]}}, None),
        ({"notify": {"error": ["true"]}}, None),  # does not read what it is told
        ({"notify": {"error": "echo"}}, "not a list of words"),
    ],
)
def test_a_failure_is_a_line_in_the_log(place, notifier, caplog, config, said):
    """And nothing else."""
    write_config(place, config)
    with caplog.at_level(logging.INFO):
        notifier(notice(Occasion.ERROR))
        wait_over()
    assert len(caplog.records) == bool(said)
    assert (said or "") in caplog.text


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        (["notify-send"], "notify is not an object"),
        ({"login_needed": "notify-send"}, "notify.login_needed is not a list of words"),
        ({"login_needed": []}, "notify.login_needed is not a list of words"),
        ({"error": ["a", 1]}, "notify.error is not a list of words"),
        ({"error": ["a", ""]}, "notify.error is not a list of words"),
        ({"error": ["a\0b"]}, "notify.error is not a list of words"),
        ({"eror": ["a"]}, "notify.eror is no occasion"),
    ],
)
def test_a_setting_that_is_wrong_is_named(setting, place):
    """With its place."""
    with pytest.raises(UsageError, match=place):
        commands({"notify": setting})
