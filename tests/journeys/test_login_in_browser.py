"""`login` with a real browser and a certified OAuth server."""

import re

import pytest

from fakes import mcp, oidc

API = "https://api.example.localhost"


def wait(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def finish_at_provider(page) -> None:
    """Log in and consent at the provider."""
    page.wait_for("#login")
    page.fill("#login", "octocat")
    page.click("#allow")


def fill_client(page, client: oidc.Client) -> None:
    """Give the OAuth client that the form asks for."""
    page.wait_for("[name=client_id]")
    page.fill("[name=client_id]", client.id)
    if client.secret:
        page.fill("[name=client_secret]", client.secret)
    page.click("button[type=submit]")


def test_pkce_from_the_form_to_the_stored_token(program, start, define, oidc_tls, page):
    """The form takes the client, the provider the consent; page and terminal both say so. # SEC-50 # SEC-54

    The client authenticates by HTTP Basic with reserved characters in its secret. # SEC-63
    """
    define(oidc_tls.definition("acme", client=oidc.BASIC))
    login = start("login", "acme")
    page.open(program.wait_opened())
    fill_client(page, oidc.BASIC)
    finish_at_provider(page)
    page.wait_for_text("Test acme is connected")
    assert page.url.startswith(program.url + "/auth/sessions/")
    assert not re.search(r"code=|state=|key=", page.url)  # SEC-41
    status, out, err = wait(login)
    assert (status, "logged in to acme" in out + err) == (0, True)
    assert page.violations == []  # SEC-36
    origins = {re.match(r"https?://[^/]+", request.url)[0] for request in page.requests}
    assert origins <= {program.url, oidc_tls.issuer}  # SEC-41: nothing from elsewhere
    ((listed,),) = [each["connections"] for each in program.json("list", "--connected")["providers"]]
    assert (listed["connection"], listed["status"]) == ("default", "connected")
    (request,) = oidc_tls.token_requests("authorization_code")
    assert request.form["code_verifier"]
    assert request.status == 200


def test_the_client_is_asked_for_once(program, start, define, oidc_server, page):
    """The second login goes straight from the link to the provider."""
    define(oidc_server.definition("acme", api_url=API))
    first = start("login", "acme")
    page.open(program.wait_opened())
    fill_client(page, oidc.PUBLIC)
    finish_at_provider(page)
    assert wait(first)[0] == 0
    second = start("login", "acme", "--connection", "work")
    page.open(program.wait_opened(count=2))
    finish_at_provider(page)
    page.wait_for_text("Test acme is connected")
    assert wait(second)[0] == 0
    (acme,) = program.json("list", "--connected")["providers"]
    assert {row["connection"] for row in acme["connections"]} == {"default", "work"}


def test_refusing_at_the_provider(program, start, define, oidc_server, page):
    """Who says no at the provider is told so on the page and on the terminal, at once. # SEC-58"""
    define(oidc_server.definition("acme", api_url=API))
    login = start("login", "acme")
    page.open(program.wait_opened())
    fill_client(page, oidc.PUBLIC)
    page.wait_for("#deny")
    page.click("#deny")
    page.wait_for_text("was not connected")
    status, _, err = wait(login)
    assert status == 5
    assert "access_denied" in err
    assert oidc_server.token_requests() == ()


def test_another_browser_cannot_take_part(begin_login, define, oidc_server, chromium_browser):
    """The answer to a login is taken only in the browser that began it. # SEC-54"""
    define(oidc_server.definition("acme", api_url=API))
    login, link = begin_login("acme")
    with chromium_browser.profile() as mine, chromium_browser.profile() as theirs:
        page, other = mine.new_page(), theirs.new_page()
        page.open(link)
        page.wait_for("#login")
        other.open(link.partition("?")[0].replace("/open", "/input"))
        other.wait_for_text("expired")
        callback = oidc_server.approve(authorization_url(page))
        other.open(callback)
        other.wait_for_text("another browser")
        assert oidc_server.token_requests() == ()
        page.open(callback)
        page.wait_for_text("Test acme is connected")
    assert wait(login)[0] == 0


def authorization_url(page) -> str:
    """Where the page was sent on its way to the provider."""
    return next(request.url for request in page.requests if "/auth?" in request.url)


def test_a_device_code_from_the_page(program, start, define, oidc_server, page):
    """The page shows the code, its link leads on with it, and page and terminal both say so when it is done."""
    # SEC-50
    define({**oidc_server.definition("acme", client=oidc.POST, api_url=API), "flow": "device_code"})
    login = start("login", "acme")
    page.open(program.wait_opened())
    fill_client(page, oidc.POST)
    page.wait_for(".usercode")
    assert re.fullmatch(rf"{program.url}/auth/sessions/[^/]+/device", page.url)
    code, link = page.text(".usercode"), page.attribute("ol a", "href")
    assert link == f"{oidc_server.issuer}/device?user_code={code}"
    assert page.evaluate("document.querySelector('figure svg').getBoundingClientRect().width") > 100
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.violations == []  # SEC-36
    oidc_server.enter_code(f"{oidc_server.issuer}/device", code=code)
    page.wait_for_text("Test acme is connected")
    status, out, err = wait(login)
    assert (status, "logged in to acme" in out + err) == (0, True)
    assert code in err
    (last, *_) = oidc_server.token_requests()[::-1]
    assert last.form["grant_type"].endswith(":device_code")


def test_refusing_a_device(program, start, define, oidc_server, page):
    """Who says no on the other device ends the login here, too. # SEC-71"""
    define({**oidc_server.definition("acme", api_url=API), "flow": "device_code"})
    login = start("login", "acme")
    page.open(program.wait_opened())
    fill_client(page, oidc.PUBLIC)
    page.wait_for(".usercode")
    oidc_server.enter_code(f"{oidc_server.issuer}/device", code=page.text(".usercode"), decision="deny")
    page.wait_for_text("was not connected")
    status, _, err = wait(login)
    assert status == 5
    assert "access_denied" in err


def test_a_client_that_is_the_account(program, start, define, oidc_server, page):
    """The form asks for its id and secret, and for nothing that only a sign-in needs."""
    define({**oidc_server.definition("acme", client=oidc.POST, api_url=API), "flow": "client_credentials"})
    login = start("login", "acme")
    page.open(program.wait_opened())
    page.wait_for("[name=client_id]")
    assert "it is the account itself" in page.text()
    assert "redirect" not in page.text()
    fill_client(page, oidc.POST)
    page.wait_for_text("Test acme is connected")
    assert wait(login)[0] == 0


@pytest.mark.usefixtures("keyed")
def test_a_key_by_the_form(program, start, page):
    """The form refuses a key of the wrong form with the hint, without showing it again; then it takes the right one."""
    login = start("login", "keyed")
    page.open(program.wait_opened())
    page.wait_for("[name=api_key]")
    assert page.attribute("[name=api_key]", "type") == "password"  # SEC-48
    page.fill("[name=api_key]", "wrong-key-0000")
    page.click("button[type=submit]")
    page.wait_for("#problem")
    assert "begins with kk-" in page.text("#problem")
    assert page.value("[name=api_key]") == ""
    page.fill("[name=api_key]", "kk-aaaaaaaaaaaaaaaaaaaaaaaa")
    page.click("button[type=submit]")
    page.wait_for_text("is connected")
    assert wait(login)[0] == 0
    assert page.violations == []


def test_closing_the_browser_half_way(program, define, oidc_server, page):
    """The command goes on waiting until it is interrupted; nothing is stored, and the login is dead."""
    define(oidc_server.definition("acme", api_url=API))
    with program.on_terminal("login", "acme") as terminal:
        link = program.wait_opened()
        page.open(link)
        page.close()
        terminal.expect("browser")
        terminal.interrupt()
        assert terminal.wait() == 11
        assert "Traceback" not in terminal.transcript
    assert program.json("list", "--connected")["providers"] == []


def test_any_mcp_server_by_its_url(program, start, oidc_tls, api_server, page):
    """From a URL to a credential that `run` puts on requests there: 401, metadata, registration, PKCE, resource."""
    # SEC-50
    address = mcp.protect(api_server, oidc_tls.issuer, scopes_supported=["mcp:read", "mcp:write"])
    login = start("login", address)
    page.open(program.wait_opened())
    page.wait_for_text("sent only to")  # before anything is asked, it is said where the token will go
    assert page.texts(".promise code") == ["api.example.localhost"]
    page.click("a.button")
    finish_at_provider(page)
    page.wait_for_text("is connected")
    status, out, err = wait(login)
    assert f"its token will be sent to {address.split('/')[2]}, and nowhere else" in err
    name = f"api-example-localhost-{api_server.port}"
    assert (status, f"logged in to {name}" in out) == (0, True)
    assert f"{address} becomes the provider {name}" in err
    (registered,) = oidc_tls.log("/reg")
    assert (registered.status, registered.answer["token_endpoint_auth_method"]) == (201, "none")
    (exchange,) = oidc_tls.token_requests("authorization_code")
    assert (exchange.form["resource"], exchange.form["client_id"]) == (address, registered.answer["client_id"])
    assert exchange.answer["scope"].split() == ["mcp:read", "mcp:write"]
    del api_server.answers["/mcp"]
    done = program("run", "--", "curl", "-sS", address, f"{address}/sub", address.replace("/mcp", "/other"))
    assert done.returncode == 0, done.stderr
    bearer = ("authorization", f"Bearer {exchange.answer['access_token']}")
    sent = {request.path: {(name.lower(), value) for name, value in request.headers} for request in api_server.requests}
    assert bearer in sent["/mcp"]
    assert bearer in sent["/mcp/sub"]
    assert bearer not in sent["/other"]


def test_registration_is_reused(program, start, define, oidc_server, page):
    """Two logins with `--flow dcr_pkce` are by one registered client. # SEC-106"""
    define(oidc_server.definition("acme", api_url=API))
    for count, name in enumerate(("one", "two"), start=1):
        login = start("login", "acme", "--flow", "dcr_pkce", "--connection", name)
        page.open(program.wait_opened(count=count))
        finish_at_provider(page)
        page.wait_for_text("is connected")
        assert wait(login)[0] == 0
    assert len(oidc_server.log("/reg")) == 1
    assert len({each.form["client_id"] for each in oidc_server.token_requests("authorization_code")}) == 1
