"""Getting in and out of the dashboard, in a real browser and by requests that no browser would send."""

import re
import sqlite3
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from dashboard.visitor import Visitor
from fakes.patience import PATIENCE, eventually
from security import adversary

PASSWORD = "correct horse battery"
EMAIL = "ada@example.org"
HTTPS = "https://auth.example.localhost"


def link_of(program) -> str:
    """A fresh one-time link's path and query."""
    link = urlsplit(str(program.json("ui")["url"]))
    return f"{link.path}?{link.query}"


@pytest.fixture
def account(daemon):
    """The owner's address and password."""
    visitor = Visitor.of(daemon).enter(daemon)
    fields = {"email": EMAIL, "password": PASSWORD}
    assert visitor.submit("/ui/settings", "/ui/settings/password", fields).status == 303
    return visitor


def sign_in(visitor, password=PASSWORD, email=EMAIL):
    return visitor.submit("/ui/sign-in", "/ui/sign-in", {"email": email, "password": password, "next": "/ui/"})


# ---- by link -------------------------------------------------------------------------------------------


def test_a_link_in_a_browser(daemon, page, chromium_browser, presentable):
    """It opens by itself, once, in one browser, and leaves no key in an address, a Referer or the log. # SEC-45"""
    url = str(daemon.json("ui")["url"])
    key = url.partition("key=")[2]
    page.open(url)
    page.wait_for_url(f"{daemon.url}/ui/")
    page.wait_for_text("Overview")
    assert key not in page.url
    visited = page.history()
    assert visited
    assert not any(key in address for address in visited)
    assert not any(key in request.headers.get("referer", "") for request in page.requests)
    with chromium_browser.profile() as another:
        second = another.new_page()
        second.open(url)
        second.wait_for_text("This link has expired")
        assert second.cookies() == []
        presentable(second, expects=["404"])
    assert key not in (daemon.home / "server" / "daemon.log").read_text()
    assert [path for path, data in daemon.files().items() if key.encode() in data] == []


def test_a_link_without_script(daemon, page):
    """There is a button to press."""
    page.disable_javascript()
    page.open(str(daemon.json("ui")["url"]))
    page.wait_for_text("Open the dashboard")
    assert "key=" not in page.url
    page.click("button[type=submit]")
    page.wait_for_url(f"{daemon.url}/ui/")
    page.wait_for_text("Overview")


def test_looking_at_a_link_changes_nothing(daemon):
    """Whoever follows it without going on, a preview of a chat for one, leaves it as good as it was. # SEC-34"""
    path = link_of(daemon)
    for method in ("HEAD", "GET", "GET"):
        first = Visitor.of(daemon)
        assert first.ask(method, path).status == 303
        assert first.get("/ui/enter").status == 200
        assert first.get("/ui/").location.startswith("/ui/sign-in")
    visitor = Visitor.of(daemon)
    visitor.get(path)
    assert visitor.submit("/ui/enter", "/ui/enter").location == "/ui/"
    assert Visitor.of(daemon).get(path).status == 404


def test_a_link_needs_its_own_form(daemon):
    """Neither another link's token nor one of another browser opens it; from elsewhere nothing does. # SEC-31"""
    mine, other = Visitor.of(daemon), Visitor.of(daemon)
    mine.get(link_of(daemon))
    other.get(link_of(daemon))
    (token,) = other.get("/ui/enter").tokens("/ui/enter")
    assert mine.post("/ui/enter", {"form_token": token}).status == 403
    assert mine.post("/ui/enter", {}).status == 403
    (token,) = mine.get("/ui/enter").tokens("/ui/enter")
    assert mine.post("/ui/enter", {"form_token": token}, Origin="https://evil.example").status == 403
    assert mine.post("/ui/enter", {"form_token": token}).status == 303
    assert mine.post("/ui/enter", {"form_token": token}).status == 404


def test_another_site_signs_nobody_in(daemon, page, tmp_path):
    """Led to a link by another site, the browser asks, and says as whom; nothing happens by itself. # SEC-29"""
    evil = tmp_path / "evil.html"
    evil.write_text(f'<a href="{daemon.json("ui")["url"]}">look</a>')
    page.open(evil.as_uri())
    page.click("a")
    page.wait_for_text("signs this browser in as owner")
    time.sleep(0.5)
    assert page.url == f"{daemon.url}/ui/enter"
    assert [each["name"] for each in page.cookies()] == ["authsome_link"]
    page.click("button[type=submit]")
    page.wait_for("body.dash")


def test_the_command_prints_and_opens(daemon):
    """`ui` opens the browser that there is; with --no-browser it prints, and so it does where there is none."""
    printed = daemon("ui", "--no-browser")
    assert re.fullmatch(rf"{daemon.url}/ui/enter\?key=[\w-]{{43}}\n", printed.stdout)
    assert "five minutes" in printed.stderr
    opened = daemon("ui")
    assert (opened.returncode, opened.stdout) == (0, "")
    assert daemon.wait_opened().startswith(f"{daemon.url}/ui/enter?key=")
    nowhere = daemon("ui", env={"BROWSER": None, "DISPLAY": None})
    assert nowhere.stdout.startswith(f"{daemon.url}/ui/enter?key=")
    refused = daemon("ui", env={"AUTHSOME_RUN": "x"})
    assert (refused.returncode, "inside a run" in refused.stderr) == (4, True)


# ---- sessions ------------------------------------------------------------------------------------------


def test_a_sessions_cookie(daemon):
    """HttpOnly, SameSite=Strict, 256 bits, a new one at each sign-in whatever was there before. # SEC-44 # SEC-203"""
    visitor = Visitor.of(daemon)
    visitor.jar["authsome_session"] = "planted-by-somebody-else"
    path = link_of(daemon)
    visitor.get(path)
    answer = visitor.submit("/ui/enter", "/ui/enter")
    cookie = answer.cookies["authsome_session"]
    assert re.fullmatch(r"authsome_session=[\w-]{43}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict", cookie), cookie
    first = visitor.jar["authsome_session"]
    visitor.enter(daemon)
    second = visitor.jar["authsome_session"]
    assert second not in {first, "planted-by-somebody-else"}
    visitor.jar["authsome_session"] = first
    assert visitor.get("/ui/").status == 303  # who was signed in before is so no more


def test_a_sessions_cookie_over_https(program):
    """Over TLS it has the prefix that binds it to this host and to TLS, whatever ends the TLS. # SEC-44 # SEC-203"""
    environment = {"AUTHSOME_SERVER_BASE_URL": HTTPS}
    assert program("daemon", "start", env=environment).returncode == 0
    url = str(program.json("ui")["url"])
    assert url.startswith(f"{HTTPS}/ui/enter?key=")
    visitor = Visitor.of(program, origin=HTTPS)
    visitor.get(url.removeprefix(HTTPS))
    cookie = visitor.submit("/ui/enter", "/ui/enter").cookies["__Host-authsome_session"]
    assert cookie.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure")
    assert visitor.get("/ui/").status == 200
    plain = Visitor.of(program)
    plain.jar["authsome_session"] = visitor.jar["__Host-authsome_session"]
    assert plain.get("/ui/").status == 200  # the same daemon by its own listener: a session is one browser's


def test_signing_out(daemon, page, open_dashboard):
    """It ends in the daemon, not in the browser alone: the cookie, brought back, is worth nothing. # SEC-44"""
    open_dashboard(page)
    (cookie,) = [each for each in page.cookies() if each["name"] == "authsome_session"]
    thief = Visitor.of(daemon)
    thief.jar["authsome_session"] = str(cookie["value"])
    assert thief.get("/ui/").status == 200
    page.click(".who button")
    page.wait_for_url(f"{daemon.url}/ui/sign-in")
    assert [each["name"] for each in page.cookies() if each["name"] == "authsome_session"] == []
    assert thief.get("/ui/").status == 303


def test_sessions_outlive_the_daemon(daemon):
    """Killed and started again, it knows its browsers; and their forms. # SEC-44"""
    visitor = Visitor.of(daemon).enter(daemon)
    (token,) = visitor.get("/ui/").tokens("/ui/sign-out")
    pid = daemon.wait_daemon()
    adversary.kill(pid)
    assert daemon("whoami").returncode == 0
    assert daemon.wait_daemon() != pid
    assert visitor.get("/ui/").status == 200
    assert visitor.post("/ui/sign-out", {"form_token": token}).location == "/ui/sign-in"


def test_forms_of_a_session(daemon):
    """Taken once, from the browser that they were shown to, for what they say; never from elsewhere.

    # SEC-29 # SEC-30 # SEC-31
    """
    mine, other = Visitor.of(daemon).enter(daemon), Visitor.of(daemon).enter(daemon)
    (token,) = mine.get("/ui/").tokens("/ui/sign-out")
    (foreign,) = other.get("/ui/").tokens("/ui/sign-out")
    sites = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
    ]
    for headers in sites:
        assert mine.post("/ui/sign-out", {"form_token": token}, **headers).status in {400, 403}, headers
    for wrong in (foreign, "", "x", token + "x"):
        assert mine.post("/ui/sign-out", {"form_token": wrong}).status == 403
    assert mine.get("/ui/sign-out").status == 404  # SEC-34
    assert mine.get("/ui/").status == 200
    assert mine.post("/ui/sign-out", {"form_token": token}).status == 303
    assert other.post("/ui/sign-out", {"form_token": foreign}).status == 303


def test_another_site_signs_nobody_out(daemon, page, open_dashboard, tmp_path):
    """A page elsewhere that posts to us, or frames us, meets a browser that says nothing. # SEC-29 # SEC-35"""
    open_dashboard(page)
    evil = tmp_path / "evil.html"
    evil.write_text(f'<form method=post action="{daemon.url}/ui/sign-out"><button>x</button></form>')
    page.open(evil.as_uri())
    page.click("button")
    page.wait_for_url(daemon.url)
    page.wait_for_text("not signed in")
    evil.write_text(f'<iframe id=f src="{daemon.url}/ui/"></iframe>')
    page.open(evil.as_uri())
    assert eventually(lambda: any("frame" in said.lower() for said in (*page.console, *page.violations)))
    page.open(f"{daemon.url}/ui/")
    page.wait_for_text("Overview")


def test_a_link_from_elsewhere_finds_who_is_signed_in(daemon, page, open_dashboard, tmp_path):
    """A strict cookie does not come along from another site; our page fetches it, and goes where it was to go."""
    open_dashboard(page)
    elsewhere = tmp_path / "chat.html"
    elsewhere.write_text(f'<a href="{daemon.url}/ui/">look</a>')
    page.open(elsewhere.as_uri())
    page.click("a")
    page.wait_for_url(f"{daemon.url}/ui/")
    page.wait_for_text("Overview")
    outsider = Visitor.of(daemon)
    bounced = outsider.ask("GET", "/ui/", {"Sec-Fetch-Site": "cross-site"})
    assert (bounced.status, "http-equiv" in bounced.body) == (200, True)
    assert outsider.ask("GET", "/ui/", {"Sec-Fetch-Site": "same-origin"}).location == "/ui/sign-in?next=/ui/"


PLACES = [
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "/ui//evil.example",
    "javascript:alert(1)",
    "/x",
]


@pytest.mark.parametrize("place", PLACES)
def test_signing_in_goes_on_to_pages_of_ours(account, daemon, place):
    """Whatever the address says. # SEC-40"""
    del account
    visitor = Visitor.of(daemon)
    (token,) = visitor.get("/ui/sign-in").tokens("/ui/sign-in")
    fields = {"form_token": token, "email": EMAIL, "password": PASSWORD, "next": place}
    assert visitor.post("/ui/sign-in", fields).location == "/ui/"
    assert visitor.get(f"/ui/sign-in?next={place}").location == "/ui/"


# ---- by password ---------------------------------------------------------------------------------------


def test_a_password_in_a_browser(account, daemon, page, presentable):
    """Wrong, then right, without script; the password is not filled in again, and goes nowhere. # SEC-48"""
    del account
    page.open(f"{daemon.url}/ui/")
    page.wait_for_text("Sign in")
    presentable(page)
    page.disable_javascript()
    page.open(f"{daemon.url}/ui/")
    assert page.attribute("[name=password]", "type") == "password"
    page.fill("[name=email]", EMAIL)
    page.fill("[name=password]", "not-the-password-canary")
    page.press("Enter")
    page.wait_for("#problem")
    assert page.value("[name=email]") == EMAIL
    assert "canary" not in str(page.evaluate("document.documentElement.outerHTML"))
    page.fill("[name=password]", PASSWORD)
    page.press("Enter")
    page.wait_for_url(f"{daemon.url}/ui/")
    page.wait_for_text(EMAIL)
    log = (daemon.home / "server" / "daemon.log").read_text()
    assert PASSWORD not in log
    assert "canary" not in log
    denied = daemon.json("log", "--event", "denied")["events"][0]["detail"]
    assert re.fullmatch(r"sign-in as principal_\w+", denied)


def test_refusals_are_alike(account, daemon):
    """A wrong address and a wrong password get the same page; too many get 429, and when to try again. # SEC-202"""
    del account
    visitor = Visitor.of(daemon)
    pages = [
        re.sub(r'value="[^"]*"|autofocus', "", sign_in(visitor, "wrong wrong wrong", email).body)
        for email in (EMAIL, "bob@example.org")
    ]
    assert pages[0] == pages[1]
    assert "wrong" in pages[0]
    for _ in range(60):  # until a wait is longer than this machine is slow
        blocked = sign_in(visitor, "wrong wrong wrong")
        if blocked.status == 429:
            break
        assert blocked.status == 403
    with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=PATIENCE, isolation_level=None)) as store:
        store.execute("UPDATE attempts SET failures = failures + 10")  # as if somebody had gone on for long
    blocked = sign_in(visitor)
    assert blocked.status == 429
    assert int(blocked.header("Retry-After") or "") >= 1
    assert "authsome_session" not in blocked.cookies
    again = Visitor.of(daemon).enter(daemon)  # the way by link stays open
    assert again.get("/ui/").status == 200


def test_a_sign_in_form_is_of_one_browser(account, daemon):
    """Nobody is signed in as somebody else by a form that another browser, or site, was shown. # SEC-31"""
    del account
    visitor, other = Visitor.of(daemon), Visitor.of(daemon)
    (token,) = other.get("/ui/sign-in").tokens("/ui/sign-in")
    fields = {"form_token": token, "email": EMAIL, "password": PASSWORD, "next": "/ui/"}
    assert visitor.post("/ui/sign-in", fields).status == 403
    visitor.get("/ui/sign-in")
    assert visitor.post("/ui/sign-in", fields).status == 403
    assert other.post("/ui/sign-in", fields, Origin="https://evil.example").status == 403
    assert other.post("/ui/sign-in", fields).status == 303
    assert other.post("/ui/sign-in", fields).status == 403


def test_a_new_password_signs_others_out(account, daemon):
    """The browser that changes it stays; every other has to sign in again. # SEC-203"""
    others = [Visitor.of(daemon) for _ in range(2)]
    for other in others:
        assert sign_in(other).location == "/ui/"
    mine = others.pop()
    change = {"email": EMAIL, "present": PASSWORD, "password": "another good password"}
    assert "/ui/settings" in mine.submit("/ui/settings", "/ui/settings/password", change).location
    assert mine.get("/ui/").status == 200
    assert others[0].get("/ui/").status == 303
    assert account.get("/ui/").status == 303
    assert sign_in(others[0]).status == 403
    assert sign_in(others[0], "another good password").location == "/ui/"


def test_a_browser_left_open_sets_no_password(account, daemon):
    """Some minutes after its link it has to give the present one; without one it is asked to come anew. # SEC-203"""

    def grow_old() -> None:
        with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
            store.execute("UPDATE dashboard_sessions SET created_at = created_at - 300000000")

    grow_old()
    change = {"email": "eve@example.org", "password": "another good password"}
    for present in ({}, {"present": "a wrong password"}):
        answer = account.submit("/ui/settings", "/ui/settings/password", change | present)
        assert (answer.status, "present password is wrong" in answer.body) == (403, True)
    other = Visitor.of(daemon)
    assert sign_in(other).location == "/ui/"
    assert other.submit("/ui/settings", "/ui/settings/password", change).status == 403
    anew = Visitor.of(daemon).enter(daemon)
    assert 'name="present"' not in anew.get("/ui/settings").body
    assert anew.submit("/ui/settings", "/ui/settings/password", {**change, "email": EMAIL}).status == 303
    assert (account.get("/ui/").status, other.get("/ui/").status) == (303, 303)
    with closing(sqlite3.connect(daemon.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute("DELETE FROM passwords")
    grow_old()
    assert "/ui/settings/password" not in anew.get("/ui/settings").actions
    assert "authsome ui" in anew.get("/ui/settings").body


def test_the_first_account(program, page, presentable):
    """On a daemon that nobody owns, whoever can read its home makes the first account in the browser. # SEC-206"""
    process = program.start("daemon", "serve")
    try:
        program.wait_daemon()
        page.open(f"{program.url}/")
        page.wait_for_text("Make this daemon yours")
        presentable(page)
        code = (program.home / "server" / "bootstrap.key").read_text()
        fields = {"code": "guessed", "name": "Ada", "email": EMAIL, "password": PASSWORD}
        for name, value in fields.items():
            page.fill(f"[name={name}]", value)
        page.press("Enter")
        page.wait_for("#problem")
        page.fill("[name=code]", code)
        page.fill("[name=password]", PASSWORD)
        page.press("Enter")
        page.wait_for_url(f"{program.url}/ui/")
        page.wait_for_text(EMAIL)
        assert Visitor.of(program).get("/ui/first").location == "/ui/sign-in"
        assert not (program.home / "server" / "bootstrap.key").exists()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_addresses_that_are_none(daemon, page):
    """A page says so to whoever looks, and points to the dashboard; programs get their problem details."""
    for path in ("/ui/nothing/here", "/ui/nothing", "/nothing"):
        page.open(f"{daemon.url}{path}")
        page.wait_for_text("There is nothing at this address")
        assert page.attribute("main .actions a", "href") == "/ui/"
    page.open(f"{daemon.url}/connections")  # which only programs may ask
    page.wait_for_text("The caller could not be authenticated")
    assert page.violations == []
    visitor = Visitor.of(daemon)
    for path, status in (("/nothing", 404), ("/ui/nothing", 404), ("/connections", 401)):
        answer = visitor.get(path)
        assert (answer.status, answer.header("Content-Type")) == (status, "application/problem+json")
