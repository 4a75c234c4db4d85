"""A certified OAuth 2 server (npm oidc-provider, run by Node) on loopback, with a log and planned failures.

PKCE with S256 is required; refresh tokens rotate, and the reuse of a spent one kills the whole grant; `iss` is in every
authorization response; device flow, dynamic registration, revocation and introspection are on.

    with oidc.serve(redirect_uris=[callback]) as server:
        server.plan("/token", status=503)          # the next request to /token fails
        callback_url = server.approve(authorization_url)
        assert len(server.token_requests("refresh_token")) == 1
"""

import html
import http.client
import http.cookies
import json
import re
import ssl
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fakes.authority import Leaf

_SCRIPT: Final = Path(__file__).with_name("oidc_server.mjs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An OAuth client that the server knows."""

    id: str
    method: str
    secret: str | None = None


PUBLIC: Final = Client(id="public", method="none")
BASIC: Final = Client(id="basic:client", method="client_secret_basic", secret="p+s/s=&%25?#: ~basic-secret")
"""Reserved characters in both: RFC 6749 section 2.3.1 has them form-encoded before base64."""
POST: Final = Client(id="post", method="client_secret_post", secret="p+s/s=&%25?#: ~post-secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A request that the server got, and how it answered."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    form: Mapping[str, str] | None
    body: str
    status: int | None
    """None while the answer is held back, and when the connection was dropped."""
    answer: Mapping[str, object] | None
    """The JSON object of the answer, tokens and all: what a test must find nowhere else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcServer:
    """A running server."""

    issuer: str
    redirect_uris: tuple[str, ...]
    _control: int
    _trust: ssl.SSLContext | None
    _routes: Mapping[str, str]

    @property
    def authorization_url(self) -> str:
        """The authorization endpoint."""
        return self.issuer + self._routes.get("authorization", "/auth")

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return self.issuer + self._token_path

    @property
    def _token_path(self) -> str:
        return self._routes.get("token", "/token")

    @property
    def device_authorization_url(self) -> str:
        """The device authorization endpoint (RFC 8628)."""
        return f"{self.issuer}/device/auth"

    @property
    def registration_endpoint(self) -> str:
        """The registration endpoint (RFC 7591)."""
        return f"{self.issuer}/reg"

    @property
    def revocation_url(self) -> str:
        """The revocation endpoint (RFC 7009)."""
        return self.issuer + self._routes.get("revocation", "/token/revocation")

    @property
    def introspection_url(self) -> str:
        """The introspection endpoint (RFC 7662)."""
        return f"{self.issuer}/token/introspection"

    @property
    def api_url(self) -> str:
        """An API of the same origin that answers `{"login": …}` to a live access token and 401 to all else."""
        return f"{self.issuer}/api/user"

    def definition(
        self, name: str, *, client: Client = PUBLIC, api_url: str | list[str] | None = None
    ) -> dict[str, object]:
        """A provider definition (JSON) that logs in here with `client`.

        Its API is `api_url`; default: this server when it has TLS, otherwise https://api.example.localhost (a
        definition's API is always https).
        """
        own = self.issuer if self.issuer.startswith("https:") else "https://api.example.localhost"
        return {
            "schema_version": 1,
            "name": name,
            "display_name": f"Test {name}",
            "auth_type": "oauth2",
            "flow": "pkce",
            "api_url": api_url or own,
            "allow_private_addresses": True,
            "oauth": {
                "issuer": self.issuer,
                "authorization_url": self.authorization_url,
                "token_url": self.token_url,
                "revocation_url": self.revocation_url,
                "device_authorization_url": self.device_authorization_url,
                "registration_endpoint": self.registration_endpoint,
                "client_credentials": True,
                "scopes": ["openid", "offline_access"],
                "pkce": "required",
                "token_endpoint_auth_method": client.method,
            },
            "inject": {"header": "Authorization", "template": "Bearer {access_token}"},
        }

    def exchange(self, form: Mapping[str, str]) -> Mapping[str, object]:
        """Post a form to the token endpoint, as a public client of the test's own; the answer's JSON object."""
        _, _, text = self._browse("POST", self.token_url, form, http.cookies.SimpleCookie())
        found: Mapping[str, object] = json.loads(text)
        return found

    def log(self, path: str | None = None) -> tuple[Recorded, ...]:
        """Every request so far, or those to one path."""
        entries = json.loads(self._ask("GET", "/log"))
        return tuple(Recorded(**entry) for entry in entries if path in (None, entry["path"]))

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._ask("DELETE", "/log")

    def token_requests(self, grant_type: str | None = None) -> tuple[Recorded, ...]:
        """The requests to the token endpoint, all or those of one grant type."""
        return tuple(
            entry
            for entry in self.log(self._token_path)
            if grant_type is None or (entry.form or {}).get("grant_type") == grant_type
        )

    def plan(
        self,
        path: str,
        *,
        times: int = 1,
        delay: float = 0,
        status: int | None = None,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        hold: str | None = None,
        drop: str | None = None,
    ) -> None:
        """Plan what happens to the next `times` requests for `path` (-1: to all); plans queue up in order.

        Args:
            path: the path, such as `/token`.
            times: how many requests the plan is for.
            delay: seconds to wait before anything else.
            status: answer with this instead of the server's own answer; `body` and `headers` go with it.
            body: the planned answer's body.
            headers: the planned answer's headers.
            hold: `before` the request is handled, or `after` (a refresh token is spent): wait for `release()`.
            drop: cut the connection `before` the request is handled, or `after` it, in the answer's place.
        """
        values = {"path": path, "times": times, "delay": delay, "status": status, "body": body, "hold": hold}
        self._ask("POST", "/plans", {**values, "headers": dict(headers or {}), "drop": drop})

    def plan_error(self, error: str = "invalid_grant", *, path: str = "/token", times: int = 1) -> None:
        """Plan an OAuth error answer (RFC 6749 section 5.2)."""
        body = json.dumps({"error": error, "error_description": "planned by the test"})
        self.plan(path, times=times, status=400, body=body, headers={"content-type": "application/json"})

    def clear_plans(self) -> None:
        """Behave again."""
        self._ask("DELETE", "/plans")

    def lifetime(self, seconds: int) -> None:
        """From now on let access tokens live for so long."""
        self._ask("PUT", "/lifetime", seconds)

    def wait_held(self, count: int = 1, *, timeout: float = 60) -> None:
        """Wait until `count` requests are held back."""
        deadline = time.monotonic() + timeout
        while (held := json.loads(self._ask("GET", "/held"))) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{held} requests are held, not {count}")
            time.sleep(0.02)

    def release(self) -> None:
        """Let the held requests go on."""
        self._ask("POST", "/release")

    def approve(self, authorization_url: str, *, login: str = "octocat", decision: str = "allow") -> str:
        """Do what a user does in a browser: open the URL, log in, allow or deny.

        Returns the callback URL that the browser would open next; it is not requested.
        """
        url, status, body = self._visit(authorization_url, lambda _: {"login": login, "decision": decision})
        assert not url.startswith(f"{self.issuer}/"), f"the provider answered {status}: {body}"
        return url

    def enter_code(self, address: str, *, login: str = "octocat", decision: str = "allow", code: str = "") -> None:
        """Do what a user does on some other device: open the address, enter the code, log in, allow or deny."""

        def fill(body: str) -> dict[str, str] | None:
            if 'id="wrong"' in body:
                return None
            form = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', body)}
            form |= {"login": login, "decision": decision} if 'name="decision"' in body else {}
            return form | ({"user_code": code} if code and 'name="user_code"' in body else {})

        _, status, body = self._visit(address, fill)
        assert status < 500, f"the provider answered {status}: {body}"

    def _visit(self, address: str, fill: Callable[[str], Mapping[str, str] | None]) -> tuple[str, int, str]:
        """Go wherever the provider leads, and post each form that `fill` fills in; where that ends, and how.

        What is somebody else's address is not requested.
        """
        cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        url, form, status, body = address, None, 0, ""
        for _ in range(12):
            status, headers, body = self._browse("GET" if form is None else "POST", url, form, cookies)
            form = None
            if location := headers.get("location"):
                url = urllib.parse.urljoin(url, location)
                if not url.startswith(f"{self.issuer}/"):
                    return url, status, body
                continue
            found = re.search(r'<form[^>]*method="post" action="([^"]+)"', body)
            if found is None or (form := fill(body)) is None:
                return url, status, body
            url = urllib.parse.urljoin(url, html.unescape(found[1]))
        raise AssertionError(f"the provider sent its visitor on and on, at last to {url}: {status} {body}")

    def _browse(
        self, method: str, url: str, form: Mapping[str, str] | None, cookies: http.cookies.SimpleCookie
    ) -> tuple[int, Mapping[str, str], str]:
        parts = urllib.parse.urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}" == self.issuer, url
        host, port = "127.0.0.1", parts.port or 0
        connection = http.client.HTTPConnection(host, port, timeout=60)
        if self._trust:
            connection = http.client.HTTPSConnection(host, port, timeout=60, context=self._trust)
        headers = {"Host": parts.netloc, "Cookie": "; ".join(f"{c.key}={c.coded_value}" for c in cookies.values())}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = None if form is None else urllib.parse.urlencode(form)
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        for value in response.headers.get_all("set-cookie", []):
            cookies.load(value)
        connection.close()
        return response.status, {name.lower(): value for name, value in response.headers.items()}, text

    def _ask(self, method: str, path: str, body: Mapping[str, object] | int | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status == 200, (method, path, response.status)
        return text


@contextmanager
def serve(
    *,
    redirect_uris: Sequence[str],
    leaf: Leaf | None = None,
    trust: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    clients: Sequence[Client] = (PUBLIC, BASIC, POST),
    access_token_ttl: int = 3600,
    rotate: bool = True,
    refresh_tokens: bool = True,
    granted_scope: str | None = None,
    routes: Mapping[str, str] | None = None,
) -> Iterator[OidcServer]:
    """Run the server on a free port until the block ends.

    Args:
        redirect_uris: what the clients may redirect to, compared as exact strings.
        leaf: a certificate for `host` (and 127.0.0.1): TLS; without it plain http.
        trust: with `leaf`, the context that `approve` verifies it by.
        host: the issuer's host; a name below `.localhost`, or 127.0.0.1.
        clients: the clients that are registered beforehand.
        access_token_ttl: how long an access token lives, in seconds.
        rotate: whether each refresh answers a new refresh token.
        refresh_tokens: whether there are refresh tokens at all.
        granted_scope: grant this scope whatever was asked for.
        routes: paths of endpoints by their names (`authorization`, `token`, `revocation`), where they are others.
    """
    tls = leaf and {"cert": leaf.certificate.read_text("ascii"), "key": leaf.key.read_text("ascii")}
    settings = {
        "host": host,
        "tls": tls,
        "clients": [asdict(client) for client in clients],
        "redirect_uris": list(redirect_uris),
        "access_token_ttl": access_token_ttl,
        "rotate": rotate,
        "refresh_tokens": refresh_tokens,
        "granted_scope": granted_scope,
        "routes": dict(routes or {}),
    }
    command = ["node", str(_SCRIPT), json.dumps(settings)]
    with (
        tempfile.TemporaryFile("w+") as errors,  # a pipe that nobody reads would fill up
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            errors.seek(0)
            raise RuntimeError(f"the OAuth server did not start:\n{errors.read()}")
        ready = json.loads(line)
        try:
            yield OidcServer(
                issuer=ready["issuer"],
                redirect_uris=tuple(redirect_uris),
                _control=ready["control"],
                _routes=dict(routes or {}),
                _trust=(trust or ssl.create_default_context()) if leaf else None,
            )
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
