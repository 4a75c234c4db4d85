"""Pages that change by themselves: what happens is told, to whom it concerns, for as long as they may look."""

import json
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dashboard.events import Events
from dashboard.visitor import Visitor, invited
from fakes import definitions
from fakes.patience import eventually, is_running

KEY = "kk-aaaaaaaaaaaaaaaaaaaaaaaa"
PASSPHRASE = "correct horse battery staple"


def connect(daemon, name="default"):
    """Have something happen that shows."""
    done = daemon("login", "keyed", "--connection", name, "--stdin", input=KEY)
    assert done.returncode == 0, done.stderr


def kill(daemon):
    """End its process in the middle of whatever it does; whoever asks after that meets nobody."""
    pid = daemon.wait_daemon()
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(pid))


def memory(pid):
    """What a process holds, in KiB."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1])


def stored(daemon, sql, *values):
    """Change what is stored behind the daemon's back, as another daemon would."""
    with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute(sql, values)


# ---- what somebody sees ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keyed")
def test_two_tabs(daemon, chromium_browser, open_dashboard, presentable):
    """Both show what happens, without a reload, and stay presentable."""
    with chromium_browser.profile() as profile:
        first, second = profile.new_page(in_window=True), profile.new_page(in_window=True)
        open_dashboard(first)
        second.open(f"{daemon.url}/ui/connections")
        second.wait_for("h1")
        for page in (first, second):
            page.evaluate("document.title = 'kept'")
        connect(daemon)
        first.wait_for_text("keyed")
        second.wait_for_text("1 connection")
        connect(daemon, "work")
        second.wait_for_text("2 connections")
        assert second.has("li.fresh")
        assert (first.title, second.title) == ("kept", "kept")
        for page in (first, second):
            assert not [each for each in page.requests if "/ui/events" in each.url and each.method != "GET"]
            presentable(page)


@pytest.mark.usefixtures("keyed")
def test_what_somebody_does_stays(daemon, page, open_dashboard):
    """Focus, what is open and what is half filled in, while what is around it changes."""
    connect(daemon)
    open_dashboard(page, "/ui/connections/keyed/default")
    page.click("details.act summary")
    page.evaluate("window.seen = document.querySelector('details.act button')")
    page.evaluate("window.seen.focus()")
    token = page.value("details.act input[name=form_token]")
    connect(daemon, "work")
    assert daemon("set-default", "keyed", "work").returncode == 0
    page.wait_for_text("Make it the default")
    assert page.evaluate("document.querySelector('details.act').open")
    assert page.evaluate("document.activeElement === window.seen")
    assert page.value("details.act input[name=form_token]") != token
    page.press("Enter")
    page.wait_for_text("is forgotten here")
    page.open(f"{daemon.url}/ui/identities/{daemon.json('whoami')['identity']['handle']}")
    page.fill("[name=connections]", "openai")
    page.evaluate("document.querySelector('dl.facts dd').textContent = 'as it was'; looked = -1e6; look()")
    page.wait_for_text("may act")
    assert page.value("[name=connections]") == "openai"


@pytest.mark.usefixtures("keyed")
def test_moving_rows_is_for_those_who_like_it(daemon, page, open_dashboard):
    """What is new is marked for a moment, unless the browser asks for less motion."""
    connect(daemon)
    open_dashboard(page, "/ui/connections")
    connect(daemon, "work")
    page.wait_for("li.fresh")
    page.emulate()
    assert page.evaluate("getComputedStyle(document.querySelector('li.fresh')).animationName") == "fresh"
    page.emulate(calm=True)
    assert page.evaluate("getComputedStyle(document.querySelector('li.fresh')).animationName") == "none"


@pytest.mark.usefixtures("keyed")
def test_a_hidden_tab(daemon, chromium_browser, open_dashboard):
    """Holds no connection; seen again, it shows what it has missed."""
    with chromium_browser.profile() as profile:
        page = profile.new_page()
        open_dashboard(page, "/ui/connections")
        assert page.evaluate("stream.readyState <= EventSource.OPEN")
        other = profile.new_page()
        other.open(f"{daemon.url}/ui/settings")
        page.wait_until("document.hidden && stream === null")
        connect(daemon)
        assert "0 connections" in page.text()
        page.show()
        page.wait_for_text("1 connection")


@pytest.mark.usefixtures("keyed")
def test_a_daemon_that_was_killed(daemon, page, open_dashboard):
    """The page comes back by itself, and shows what happened before it did."""
    open_dashboard(page, "/ui/connections")
    page.evaluate("document.title = 'kept'")
    kill(daemon)
    connect(daemon)  # which starts another one
    page.wait_for_text("1 connection")
    connect(daemon, "work")
    page.wait_for_text("2 connections")
    assert page.title == "kept"


def test_signed_out_elsewhere(daemon, page, open_dashboard):
    """A page that nobody may look at any more says so, and what to do."""
    open_dashboard(page, "/audit")
    owner = Visitor.of(daemon).enter(daemon)
    (end, *_) = [each for each in owner.get("/ui/settings").actions if each.endswith("/end")]
    assert owner.submit("/ui/settings", end).status == 303
    page.wait_for_text("not signed in any more")
    assert page.attribute("main .outcome a", "href") == "/ui/sign-in"


def test_a_page_of_what_is_gone(daemon, page, open_dashboard, keyed):
    """Says so, and leaves alone what it shows."""
    del keyed
    connect(daemon)
    open_dashboard(page, "/ui/connections/keyed/default")
    assert daemon("logout", "keyed").returncode == 0
    page.wait_for_text("shows what is no longer so")
    assert "What you can do" in page.text()


# ---- every place -------------------------------------------------------------------------------------------


@pytest.fixture
def watched(page, open_dashboard):
    """Opens a place, and says afterwards whether it was loaded anew, or let go of what was typed."""

    def opened(path, field=None):
        open_dashboard(page, path)
        page.evaluate("document.title = 'kept'")
        if field:
            page.evaluate(f"document.querySelector('{field}').closest('details')?.setAttribute('open', '')")
            page.fill(field, "half a word")

        def is_kept():
            return page.title == "kept" and (field is None or page.value(field) == "half a word")

        return is_kept

    return opened


def test_the_settings(daemon, page, watched):
    """Which browsers are signed in, where the key lies, and how many there are of what an admin may see."""
    is_kept = watched("/ui/settings", "[name=email]")
    other = Visitor.of(daemon).enter(daemon)
    page.wait_until("document.querySelectorAll('#sessions-title ~ div li').length === 2")
    assert other.submit("/ui/", "/ui/sign-out").status == 303
    page.wait_until("document.querySelectorAll('#sessions-title ~ div li').length === 1")
    assert "See them" in page.text("#principals-title ~ p")
    invited(daemon, "bob@example.org")
    page.wait_for_text("See all 2")
    definitions.put(daemon.home, definitions.keyed("https://api.example.localhost"))
    page.wait_for_text("See all 1")
    assert daemon("admin", "rekey", "--to", "passphrase", "--stdin", input=PASSPHRASE).returncode == 0
    page.wait_for_text("made from a passphrase")
    assert is_kept()


def test_the_principals(daemon, page, watched, presentable):
    """Who is invited, joins, gets a role, and goes."""
    is_kept = watched("/ui/settings/principals", "[name=name]")
    answer = daemon.json("admin", "principals", "invite", "bob@example.org")
    page.wait_for_text("bob@example.org")
    page.evaluate("document.querySelector('details.act summary').click()")
    visitor, path = Visitor.of(daemon), str(answer["url"]).removeprefix(daemon.url)
    fields = {"name": "Bob", "password": "correct horse battery", "username": "bob@example.org"}
    assert visitor.submit(path, path, fields).status == 303
    page.wait_for_text("2 principals")
    assert page.texts(".rows > .fresh strong") == ["Bob"]
    page.wait_for_text("Nobody is invited who has not come yet")
    assert daemon("admin", "principals", "role", "bob@example.org", "admin").returncode == 0
    page.wait_until("document.querySelectorAll('.rows .tag.good').length === 2")
    assert page.evaluate("document.querySelector('details.act').open"), "what somebody has opened stays so"
    presentable(page)
    assert daemon("admin", "principals", "remove", "bob@example.org", "--yes").returncode == 0
    page.wait_for_text("1 principal\n")
    assert is_kept()


def test_the_providers_of_ones_own(daemon, page, watched, tmp_path):
    """What is registered and removed, also by hand."""
    is_kept = watched("/ui/settings/providers", "[name=host]")
    definition = tmp_path / "keyed.json"
    definition.write_text(json.dumps(definitions.keyed("https://api.example.localhost")))
    assert daemon("register", str(definition), "--yes").returncode == 0
    page.wait_for_text("1 definition")
    definitions.put(daemon.home, definitions.keyed("https://other.example.localhost", name="another"))
    page.wait_for_text("2 definitions")
    assert daemon("remove", "keyed", "--yes").returncode == 0
    page.wait_for_text("1 definition\n")
    assert page.texts(".rows a") == ["another"]
    assert is_kept()


@pytest.mark.usefixtures("keyed")
def test_the_apps(daemon, page, watched):
    """What is connected, and what can be."""
    is_kept = watched("/ui/apps?q=keyed", "[name=url]")
    connect(daemon)
    page.wait_until("document.querySelector('.card .tag.good')?.innerText === 'connected'")
    connect(daemon, "work")
    page.wait_for_text("2 connected")
    definitions.put(daemon.home, definitions.keyed("https://other.example.localhost", name="keyed-too"))
    page.wait_for_text("2 apps")
    for name in ("default", "work"):
        assert daemon("logout", "keyed", "--connection", name).returncode == 0
    page.wait_until("!document.querySelector('.card .tag.good')")
    assert is_kept()


@pytest.mark.usefixtures("keyed")
def test_an_app(daemon, page, watched, presentable):
    """Its connections, and what its definition says; what is being filled in stays."""
    is_kept = watched("/ui/apps/keyed", "[name=connection]")
    assert not page.has("#connected-title")
    connect(daemon)
    page.wait_for("#connected-title")
    assert "default" not in page.text(".rows"), "a name that says nothing"
    connect(daemon, "work")
    page.wait_for_text("work")
    presentable(page)
    definitions.put(daemon.home, definitions.keyed("https://other.example.localhost"))
    page.wait_for_text("other.example.localhost")
    for name in ("default", "work"):
        assert daemon("logout", "keyed", "--connection", name).returncode == 0
    page.wait_until("!document.querySelector('#connected-title')")
    assert is_kept()


# ---- when there is nobody to ask ----------------------------------------------------------------------------


def test_a_daemon_that_was_stopped(daemon, page, open_dashboard):
    """The page says that it has no answer, until it has one."""
    open_dashboard(page, "/ui/connections")
    page.evaluate("document.title = 'kept'")
    assert daemon("daemon", "stop").returncode == 0
    page.wait_for_text("The daemon does not answer")
    assert "0 connections" in page.text()
    assert daemon("daemon", "start").returncode == 0
    page.wait_until("!document.querySelector('main > .outcome')")
    assert page.title == "kept"


@pytest.fixture
def lockable(daemon):
    """A daemon whose vault opens with a passphrase, and is open."""
    done = daemon("admin", "rekey", "--to", "passphrase", "--stdin", input=PASSPHRASE)
    assert done.returncode == 0, done.stderr
    return daemon


def unlock(program):
    """Give the passphrase."""
    done = program("daemon", "unlock", "--stdin", input=PASSPHRASE)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("keyed")
def test_coming_back_to_a_locked_vault(lockable, page, open_dashboard, presentable):
    """The page says so and how to open it, keeps what it shows, and comes alive once somebody has."""
    connect(lockable)
    open_dashboard(page, "/ui/connections")
    page.evaluate("document.title = 'kept'")
    assert lockable("daemon", "lock").returncode == 0
    page.wait_for_text("The vault is locked")
    assert "authsome daemon unlock" in page.text("main > .outcome")
    assert "1 connection" in page.text()
    presentable(page, expects=["503", "ERR_"])
    unlock(lockable)
    page.wait_until("!document.querySelector('main > .outcome')")
    connect(lockable, "work")
    page.wait_for_text("2 connections")
    assert page.title == "kept"


def test_coming_to_a_locked_vault(lockable, page, open_dashboard, presentable):
    """A page in place of every other, which is that one once the vault is open; what is sent is not taken."""
    open_dashboard(page)
    assert lockable("daemon", "lock").returncode == 0
    page.open(f"{lockable.url}/ui/identities")
    page.wait_for_text("The vault is locked")
    assert page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") == "14px"
    presentable(page, expects=["503"])
    visitor = Visitor.of(lockable)
    answer = visitor.post("/ui/sign-out", {}, Accept="text/html")
    assert (answer.status, "The vault is locked" in answer.body) == (503, True)
    assert '"code":"vault_locked"' in visitor.post("/ui/sign-out", {}).body
    assert visitor.get("/ui/style.css").status == 200
    assert visitor.get("/ui/nothing.css").status == 503
    unlock(lockable)
    page.wait_for_text("may act")
    assert page.url == f"{lockable.url}/ui/identities"


def test_coming_to_a_locked_vault_without_script(lockable, page, open_without_script):
    """The page looks again by itself."""
    open_without_script(page, "/ui/")
    assert lockable("daemon", "lock").returncode == 0
    page.open(f"{lockable.url}/ui/identities")
    page.wait_for_text("The vault is locked")
    unlock(lockable)
    page.wait_for_text("may act")


# ---- who is told -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keyed")
def test_anothers_events(daemon):
    """None, neither as they happen nor on coming back; an admin is told that the log has grown. # SEC-199 # SEC-188"""
    owner, stranger = Visitor.of(daemon).enter(daemon), invited(daemon, "bob@example.org")
    heard = stranger.get("/ui/").body.partition("/ui/events?heard=")[2].partition('"')[0]
    with Events.of(daemon, owner) as mine, Events.of(daemon, stranger) as theirs:
        connect(daemon)
        mine.wait_for("connections")
        with Events.of(daemon, stranger, heard=heard) as back:
            again = invited(daemon, "eve@example.org")
            mine.wait_for("log")
            handed = stranger.get("/ui/settings")
            (end, *_) = [each for each in handed.actions if each.endswith("/password")]
            fields = {
                "email": "bob@example.org",
                "present": "correct horse battery",
                "password": "another horse battery",
            }
            assert stranger.submit("/ui/settings", end, fields).status == 303
            for stream in (theirs, back):
                assert stream.next() == ("changed", "log principals sessions"), "its own, and nothing before it"
        assert again.get("/ui/").status == 200


@pytest.mark.usefixtures("keyed")
def test_coming_back(daemon):
    """With what was heard last one is told what was missed, also by another daemon; nonsense is refused."""
    owner = Visitor.of(daemon).enter(daemon)
    with Events.of(daemon, owner) as stream:
        connect(daemon)
        stream.wait_for("connections")
        heard = stream.heard
    kill(daemon)
    assert daemon("logout", "keyed").returncode == 0
    with Events.of(daemon, owner, heard=heard) as stream:
        event = stream.next()
        assert event is not None
        assert {"connections", "log"} <= set(event[1].split())
    for nonsense in ("x", "-1", "1" * 40, "1" * 5000, "1.5"):
        with Events.of(daemon, owner, heard=nonsense) as stream:
            assert stream.response.status == 400
    assert owner.get("/ui/events").status == 400, "an address bar gets none"
    with Events.of(daemon, Visitor.of(daemon)) as stream:
        assert stream.response.status == 303


# ---- how it ends -------------------------------------------------------------------------------------------


def sign_out(_daemon, visitor):
    assert visitor.submit("/ui/", "/ui/sign-out").status == 303


def revoke(daemon, _visitor):
    """The identity whose link opened the session."""
    handle = daemon.json("whoami")["identity"]["handle"]
    assert daemon("identity", "revoke", handle, "--yes", "--last").returncode == 0


def expire(daemon, _visitor):
    stored(daemon, "UPDATE dashboard_sessions SET expires_at = 1")


def leave_unused(daemon, _visitor):
    stored(daemon, "UPDATE dashboard_sessions SET seen_at = 1")


@pytest.mark.parametrize("end", [sign_out, revoke, expire, leave_unused], ids=lambda end: end.__name__)
def test_the_session_ends(daemon, end):
    """And with it the stream, which says so; there is no further one. # SEC-44"""
    visitor = Visitor.of(daemon).enter(daemon)
    with Events.of(daemon, visitor) as stream:
        kept = dict(visitor.jar)
        end(daemon, visitor)
        assert stream.ends()
    visitor.jar = kept
    with Events.of(daemon, visitor) as stream:
        assert stream.response.status == 303


def test_the_principal_is_removed(daemon):
    """Nobody looks on for somebody who is no more. # SEC-208"""
    stranger = invited(daemon, "bob@example.org")
    with Events.of(daemon, stranger) as stream:
        assert daemon("admin", "principals", "remove", "bob@example.org", "--yes").returncode == 0
        assert stream.ends()


def test_the_daemon_stops(daemon):
    """At once: nobody waits for a stream to end by itself."""
    visitor = Visitor.of(daemon).enter(daemon)
    with Events.of(daemon, visitor) as stream:
        assert daemon("daemon", "stop").returncode == 0
        assert not stream.ends(), "the session goes on"
    log = (daemon.home / "server" / "daemon.log").read_text()
    assert "cut off" not in log


# ---- how many ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keyed")
def test_how_many_of_a_session(daemon, chromium_browser, open_dashboard):
    """Four; a fifth tab works as well, and looks by itself now and then. Pages come as before."""
    with chromium_browser.profile() as profile:
        pages = [profile.new_page(in_window=True) for _ in range(5)]
        open_dashboard(pages[0], "/ui/connections")
        for page in pages[1:]:
            page.open(f"{daemon.url}/ui/connections")
        for page in pages:
            page.wait_for("h1")
            page.evaluate("document.title = 'kept'")
        connect(daemon)
        for page in pages:
            page.wait_for_text("1 connection")
            assert page.title == "kept"
        assert any("503" in each for page in pages for each in page.console), "one of them was refused"


def signed_in(daemon, email):
    """One more browser of somebody who was invited."""
    visitor = Visitor.of(daemon)
    fields = {"email": email, "password": "correct horse battery"}
    assert visitor.submit("/ui/sign-in", "/ui/sign-in", fields).status == 303
    return visitor


def test_a_hundred(daemon, keyed):
    """Others are served as ever, all of them are told, and it costs no memory to speak of. # SEC-192 # SEC-193"""
    connect(daemon)
    other = invited(daemon, "bob@example.org", role="admin")
    visitors = [Visitor.of(daemon).enter(daemon) for _ in range(15)]
    visitors += [signed_in(daemon, "bob@example.org") for _ in range(9)] + [other]
    with ExitStack() as stack:
        streams = [stack.enter_context(Events.of(daemon, visitor)) for visitor in visitors for _ in range(4)]
        assert [each.response.status for each in streams] == [200] * 100
        told = list(zip(streams, ["connections"] * 60 + ["log"] * 40, strict=True))
        pid = daemon.wait_daemon()
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        assert threads < 20
        with ThreadPoolExecutor(100) as readers:
            for number in range(2):
                connect(daemon, f"work-{number}")
                list(readers.map(lambda each: each[0].wait_for(each[1]), told))
            before = memory(pid)
            for number in range(4):
                connect(daemon, f"more-{number}")
                list(readers.map(lambda each: each[0].wait_for(each[1]), told))
        assert memory(pid) - before < 8 * 1024
        url = keyed.url("/v1/x", host="api.example.localhost")
        assert daemon("run", "--", "curl", "-sS", url).returncode == 0
        assert KEY in str(keyed.to("/v1/x")[-1].headers)
        assert visitors[0].get("/ui/").status == 200
        assert Visitor.of(daemon).enter(daemon).get("/ui/").status == 200
        assert visitors[0].get("/health").status == 200
    deadline = time.monotonic() + 60
    while len(list(Path(f"/proc/{pid}/fd").iterdir())) > 60:
        assert time.monotonic() < deadline, "connections are left"
        time.sleep(0.1)
