"""A browser made of a few requests, for logins whose pages need no script; and the links that lead it there."""

import html
import http.client
import http.cookies
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from subprocess import Popen

from fakes.oidc import OidcServer
from fakes.patience import PATIENCE


def link_of(process: Popen[str]) -> str:
    """The link that a login prints."""
    assert process.stderr is not None
    said = ""
    while (found := re.search(r"https?://(?:127\.0\.0\.1:|vault\.)[^/\s]+/\S+", said)) is None:
        line = process.stderr.readline()
        assert line, f"the command ended: {said}"
        said += line
    return found[0]


@dataclass
class Visitor:
    """A browser that keeps cookies, follows where it is sent, and shows the last page."""

    cookies: http.cookies.SimpleCookie = field(default_factory=http.cookies.SimpleCookie)
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Where hosts are that are not this machine's loopback."""
    trust: ssl.SSLContext | None = None
    """For https."""
    url: str = ""
    status: int = 0
    page: str = ""

    def open(self, url: str, *, stop_at: str | None = None) -> str:
        """Open a URL, and whatever it sends on to, but nothing that begins with `stop_at`: that is returned."""
        return self._go("GET", url, None, stop_at)

    def submit(self, values: Mapping[str, str], *, to: str = "", stop_at: str | None = None) -> str:
        """Fill in the page's first form, or the first whose address ends so, and send it."""
        form = re.search(rf'<form[^>]*action="([^"]*{re.escape(to)})"[^>]*>(.*?)</form>', self.page, re.DOTALL)
        assert form, self.page
        hidden = re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form[2])
        data = urllib.parse.urlencode({name: html.unescape(value) for name, value in hidden} | dict(values))
        return self._go("POST", urllib.parse.urljoin(self.url, html.unescape(form[1])), data, stop_at)

    def follow(self, *, stop_at: str | None = None) -> str:
        """Click the page's button."""
        button = re.search(r'<a class="button" href="([^"]+)"', self.page)
        assert button, self.page
        url = urllib.parse.urljoin(self.url, html.unescape(button[1]))
        return url if stop_at and url.startswith(stop_at) else self._go("GET", url, None, stop_at)

    def log_in(self, link: str, server: OidcServer, *, login: str = "octocat", decision: str = "allow") -> None:
        """Go from a login's link to its provider, do there what a user does, and come back."""
        self.open(server.approve(self.open(link, stop_at=server.issuer), login=login, decision=decision))

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
        address = self.addresses.get(parts.hostname or "", "127.0.0.1")
        connection = http.client.HTTPConnection(
            address, parts.port or (443 if parts.scheme == "https" else 80), timeout=PATIENCE
        )
        if parts.scheme == "https":
            assert self.trust is not None
            connection.connect()
            connection.sock = self.trust.wrap_socket(connection.sock, server_hostname=parts.hostname)
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
