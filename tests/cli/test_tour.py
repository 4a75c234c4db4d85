"""The tour shows the main job, holds what it promises, and leaves nothing behind, however it ends."""

import io
import json
import signal
import subprocess

import pytest

from authsome.cli.output import Output
from authsome.cli.tour import story
from fakes.program import Program


def test_everything_holds_and_nothing_is_left(program: Program):
    done = program("tour", "--json", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["passed"] is True
    assert len(answer["checks"]) >= 12
    assert program.processes() == {}
    assert list((program.directory / "tmp").iterdir()) == []
    assert not program.home.exists()


def test_a_command_that_takes_too_long_is_a_check_that_failed():
    report = story.Report(Output(stdout=io.StringIO(), stderr=io.StringIO()))
    with story._told(report, "run"):
        raise subprocess.TimeoutExpired(["authsome"], 60)
    assert [each.passed for each in report.checks] == [False]


def test_the_story_can_be_read(program: Program):
    done = program("tour", timeout=300)
    assert done.returncode == 0, done.stdout
    text = done.stdout
    for part in ("1. Log in", "2. Run", "3. The access token expires", "4. What is left", "authsome login openai"):
        assert part in text
    assert "FAIL" not in text
    assert max(len(line) for line in text.splitlines()) <= 132
    # SEC-144: only the first characters of a token, and never more of it
    assert not any(word in text for word in ("tour_rt_", "tour_cs_", "tour_code_"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_broken_off_it_leaves_nothing_either(program: Program, number):
    process = program.start("tour")
    assert process.stdout is not None
    assert any("3. The access" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 11
    assert "cancelled" in err
    assert program.wait_gone() == {}
    assert list((program.directory / "tmp").iterdir()) == []


def test_it_minds_nothing_of_the_users(connected: Program):
    """A home, a daemon and settings of the user's own are neither used nor changed."""
    before = {path: path.stat().st_mtime_ns for path in connected.home.rglob("*.key")}
    assert connected("tour", "--json", env={"AUTHSOME_MASTER_KEY": "A" * 43}, timeout=300).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in connected.home.rglob("*.key")} == before
    assert [event["event"] for event in connected.json("log")["events"]] == ["claim", "login"]
