"""The log in the browser: looked through, live, checked, exported; one's own, or all of it for an admin."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

from dashboard import seed
from dashboard.test_places import EVIL, KEY, invited
from dashboard.visitor import Visitor
from fakes import definitions


@pytest.fixture
def keyed(define, program, api_server):
    """A connected provider."""
    define(definitions.keyed(api_server.url("/", host="api.example.localhost")))
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    return api_server


def test_looking_through_the_log(daemon, page, keyed, open_dashboard, presentable):
    """By event, app, identity and day, without a key or a query in it."""
    url = keyed.url("/v1/things?secret=canary", host="api.example.localhost")
    assert daemon("run", "--", "curl", "-sS", url).returncode == 0
    open_dashboard(page, "/audit")
    shown = page.text("ol")
    for word in ("resolve", "login", "run", "sign_in", "/v1/things", daemon.json("whoami")["identity"]["handle"]):
        assert word in shown
    assert "canary" not in shown
    assert KEY not in str(page.evaluate("document.documentElement.outerHTML"))
    presentable(page)
    page.evaluate("document.querySelector('[name=event]').value = 'login'")
    page.click(".filters button")
    page.wait_for_url(f"{daemon.url}/audit?event=login&")
    assert set(page.texts("ol .tag")) == {"login"}
    page.open(f"{daemon.url}/audit?provider=nothing")
    assert "No entry fits" in page.text()
    page.open(f"{daemon.url}/audit?since=2100-01-01")
    assert "No entry fits" in page.text()
    visitor = Visitor.of(daemon).enter(daemon)
    for wrong in ("event=x", "since=yesterday", "before=x", "more=1"):
        assert visitor.get(f"/audit?{wrong}").status == 400


def test_older_entries(program, page, open_dashboard):
    """Page by page, each entry once, and back to the newest; the older pages stand still."""
    assert program("init").returncode == 0
    assert program("daemon", "stop").returncode == 0
    seed.fill(program, number=3, entries=120)
    assert program("daemon", "start").returncode == 0
    open_dashboard(page, "/audit")
    assert page.has("[data-live]")
    sizes, tags = [len(page.texts("ol > li"))], page.texts("ol .tag")
    while page.has(".pager a"):
        older = page.attribute(".pager a", "href")
        page.click(".pager a")
        page.wait_for_url(program.url + older)
        assert not page.has("[data-live]")
        assert page.has("main > a[href='/audit']")
        sizes.append(len(page.texts("ol > li")))
        tags += page.texts("ol .tag")
    assert sizes[:2] == [50, 50]
    assert len(sizes) == 3
    assert tags.count("resolve") == 120


def test_new_entries_come_by_themselves(daemon, page, open_dashboard, keyed):
    """While somebody looks; the focus and the rest of the page stay; without a session it just stops."""
    del keyed
    open_dashboard(page, "/audit")
    page.evaluate("document.title = 'kept'")
    assert daemon("logout", "keyed").returncode == 0
    page.wait_for_text("logout")
    assert page.title == "kept"
    assert page.violations == []


def test_checking_the_record(daemon, page):
    """It is whole; without script, too."""
    page.disable_javascript()
    page.open(str(daemon.json("ui")["url"]))
    page.click("button[type=submit]")
    page.wait_for("body.dash")
    page.open(f"{daemon.url}/audit")
    page.click('form[action="/ui/audit/chain"] button')
    page.wait_for_text("as they were written")


def test_checking_a_record_that_was_changed(daemon):
    """Says which entry it is, once."""
    owner = Visitor.of(daemon).enter(daemon)
    with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"):
            store.execute(f"DROP TRIGGER {name}")
        store.execute("UPDATE audit SET detail = 'another' WHERE id = 1")
    body = owner.submit("/audit", "/ui/audit/chain").body
    assert "Entry 1 was changed" in body
    assert "Entry 1:" not in body


def test_exporting_the_log(daemon, tmp_path):
    """What comes can be checked without the daemon; and is on record."""
    visitor = Visitor.of(daemon).enter(daemon)
    exported = visitor.submit("/audit", "/ui/audit/export", {"since": ""})
    assert exported.status == 200
    assert re.fullmatch(r'attachment; filename="authsome-log-[\d-]+\.ndjson"', exported.header("Content-Disposition"))
    lines = [json.loads(line) for line in exported.body.splitlines()]
    assert lines[0]["whole"] is True
    file = tmp_path / "log.ndjson"
    file.write_text(exported.body)
    checked = daemon("log", "verify", "--file", str(file))
    assert checked.returncode == 0, checked.stderr
    assert daemon.json("log", "--event", "log_exported")["events"]


def test_a_users_log_is_its_own(daemon, keyed):
    """No other principal's entries on the page or in the export; the chain is an admin's. # SEC-188 # SEC-199"""
    del keyed
    stranger = invited(daemon, "bob@example.org")
    page = stranger.get("/audit").body
    assert "bob@example.org" in page
    assert "keyed" not in page
    assert stranger.get("/audit").tokens("/ui/audit/chain") == []
    for query in ("provider=keyed", "event=login"):
        assert "No entry fits" in stranger.get(f"/audit?{query}").body
    exported = stranger.submit("/audit", "/ui/audit/export", {"since": ""}).body
    assert "keyed" not in exported
    assert json.loads(exported.splitlines()[0])["whole"] is False


def test_markup_in_the_log(daemon, page, open_dashboard):
    """What strangers had written down is text. # SEC-38"""
    Visitor.of(daemon).get("/connections/%3Cimg%20src=x%20onerror=alert(1)%3E/x")
    visitor = Visitor.of(daemon)
    visitor.ask("GET", "/ui/", {"User-Agent": EVIL})
    open_dashboard(page, "/audit?event=denied")
    assert "%3Cimg" in page.text("ol")
    assert not page.has("img[src=x]")
    assert page.dialogs == []
