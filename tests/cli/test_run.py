"""`run` becomes the command: its status is the command's, and authsome's own failures are told apart from it."""

import json
import signal
import sys
from pathlib import Path

import pytest

from fakes.program import Program


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
        (["/nonexistent/command"], 127),
        (["no-such-command-anywhere"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
        ([""], 127),
    ],
)
def test_the_status(daemon: Program, words, status):
    done = daemon("run", "--", *words)
    assert done.returncode == status
    if status in {126, 127}:
        assert done.stderr.startswith("authsome: error: ")


def test_a_script_without_its_interpreter_is_not_said_to_be_missing(daemon: Program, tmp_path: Path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = daemon("run", "--", str(script))
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        126,
        f"authsome: error: {script}: what is to run it was not found",
    )


def test_a_failure_of_our_own_is_125(daemon: Program):
    for options in (["--connection", "openai=nosuch"], ["--only", "nosuch"], ["--for", "never"]):
        done = daemon("run", *options, "--", "true")
        assert done.returncode == 125, options
        assert done.stderr.startswith("authsome: error: ")
    told = daemon("run", "--json", "--only", "nosuch", "--", "true")
    assert (told.returncode, json.loads(told.stdout).keys()) == (125, {"error", "message", "hint"})


def test_a_question_that_is_wrong_is_answered_as_it_was_asked_for(daemon: Program):
    """An error of `--explain` is JSON wherever `--json` stands, as its answer is."""
    for words in (["--json", "--explain", "nosuch"], ["--explain", "nosuch", "--json"]):
        told = daemon("run", *words)
        assert (json.loads(told.stdout)["error"], told.stderr) == ("usage", ""), words


def test_options_after_the_command_are_the_commands(daemon: Program):
    done = daemon("run", "echo", "--json", "--help", "-n")
    assert (done.returncode, done.stdout) == (0, "--json --help -n\n")


def test_the_child_finds_the_placeholder_and_nothing_else_of_ours(connected: Program):
    """No child that it never started, no descriptor of ours, no secret."""
    code = "env; echo; ls /proc/self/fd; echo; cat /proc/$$/task/$$/children; echo end"
    done = connected("run", "--", "sh", "-c", code, env={"OPENAI_API_KEY": "sk-the-users-own"})
    assert done.returncode == 0, done.stderr
    environment = dict(line.partition("=")[::2] for line in done.stdout.split("\n\n")[0].splitlines())
    assert environment["OPENAI_API_KEY"] == "sk-authsome-placeholder-000000000000000000000000"
    assert environment["AUTHSOME_RUN"]
    assert "sk-proj-" not in done.stdout


def test_a_run_inside_a_run_gets_no_secret_out(connected: Program):
    command = [*connected.command]
    done = connected("run", "--", *command, "export", "openai")
    assert done.returncode == 4
    assert "sk-proj-" not in done.stdout + done.stderr


def test_an_explanation_as_json(connected: Program):
    """One object with what would be done by name, and nothing of the key; no run is begun by it."""
    told = connected.json("run", "--explain", "https://api.openai.com/v1/models", "--connection", "openai=default")
    assert (told["url"], told["outcome"]) == ("https://api.openai.com/v1/models", "inject")
    assert (told["provider"], told["connection"], told["headers"]) == ("openai", "default", ["Authorization"])
    assert "sk-proj-" not in json.dumps(told)
    refused = connected.json("run", "--explain", "https://localhost:9/", "--unmatched=deny")
    assert (refused["outcome"], set(refused["problem"])) == ("refuse", {"code", "message", "hint"})  # type: ignore[call-overload]
    assert "run" not in {event["event"] for event in connected.json("log")["events"]}  # type: ignore[index, union-attr]


def test_on_a_terminal_the_command_is_alone_with_it(connected: Program):
    """With everything running, too: it has the terminal, its size and the foreground, and Ctrl-C is its own.

    # SEC-180
    """
    assert connected("run", "--", "true").returncode == 0
    code = (
        "import os, signal, sys, time\n"
        "kept = [signal.getsignal(each) == signal.SIG_DFL for each in (signal.SIGHUP, signal.SIGTERM)]\n"
        "try:\n"
        "    print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), os.getpid() == os.getpgrp(), kept, flush=True)\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(3)"
    )
    with connected.on_terminal("run", "--", sys.executable, "-c", code) as screen:
        screen.expect(r"True True True \[True, True\]")
        screen.interrupt()
        assert screen.wait() == 3
