"""As much of a browser as is needed to send what no browser would: cookies, forms, and any header."""

import http.client
import re
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode, urlsplit

from fakes.patience import PATIENCE
from fakes.program import Program


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    def header(self, name: str) -> str | None:
        """A header's value."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def cookies(self) -> dict[str, str]:
        """Each cookie that it sets, whole, by name."""
        set_ = [value for key, value in self.headers if key.lower() == "set-cookie"]
        return {value.partition("=")[0]: value for value in set_}

    @property
    def location(self) -> str:
        """Where it sends the browser on to."""
        return self.header("Location") or ""

    @property
    def actions(self) -> list[str]:
        """Where the page's forms are posted to."""
        return [unescape(path) for path in re.findall(r'<form method="post" action="([^"]*)"', self.body)]

    def tokens(self, action: str) -> list[str]:
        """The tokens of the page's forms that are posted to this path."""
        form = r'<form method="post" action="([^"]*)"[^>]*>\s*<input type="hidden" name="form_token" value="([^"]+)">'
        return [token for path, token in re.findall(form, self.body) if unescape(path) == action]


@dataclass(slots=True)
class Visitor:
    """A browser without a screen."""

    port: int
    origin: str
    """The URL in its address bar, without a path."""
    jar: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, program: Program, *, origin: str | None = None) -> "Visitor":
        """A fresh one, at a daemon."""
        return cls(program.port, origin or program.url)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: str = "") -> Answer:
        """One request, with what it has been told to keep."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            sent = {"Host": urlsplit(self.origin).netloc, **(headers or {})}
            if self.jar and "Cookie" not in sent:
                sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
            connection.request(method, path, body=body or None, headers=sent)
            response = connection.getresponse()
            answer = Answer(response.status, tuple(response.getheaders()), response.read().decode())
        finally:
            connection.close()
        for name, text in answer.cookies.items():
            value = text.partition("=")[2].partition(";")[0]
            self.jar.pop(name, None)
            if "Max-Age=0" not in text:
                self.jar[name] = value
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Look at a page."""
        return self.ask("GET", path, headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        """Send a form, as from a page of ours unless `headers` say otherwise."""
        usual = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
        return self.ask("POST", path, {**usual, **headers}, urlencode(fields))

    def submit(self, page: str, action: str, fields: dict[str, str] | None = None) -> Answer:
        """Open a page and send its form for `action`."""
        (token, *_) = self.get(page).tokens(action)
        return self.post(action, {"form_token": token, **(fields or {})})

    def enter(self, program: Program) -> "Visitor":
        """Sign in by a one-time link."""
        link = urlsplit(str(program.json("ui")["url"]))
        assert self.get(f"{link.path}?{link.query}").status == 303
        assert self.submit(link.path, link.path).location == "/ui/"
        return self


def invited(program: Program, email: str, *, role: str = "user") -> Visitor:
    """Somebody who was let in, in a browser of their own."""
    answer = program.json("admin", "principals", "invite", email, "--role", role)
    path = str(answer["url"]).removeprefix(program.url)
    visitor = Visitor.of(program)
    fields = {"name": "Bob", "password": "correct horse battery", "username": email}
    assert visitor.submit(path, path, fields).location == "/ui/"
    return visitor
