"""Hostile pages in a real browser: what rebinds names, posts forms, frames, and puts markup into every string."""

import json
import re
import secrets
from contextlib import contextmanager

import pytest

from browser import chromium
from fakes import oidc, wire
from fakes.patience import eventually
from security.adversary import ask

EVIL = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


@pytest.fixture
def site():
    """A web site of the attacker's on a port of this machine; what it answers is put into `pages`."""
    with hosting() as found:
        yield found


@contextmanager
def hosting():
    pages = {}

    def serve(connection):
        while request := wire.read_request(connection.reader, connection.writer):
            body = pages.get(request.path, "<!doctype html><title>evil</title>").encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.writer.write(head.encode() + body)
            connection.writer.flush()

    with wire.listen(serve) as port:
        yield type("Site", (), {"pages": pages, "port": port, "url": f"http://127.0.0.1:{port}"})


def form_page(action: str, fields: dict[str, str], kind: str = "application/x-www-form-urlencoded") -> str:
    """A page that posts a form as soon as it is clicked."""
    inputs = "".join(f'<input type=hidden name="{name}" value="{value}">' for name, value in fields.items())
    return f'<!doctype html><form method=post action="{action}" enctype="{kind}">{inputs}<button>x</button></form>'


def waiting_login(caller):
    """A login of the owner's that awaits its form."""
    wanted = {"provider": "openai", "connection": secrets.token_hex(8)}
    session = caller.ask("POST", "/auth/sessions", wanted).json()
    assert session["status"] == "input"
    return session


def status_of(caller, session):
    """Where the login stands."""
    return caller.ask("GET", f"/auth/sessions/{session['id']}").json()["status"]


def test_rebinding(tmp_path, target, site):
    """A name that is made to mean 127.0.0.1 gets a page nothing of the daemon, not even an open route.

    # SEC-27 # SEC-28
    """
    with chromium.launch(tmp_path, hosts={"rebind.example": "127.0.0.1"}) as browser, browser.profile() as profile:
        page = profile.new_page()
        origin = f"http://rebind.example:{target.port}"
        for path in ("/health", "/ui/style.css", "/connections", "/openapi.json", "/auth/callback/oauth?state=x"):
            page.open(origin + path)
            assert "does not answer for that host" in page.text()
        site.pages["/"] = form_page(origin + "/identities", {"handle": "x"})
        page.open(f"http://rebind.example:{site.port}/")
        assert page.evaluate(f"fetch('{origin}/health').then(r => r.status, e => 'refused')") == "refused"
        page.click("button")
        page.wait_for_url(origin)
        assert "does not answer for that host" in page.text()


def test_another_site_reads_nothing(page, site, target):
    """fetch, script, image and frame from another origin get nothing that they could read or show.

    # SEC-32 # SEC-35 # SEC-42
    """
    site.pages["/"] = f"""<!doctype html><iframe id=f src="{target.url}/ui/style.css"></iframe>
        <iframe src="{target.url}/auth/callback/oauth?state=x"></iframe>"""
    page.open(site.url)
    for path in ("/health", "/openapi.json", "/connections", "/ui/style.css"):
        assert page.evaluate(f"fetch('{target.url}{path}').then(r => r.status, e => 'refused')") == "refused"
        opaque = f"fetch('{target.url}{path}', {{mode: 'no-cors'}}).then(r => r.status, e => 'refused')"
        assert page.evaluate(opaque) == "refused"  # Cross-Origin-Resource-Policy
        script = f"""new Promise(done => {{ const s = document.createElement('script'); s.src = '{target.url}{path}';
            s.onload = () => done('loaded'); s.onerror = () => done('refused'); document.head.append(s) }})"""
        assert page.evaluate(script) == "refused"
    socket = f"""new Promise(done => {{ const s = new WebSocket('ws://127.0.0.1:{target.port}/connections');
        s.onopen = () => done('open'); s.onerror = () => done('refused') }})"""
    assert page.evaluate(socket) == "refused"  # SEC-43
    inside = "document.querySelector('#f').contentDocument?.body?.innerText ?? ''"
    assert page.evaluate(f"(() => {{ try {{ return {inside} }} catch {{ return '' }} }})()") == ""
    assert eventually(lambda: any("frame" in message.lower() for message in (*page.console, *page.violations)))


KINDS = ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_site_posts_in_vain(page, site, caller, host, kind):
    """A page elsewhere, even on this machine's next port, whose posts carry the cookie, cannot touch a login.

    # SEC-29 # SEC-30 # SEC-31
    """
    before = caller.ask("GET", "/connections").json()
    session = waiting_login(caller)
    page.open(session["browser_url"])
    page.wait_for("[name=api_key]")
    for action, fields in (("input", {"api_key": "sk-" + "x1" * 24}), ("abandon", {}), ("input", {"form_token": "x"})):
        site.pages["/"] = form_page(f"{caller.url}/auth/sessions/{session['id']}/{action}", fields, kind)
        page.open(f"http://{host}:{site.port}/")
        page.click("button")
        page.wait_for_url(caller.url)
        assert status_of(caller, session) == "input"
    assert caller.ask("GET", "/connections").json() == before


def test_form_tokens(target, caller):
    """A form is taken with its own token only: none, another login's, a spent one, and another form's name fail.

    # SEC-31
    """
    first, second = waiting_login(caller), waiting_login(caller)

    def token_of(session):
        path = f"/auth/sessions/{session['id']}/input"
        html = ask(target.port, "GET", path, ("Cookie", opened(target, session))).body.decode()
        return re.search(r'name="form_token" value="([^"]+)"', html)[1]

    tokens = [token_of(session) for session in (first, second)]
    cookie = opened(target, first)
    good = "sk-" + "a1B2" * 12

    def post(token, *, sent=cookie, where="input", origin=target.url, key=good):
        pairs = f"api_key={key}" + (f"&form_token={token}" if token is not None else "")
        headers = (("Cookie", sent), ("Content-Type", "application/x-www-form-urlencoded"), ("Origin", origin))
        return ask(target.port, "POST", f"/auth/sessions/{first['id']}/{where}", *headers, body=pairs.encode()).status

    assert post(None) == 403
    assert post(tokens[1]) == 403
    assert post(tokens[0] + "x") == 403
    assert post(tokens[0], origin="https://evil.example") == 403
    assert post(tokens[0], origin="null") == 403
    assert post(tokens[0], sent="") == 404
    assert post(tokens[0], sent=opened(target, second)) == 404
    assert post(tokens[0], sent=f"{cookie}; {cookie}") == 404  # two of a name: one may have been planted
    assert status_of(caller, first) == "input"
    assert post(tokens[0], key="no-such-key") == 303
    assert status_of(caller, first) == "input"
    assert post(tokens[0]) == 403  # SEC-31: it has been sent; the page that shows why has another
    again = token_of(first)
    assert post(again) == 303
    assert status_of(caller, first) == "completed"
    assert post(again) == 403
    assert post(tokens[1]) == 403
    assert status_of(caller, second) == "input"


def opened(target, session) -> str:
    """The cookie that the login's link gives to a browser."""
    answer = ask(target.port, "GET", session["browser_url"].removeprefix(target.url))
    assert answer.status == 303
    attributes = answer.headers["set-cookie"]
    for wanted in ("HttpOnly", "SameSite=Lax", "Path=/auth/"):  # SEC-44: the login's cookie, not a session
        assert wanted in attributes
    assert "key=" not in answer.headers["location"]
    return attributes.partition(";")[0]


REDIRECTS = ["return_url", "next", "redirect", "redirect_uri", "url", "continue"]
PLACES = [
    "https://evil.example/",
    "//evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "/%2f/evil.example",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("place", PLACES)
def test_redirects_stay_here(target, caller, place):
    """Nothing in a query sends the browser away from this origin. # SEC-39 # SEC-40"""
    session = waiting_login(caller)
    from urllib.parse import quote  # noqa: PLC0415

    link = session["browser_url"].removeprefix(target.url)
    for name in REDIRECTS:
        for path in (
            f"{link}&{name}={quote(place, safe='')}",
            f"/auth/callback/oauth?state=x&{name}={quote(place, safe='')}",
        ):
            answer = ask(target.port, "GET", path)
            assert answer.headers.get("location", "/").startswith("/auth/sessions/") or answer.status != 303
            assert "evil.example" not in answer.headers.get("location", "")


def test_get_of_a_link_changes_nothing(target, caller):
    """Opening a login's link, its page, or a forged callback, any number of times, leaves the login as it was.

    # SEC-34
    """
    session = waiting_login(caller)
    for _ in range(3):
        cookie = opened(target, session)
        for path in ("input", "abandon", "cancel", "resume"):
            ask(target.port, "GET", f"/auth/sessions/{session['id']}/{path}", ("Cookie", cookie))
        ask(target.port, "GET", "/auth/callback/oauth?state=x&code=y", ("Cookie", cookie))
    assert status_of(caller, session) == "input"


def test_markup_in_every_string(page, program, define, oidc_server, begin_login):
    """What a definition and a provider say is shown as text, in every page of a login and to its end.

    # SEC-38 # SEC-97
    """
    definition = oidc_server.definition("acme", api_url="https://api.example.localhost")
    define({**definition, "display_name": EVIL, "description": EVIL})
    process, link = begin_login("acme", client=None)
    page.open(link)
    page.wait_for("[name=client_id]")
    assert EVIL in page.text()
    page.fill("[name=client_id]", EVIL)
    page.click("button[type=submit]")
    page.wait_for_text("invalid_client")  # the provider's own page: it does not know such a client
    process.kill()
    process, link = begin_login("acme", "--connection", "other")
    page.open(link)
    page.wait_for("#login")
    url = next(
        request.url
        for request in page.requests
        if "/auth?" in request.url and "state=" in request.url and EVIL not in request.url
    )
    sent = [request.url for request in page.requests if "/auth?" in request.url and "client_id=public" in request.url]
    state = re.search(r"state=([^&]+)", (sent or [url])[-1])[1]
    from urllib.parse import quote  # noqa: PLC0415

    page.open(
        f"{program.callback}?state={state}&error={quote(EVIL)}&error_description={quote(EVIL)}&error_uri=javascript:alert(1)"
    )
    page.wait_for_text("was not connected")
    assert "<img src=x" in page.text()
    assert page.dialogs == []
    assert page.violations == []
    assert not page.has("img[src=x]")
    assert page.evaluate("[...document.links].every(a => /^https?:/.test(a.href))")  # SEC-39
    _, err = process.communicate(timeout=60)
    assert "\x1b[" not in err


BAD_LINKS = ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//evil.example", "https://u:p@e.example"]


def test_links_of_a_definition(daemon, define):
    """A definition with a link that is no plain https URL is refused by name; other providers go on.

    # SEC-39 # SEC-110
    """
    server = oidc.OidcServer(
        issuer="https://login.example.localhost", redirect_uris=(), _control=0, _trust=None, _routes={}
    )
    for field in ("docs_url", "authorization_url", "token_url"):
        for url in BAD_LINKS:
            definition = server.definition("acme", api_url="https://api.example.localhost")
            if field == "docs_url":
                definition["docs_url"] = url
            else:
                definition["oauth"][field] = url
            define(definition)
            done = daemon("login", "acme", "--no-browser")
            assert (done.returncode, field in done.stderr) == (7, True), (field, url, done.stderr)
    assert daemon("inspect", "openai").returncode == 0


def test_secrets_are_not_shown_again(page, caller):
    """A refused key is not filled in again; the field hides it and keeps it from the browser's memory. # SEC-48"""
    session = waiting_login(caller)
    page.open(session["browser_url"])
    page.wait_for("[name=api_key]")
    assert page.attribute("[name=api_key]", "type") == "password"
    assert page.attribute("[name=api_key]", "autocomplete") in {"off", "new-password"}
    page.fill("[name=api_key]", "not-a-key-canary")
    page.click("button[type=submit]")
    page.wait_for("#problem")
    assert "not-a-key-canary" not in str(page.evaluate("document.documentElement.outerHTML"))
    assert "canary" not in page.url
    assert page.violations == []  # SEC-36
    assert json.dumps(page.cookies())  # SEC-44
    assert all(cookie["httpOnly"] and cookie["path"] == "/auth/" for cookie in page.cookies())


def test_errors_are_pages_with_every_guard(target):
    """A page that says what went wrong guards itself like any other. # SEC-35 # SEC-36"""
    for path in (
        "/auth/sessions/x/input",
        "/auth/sessions/x/open?key=x",
        "/auth/callback/oauth",
        "/auth/callback/oauth?state=a&state=b",
    ):
        answer = ask(target.port, "GET", path)
        assert 400 <= answer.status < 500
        policy = answer.headers["content-security-policy"]
        for wanted in (
            "default-src 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ):
            assert wanted in policy
        assert "script-src" not in policy
