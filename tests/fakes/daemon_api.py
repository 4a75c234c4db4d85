"""The daemon's three proxy endpoints on loopback: a run, its credentials, its end.

It checks the run's secret as the daemon does, records every request, and answers what the test put into `credentials`:
for a host, what goes on requests to it, or a problem.
"""

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from fakes import wire

JsonObject = dict[str, object]


def route(host: str, *, provider: str = "example", port: int = 443, **more: object) -> JsonObject:
    """A route as the daemon writes it."""
    return {
        "host": host,
        "suffix": False,
        "port": port,
        "path_prefix": "/",
        "provider": provider,
        "connection": "default",
        "allow_private_addresses": True,
        **more,
    }


def bearer(token: str, *, provider: str = "example", revision: int = 1, **more: object) -> JsonObject:
    """A credential as the daemon writes it: a token in the Authorization header."""
    return {
        "provider": provider,
        "connection": "default",
        "credential_id": f"{provider}-{revision}",
        "set": [["Authorization", f"Bearer {token}"]],
        "default": [],
        "remove": ["Authorization", "X-Api-Key"],
        "query": [],
        "path": None,
        "secrets": [token],
        "expires_at": None,
        **more,
    }


def basic(username: str, password: str) -> JsonObject:
    """A credential as the daemon writes it: HTTP Basic."""
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {**bearer(password), "set": [["Authorization", f"Basic {encoded}"]]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal."""

    status: int
    code: str
    detail: str
    hint: str | None = None


@dataclass(slots=True, kw_only=True)
class DaemonApi:
    """A running fake daemon."""

    port: int = 0
    run: str = ""
    """The newest run."""
    secret: str = ""
    live: set[str] = field(default_factory=set)
    """What the workers of the runs that have not ended send as authorization."""
    expires_at: str | None = None
    routes: list[JsonObject] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, JsonObject | Problem] = field(default_factory=dict)
    refreshed: dict[str, JsonObject] = field(default_factory=dict)
    """What a host's credential becomes when it is reported as rejected."""
    resolved: list[JsonObject] = field(default_factory=list)
    """The questions to /proxy/resolve."""
    runs: list[JsonObject] = field(default_factory=list)
    """The questions to /proxy/runs."""
    requests: list[wire.Recorded] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    """The runs whose credentials are long in coming."""
    is_down: bool = False
    """Whether connections are closed without an answer."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, target: str, body: Mapping[str, object] | None = None) -> JsonObject:
        """Stand in for the signed client, as far as `run` uses it."""
        assert (method, target) == ("POST", "/proxy/runs")
        self.runs.append(dict(body or {}))
        self.run, self.secret = f"run-{secrets.token_hex(6)}", secrets.token_urlsafe(24)
        self.live.add(f"Run {self.run}:{self.secret}")
        return {
            "run": self.run,
            "secret": self.secret,
            "expires_at": self.expires_at,
            "routes": self.routes,
            "environment": self.environment,
        }

    def serve(self, connection: wire.Connection) -> None:
        """Answer one connection's requests."""
        while request := wire.read_request(connection.reader, connection.writer):
            self.requests.append(request)
            if self.is_down:
                return
            status, answer = self._answer(request)
            body = b"" if status == 204 else json.dumps(answer).encode()
            length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
            connection.writer.write(f"HTTP/1.1 {status} Test\r\n{length}\r\n".encode() + body)
            connection.writer.flush()

    def _answer(self, request: wire.Recorded) -> tuple[int, JsonObject]:
        authorization = request.header("Authorization") or ""
        if authorization not in self.live:
            return 401, {"code": "authentication_failed", "detail": "the caller could not be authenticated"}
        run = authorization.removeprefix("Run ").partition(":")[0]
        if (request.method, request.path) == ("DELETE", f"/proxy/runs/{run}"):
            self.live.discard(authorization)
            return 204, {}
        if (request.method, request.path) == ("GET", "/proxy/routes"):
            return 200, {"routes": self.routes}
        if (request.method, request.path) == ("POST", "/proxy/resolve"):
            while run in self.held:
                time.sleep(0.02)
            return self._resolve(json.loads(request.body))
        return 404, {"code": "not_found", "detail": "there is nothing at this address"}

    def _resolve(self, question: JsonObject) -> tuple[int, JsonObject]:
        self.resolved.append(question)
        host = str(question["host"])
        if question.get("rejected") and host in self.refreshed:
            self.credentials[host] = self.refreshed[host]
        found = self.credentials.get(host)
        if found is None:
            return 404, {"code": "not_found", "detail": f"no connected provider names {host}"}
        if isinstance(found, Problem):
            return found.status, {"code": found.code, "detail": found.detail, "hint": found.hint}
        return 200, found


@contextmanager
def serve() -> Iterator[DaemonApi]:
    """Run the fake on a free port of 127.0.0.1 until the block ends."""
    daemon = DaemonApi()
    with wire.listen(daemon.serve) as daemon.port:
        yield daemon
