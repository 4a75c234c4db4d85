"""The settings of an admin: keys, providers of one's own, principals and invitations; in a real browser."""

import pytest

from dashboard.visitor import Visitor, invited

EVIL = "<img src=x onerror=alert(1)>"
KEY = "kk-aaaaaaaaaaaaaaaaaaaaaaaa"
FIELDS = {
    "role": {"role": "user"},
    "programs": {"name": "x", "role": "user"},
    "by-key": {"name": "x", "host": "api.x.example", "placing": "bearer"},
    "review": {"definition": "{}"},
}
"""What a form of each kind sends."""


@pytest.mark.usefixtures("keyed")
def test_keys_and_providers(daemon, page, open_dashboard, presentable):
    """Where the master key lies and since when; a definition goes once nothing is connected by it."""
    assert daemon("login", "keyed", "--stdin", input=KEY).returncode == 0
    open_dashboard(page, "/ui/settings")
    assert "in a file" in page.text()
    assert page.texts("#keys-title ~ dl dt") == ["Master key", "Made", "Oldest vault key"]
    presentable(page)
    page.click("#providers-title ~ p a")
    page.wait_for_url(f"{daemon.url}/ui/settings/providers")
    presentable(page)
    page.click("details.act summary")
    page.click('form[action="/ui/settings/providers/keyed/remove"] button')
    page.wait_for_text("Keyed is connected as default")
    assert daemon("inspect", "keyed").returncode == 0
    assert daemon("logout", "keyed").returncode == 0
    page.click("details.act summary")
    page.click('form[action="/ui/settings/providers/keyed/remove"] button')
    page.wait_for_text("The definition of keyed is removed")
    assert "There is none" in page.text()
    assert daemon("inspect", "keyed").returncode != 0


def test_principals(daemon, page, open_dashboard, presentable):
    """Invited by a link that is shown once; made an admin; removed; shown as text. There is always an admin.

    # SEC-206 # SEC-38
    """
    open_dashboard(page, "/ui/settings/principals")
    page.fill("[name=email]", "bob@example.org")
    page.click('form[action="/ui/settings/invitations"] button')
    page.wait_for_text("may join")
    link = page.text("code.copy")
    presentable(page)
    assert all(link.rpartition("/")[2] not in address for address in page.history())
    page.open(f"{daemon.url}/ui/settings/principals")
    page.fill("[name=name]", EVIL)
    page.click('form[action="/ui/settings/principals/programs"] button')
    page.wait_for_text(f"The principal {EVIL} is added")
    assert EVIL in page.text(".rows")
    page.evaluate("history.go(-2)")
    page.wait_for_text("ERR_CACHE_MISS")  # what was shown once is nowhere in the browser
    assert link not in page.text()
    page.open(f"{daemon.url}/ui/settings/principals")
    assert "bob@example.org" in page.text("#invitations-title ~ div")
    token = link.rpartition("/")[2]
    assert token not in str(page.evaluate("document.documentElement.outerHTML"))
    presentable(page)
    bob = Visitor.of(daemon)
    path = link.removeprefix(daemon.url)
    assert bob.submit(path, path, {"name": "Bob", "password": "correct horse battery", "username": ""}).status == 303
    assert bob.get("/ui/settings/principals").status == 403
    page.open(f"{daemon.url}/ui/settings/principals")
    assert "3 principals" in page.text()
    found = {str(each["name"]): str(each["id"]) for each in daemon.json("admin", "principals", "list")["principals"]}
    page.click(f'form[action$="{found["Bob"]}/role"] button')
    page.wait_for_text("The role of bob@example.org is admin now")
    assert bob.get("/ui/settings/principals").status == 200
    page.click(f'form[action$="{found["Bob"]}/role"] button')
    page.wait_for_text("The role of bob@example.org is user now")
    page.click(f'form[action$="{found["owner"]}/role"] button')
    page.wait_for_text("There has to be an admin")
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.click(f'form[action$="{found["Bob"]}/remove"] button')
    page.wait_for_text("is removed, with 0 connections")
    assert bob.get("/ui/").location.startswith("/ui/sign-in")


def test_inviting_without_script(page, open_without_script):
    """What was typed stays where it was refused; an invitation can be withdrawn, and is then worth nothing."""
    open_without_script(page, "/ui/settings/principals")
    long = f"{'b' * 65}@example.org"  # a browser takes it
    page.fill("[name=email]", long)
    page.click('form[action="/ui/settings/invitations"] button')
    page.wait_for_text("is not an e-mail address")
    assert page.value("[name=email]") == long
    page.fill("[name=email]", "eve@example.org")
    page.click('form[action="/ui/settings/invitations"] button')
    page.wait_for_text("may join")
    link = page.text("code.copy")
    page.click(".back a")
    page.click('form[action$="/withdraw"] button')
    page.wait_for_text("worth nothing now")
    page.open(link)
    page.wait_for_text("has been used, or is too old")


def test_adding_a_principal_without_script(daemon, page, open_without_script):
    """For programs: what is refused is said beside the field, which keeps what was typed; then claims choose it."""
    open_without_script(page, "/ui/settings/principals")
    page.fill("[name=name]", "owner")
    page.click('form[action="/ui/settings/principals/programs"] button')
    page.wait_for("#problem-name")
    assert "principal named owner already" in page.text("#problem-name")
    assert page.value("[name=name]") == "owner"
    assert page.attribute("[name=name]", "aria-invalid") == "true"
    assert page.attribute("[name=name]", "aria-describedby").split() == ["problem-name", "hint-name"]
    page.fill("[name=name]", "ci")
    page.click('form[action="/ui/settings/principals/programs"] button')
    page.wait_for_text("The principal ci is added")
    found = {each["name"]: each for each in daemon.json("admin", "principals", "list")["principals"]}
    assert (found["ci"]["role"], found["ci"]["email"]) == ("user", None)


@pytest.mark.usefixtures("keyed")
def test_who_is_no_admin(daemon):
    """Sees nothing of it, and a form of an admin's is worth nothing in another browser, nor twice.

    # SEC-199 # SEC-31 # SEC-29
    """
    owner, stranger = Visitor.of(daemon).enter(daemon), invited(daemon, "bob@example.org")
    for word in ("Master key", "/ui/settings/providers", "/ui/settings/principals"):
        assert word in owner.get("/ui/settings").body
        assert word not in stranger.get("/ui/settings").body
    assert stranger.get("/ui/settings/principals").status == 403
    assert stranger.get("/ui/settings/providers").status == 403
    for page in ("/ui/settings", "/ui/settings/principals", "/ui/settings/providers"):
        shown = owner.get(page)
        for path in {each for each in shown.actions if each.startswith("/ui/settings/")} - {"/ui/settings/password"}:
            (token,) = shown.tokens(path)
            fields = {"form_token": token, **FIELDS.get(path.rpartition("/")[2], {})}
            assert stranger.post(path, fields).status == 403, path
            assert owner.post(path, {**fields, "form_token": ""}).status == 403, path
            assert owner.post(path, fields, Origin="https://evil.example").status == 403, path
    names = {each["name"] for each in daemon.json("admin", "principals", "list")["principals"]}
    assert names == {"owner", "Bob"}
    assert owner.submit("/ui/settings/providers", "/ui/settings/providers/keyed/remove").status == 303
    (token,) = owner.get("/ui/settings/principals").tokens("/ui/settings/invitations")
    fields = {"form_token": token, "email": "eve@example.org", "role": "user"}
    assert [owner.post("/ui/settings/invitations", fields).status for _ in range(2)] == [200, 403]
