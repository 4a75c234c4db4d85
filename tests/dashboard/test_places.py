"""The dashboard's places in a real browser: what they show, and what can be done there."""

import re

import pytest

from dashboard import seed
from dashboard.visitor import Visitor, invited
from fakes import definitions, oidc

KEY = "kk-aaaaaaaaaaaaaaaaaaaaaaaa"
EVIL = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


@pytest.fixture
def keyed(define, api_server):
    """A provider that takes an API key."""
    define(definitions.keyed(api_server.url("/", host="api.example.localhost")))
    return api_server


@pytest.fixture
def acme(define, oidc_server):
    """A certified OAuth provider."""
    define(oidc_server.definition("acme", api_url="https://api.example.localhost"))
    return oidc_server


@pytest.fixture
def seeded(program):
    """A daemon with connections in every state, and a log."""
    assert program("init").returncode == 0
    assert program("daemon", "stop").returncode == 0
    made = seed.fill(program, number=60, entries=2000)
    assert program("daemon", "start").returncode == 0
    return made


_IS_SEEN = """
(() => {
  const one = document.activeElement, box = one.getBoundingClientRect();
  const isThere = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0;
  return isThere && getComputedStyle(one).outlineStyle === "solid";
})()
"""
"""Whether one sees what has the focus."""


def listed(program) -> set[tuple[str, str]]:
    """What is connected, by provider and name."""
    providers = program.json("list", "--connected")["providers"]
    return {(each["name"], one["connection"]) for each in providers for one in each["connections"]}


# ---- looking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/connections", "/ui/apps", "/ui/apps/github", "/ui/runs", "/ui/identities", "/ui/settings"]
)
def test_empty_places_are_presentable(page, open_dashboard, presentable, path):
    """A new home: every page says what to do next, and shows no fault to eye, keyboard or screen reader."""
    open_dashboard(page, path)
    presentable(page)
    if path == "/ui/":
        for command in ("authsome login github", "authsome run -- COMMAND"):
            assert command in page.text()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("path", ["/ui/", "/ui/connections", "/ui/connections/ahrefs/default", "/ui/apps/ahrefs"])
def test_full_places_are_presentable(page, open_dashboard, presentable, path):
    """The same with sixty connections, some of which need somebody."""
    open_dashboard(page, path)
    presentable(page)


def test_the_overview_tells_what_needs_somebody(seeded, page, open_dashboard):
    """First what has ended or soon will; then what was used, how often and when."""
    open_dashboard(page)
    assert page.texts("h2")[0] == "Needs attention"
    assert {"expired", "ends soon", "login needed"} <= set(page.texts(".attention .tag"))
    assert "52 more" in page.text(".attention") or re.search(r"\d+ more", page.text(".attention"))
    assert re.search(r"1,9\d\d uses|2,000 uses", page.text(".chart"))
    assert len(page.texts(".bar")) == seed.DAYS
    assert page.attribute(".chart svg", "aria-label").startswith("uses on each of the last 14 days")
    assert f"All {len(seeded)}" in page.text()


def test_finding_a_connection(seeded, daemon, page, open_without_script):
    """By words and by state, page by page, without script."""
    open_without_script(page, "/ui/connections")
    assert "60 connections" in page.text()
    assert len(page.texts(".rows > li")) == 40
    page.click(".pager a")
    page.wait_for_url(f"{daemon.url}/ui/connections?page=2")
    assert len(page.texts(".rows > li")) == 20
    page.fill("[name=q]", "ADA-11@")
    page.press("Enter")
    page.wait_for_url(f"{daemon.url}/ui/connections?q=")
    assert [seeded[11][0] in each.lower() for each in page.texts(".rows > li")] == [True]
    page.open(f"{daemon.url}/ui/connections?state=attention")
    assert "connected" not in page.texts(".tag")
    page.open(f"{daemon.url}/ui/connections?q=nothing-of-that-name")
    assert "No connection fits" in page.text()
    assert Visitor.of(daemon).enter(daemon).get("/ui/connections?state=x").status == 400


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("path", ["/ui/", "/ui/connections/ahrefs/default", "/ui/settings/providers", "/audit"])
def test_the_keyboard_is_somewhere(page, open_dashboard, path):
    """Wherever Tab leads, one sees where one is."""
    open_dashboard(page, path)
    page.press("Tab")
    assert page.has(".skip:focus")
    page.press("Tab")
    seen = 0
    while page.evaluate("!document.activeElement.matches('body, .skip')"):  # the first again, or nothing: it is the end
        assert page.evaluate(_IS_SEEN), page.evaluate("document.activeElement.outerHTML")
        seen += 1
        page.press("Tab")
    assert seen > len(page.texts("nav a"))


@pytest.mark.usefixtures("seeded")
def test_a_page_beyond_the_last(daemon):
    """Says that it is one, in place of what is said where there is nothing, and leads to the last."""
    owner = Visitor.of(daemon).enter(daemon)
    for place, last in (
        ("/ui/connections", "/ui/connections?page=2"),
        ("/ui/apps", "/ui/apps?page=3"),
        ("/ui/runs", "/ui/runs?page=1"),
        ("/ui/identities", "/ui/identities?page=1"),
        ("/ui/settings", "/ui/settings?page=1"),
        ("/ui/settings/principals", "/ui/settings/principals?page=1"),
        ("/ui/settings/providers", "/ui/settings/providers?page=1"),
    ):
        answer = owner.get(f"{place}?page=9")
        assert (answer.status, "There are not so many pages." in answer.body) == (200, True), place
        assert f'<a href="{last}">Previous</a>' in answer.body
        assert "Next" not in answer.body
        assert "There are not so many pages." not in owner.get(place).body


def test_use_is_counted_from_the_log(daemon, page, open_dashboard, keyed, program):
    """A request of a run shows at once, with whose it was."""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    url = keyed.url("/v1/x", host="api.example.localhost")
    for _ in range(3):
        assert program("run", "--", "curl", "-sS", url).returncode == 0
    open_dashboard(page, "/ui/connections/keyed/default")
    assert "3 uses" in page.text(".chart")
    handle = daemon.json("whoami")["identity"]["handle"]
    assert re.search(rf"(just now|minutes? ago) by {handle}", page.text(".facts"))


@pytest.mark.usefixtures("keyed")
def test_a_honeytoken_is_told_as_one(daemon, page, open_dashboard, presentable):
    """Nothing is connected by it; and once it was used it needs somebody, who is led to who it was."""
    assert daemon("honeytoken", "keyed", "--connection", "backup").returncode == 0
    open_dashboard(page)
    assert page.texts("[data-live='connections uses'] .tag") == ["honeytoken"]
    assert not page.has(".attention")
    page.open(f"{daemon.url}/ui/apps?q=keyed")
    assert page.texts(".card .tag") == ["your own"]
    page.open(f"{daemon.url}/ui/apps?state=connected")
    assert "No app fits" in page.text()
    page.open(f"{daemon.url}/ui/connections?state=good")
    assert "No connection fits" in page.text()
    page.open(f"{daemon.url}/ui/connections?state=honeytoken")
    assert "1 connection" in page.text()
    page.click(".rows a")
    page.wait_for("h1")
    assert page.texts(".facts .tag") == ["honeytoken"]
    assert "is a decoy" in page.text(".facts")
    page.click(".acts summary")
    assert "keyed has never known it" in page.text(".acts")
    assert not page.has('form[action$="/revoke"]')
    presentable(page)
    page.open(f"{daemon.url}/ui/")
    assert daemon("export", "keyed").returncode == 0, "which no run has to do with"
    page.wait_for(".attention")
    assert page.texts(".attention .tag") == ["honeytoken, used"]
    presentable(page)
    page.click(".attention .button")
    page.wait_for_url(f"{daemon.url}/audit?event=honeytoken&provider=keyed")
    assert daemon.json("whoami")["identity"]["handle"] in page.text(".entries")
    assert daemon("logout", "keyed").returncode == 0
    page.open(f"{daemon.url}/ui/")
    assert not page.has(".attention")


@pytest.mark.usefixtures("acme")
def test_a_used_honeytoken_of_oauth(daemon, page, open_dashboard, presentable):
    """A real login takes its place, and nothing is revoked that nobody granted."""
    assert daemon("honeytoken", "acme").returncode == 0
    assert daemon("export", "acme").returncode == 0
    open_dashboard(page, "/ui/connections/acme/default")
    assert page.texts(".facts .tag") == ["honeytoken, used"]
    assert "see by whom" in page.text(".facts")
    assert not page.has('form[action$="/revoke"]')
    presentable(page)
    page.click('form[action$="/reconnect"] button')
    agree(page, daemon)
    assert page.texts(".facts .tag") == ["connected"]


# ---- connecting ----------------------------------------------------------------------------------------


def test_connecting_by_a_key(daemon, page, open_dashboard, keyed):
    """From the catalogue to the stored key, with the key in no page."""
    del keyed
    open_dashboard(page, "/ui/apps?q=keyed")
    page.click(".card")
    page.wait_for_url(f"{daemon.url}/ui/apps/keyed")
    page.click("main form button")
    page.wait_for("[name=api_key]")
    page.fill("[name=api_key]", KEY)
    page.press("Enter")
    page.wait_for_text("is connected")
    page.click(".actions a")
    page.wait_for_url(f"{daemon.url}/ui/connections/keyed/default")
    page.wait_for_text("connected")
    assert KEY not in str(page.evaluate("document.documentElement.outerHTML"))
    assert listed(daemon) == {("keyed", "default")}
    events = daemon.json("log", "--event", "login")["events"]
    assert [("identity" in each, each["principal"][:10]) for each in events] == [(False, "principal_")]


def test_connecting_by_oauth(daemon, page, open_dashboard, acme):
    """To the provider and back, and on to the connection; still signed in, though the way led through another site."""
    open_dashboard(page)
    connect_acme(page, daemon)
    assert listed(daemon) == {("acme", "default")}
    assert len(acme.token_requests("authorization_code")) == 1


def connect_acme(page, program) -> None:
    """From the provider's page here to the provider, and back to the connection's page."""
    page.open(f"{program.url}/ui/apps/acme")
    page.click("main form button")
    agree(page, program)


def agree(page, program) -> None:
    """Name the client, sign in at the provider, and go on to the connection's page."""
    page.wait_for("[name=client_id]")
    page.fill("[name=client_id]", oidc.PUBLIC.id)
    page.click("button[type=submit]")
    page.wait_for("#login")
    page.fill("#login", "octocat")
    page.click("#allow")
    page.wait_for_text("Test acme is connected")
    page.click(".actions a")
    page.wait_for_url(f"{program.url}/ui/connections/acme/default")
    page.wait_for("body.dash")


def test_connecting_by_a_device_code(daemon, page, open_dashboard, define, oidc_server):
    """The code is shown as text and as QR code; the page says so when it was entered."""
    define({**oidc_server.definition("acme", api_url="https://api.example.localhost"), "flow": "device_code"})
    open_dashboard(page, "/ui/apps/acme")
    page.click("main form button")
    page.wait_for("[name=client_id]")
    page.fill("[name=client_id]", oidc.PUBLIC.id)
    page.click("button[type=submit]")
    page.wait_for(".usercode")
    assert page.has("figure svg")
    oidc_server.enter_code(f"{oidc_server.issuer}/device", code=page.text(".usercode"))
    page.wait_for_text("Test acme is connected")
    assert listed(daemon) == {("acme", "default")}


def test_giving_up_goes_back(daemon, page, open_dashboard, keyed):
    """Who cancels is led back to the app."""
    del keyed
    open_dashboard(page, "/ui/apps/keyed")
    page.click("main form button")
    page.wait_for("[name=api_key]")
    page.click("button.quiet")
    page.wait_for_text("was not connected")
    page.click(".actions a")
    page.wait_for_url(f"{daemon.url}/ui/apps/keyed")
    assert listed(daemon) == set()


def test_a_name_that_is_taken(page, open_dashboard, keyed, program):
    """The form says so, keeps what was typed, and offers a free one to begin with."""
    del keyed
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    open_dashboard(page, "/ui/apps/keyed")
    assert page.value("[name=connection]") == "account-2"
    page.fill("[name=connection]", "default")
    page.press("Enter")
    page.wait_for("#problem")
    assert "connected already" in page.text("#problem")
    assert "Choose another name" in page.text("#problem"), "not what a command line would take"
    assert page.value("[name=connection]") == "default"


# ---- doing ---------------------------------------------------------------------------------------------


def test_what_can_be_done_to_connections(daemon, page, keyed, program, open_without_script):
    """Default and log out, without script; the page says what was done, and the log by whom."""
    del keyed
    for name in ("default", "work"):
        assert program("login", "keyed", "--connection", name, "--stdin", input=KEY).returncode == 0
    open_without_script(page, "/ui/connections/keyed/work")
    page.click('form[action$="/default"] button')
    page.wait_for_text("work is the default of keyed now")
    page.open(f"{daemon.url}/ui/connections/keyed/default")
    assert "is the default of" not in page.text()
    page.click("details.act summary")
    page.click('form[action$="/logout"] button')
    page.wait_for_text("is forgotten here")
    assert listed(daemon) == {("keyed", "work")}
    (event,) = daemon.json("log", "--event", "logout")["events"]
    assert ("identity" in event, event["principal"].startswith("principal_")) == (False, True)


@pytest.mark.usefixtures("acme")
def test_revoking_and_refreshing(daemon, page, open_dashboard):
    """The provider is asked; what it answers is told on the page."""
    open_dashboard(page)
    connect_acme(page, daemon)
    page.click('form[action$="/refresh"] button')
    page.wait_for_text("The token came less than a minute ago")
    page.evaluate("document.querySelectorAll('details.act').forEach(each => { each.open = true })")
    page.click('form[action$="/revoke"] button')
    page.wait_for_text("is revoked")
    assert listed(daemon) == set()


def test_reconnecting(daemon, page, open_dashboard, keyed, program):
    """A login in place of the one that is there, which stays until the new one has succeeded."""
    del keyed
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    open_dashboard(page, "/ui/connections/keyed/default")
    page.click('form[action$="/reconnect"] button')
    page.wait_for("[name=api_key]")
    assert listed(daemon) == {("keyed", "default")}
    page.fill("[name=api_key]", KEY.replace("a", "b"))
    page.press("Enter")
    page.wait_for_text("is connected")


def test_another_principals_connections(daemon, keyed, program):
    """Neither shown nor touched, whatever their names; the same 404 as for what there is not. # SEC-199"""
    del keyed
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    owner = Visitor.of(daemon).enter(daemon)
    stranger = invited(daemon, "bob@example.org")
    assert "keyed" in owner.get("/ui/connections").body
    assert "/ui/connections/keyed" not in stranger.get("/ui/connections").body + stranger.get("/ui/").body
    assert stranger.get("/ui/connections/keyed/default").status == 404
    assert stranger.get("/ui/connections/keyed/nothing").status == 404
    for act in ("refresh", "reconnect", "default", "logout", "revoke"):
        path = f"/ui/connections/keyed/default/{act}"
        assert stranger.get(path).status in {404, 405}
        for token in owner.get("/ui/connections/keyed/default").tokens(path):
            assert stranger.post(path, {"form_token": token}).status == 403
    assert listed(daemon) == {("keyed", "default")}


def test_markup_in_every_string(daemon, page, open_dashboard, define, program):
    """What a definition says is text on every page that names it; its links are https. # SEC-38 # SEC-39"""
    definition = definitions.keyed("https://api.example.localhost/")
    define({**definition, "display_name": EVIL, "description": EVIL})
    assert program("login", "keyed", "--stdin", "--no-verify", input=KEY).returncode == 0
    open_dashboard(page)
    for path in ("/ui/", "/ui/connections", "/ui/connections/keyed/default", "/ui/apps?q=keyed", "/ui/apps/keyed"):
        page.open(daemon.url + path)
        assert EVIL in page.text(), path
        assert not page.has("img[src=x]")
    page.open(f"{daemon.url}/ui/connections?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.dialogs == []
    assert page.violations == []
    assert page.console == []


@pytest.mark.usefixtures("seeded")
def test_first_paint_waits_for_one_request(daemon, page, open_dashboard):
    """Beside the page itself the style sheet; the script comes when the page is there, and nothing from elsewhere."""
    open_dashboard(page)
    for path in ("/ui/", "/ui/connections", "/ui/apps", "/audit"):
        page.open(daemon.url + path)
        loaded = page.evaluate(
            "performance.getEntriesByType('resource')"
            ".map(each => [new URL(each.name).pathname, each.renderBlockingStatus, new URL(each.name).origin])"
        )
        assert [name for name, status, _ in loaded if status == "blocking"] == ["/ui/style.css"]
        assert {origin for _, _, origin in loaded} == {daemon.url}
