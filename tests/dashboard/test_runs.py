"""Live runs in the dashboard: watched as they go on, and stopped; in a real browser."""

import pytest

from dashboard.visitor import Visitor, invited
from fakes.patience import eventually
from security import adversary

KEY = "kk-aaaaaaaaaaaaaaaaaaaaaaaa"
_ASK = 'curl -sS "$0" >/dev/null'
_CHILD = f"{_ASK}; echo began; read again; {_ASK}; echo went; read last; {_ASK}; echo ended"


@pytest.fixture
def running(program, keyed, start):
    """A command of a run, which asks its server, then again with each line that it gets; and that server."""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    process = start("run", "--", "sh", "-c", _CHILD, keyed.url("/v1/x", host="api.example.localhost"))
    assert process.stdout.readline() == "began\n"
    return process, keyed


def go_on(process) -> str:
    """Let the command go on; what it says next."""
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_watching_and_stopping(daemon, running, page, open_dashboard, presentable):
    """Requests are counted as they come, without a reload; once stopped, no further one gets the credential."""
    process, server = running
    handle = daemon.json("whoami")["identity"]["handle"]
    open_dashboard(page, "/ui/runs")
    assert "1 live run" in page.text()
    assert f"sh by {handle}" in page.text("[data-live]")
    assert "1 request with a credential: keyed 1" in page.text("[data-live]")
    presentable(page)
    assert go_on(process) == "went\n"
    page.wait_for_text("2 requests with a credential: keyed 2")
    page.click("[data-live] summary")
    page.click('form[action$="/stop"] button')
    page.wait_for(".outcome.good")
    assert "gets no further credential" in page.text(".outcome")
    page.wait_for_text("0 live runs")
    assert [KEY in str(each.headers) for each in server.to("/v1/x")] == [True, True]
    assert go_on(process) == "ended\n"
    assert not any(KEY in str(each.headers) for each in server.to("/v1/x")[2:])
    events = daemon.json("log", "--event", "run_ended")["events"]
    assert [("identity" in each, each["principal"][:10]) for each in events][-1] == (False, "principal_")


_HOLD_BACK = """
(() => {
  const real = window.fetch;
  window.fetch = (...request) => new Promise(answer => { window.release = () => answer(real(...request)); });
})()
"""
"""Has the page wait for each answer until it is told to `release` it."""


def test_nothing_moves_under_a_finger(running, page, open_dashboard):
    """What came while somebody presses a button waits until it is let go; a click is never lost."""
    process, _ = running
    open_dashboard(page, "/ui/runs")
    page.evaluate(_HOLD_BACK)
    page.click("[data-live] summary")
    assert go_on(process) == "went\n"
    assert eventually(lambda: page.evaluate("'release' in window"))
    with page.held('form[action$="/stop"] button'):
        page.evaluate("window.release(); new Promise(later => setTimeout(later, 500))")
        assert "1 request with a credential: keyed 1" in page.text("[data-live]")
    page.wait_for(".outcome.good")
    assert "0 live runs" in page.text()


def test_stopping_without_script(running, page, open_without_script):
    """Asked a second time; the command itself goes on."""
    open_without_script(page, "/ui/runs")
    assert page.has("[data-live] details:not([open]) > form[action$='/stop']")
    page.click("[data-live] summary")
    page.click('form[action$="/stop"] button')
    page.wait_for(".outcome.good")
    assert "gets no further credential" in page.text(".outcome")
    assert "0 live runs" in page.text()
    assert running[0].poll() is None, "its command is nobody else's to end"


@pytest.mark.usefixtures("running")
def test_anothers_runs(daemon):
    """Neither shown nor stopped; a form is good once, and from here. # SEC-199 # SEC-31 # SEC-29"""
    owner, stranger = Visitor.of(daemon).enter(daemon), invited(daemon, "bob@example.org")
    assert "0 live runs" in stranger.get("/ui/runs").body
    actions = [each for each in owner.get("/ui/runs").actions if each.endswith("/stop")]
    (path,) = actions
    (token,) = owner.get("/ui/runs").tokens(path)
    assert stranger.post(path, {"form_token": token}).status == 403
    theirs = stranger.get("/ui/runs").tokens(path)
    assert theirs == []
    assert owner.get(path).status == 405
    assert owner.post(path, {"form_token": ""}).status == 403
    assert owner.post(path, {"form_token": token}, Origin="https://evil.example").status == 403
    assert "1 live run" in owner.get("/ui/runs").body
    assert owner.submit("/ui/runs", path).status == 303
    assert owner.post(path, {"form_token": token}).status in {403, 404}
    assert "0 live runs" in owner.get("/ui/runs").body


def test_many_runs(daemon, page, open_dashboard, presentable):
    """Page by page, each of them live; a page whose runs have all ended leads to the last that there is."""
    assert daemon("whoami").returncode == 0
    caller = adversary.owner(daemon)
    begun = [caller.ask("POST", "/proxy/runs", {"command": f"agent-{place}"}).json()["run"] for place in range(41)]
    open_dashboard(page, "/ui/runs")
    assert "41 live runs" in page.text()
    assert "agent-40 by" in page.text(".rows")
    assert "Page 1 of 3" in page.text(".pager")
    presentable(page)
    page.click(".pager a")
    page.wait_for_url(f"{daemon.url}/ui/runs?page=2")
    assert len(page.texts(".rows > li")) == 20
    page.click(".pager a:last-child")
    page.wait_for_url(f"{daemon.url}/ui/runs?page=3")
    assert "agent-0 by" in page.text(".rows")
    owner = Visitor.of(daemon).enter(daemon)
    assert owner.submit("/ui/runs?page=3", f"/ui/runs/{begun[0]}/stop").status == 303
    page.wait_for_text("There are not so many pages")
    presentable(page)
    page.click(".pager a")
    page.wait_for_url(f"{daemon.url}/ui/runs?page=2")
    assert "Page 2 of 2" in page.text(".pager")
    assert owner.get("/ui/runs?page=0").status == 400


@pytest.mark.parametrize(
    "rude",
    [
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("a\x1b[31m\n\u202eb", "a\ufffd[31m\ufffd\ufffdb"),
    ],
    ids=["markup", "controls"],
)
def test_a_rude_command(daemon, page, open_dashboard, start, rude):
    """Its name is text, in one line, without what steers a terminal; its arguments are nobody's business. # SEC-38"""
    name, shown = rude
    program = daemon.directory / name
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o700)
    start("run", "--", str(program), "--token=canary")
    open_dashboard(page, "/ui/runs")
    page.wait_for_text("1 live run")
    assert f"{shown} by" in page.text("[data-live]")
    page.open(f"{daemon.url}/ui/")
    assert shown in page.text("[data-live='runs']")
    assert page.dialogs == []
    assert [each["detail"] for each in daemon.json("log", "--event", "run")["events"]] == [shown]
    assert "canary" not in daemon("log", "--json").stdout
    for file in daemon.home.rglob("*"):
        assert not file.is_file() or b"canary" not in file.read_bytes(), file


def test_what_may_be_a_command(daemon):
    """A name alone, if any: whoever begins a run by hand puts no path, no arguments and no controls on the page."""
    assert daemon("whoami").returncode == 0
    caller = adversary.owner(daemon)
    for fine in ({}, {"command": None}, {"command": "git"}, {"command": "a b"}, {"command": "x" * 64}):
        assert caller.ask("POST", "/proxy/runs", fine).status == 201, fine
    for wrong in ("", "/bin/sh", "a/b", "a\nb", "\x1b[31m", "\u202eb", "x" * 65, 1, ["git"]):
        answer = caller.ask("POST", "/proxy/runs", {"command": wrong})
        assert (answer.status, answer.code) == (400, "request_invalid"), wrong
    assert "5 live runs" in Visitor.of(daemon).enter(daemon).get("/ui/runs").body
