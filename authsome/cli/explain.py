"""`run --explain URL`: what would become of a request of a run, and why. Nothing is started, sent or written down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from authsome import address
from authsome.cli import times
from authsome.cli.output import Output
from authsome.errors import AddressRefused, UsageError
from authsome.models.route import canonical_host
from authsome.proxy import tenancy
from authsome.proxy.rules import Target

_PORTS: Final = {"https": 443, "http": 80}
_WIDTH: Final = 10


class Daemon(Protocol):
    """A signed line to the daemon."""

    def call(self, method: str, target: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """One request; errors are raised as the daemon's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """Where the request goes."""

    scheme: str
    target: Target
    path: str

    def __str__(self) -> str:
        where = self.target.authority if self.scheme == "https" else self.target.http_host
        return f"{self.scheme}://{where}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: a request, and what the run would be narrowed to."""

    url: Url
    pinned: Mapping[str, str]
    only: tuple[str, ...]
    denies: bool
    """Whether hosts that no route names are to be refused."""


def parse_url(text: str) -> Url:
    """Read the URL; its query is nobody's business and is left out.

    Raises:
        UsageError: it is no http or https URL.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in _PORTS or not host or parts.username is not None or not text.isprintable():
        raise UsageError("--explain takes an https or http URL", hint="as in https://api.github.com/user")
    return Url(
        scheme=parts.scheme,
        target=Target(host=canonical_host(host) or host, port=_PORTS[parts.scheme] if port is None else port),
        path=parts.path or "/",
    )


def tell(question: Question, daemon: Daemon, output: Output) -> None:
    """Ask the daemon, and say what it says."""
    url, target = question.url, question.url.target
    body: dict[str, object] = {"connections": dict(question.pinned), "only": list(question.only)}
    told = daemon.call("POST", "/proxy/explain", {**body, "host": target.host, "port": target.port, "path": url.path})
    if url.scheme == "http":
        told = {**told, **_NOTHING, "outcome": "plain"}
    if told["outcome"] in {"plain", "tunnel"} and (problem := _refusal(question)) is not None:
        told = {**told, "outcome": "refuse", "problem": problem}
    if output.as_json:
        output.result({"url": str(url), **told})
        return
    output.line(f"{url}: {_summary(told)}")
    for name, text in _facts(told):
        output.line(f"  {name:{_WIDTH}} {text}")


_NOTHING: Final[Mapping[str, object]] = {
    "headers": [], "companions": [], "query": [], "removes": [], "changes_path": False, "placeholders": [],
    "replaced_in": {}, "refreshes": False,
}  # fmt: skip
"""What a request in clear text gets of a credential."""
_PLACES: Final[Mapping[str, str]] = {
    "header": "in the header", "query": "in the query as", "form": "in a form as", "path": "in the path after",
}  # fmt: skip


def _refusal(question: Question) -> dict[str, object] | None:
    """Why a request without a credential would not be passed on."""
    target = question.url.target
    if question.denies:
        message = f"{target.host} belongs to no connected provider, and such hosts would be denied"
        return {"code": "not_allowed", "message": message, "hint": "leave out `--unmatched deny`"}
    try:
        address.check_literal(target.host, target.port, tenancy.TUNNEL_POLICY)
    except AddressRefused as error:
        return {"code": error.code, "message": error.message, "hint": error.hint}
    return None


def _summary(told: Mapping[str, object]) -> str:
    return {
        "inject": f"gets the credential of {told.get('provider')} ({told.get('connection')})",
        "pass": "passes without a credential, though its host is opened for others",
        "tunnel": "is tunnelled as it is, and not opened",
        "plain": "passes as it is: nothing is put on a request in clear text",
        "refuse": "would be refused",
    }[str(told["outcome"])]


def _facts(told: Mapping[str, object]) -> list[tuple[str, str]]:
    facts = []
    if told.get("host"):
        prefix = str(told["path_prefix"])
        facts.append(("route", f"{told['host']}{prefix if prefix != '/' else ''} of {told['provider']}"))
        facts.append(("connection", f"{told['connection']}{' (the default)' if told.get('is_default') else ''}"))
    facts += _changes(told)
    if (expires_at := times.parse_time(told.get("expires_at"))) is not None:
        facts.append(("expires", f"{expires_at:%Y-%m-%d %H:%M} UTC"))
    if told["refreshes"]:
        facts.append(("refresh", "the credential would be refreshed first"))
    without = "names this host, and is not connected: authsome login"
    facts += [("login", f"{provider} {without} {provider}") for provider in _names(told, "unconnected")]
    problem = told.get("problem")
    if isinstance(problem, dict):
        facts.append(("because", str(problem["message"])))
        if problem.get("hint"):
            facts.append(("hint", str(problem["hint"])))
    return facts


def _changes(told: Mapping[str, object]) -> list[tuple[str, str]]:
    """What would be done to the request's head."""
    changes = []
    for name, member in (("sets", "headers"), ("adds", "companions"), ("takes off", "removes")):
        if names := _names(told, member):
            changes.append((name, f"{'header' if len(names) == 1 else 'headers'} {', '.join(names)}"))
    if names := _names(told, "query"):
        changes.append(("sets", f"in the query {', '.join(names)}"))
    if told.get("changes_path"):
        changes.append(("sets", "the placeholder in the path"))
    if names := _names(told, "placeholders"):
        changes.append(("replaces", f"the placeholder of {' or '.join(names)}, {_where(told.get('replaced_in'))}"))
    return changes


def _where(places: object) -> str:
    """Where a placeholder is replaced."""
    if not isinstance(places, dict):
        return "wherever the request has it"
    named = ((_PLACES.get(str(kind), str(kind)), ", ".join(_names(places, kind))) for kind in places)
    return " and ".join(f"{place} {names}" for place, names in named)


def _names(told: Mapping[str, object], member: str) -> list[str]:
    value = told.get(member)
    return [str(each) for each in value] if isinstance(value, list) else []
