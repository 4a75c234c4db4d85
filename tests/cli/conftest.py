"""What the journeys of the command line need: keys of the right form, a browser made of a few requests."""

import html
import http.client
import http.cookies
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from fakes.program import Program

if TYPE_CHECKING:
    import subprocess

OPENAI_KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
OTHER_KEY = "sk-proj-9876543210jihgfedcbaJIHGFEDCBA_-k"


@pytest.fixture
def connected(program: Program) -> Program:
    """The program with a key for openai stored."""
    done = program("login", "openai", "--stdin", input=OPENAI_KEY)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture
def said() -> Callable[[str], list[str]]:
    """The lines that a command said, without the word about waiting that it has for slow machines."""
    return lambda text: [line for line in text.splitlines() if not line.endswith(" …")]


@pytest.fixture
def given() -> Callable[["subprocess.Popen[str]", str], None]:
    """Give a started command its whole standard input."""

    def give(process: "subprocess.Popen[str]", text: str) -> None:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None

    return give


@dataclass
class Visitor:
    """A browser that keeps cookies, follows where it is sent, and shows the last page."""

    cookies: http.cookies.SimpleCookie = field(default_factory=http.cookies.SimpleCookie)
    url: str = ""
    status: int = 0
    page: str = ""

    def open(self, url: str, *, stop_at: str | None = None) -> str:
        """Open a URL, and whatever it sends on to, but nothing that begins with `stop_at`: that is returned."""
        return self._go("GET", url, None, stop_at)

    def submit(self, values: Mapping[str, str], *, stop_at: str | None = None) -> str:
        """Fill in the page's first form and send it."""
        form = re.search(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', self.page, re.DOTALL)
        assert form, self.page
        hidden = re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form[2])
        data = urllib.parse.urlencode({name: html.unescape(value) for name, value in hidden} | dict(values))
        return self._go("POST", urllib.parse.urljoin(self.url, html.unescape(form[1])), data, stop_at)

    def _go(self, method: str, url: str, data: str | None, stop_at: str | None) -> str:
        for _ in range(10):
            self._fetch(method, url, data)
            method, data = "GET", None
            onward = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]+)">', self.page)
            target = self._location or (html.unescape(onward[1]) if onward else None)
            if target is None:
                return self.url
            url = urllib.parse.urljoin(url, target)
            if stop_at and url.startswith(stop_at):
                return url
        raise AssertionError("sent on and on")

    def _fetch(self, method: str, url: str, data: str | None) -> None:
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=20)
        origin = f"{parts.scheme}://{parts.netloc}"
        headers = {
            "Host": parts.netloc,
            "Cookie": "; ".join(f"{each.key}={each.coded_value}" for each in self.cookies.values()),
        }
        if data is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, data, headers)
        response = connection.getresponse()
        self.url, self.status, self.page = url, response.status, response.read().decode()
        self._location = response.headers.get("location")
        for value in response.headers.get_all("set-cookie", []):
            self.cookies.load(value)
        connection.close()

    _location: str | None = None


@pytest.fixture
def visitor() -> Visitor:
    """A fresh browser profile."""
    return Visitor()
