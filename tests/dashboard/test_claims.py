"""A signed-in principal says whether an identity that asks is its own."""

from dashboard.visitor import Visitor


def test_claiming_in_a_browser(daemon, agent, page, open_dashboard, presentable):
    """Handle and fingerprint are shown; confirmed within limits, its terminal goes on, and is held to them. # SEC-20"""
    environment, process, link, fingerprint = agent
    open_dashboard(page, link)
    assert fingerprint in page.text()
    assert "agent" in page.text(".facts")
    presentable(page)
    page.click("details summary")
    page.fill("[name=connections]", "git hub!!")
    page.click('form[action$="/confirm"] button')
    page.wait_for("#problem")
    assert page.value("[name=connections]") == "git hub!!"
    page.fill("[name=connections]", "github, open*")
    page.fill("[name=methods]", "get, head")
    page.click('form[action$="/confirm"] button')
    page.wait_for_text("may act for you from now on")
    assert "Connections github, open*; methods GET, HEAD" in page.text()
    presentable(page, expects=["400"])
    assert process.wait(60) == 0
    assert daemon("list", env=environment).returncode == 0
    assert daemon("identity", "revoke", "agent", "--yes", env=environment).returncode in {0, 4}
    page.open(daemon.url + link)
    page.wait_for_text("has been used")


def test_claiming_for_a_program(daemon, agent):
    """The answer says for whom."""
    _, process, link, _ = agent
    assert daemon("admin", "principals", "add", "ci").returncode == 0
    owner = Visitor.of(daemon).enter(daemon)
    answer = owner.submit(link, f"{link}/confirm", {"owner": "ci"})
    assert "agent may act for ci from now on" in answer.body
    assert process.wait(60) == 0


def test_refusing_without_script(daemon, agent, page):
    """Whoever asked is told no, and may do nothing. # SEC-20"""
    environment, process, link, _ = agent
    page.disable_javascript()
    page.open(str(daemon.json("ui")["url"]))
    page.click("button[type=submit]")
    page.wait_for("body.dash")
    page.open(daemon.url + link)
    page.click('form[action$="/refuse"] button')
    page.wait_for_text("was told no")
    assert process.wait(60) != 0
    assert daemon("list", env=environment).returncode == 10


def test_who_may_answer(daemon, agent):
    """Nobody who is not signed in, no other site, no token of another form; and looking answers nothing.

    # SEC-20 # SEC-29 # SEC-31 # SEC-34
    """
    _, process, link, _ = agent
    outsider, owner = Visitor.of(daemon), Visitor.of(daemon).enter(daemon)
    assert outsider.get(link).location == f"/ui/sign-in?next={link}"
    assert outsider.post(f"{link}/confirm", {}).status == 403
    assert owner.get(link).status == 200
    (token,) = owner.get(link).tokens(f"{link}/confirm")
    assert owner.post(f"{link}/refuse", {"form_token": token}).status == 403
    assert owner.post(f"{link}/confirm", {"form_token": token}, Origin="https://evil.example").status == 403
    assert owner.get(f"{link}/confirm").status == 405
    assert process.poll() is None
    fields = {"form_token": token, "connections": "", "methods": "", "hours": "", "owner": "principal_of_nobody"}
    assert owner.post(f"{link}/confirm", fields).status == 403
    assert process.poll() is None
    assert "agent" in owner.get(link).body
