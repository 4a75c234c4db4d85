"""Identities in the dashboard: who may act, who waits, and what can be done about them, in a real browser."""

import pytest

from dashboard.visitor import Visitor, invited
from fakes.patience import PATIENCE


@pytest.fixture
def claimed(daemon, agent):
    """The agent, claimed by the owner; its environment."""
    environment, process, link, _ = agent
    fields = {"connections": "", "methods": "", "hours": "", "owner": ""}
    assert Visitor.of(daemon).enter(daemon).submit(link, f"{link}/confirm", fields).status == 200
    assert process.wait(PATIENCE) == 0
    return environment


def test_who_waits_is_shown(daemon, agent, page, open_dashboard, presentable):
    """Handle and fingerprint, and the command that asks; but no link that answers, and to admins alone. # SEC-20"""
    _, _, link, fingerprint = agent
    open_dashboard(page, "/ui/identities")
    assert "1 identity" in page.text()
    assert "authsome identity claim" in page.text()
    assert fingerprint in page.text("[data-live=claims]")
    assert link not in str(page.evaluate("document.documentElement.outerHTML"))
    presentable(page)
    stranger = invited(daemon, "bob@example.org").get("/ui/identities").body
    assert "Waiting to be claimed" not in stranger
    assert fingerprint not in stranger
    assert Visitor.of(daemon).enter(daemon).submit(link, f"{link}/refuse").status == 200
    page.wait_for_text("Nobody waits to be claimed")


def test_limiting_and_revoking(daemon, claimed, page, open_dashboard, presentable):
    """From its next request on; what was typed wrongly stays in the form, and the end can be kept."""
    assert daemon("log", env=claimed).returncode == 0
    open_dashboard(page, "/ui/identities")
    assert "2 identities" in page.text()
    page.click('.rows a[href="/ui/identities/agent"]')
    page.wait_for("[name=methods]")
    presentable(page)
    page.fill("[name=connections]", "git hub!!")
    page.click('form[action$="/limits"] button')
    page.wait_for("#problem, .problem")
    assert page.value("[name=connections]") == "git hub!!"
    page.fill("[name=connections]", "github")
    page.evaluate("document.querySelector('[name=hours]').value = '24'")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("The limits of agent are set")
    assert page.value("[name=hours]") == "keep"
    (limited,) = [each for each in daemon.json("identity", "list")["identities"] if each["handle"] == "agent"]
    assert limited["limits"]["connections"] == ["github"]
    page.fill("[name=methods]", "get")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("methods GET")
    (again,) = [each for each in daemon.json("identity", "list")["identities"] if each["handle"] == "agent"]
    assert again["limits"]["expires_at"] == limited["limits"]["expires_at"] is not None
    assert daemon("ui", "--no-browser", env=claimed).returncode != 0
    page.click("details.act summary")
    page.click('form[action$="/revoke"] button')
    page.wait_for_text("The identity agent is revoked")
    presentable(page, expects=["400"])
    assert daemon("list", env=claimed).returncode == 10
    page.open(f"{daemon.url}/ui/identities/agent")
    page.wait_for_text("revoked")
    assert not page.has('form[action$="/revoke"]')


def limits_of(daemon, handle):
    (found,) = [each for each in daemon.json("identity", "list")["identities"] if each["handle"] == handle]
    return found["limits"]


@pytest.mark.usefixtures("claimed")
def test_limits_that_were_changed_elsewhere(daemon, page, open_dashboard, presentable):
    """While the form is open, also after a mistake in it: nothing is overwritten unseen; what there is is shown."""
    open_dashboard(page, "/ui/identities/agent")
    assert daemon("identity", "limit", "agent", "--connections", "gitlab", "--for", "2h").returncode == 0
    page.wait_for_text("Connections gitlab")
    page.fill("[name=connections]", "git hub!!")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("is no pattern of connections")
    page.fill("[name=connections]", "github")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("The limits of this identity were changed meanwhile, and nothing was set.")
    assert (page.value("[name=connections]"), page.value("[name=hours]")) == ("gitlab", "keep")
    assert limits_of(daemon, "agent")["connections"] == ["gitlab"]
    presentable(page, expects=["400", "409"])
    page.fill("[name=connections]", "github")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("The limits of agent are set")
    assert limits_of(daemon, "agent")["connections"] == ["github"]


@pytest.mark.usefixtures("claimed")
def test_as_many_limits_as_there_can_be(daemon, page, open_dashboard):
    """The form has room for all of them, and says how many they are where they are too many."""
    most = [f"p{place:02}".ljust(64, "p") + "/" + "n" * 64 for place in range(64)]
    assert daemon("identity", "limit", "agent", "--connections", ",".join(most)).returncode == 0
    open_dashboard(page, "/ui/identities/agent")
    assert page.value("[name=connections]").split() == most
    page.fill("[name=methods]", "GET")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("The limits of agent are set")
    assert limits_of(daemon, "agent")["connections"] == most
    page.fill("[name=connections]", " ".join([*most, "another"]))
    page.click('form[action$="/limits"] button')
    page.wait_for_text("1 to 64 connections can be named")
    assert page.value("[name=connections]").split() == [*most, "another"]


def test_without_script(daemon, claimed, page, open_without_script):
    """A revocation is two clicks, and says what it does before the second."""
    open_without_script(page, "/ui/identities/agent")
    page.click("details.act summary")
    assert "its runs end" in page.text("details.act")
    page.click('form[action$="/revoke"] button')
    page.wait_for_text("The identity agent is revoked")
    assert daemon("list", env=claimed).returncode == 10


def test_nobody_is_locked_out_by_a_click(daemon, page, open_dashboard):
    """The last identity without limits stays so while nobody can sign in by a password; what was typed stays, too."""
    handle = daemon.json("whoami")["identity"]["handle"]
    open_dashboard(page, f"/ui/identities/{handle}")
    page.fill("[name=methods]", "GET")
    page.click('form[action$="/limits"] button')
    page.wait_for_text(f"The identity {handle} is the last to act for you without limits")
    assert page.value("[name=methods]") == "GET"
    page.open(f"{daemon.url}/ui/identities/{handle}")
    page.evaluate("document.querySelectorAll('details.act').forEach(each => { each.open = true })")
    page.click('form[action$="/revoke"] button')
    page.wait_for_text("set a password first")
    assert limits_of(daemon, handle)["methods"] is None


@pytest.mark.usefixtures("claimed")
def test_the_browsers_own_opener(daemon, page, open_dashboard):
    """Whoever limits the identity that this browser came by is told so before, and signed out after. # SEC-203"""
    handle = daemon.json("whoami")["identity"]["handle"]
    open_dashboard(page, f"/ui/identities/{handle}")
    assert "signed this browser in" in page.text()
    page.fill("[name=methods]", "GET")
    page.click('form[action$="/limits"] button')
    page.wait_for_text("Sign in")
    assert not page.has("body.dash")


@pytest.mark.usefixtures("claimed")
def test_anothers_identities(daemon):
    """The same 404 as for what there is not; an admin sees everybody's, by asking for it. # SEC-199 # SEC-31"""
    owner, stranger = Visitor.of(daemon).enter(daemon), invited(daemon, "bob@example.org")
    assert "agent" not in stranger.get("/ui/identities").body
    assert stranger.get("/ui/identities?whose=all").status == 403
    assert "for owner" in owner.get("/ui/identities?whose=all").body
    assert "for owner" not in owner.get("/ui/identities").body
    assert owner.get("/ui/identities?whose=bobs").status == 400
    for handle in ("agent", "nobody"):
        answer = stranger.get(f"/ui/identities/{handle}")
        assert (answer.status, f"There is no identity {handle}" in answer.body) == (404, True)
    for act in ("limits", "revoke"):
        path = f"/ui/identities/agent/{act}"
        (token,) = owner.get("/ui/identities/agent").tokens(path)
        fields = {"form_token": token, **({"connections": "x", "methods": "", "hours": ""} if act == "limits" else {})}
        assert stranger.post(path, fields).status == 403
        assert owner.post(path, {**fields, "form_token": ""}).status == 403
        assert owner.post(path, fields, Origin="https://evil.example").status == 403
    (token,) = owner.get("/ui/identities/agent").tokens("/ui/identities/agent/revoke")
    assert owner.post("/ui/identities/agent/revoke", {"form_token": token}).status == 303
    assert owner.post("/ui/identities/agent/revoke", {"form_token": token}).status == 403
