"""The two strangers of the tour: a small OAuth server and an API with TLS, both on loopback.

The OAuth server does what a strict provider does: authorization code with PKCE, S256 only (RFC 7636), a client with a
secret, codes and refresh tokens that work once. The API lets in whoever has a live access token.
"""

import base64
import hashlib
import hmac
import html
import json
import secrets
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOGIN_HOST = "login.tour.localhost"
API_HOST = "api.tour.localhost"
ACCOUNT = "ada"
CLIENT_ID = "tour-app"
SHORT_LIFE = 6  # seconds: of a token that is to end during the tour; a quarter of it is kept as a margin
LONG_LIFE = 3600
_CODE_LIFE = 60  # seconds
_BODY_LIMIT = 64 * 1024


@dataclass
class Seen:
    """What the strangers know and have seen, for the tour to look at."""

    client_secret: str = field(default_factory=lambda: "tour_cs_" + secrets.token_urlsafe(24), repr=False)
    codes: dict[str, tuple[str, str, float]] = field(default_factory=dict, repr=False)
    """By code: challenge, redirect URI, end of life."""
    access: dict[str, float] = field(default_factory=dict, repr=False)
    """Access tokens and when they end."""
    refresh: set[str] = field(default_factory=set, repr=False)
    issued: list[str] = field(default_factory=list, repr=False)
    """Every secret that was ever handed out."""
    token_life: int = SHORT_LIFE
    """How many seconds the next access token lives."""
    challenges: int = 0
    grants: list[str] = field(default_factory=list)
    """The grant types of successful token requests, in order."""
    headers: list[str] = field(default_factory=list, repr=False)
    """The Authorization headers that the API got."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must not be found anywhere."""
        return (self.client_secret, *self.issued)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the two listen."""

    login: str
    api: str


@contextmanager
def serve(seen: Seen, context: ssl.SSLContext) -> Iterator[Places]:
    """Run both until the block ends; `context` is the API's TLS."""
    oauth = _Server(("127.0.0.1", 0), type("OAuth", (_OAuth,), {"seen": seen}))
    api = _Server(("127.0.0.1", 0), type("Api", (_Api,), {"seen": seen}))
    api.socket = context.wrap_socket(api.socket, server_side=True, do_handshake_on_connect=False)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in (oauth, api)]
    for thread in threads:
        thread.start()
    try:
        yield Places(login=f"http://{LOGIN_HOST}:{oauth.server_port}", api=f"https://{API_HOST}:{api.server_port}")
    finally:
        for server in (oauth, api):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is nothing to talk about."""


class _Handler(BaseHTTPRequestHandler):
    seen: Seen
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""

    def answer(self, status: int, body: str, *, kind: str = "application/json", location: str | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

    def form(self) -> dict[str, str]:
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(min(length, _BODY_LIMIT)).decode("utf-8", "replace")
        return dict(urllib.parse.parse_qsl(text))


class _OAuth(_Handler):
    """Authorization and token endpoints (RFC 6749 §3)."""

    def do_GET(self) -> None:
        """The authorization endpoint: a page that asks."""
        parts = urllib.parse.urlsplit(self.path)
        if parts.path != "/authorize":
            self.answer(404, "{}")
            return
        query = dict(urllib.parse.parse_qsl(parts.query))
        problem = _refusal(query)
        if problem:
            self.answer(400, problem, kind="text/plain")
            return
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(query[name])}">'
            for name in ("redirect_uri", "state", "code_challenge")
        )
        self.answer(
            200,
            "<!doctype html><title>Tour provider</title><h1>Tour provider</h1>"
            f"<p>{html.escape(CLIENT_ID)} would like to act for <b>{ACCOUNT}</b>.</p>"
            f'<form method="post" action="/authorize">{hidden}<button>Allow</button></form>',
            kind="text/html; charset=utf-8",
        )

    def do_POST(self) -> None:
        """What the page sends, and the token endpoint."""
        if self.path == "/authorize":
            self._allow(self.form())
        elif self.path == "/token":
            self._token(self.form())
        else:
            self.answer(404, "{}")

    def _allow(self, form: Mapping[str, str]) -> None:
        code = "tour_code_" + secrets.token_urlsafe(24)
        with self.seen.lock:
            self.seen.codes[code] = (form["code_challenge"], form["redirect_uri"], time.monotonic() + _CODE_LIFE)
            self.seen.issued.append(code)
            self.seen.challenges += 1
        answer = urllib.parse.urlencode({"code": code, "state": form["state"]})
        self.answer(302, "", kind="text/plain", location=f"{form['redirect_uri']}?{answer}")

    def _token(self, form: Mapping[str, str]) -> None:
        if not self._is_client():
            self.answer(401, json.dumps({"error": "invalid_client"}))
            return
        with self.seen.lock:
            good = (
                self._code_is_good(form)
                if form.get("grant_type") == "authorization_code"
                else self._refresh_is_good(form)
            )
            if not good:
                self.answer(400, json.dumps({"error": "invalid_grant"}))
                return
            access, refresh = ("tour_at_" + secrets.token_urlsafe(24), "tour_rt_" + secrets.token_urlsafe(24))
            life = self.seen.token_life
            self.seen.access[access] = time.monotonic() + life
            self.seen.refresh.add(refresh)
            self.seen.issued += [access, refresh]
            self.seen.grants.append(form["grant_type"])
        answer = {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": life,
            "account": ACCOUNT,
        }
        self.answer(200, json.dumps(answer))

    def _is_client(self) -> bool:
        """HTTP Basic with the client's id and secret (RFC 6749 §2.3.1)."""
        expected = "Basic " + base64.b64encode(f"{CLIENT_ID}:{self.seen.client_secret}".encode()).decode()
        return hmac.compare_digest((self.headers.get("Authorization") or "").encode(), expected.encode())

    def _code_is_good(self, form: Mapping[str, str]) -> bool:
        challenge, redirect_uri, end = self.seen.codes.pop(form.get("code", ""), ("", "", 0.0))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return time.monotonic() < end and made == challenge and form.get("redirect_uri") == redirect_uri

    def _refresh_is_good(self, form: Mapping[str, str]) -> bool:
        """A refresh token works once (RFC 9700 §4.14.2)."""
        token = form.get("refresh_token", "")
        known = form.get("grant_type") == "refresh_token" and token in self.seen.refresh
        self.seen.refresh.discard(token)
        return known


class _Api(_Handler):
    """`GET /me`: who the access token stands for."""

    def do_GET(self) -> None:
        """Answer those who have a live token."""
        given = self.headers.get("Authorization") or ""
        with self.seen.lock:
            self.seen.headers.append(given)
            live = self.seen.access.get(given.removeprefix("Bearer "), 0.0) > time.monotonic()
        if live:
            self.answer(200, json.dumps({"login": ACCOUNT}))
        else:
            self.answer(401, json.dumps({"error": "invalid_token"}))


def _refusal(query: Mapping[str, str]) -> str | None:
    """Why an authorization request is refused; None when it is in order."""
    if query.get("client_id") != CLIENT_ID or query.get("response_type") != "code":
        return "unknown client or response type"
    if query.get("code_challenge_method") != "S256" or len(query.get("code_challenge", "")) != 43:
        return "PKCE with S256 is required (RFC 7636)"
    if not query.get("redirect_uri", "").startswith("http://127.0.0.1:") or not query.get("state"):
        return "a loopback redirect_uri and a state are required"
    return None
