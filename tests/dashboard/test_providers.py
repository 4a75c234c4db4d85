"""Providers of one's own by page: the small form, a definition, one in place of a bundled one; in a real browser."""

import json

import pytest

from dashboard.visitor import Visitor, invited
from fakes import definitions

PAGE = "/ui/settings/providers"
BY_KEY = f'form[action="{PAGE}/by-key"] button'
REVIEW = f'form[action="{PAGE}/review"] button'
REGISTER = 'form[action$="/register"] button'
EVIL = "<img src=x onerror=alert(1)>"
COMMENTED = """// ours
{
  "schema_version": 1, "name": "acme", /* short */
  "display_name": "%s", "api_url": ["api.acme.example", "*.eu.acme.example"],
  "api_key": {"env_var": "ACME_KEY"}, "export": {"env": {"ACME_KEY": "{api_key}"}}
}"""


def registered(daemon, name):
    """A definition as it is kept."""
    return json.loads((daemon.home / "providers" / f"{name}.json").read_bytes())


def test_by_the_small_form(daemon, page, open_dashboard, presentable, keyed):
    """What is wrong is said beside its field, which keeps what was typed; nothing counts before it is agreed to."""
    open_dashboard(page, PAGE)
    presentable(page)
    page.fill("[name=name]", "Acme Inc")
    page.fill("[name=host]", "api.acme.example")
    page.click(BY_KEY)
    page.wait_for("#problem-name")
    assert "is not a provider name" in page.text("#problem-name")
    assert "Small letters" in page.text("#problem-name")
    presentable(page, expects=["422"])
    assert (page.value("[name=name]"), page.value("[name=host]")) == ("Acme Inc", "api.acme.example")
    page.fill("[name=name]", "acme")
    page.fill("[name=host]", "api.github.com")
    page.click(BY_KEY)
    page.wait_for("#problem-host")
    assert "name the definition github" in page.text("#problem-host")
    assert not page.has("#problem-name")
    page.fill("[name=host]", "api.acme.example")
    page.evaluate("document.querySelector('[name=placing]').value = 'header'")
    page.click(BY_KEY)
    page.wait_for("#problem-header")
    page.fill("[name=header]", "X-API-Key")
    page.fill("[name=verify]", "https://elsewhere.example/me")
    page.click(BY_KEY)
    page.wait_for("#problem-verify")
    assert page.value("[name=placing]") == "header"
    page.fill("[name=verify]", "https://api.acme.example/v1/me")
    page.click(BY_KEY)
    page.wait_for(REGISTER)
    assert "api.acme.example" in page.text(".facts")
    presentable(page, expects=["422"])
    assert daemon("inspect", "acme").returncode != 0
    page.click(REGISTER)
    page.wait_for_text("The provider acme is registered")
    assert page.url.startswith(f"{daemon.url}/ui/apps/acme")
    kept = registered(daemon, "acme")
    assert kept["inject"] == {"header": "X-API-Key", "template": "{api_key}"}
    assert kept["verify"] == {"url": "https://api.acme.example/v1/me"}
    page.open(daemon.url + PAGE)
    assert "2 definitions" in page.text()
    del keyed


def test_from_a_file_with_comments(daemon, page, open_dashboard, presentable):
    """A chosen file is put where it can be looked at; markup in it is text. # SEC-38"""
    open_dashboard(page, PAGE)
    text = json.dumps(COMMENTED % EVIL)
    page.evaluate(
        "(async () => { const held = new DataTransfer(); held.items.add(new File([" + text + "], 'acme.json'));"
        " const input = document.querySelector('[type=file]'); input.files = held.files;"
        " input.dispatchEvent(new Event('change'));"
        " while (!document.querySelector('[name=definition]').value) await new Promise(go => setTimeout(go, 10)); })()"
    )
    page.click(REVIEW)
    page.wait_for(REGISTER)
    assert EVIL in page.text("h1")
    facts = page.text(".facts")
    assert all(each in facts for each in ("api.acme.example", "*.eu.acme.example", "ACME_KEY"))
    presentable(page)
    page.click(REGISTER)
    page.wait_for_text("The provider acme is registered")
    assert registered(daemon, "acme")["api_url"] == ["api.acme.example", "*.eu.acme.example"]
    (event,) = daemon.json("log", "--event", "register")["events"]
    assert event["principal"].startswith("principal_")


def test_without_script(daemon, page, open_without_script):
    """Pasted; a mistake is named with its line or field, and what was pasted stays; then registered, and removed."""
    open_without_script(page, PAGE)
    assert not page.evaluate("document.querySelector('[type=file]').checkVisibility()")
    page.fill("[name=definition]", '{"schema_version": 1,')
    page.click(REVIEW)
    page.wait_for("#problem-definition")
    assert "Is not JSON at line 1" in page.text("#problem-definition")
    page.fill(
        "[name=definition]",
        json.dumps({"schema_version": 1, "name": "acme", "api_url": "a.example", "api_key": {}, "oath": {}}),
    )
    page.click(REVIEW)
    page.wait_for_text("oath")
    assert "Did you mean 'oauth'?" in page.text("#problem-definition")
    assert '"oath": {}' in page.value("[name=definition]")
    page.fill("[name=definition]", COMMENTED % "Acme")
    page.click(REVIEW)
    page.wait_for(REGISTER)
    page.click(REGISTER)
    page.wait_for_text("The provider acme is registered")
    page.open(daemon.url + PAGE)
    page.click("details.act summary")
    page.click(f'form[action="{PAGE}/acme/remove"] button')
    page.wait_for_text("The definition of acme is removed")
    assert daemon("inspect", "acme").returncode != 0


def test_in_place_of_a_bundled_one(daemon, page, open_dashboard):
    """It is said what is replaced and which hosts are new; removing it brings the bundled one back."""
    definition = daemon.json("inspect", "openai")["definition"]
    definition["api_url"] = ["api.openai.com", "proxy.acme.example"]
    open_dashboard(page, PAGE)
    page.fill("[name=definition]", json.dumps(definition))
    page.click(REVIEW)
    page.wait_for(REGISTER)
    said = dict(zip(page.texts(".facts dt"), page.texts(".facts dd"), strict=True))
    assert said["Takes the place of"] == "the bundled definition of that name"
    assert said["Where that sent nothing"] == "proxy.acme.example"
    page.click(REGISTER)
    page.wait_for_text("The provider openai is registered")
    assert daemon.json("inspect", "openai")["source"] == "override"
    page.open(daemon.url + PAGE)
    assert "in place of the bundled one" in page.text(".rows")
    page.click("details.act summary")
    page.click(f'form[action="{PAGE}/openai/remove"] button')
    page.wait_for_text("and the bundled one is back")
    assert daemon.json("inspect", "openai")["source"] == "bundled"


def looked_through(visitor, definition):
    """The page that shows what a definition may do: its action, and what its form sends."""
    shown = visitor.submit(PAGE, f"{PAGE}/review", {"definition": json.dumps(definition)})
    assert shown.status == 200, shown.body
    (action,) = [each for each in shown.actions if each.endswith("/register")]
    (token,) = shown.tokens(action)
    return action, {"form_token": token, "definition": json.dumps(definition)}


def test_only_what_was_looked_through(daemon):
    """Nobody registers anything else by that form, nor twice, nor from elsewhere, nor over what came meanwhile.

    Private addresses have to be agreed to. # SEC-31 # SEC-29 # SEC-110
    """
    owner = Visitor.of(daemon).enter(daemon)
    own = definitions.keyed("https://api.example.localhost/")
    action, fields = looked_through(owner, own)
    other = {**fields, "definition": json.dumps({**own, "api_url": "https://evil.example/"})}
    assert owner.post(action, {**other, "private": "true"}).status == 403
    action, fields = looked_through(owner, own)
    for sent, headers in (({**fields, "form_token": ""}, {}), (fields, {"Origin": "https://evil.example"})):
        assert owner.post(action, {**sent, "private": "true"}, **headers).status == 403
    refused = owner.post(action, fields)
    assert (refused.status, "nobody has agreed to this" in refused.body) == (403, True)
    assert daemon("inspect", "keyed").returncode != 0
    action, fields = looked_through(owner, own)
    assert owner.post(action, {**fields, "private": "true"}).status == 303
    assert owner.post(action, {**fields, "private": "true"}).status == 403
    action, fields = looked_through(owner, {**own, "description": "another"})
    taken = owner.post(action, {**fields, "private": "true"})  # without the field that says what it replaces
    assert (taken.status, "named keyed already" in taken.body) == (409, True)
    assert 'name="replaces"' in taken.body
    assert "description" not in registered(daemon, "keyed")
    (token,) = taken.tokens(action)
    agreed = {**fields, "form_token": token, "private": "true", "replaces": "true"}
    assert owner.post(action, agreed).status == 303
    assert registered(daemon, "keyed")["description"] == "another"
    large = {**own, "variables": {f"v{each}": {"pattern": "^" + "a" * 200 + "$"} for each in range(200)}}
    assert owner.submit(PAGE, f"{PAGE}/review", {"definition": json.dumps(large)}).status == 422


def test_who_is_no_admin(daemon):
    """Sees no such page, and registers nothing by any of its addresses. # SEC-199"""
    owner, stranger = Visitor.of(daemon).enter(daemon), invited(daemon, "bob@example.org")
    assert stranger.get(PAGE).status == 403
    definition = definitions.keyed("https://api.example.localhost/")
    action, fields = looked_through(owner, definition)
    for path in (f"{PAGE}/by-key", f"{PAGE}/review", action, f"{PAGE}/openai/remove"):
        assert stranger.post(path, {**fields, "private": "true"}).status == 403
    assert daemon("inspect", "keyed").returncode != 0


@pytest.mark.usefixtures("keyed")
def test_a_definition_that_cannot_be_read(daemon):
    """Is listed as such, and can be removed."""
    (daemon.home / "providers" / "keyed.json").write_text("{")
    owner = Visitor.of(daemon).enter(daemon)
    assert "cannot be used" in owner.get(PAGE).body
    assert owner.submit(PAGE, f"{PAGE}/keyed/remove").status == 303
    assert "There is none" in owner.get(PAGE).body
