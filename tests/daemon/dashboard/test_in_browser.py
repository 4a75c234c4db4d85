"""The pages in a real browser: nothing is blocked, nothing runs, forms reach us, and the login goes on."""

import threading
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from authsome.daemon.dashboard import assets, bridge
from authsome.daemon.dashboard.bridge import Done, FormField, InputForm
from authsome.daemon.messages import (
    PAGE_POLICY,
    SCRIPTED_PAGE_POLICY,
    Response,
    html_response,
    problem,
    redirect,
)
from authsome.daemon.server import Server
from authsome.errors import NotFound
from fakes.patience import eventually

EVIL = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


class Site:
    """A daemon's pages, a provider on another origin, and what reached both."""

    def __init__(self):
        self.pages = {}
        self.posted = []
        self.arrived = []
        self.answer_to_post = None
        self.servers = [Server("127.0.0.1", 0) for _ in range(2)]
        self.url, self.provider = (server.url for server in self.servers)
        handlers = (self.handle, self.arrive)
        self.threads = [
            threading.Thread(target=server.serve, args=(handler,))
            for server, handler in zip(self.servers, handlers, strict=True)
        ]
        for thread in self.threads:
            thread.start()

    def handle(self, request):
        """Answer as a daemon."""
        if request.path.startswith("/ui/"):
            return assets.asset(request.path.removeprefix("/ui/"))
        if request.method == "POST":
            self.posted.append(request)
            return self.answer_to_post
        if request.path == "/events":
            return Response(status=200, content_type="text/event-stream", body=b"retry: 60000\n\n")
        page = self.pages.get(request.path)
        policy = SCRIPTED_PAGE_POLICY if request.path == "/waiting" else PAGE_POLICY
        return html_response(page, policy=policy) if page else problem(NotFound())

    def arrive(self, request):
        """Answer as a provider."""
        self.arrived.append(request)
        return html_response("<!doctype html><h1>the provider</h1>")

    def stop(self):
        """Stop both."""
        for server in self.servers:
            server.stop(timedelta(seconds=5))
        for thread in self.threads:
            thread.join(60)


@pytest.fixture
def site():
    """A daemon's pages, and a provider."""
    running = Site()
    yield running
    running.stop()


def form(text, **changes):
    """A form with this text in every place that others fill."""
    values = {
        "provider": text,
        "fields": (
            FormField(name="client_id", label=text, secret=False, hint=text, value=text),
            FormField(name="client_secret", label="Secret", secret=True),
        ),
        "action": "/input",
        "form_token": "token",
        "cancel_action": "/cancel",
        "problem": text,
        "redirect_uri": text,
        "hosts": (text,),
    }
    return InputForm(**{**values, **changes})


@pytest.mark.parametrize("text", ["GitHub", EVIL], ids=["plain", "hostile"])
def test_pages_work_under_their_policy(site, page, text):
    """No violation, no message, no dialog, on any page; what is markup elsewhere is read as text."""  # SEC-36 SEC-38
    site.pages = {
        "/input": bridge.input_page(form(text)),
        "/key": bridge.input_page(form(text, redirect_uri=None)),
        "/done": bridge.done_page(text, Done(connection=text, account=text, unverified=text, unnamed=text)),
        "/failed": bridge.failed_page(text, text, text),
        "/error": bridge.error_page(500, text, text),
        "/expired": bridge.expired_page(),
        "/waiting": bridge.waiting_page(text, events="/events"),
    }
    for path in site.pages:
        page.open(site.url + path)
        if path != "/expired":
            assert text in page.text()
        assert page.evaluate("document.styleSheets.length") == 1
        assert page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") == "14px"
    assert page.violations == []
    assert page.console == []
    assert page.dialogs == []
    assert all(request.url.startswith(site.url) for request in page.requests)


@pytest.mark.parametrize("width", [320, 380, 1440])
def test_pages_fit_their_window(site, page, tmp_path, width):
    """From a small phone to a wide screen, nothing scrolls sideways, even with long words."""
    site.pages = {"/input": bridge.input_page(form("x" * 200))}
    page.open(site.url + "/input")
    page.screenshot(tmp_path / "page.png", width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_form_reaches_us_and_the_login_goes_on(site, page):
    """The browser posts from here, once, with what was typed, and the page that answers leads to the provider."""
    site.pages = {"/input": bridge.input_page(form("GitHub", problem=None))}
    site.answer_to_post = html_response(bridge.onward_page("GitHub", f"{site.provider}/authorize?a=b"))
    page.open(site.url + "/input")
    page.fill("#field-client_id", "an id")
    page.fill("#field-client_secret", "s&cret=é")
    page.press("Enter")
    page.wait_for_text("the provider")
    assert page.url == f"{site.provider}/authorize?a=b"
    (posted,) = site.posted
    assert posted.path == "/input"
    assert posted.headers["sec-fetch-site"] == ("same-origin",)
    values = {"form_token": ["token"], "client_id": ["an id"], "client_secret": ["s&cret=é"]}
    assert parse_qs(posted.body.decode()) == values
    assert page.violations == []
    assert not any("referer" in request.headers for request in (*site.arrived, *site.posted))


def test_a_redirect_after_a_form_does_not_leave_us(site, page):
    """Why there is an onward page: the policy holds a form's redirects to our own origin."""
    site.pages = {"/input": bridge.input_page(form("GitHub", problem=None))}
    site.answer_to_post = redirect(f"{site.provider}/authorize")
    page.open(site.url + "/input")
    page.fill("#field-client_secret", "x")
    page.press("Enter")
    assert eventually(lambda: any("form-action" in violation for violation in page.violations))
    assert page.url == f"{site.url}/input"


def test_giving_up(site, page):
    """Cancel posts to its own path, though the form is not filled in."""
    site.pages = {"/input": bridge.input_page(form("GitHub"))}
    site.answer_to_post = html_response(bridge.failed_page("GitHub", "cancelled", None))
    page.open(site.url + "/input")
    page.click("button.quiet")
    page.wait_for_text("GitHub was not connected")
    assert [request.path for request in site.posted] == ["/cancel"]
