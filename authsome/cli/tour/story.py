"""What the tour tells, step by step, and what it checks while it does."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from authsome.cli.context import Context
from authsome.cli.output import Output, Stopwatch
from authsome.cli.tour import stage as stages
from authsome.cli.tour import visitor
from authsome.cli.tour.servers import ACCOUNT, CLIENT_ID, LONG_LIFE
from authsome.cli.tour.stage import PLACEHOLDER, PROVIDER, VARIABLE, Stage
from authsome.errors import AuthsomeError

_AT_ONCE = 5  # requests at the moment of expiry
_SETTLE = 60.0  # seconds for the last processes to go, on a machine that has much else to do

# What the child does is what any program would: it reads its key from the environment and sends it.
_CHILD = """
import json, os, sys, threading, urllib.error, urllib.request
def call(number):
    request = urllib.request.Request(os.environ["TOUR_API"])
    request.add_header("Authorization", "Bearer " + os.environ["TOUR_TOKEN"])
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answers[number] = json.load(answer)
    except (OSError, ValueError) as error:
        answers[number] = {"error": str(error)}
answers = [None] * int(sys.argv[1])
threads = [threading.Thread(target=call, args=(number,)) for number in range(len(answers))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"answers": answers, "environment": dict(os.environ), "argv": sys.argv}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that has to hold."""

    what: str
    passed: bool
    detail: str = ""


@dataclass(slots=True)
class Report:
    """What was told and found so far."""

    output: Output
    checks: list[Check] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """A line of the story."""
        self.output.line(text)
        self.output.flush()  # into a pipe, too, the story is told as it happens

    def show(self, text: str) -> None:
        """What somebody would see on the screen."""
        for line in text.rstrip().splitlines():
            self.output.line(f"     {line}")
        self.output.flush()

    def check(self, what: str, passed: bool, detail: str = "") -> None:  # noqa: FBT001  # reads like an assertion
        """Note whether something holds, and say so."""
        self.checks.append(Check(what=what, passed=passed, detail=detail))
        if passed:
            self.output.line(what, good="   ok   ")
        else:
            self.output.line(f"   FAIL {what}{': ' + detail if detail else ''}")


def tell(context: Context, *, real_browser: bool) -> int:
    """The whole tour; returns the exit status."""
    report, since = Report(context.output), time.monotonic()
    report.say("A tour of authsome: log in once, then run any command with the credential put on its requests.")
    report.say("All of it happens on this machine, in a temporary home that is removed at the end.")
    directory = None
    with stages.built(context.environ) as stage:
        directory = stage.directory
        with _told(report, "log in"):
            _log_in(stage, report, real_browser=real_browser)
        if all(check.passed for check in report.checks):
            for name, step in (("run", _run), ("expire", _expire), ("look", _look_around)):
                with _told(report, name):
                    step(stage, report)
        context.output.progress("cleaning up …")
    _farewell(report, directory, time.monotonic() - since)
    return 0 if all(check.passed for check in report.checks) else 1


@contextmanager
def _told(report: Report, name: str) -> Iterator[None]:
    """A step that breaks off is a check that failed, not the end of the tour."""
    try:
        yield
    except (AuthsomeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        report.check(f"the step `{name}` came to its end", passed=False, detail=str(error))


def _log_in(stage: Stage, report: Report, *, real_browser: bool) -> None:
    report.say()
    report.say("1. Log in, once. A small OAuth server stands in for the provider.")
    report.show(f"$ authsome login {PROVIDER}")
    words = ["login", PROVIDER, "--stdin"] + ([] if real_browser else ["--no-browser"])
    process = stage.start(*words)
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        client = {"client_id": CLIENT_ID, "client_secret": stage.seen.client_secret}
        process.stdin.write(json.dumps(client))
        process.stdin.close()
        process.stdin = None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.strip().startswith("http://"):
                if real_browser:
                    report.output.note("press the button in your browser; if it does not open, go to")
                    report.output.note(f"  {line.strip()}")
                else:
                    visitor.log_in(line.strip(), until="is connected")
                break
        out, err = process.communicate(timeout=600 if real_browser else 60)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    done = process.returncode == 0
    report.show(out if done else "".join(said) + err)
    report.check("the login ended well", done and ACCOUNT in out, f"status {process.returncode}")
    report.check(
        "the code was asked for with PKCE (S256) and exchanged once",
        (stage.seen.challenges, stage.seen.grants) == (1, ["authorization_code"]),
    )


def _run(stage: Stage, report: Report) -> None:
    report.say()
    report.say(f"2. Run a program that reads {VARIABLE} from its environment and calls the API with it.")
    report.show("$ authsome run -- python my_agent.py")
    child = _child(stage, 1)
    held = child.environment.get(VARIABLE)
    sent = _last_header(stage)
    report.show(f"the program had   {VARIABLE}={held}")
    report.show(f"the API received  Authorization: {_masked(sent)}")
    report.show(f"the API answered  {json.dumps(child.answers[0])}")
    report.check("the API let it in", child.answers == [{"login": ACCOUNT}], json.dumps(child.answers))
    report.check("the program saw a placeholder only", held == PLACEHOLDER)
    report.check("no secret in its environment or arguments", not _found(stage, child.everything))
    report.check(
        "the real token was put on the request outside of it", sent.removeprefix("Bearer ") in stage.seen.issued
    )
    if (curl := shutil.which("curl", path=stage.environ.get("PATH"))) is not None:
        report.show("")
        report.show(f"$ authsome run -- curl -s {stage.places.api}/me")
        status, out, err = stage.run("run", "--", curl, "-sS", f"{stage.places.api}/me")
        report.show(out or err)
        report.check("curl gets in, too, without any key at all", status == 0 and ACCOUNT in out, err.strip())


def _expire(stage: Stage, report: Report) -> None:
    report.say()
    report.say(f"3. The access token expires. {_AT_ONCE} requests want a new one at the same moment.")
    watch = Stopwatch()
    while not _all_over(stage):
        report.output.progress(f"waiting for the token to expire … {watch}")
        time.sleep(0.1)
    before = stage.seen.grants.count("refresh_token")
    stage.seen.token_life = LONG_LIFE  # lest the next one is renewed, too, while its refresh is counted
    report.show("$ authsome run -- python my_agent.py")
    answers = _child(stage, _AT_ONCE).answers
    refreshed = stage.seen.grants.count("refresh_token") - before
    report.check(f"all {_AT_ONCE} were let in", answers == [{"login": ACCOUNT}] * _AT_ONCE, json.dumps(answers))
    report.check("with exactly one refresh between them", refreshed == 1, f"there were {refreshed}")


def _all_over(stage: Stage) -> bool:
    """Whether every token has ended: also one that came meanwhile, as what is in use is renewed ahead of time."""
    with stage.seen.lock:
        return time.monotonic() >= max(stage.seen.access.values())


def _look_around(stage: Stage, report: Report) -> None:
    report.say()
    report.say("4. What is left on the disk, and in the log.")
    report.show("$ authsome log -n 4")
    status, out, err = stage.run("log", "-n", "4")
    report.show(out or err)
    _, everything, _ = stage.run("log", "--json", "-n", "200")
    events = [event["event"] for event in json.loads(everything)["events"]] if status == 0 else []
    report.check("login, use and refresh are on record", {"login", "resolve", "refresh"} <= set(events))
    report.check("no secret in the log", status == 0 and not _found(stage, everything))
    files = [path for path in stage.home.rglob("*") if path.is_file()]
    open_ones = [path for path in files if _found(stage, path.read_bytes().decode("latin-1"))]
    names = ", ".join(str(path.relative_to(stage.home)) for path in open_ones)
    report.check(f"no secret in clear in any of the {len(files)} files of the vault", not open_ones, names)


def _farewell(report: Report, directory: Path, seconds: float) -> None:
    deadline = time.monotonic() + _SETTLE
    while (left := stages.processes_left(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    report.say()
    report.check("the tour left no process and no file behind", not left and not directory.exists(), str(directory))
    passed = all(check.passed for check in report.checks)
    output = report.output
    if output.as_json:
        output.result(
            {
                "passed": passed,
                "seconds": round(seconds, 1),
                "checks": [
                    {"check": each.what, "passed": each.passed, "detail": each.detail} for each in report.checks
                ],
            }
        )
        return
    failed = sum(not check.passed for check in report.checks)
    report.say()
    if passed:
        report.say(f"Everything held ({seconds:.0f} s). Now for real:")
        report.show("authsome login openai            # or github, or any that `authsome list` shows")
        report.show("authsome run -- python my_agent.py")
    else:
        report.say(f"{failed} of {len(report.checks)} checks failed; `authsome doctor` may say why.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """What the program says of itself."""

    answers: list[dict[str, str]]
    environment: dict[str, str]
    everything: str


def _child(stage: Stage, requests: int) -> _Child:
    status, out, err = stage.run("run", "--", sys.executable, "-c", _CHILD, str(requests))
    if status != 0:
        raise ValueError(f"the program ended with status {status}: {err.strip()[-300:]}")
    found = json.loads(out)
    return _Child(answers=found["answers"], environment=found["environment"], everything=out)


def _last_header(stage: Stage) -> str:
    with stage.seen.lock:
        return stage.seen.headers[-1] if stage.seen.headers else ""


def _masked(header: str) -> str:
    """As much of a credential as tells it from the placeholder."""
    scheme, _, value = header.partition(" ")
    return f"{scheme} {value[:11]}… ({len(value)} characters)"


def _found(stage: Stage, text: str) -> bool:
    return any(secret in text for secret in stage.seen.secrets)
