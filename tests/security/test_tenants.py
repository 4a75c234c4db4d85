"""Principals beside each other: every route of the table, tried by each of them on what is another's.

The table is the daemon's own description of itself. A route that is new there needs a row here, or a test fails.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import pytest

from authsome.models.audit import Event
from fakes.authority import Authority
from fakes.program import Program, installed
from fakes.visitor import Visitor
from security import adversary
from security.adversary import Answer, Caller, ask

Body = Callable[["Tenant"], object]


@dataclass(slots=True)
class Tenant:
    """A principal with one of everything."""

    name: str
    caller: Caller
    principal: str
    login: str = ""
    run: str = ""
    secret: str = ""
    key: str = ""
    browser: Visitor = field(default_factory=Visitor)

    @property
    def places(self) -> Mapping[str, str]:
        """What stands in paths for what is its own."""
        return {
            "provider": "openai",
            "connection": f"{self.name}s-work",
            "handle": self.caller.handle,
            "id": self.login,
            "run": self.run,
            "principal": self.principal,
            "invitation": "invitation_none",
            "asset": "style.css",
            "token": "none",
            "session": "none",
            "digest": "none",
        }

    @property
    def canaries(self) -> tuple[str, ...]:
        """What no answer to another may hold."""
        return (f"{self.name}s-", self.principal, self.login, self.run, self.secret, self.key)


@dataclass(frozen=True, slots=True)
class Row:
    """Whose a route's answer is, and what a good question to it looks like."""

    of: str
    """`nobody`: the same for all. `caller`: of who asks. `object`: of whose object stands in the path, 404 to others.
    `admin`: 403 to all but admins. `own`: as `object`, but an admin may."""
    body: Body | None = None
    query: str = ""


def nothing(_: Tenant) -> object:
    return {}


ROWS: Final[Mapping[tuple[str, str], Row]] = {
    ("GET", "/health"): Row("nobody"),
    ("GET", "/openapi.json"): Row("nobody"),
    ("GET", "/auth/client.json"): Row("nobody"),
    ("GET", "/ui/{asset}"): Row("nobody"),
    ("GET", "/providers"): Row("nobody"),
    ("GET", "/providers/{provider}"): Row("nobody"),
    ("GET", "/scan"): Row("nobody"),
    ("POST", "/identities"): Row("caller", lambda who: {"handle": who.caller.handle, "did": who.caller.pair.did}),
    ("GET", "/identities"): Row("caller"),
    ("POST", "/identities/{handle}/limits"): Row("own", nothing),
    ("POST", "/identities/{handle}/revoke"): Row("own"),
    ("POST", "/claim"): Row("caller"),
    ("GET", "/claim"): Row("caller"),
    ("GET", "/whoami"): Row("caller"),
    ("GET", "/audit/events"): Row("caller", query="?limit=200"),
    ("GET", "/audit/verification"): Row("nobody"),
    ("POST", "/audit/exports"): Row("caller", nothing),
    ("GET", "/audit/exports"): Row("caller", query="?upto=1000000"),
    ("GET", "/connections"): Row("caller"),
    ("GET", "/connections/{provider}/{connection}"): Row("object"),
    ("POST", "/connections/{provider}/{connection}/secrets"): Row("object", lambda _: {"purpose": "export"}),
    ("POST", "/connections/{provider}/{connection}/default"): Row("object"),
    ("POST", "/connections/{provider}/{connection}/logout"): Row("object"),
    ("POST", "/connections/{provider}/revoke"): Row("object", lambda who: {"connection": who.places["connection"]}),
    ("POST", "/connections/{provider}/honeytoken"): Row("caller", lambda who: {"connection": f"{who.name}s-decoy"}),
    ("POST", "/auth/sessions"): Row(
        "caller",
        lambda who: {"provider": "mistral", "connection": f"{who.name}s-other", "force": True, "verify": False},
    ),
    ("GET", "/auth/sessions/{id}"): Row("object"),
    ("POST", "/auth/sessions/{id}/resume"): Row("object", lambda _: {"fields": {"api_key": "x" * 40}}),
    ("POST", "/auth/sessions/{id}/callback"): Row("object", lambda _: {"address": "http://127.0.0.1/?code=a&state=b"}),
    ("POST", "/auth/sessions/{id}/cancel"): Row("object"),
    ("POST", "/proxy/runs"): Row("caller", nothing),
    ("GET", "/proxy/routes"): Row("caller"),
    ("POST", "/proxy/resolve"): Row(
        "caller", lambda _: {"method": "GET", "host": "api.openai.com", "path": "/v1/models"}
    ),
    ("POST", "/proxy/explain"): Row("caller", lambda _: {"host": "api.openai.com", "path": "/v1/models"}),
    ("POST", "/scan"): Row(
        "caller", lambda _: {"key": "A" * 43 + "=", "candidates": [{"provider": "openai", "likeness": "0" * 64}]}
    ),
    ("POST", "/ui/links"): Row("caller"),
    ("GET", "/ready"): Row("admin"),
    ("POST", "/daemon/stop"): Row("admin"),
    ("POST", "/providers"): Row("admin", lambda _: {"definition": "{}"}),
    ("DELETE", "/providers/{provider}"): Row("admin"),
    ("POST", "/admin/import-upstream"): Row("admin", lambda _: {"directory": "/nonexistent"}),
    ("POST", "/admin/backup"): Row("admin", lambda _: {"file": "/nonexistent", "passphrase": "x" * 20}),
    ("GET", "/admin/rekey"): Row("admin"),
    ("POST", "/admin/rekey"): Row("admin", nothing),
    ("GET", "/principals"): Row("admin"),
    ("POST", "/principals"): Row("admin", lambda _: {"name": "x"}),
    ("POST", "/principals/{principal}/role"): Row("admin", lambda _: {"role": "user"}),
    ("DELETE", "/principals/{principal}"): Row("admin"),
    ("POST", "/invitations"): Row("admin", lambda _: {"email": "x@example.com"}),
    ("DELETE", "/invitations/{invitation}"): Row("admin"),
}
RUNS_OWN: Final = {("DELETE", "/proxy/runs/{run}"), ("GET", "/proxy/spool"), ("POST", "/proxy/spool")}
"""Routes that only a run's own secret opens."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Program]:
    """A daemon that several principals share."""
    variables = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
    with installed(tmp_path_factory.mktemp("tenants") / "user", variables=variables) as shared:
        assert shared("whoami").returncode == 0
        yield shared


@pytest.fixture(scope="module")
def admin(program: Program) -> Tenant:
    """The daemon's owner."""
    caller = adversary.owner(program)
    who = caller.ask("GET", "/whoami").json()["principal"]
    assert isinstance(who, dict)
    return furnish(Tenant(name="owner", caller=caller, principal=str(who["id"])))


@pytest.fixture(scope="module")
def ada(program: Program, admin: Tenant) -> Tenant:
    """A user."""
    return settle(program, admin, "ada")


@pytest.fixture(scope="module")
def bob(program: Program, admin: Tenant) -> Tenant:
    """Another user."""
    return settle(program, admin, "bob")


def settle(program: Program, admin: Tenant, name: str) -> Tenant:
    """A new principal, with an identity."""
    principal = str(admin.caller.ask("POST", "/principals", {"name": f"{name}s-name"}).json()["id"])
    caller = adversary.newcomer(program, f"{name}s-agent")
    assert caller.register().status == 200
    with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute("UPDATE identities SET principal_id = ? WHERE handle = ?", (principal, caller.handle))
    return furnish(Tenant(name=name, caller=caller, principal=principal))


def furnish(who: Tenant) -> Tenant:
    """Give a principal a connection, a login in flight, a run, and a signed-in browser."""
    who.key = "sk-" + who.name * 16
    begin = {"provider": "openai", "connection": who.places["connection"], "verify": False}
    login = who.caller.ask("POST", "/auth/sessions", begin).json()["id"]
    done = who.caller.ask("POST", f"/auth/sessions/{login}/resume", {"fields": {"api_key": who.key}})
    assert done.json()["status"] == "completed", done
    pending = who.caller.ask("POST", "/auth/sessions", {"provider": "github", "connection": f"{who.name}s-pending"})
    who.login = str(pending.json()["id"])
    begun = who.caller.ask("POST", "/proxy/runs", {}).json()
    who.run, who.secret = str(begun["run"]), str(begun["secret"])
    who.browser.open(str(who.caller.ask("POST", "/ui/links").json()["url"]))
    who.browser.submit({})
    assert who.browser.status == 200, who.browser.page
    return who


@pytest.fixture(scope="module")
def table(program: Program) -> list[tuple[str, str, frozenset[str]]]:
    """Every route, and who may call it."""
    paths = ask(program.port, "GET", "/openapi.json").json()["paths"]
    assert isinstance(paths, dict)
    return [
        (method.upper(), path, frozenset(scheme for choice in endpoint["security"] for scheme in choice))
        for path, methods in paths.items()
        for method, endpoint in methods.items()
    ]


def filled(path: str, places: Mapping[str, str]) -> str:
    """The path with these things' names; one that is not known here has to be given a place."""
    return re.sub(r"\{([a-z_]+)\}", lambda found: places[found[1]], path)


def belongings(who: Tenant, admin: Tenant) -> list[object]:
    """All that another could have changed of a principal's."""
    look = who.caller.ask
    run = ask(who.caller.port, "GET", "/proxy/routes", ("Authorization", f"Run {who.run}:{who.secret}"))
    members = admin.caller.ask("GET", "/principals").json()["principals"]
    assert isinstance(members, list)
    identity = look("GET", "/identities").json()["identities"]
    assert isinstance(identity, list)
    return [
        look("GET", "/connections").json(),
        look("GET", f"/auth/sessions/{who.login}").json()["status"],
        run.json(),
        [each for each in members if each["id"] == who.principal],
        [{**each, "last_used_at": None} for each in identity],
    ]


def test_every_route_has_a_row(table):
    """A new route says here whose its answers are; a browser's are all tried alike. # SEC-199"""
    known = {*ROWS, *RUNS_OWN}
    pages = {(method, path) for method, path, _ in table if path == "/" or re.match(r"/(ui|claim|audit$)", path)}
    browsers = {(method, path) for method, path, schemes in table if schemes & {"browser", "session"}}
    assert {(method, path) for method, path, _ in table} - pages - browsers - known == set()
    assert known - {(method, path) for method, path, _ in table} == set()


@pytest.mark.parametrize(("method", "path"), ROWS, ids=str)
def test_what_is_anothers(ada: Tenant, bob: Tenant, admin: Tenant, method: str, path: str):
    """Asked with a good proof about another's things: as if there were none, and they stay as they are. # SEC-199"""
    row = ROWS[method, path]
    before = belongings(bob, admin)
    for who in (ada, admin):
        answer = try_on(who, bob, method, path)
        if row.of == "object":
            missing = try_on(who, nobody(bob), method, path)
            assert answer.status == 404, answer
            assert unnamed(answer, bob) == unnamed(missing, nobody(bob))
        elif row.of == "admin" and who is ada:
            assert (answer.status, answer.code) == (403, "not_allowed"), answer
        elif row.of == "own" and who is ada:
            missing = try_on(who, nobody(bob), method, path)
            assert answer.status == 404, answer
            assert unnamed(answer, bob) == unnamed(missing, nobody(bob))
        elif row.of in {"caller", "nobody"}:
            assert answer.status in {200, 201, 403, 404, 409}, answer
        if who is ada or row.of in {"caller", "nobody", "object"}:
            allowed = bob.name if path.endswith(("/revoke", "/secrets", "/default", "/logout", "{connection}")) else ""
            told = answer.body.decode().replace(bob.places["connection"], "") if allowed else answer.body.decode()
            told = told.replace(bob.caller.handle, "") if "{handle}" in path else told
            if not (who is admin and path.startswith("/audit/")):
                assert not any(each in told for each in bob.canaries), answer
    assert belongings(bob, admin) == before


def try_on(who: Tenant, whose: Tenant, method: str, path: str) -> Answer:
    """One route with a good proof, about somebody's things; what would harm as an admin is left out."""
    row = ROWS[method, path]
    if who.name == "owner" and (row.of == "admin" or (path.endswith("/revoke") and row.of == "own")):
        return adversary.NO_ANSWER
    subject = who if row.of == "caller" else whose
    body = None if row.body is None else row.body(subject)
    return who.caller.ask(method, filled(path, whose.places) + row.query, body)


def nobody(like: Tenant) -> Tenant:
    """Somebody who has nothing, with names of the same form."""
    other = Tenant(name="zed", caller=like.caller, principal="principal_" + "0" * 24)
    other.login, other.run = "x" * len(like.login), "0" * len(like.run)
    other.caller = Caller(port=like.caller.port, handle="zeds-agent", pair=like.caller.pair)
    return other


def unnamed(answer: Answer, whose: Tenant) -> str:
    """What was said, without the name that was asked for."""
    text = answer.body.decode()
    for each in sorted((*whose.places.values(), whose.name), key=len, reverse=True):
        text = text.replace(each, "")
    return text


def test_what_is_ones_own_is_there(ada: Tenant):
    """The same questions about one's own things are answered; or the refusals would prove nothing. # SEC-199"""
    own = [
        ("GET", "/connections/{provider}/{connection}", None),
        ("POST", "/connections/{provider}/{connection}/secrets", {"purpose": "export"}),
        ("POST", "/connections/{provider}/{connection}/default", None),
        ("GET", "/auth/sessions/{id}", None),
        ("POST", "/identities/{handle}/limits", {}),
    ]
    for method, path, body in own:
        assert ada.caller.ask(method, filled(path, ada.places), body).status == 200, path
    resolved = ada.caller.ask("POST", "/proxy/resolve", ROWS["POST", "/proxy/resolve"].body(ada))  # type: ignore[misc]
    assert resolved.json()["secrets"] == [ada.key]


def test_a_runs_secret_opens_its_own_run(ada: Tenant, bob: Tenant, admin: Tenant, table):
    """On another's run it is worth nothing, nor is another's identity. # SEC-199"""
    before = belongings(bob, admin)
    mine = ("Authorization", f"Run {ada.run}:{ada.secret}")
    mixed = ("Authorization", f"Run {bob.run}:{ada.secret}")
    for method, path, schemes in table:
        if "run" not in schemes:
            continue
        body = json.dumps(row.body(ada)).encode() if (row := ROWS.get((method, path))) and row.body else b""
        kind = (("Content-Type", "application/json"),) if body else ()
        wrong = ask(ada.caller.port, method, filled(path, bob.places), mixed, *kind, body=body)
        assert wrong.status == 401, (path, wrong)
        if "{run}" in path:
            assert ask(ada.caller.port, method, filled(path, bob.places), mine, *kind, body=body).status == 404
            assert ada.caller.ask(method, filled(path, bob.places)).status == 401
        else:
            answer = ask(ada.caller.port, method, path, mine, *kind, body=body)
            assert not any(each in answer.body.decode() for each in bob.canaries)
    assert belongings(bob, admin) == before


def test_a_browser_sees_its_own_principals(ada: Tenant, bob: Tenant, admin: Tenant, table):
    """Every page, with another's things in its address, and every form without its token. # SEC-199"""
    before = belongings(bob, admin)
    cookies = "; ".join(f"{each.key}={each.coded_value}" for each in ada.browser.cookies.values())
    seen = 0
    for method, path, schemes in table:
        if not schemes & {"browser", "session"}:
            continue
        headers = (("Cookie", cookies), ("Sec-Fetch-Site", "same-origin"))
        kind = (("Content-Type", "application/x-www-form-urlencoded"),) if method == "POST" else ()
        answer = ask(ada.caller.port, method, filled(path, bob.places), *headers, *kind, body=b"a=b" if kind else b"")
        told = answer.body.decode()
        for each in bob.places.values():
            told = told.replace(each, "")
        assert not any(each in told for each in bob.canaries if each not in bob.places.values()), (path, answer)
        assert answer.status in ({400, 401, 403, 404} if method == "POST" else {200, 303, 400, 401, 403, 404}), (
            path,
            answer,
        )
        seen += answer.status == 200
    assert seen, "no page was shown at all"
    assert belongings(bob, admin) == before


def test_nobody_says_whose_it_is(ada: Tenant, bob: Tenant, admin: Tenant, program: Program):
    """Owner, role and vault in a body are refused, on every route that takes one. # SEC-200"""
    paths = ask(program.port, "GET", "/openapi.json").json()["paths"]
    assert isinstance(paths, dict)
    before = belongings(ada, admin), belongings(bob, admin)
    tried = 0
    for (method, path), row in ROWS.items():
        if "requestBody" not in paths[path][method.lower()] or row.body is None:
            continue
        good = row.body(ada)
        assert isinstance(good, dict)
        for extra in (
            {"principal": bob.principal},
            {"principal_id": bob.principal},
            {"owner": "ada"},
            {"vault_id": "vault_x"},
            {"identity": bob.caller.handle},
            {"is_admin": True},
            *([] if "role" in good or path in {"/principals", "/invitations"} else [{"role": "admin"}]),
        ):
            for who in (ada, admin):
                answer = who.caller.ask(method, filled(path, who.places), {**good, **extra})
                refused = {(403, "not_allowed"), (401, "authentication_failed")}
                assert answer.code == "request_invalid" or (answer.status, answer.code) in refused, (path, answer)
                tried += answer.code == "request_invalid"
    assert tried > len(ROWS)
    assert (belongings(ada, admin), belongings(bob, admin)) == before


def test_the_log_is_ones_own(ada: Tenant, bob: Tenant, admin: Tenant):
    """A principal sees what concerns its vault, an admin all; a limited identity what it did itself. # SEC-188"""

    def seen(who: Tenant, query: str = "") -> set[str]:
        events = who.caller.ask("GET", f"/audit/events?limit=200{query}").json()["events"]
        assert isinstance(events, list)
        return {str(each.get("principal")) for each in events}

    assert seen(ada) <= {ada.principal, admin.principal}
    assert bob.principal not in seen(ada)
    for query in (f"&identity={bob.caller.handle}", "&provider=openai", "&event=login", "&since=2020-01-01"):
        assert bob.principal not in seen(ada, query)
    assert seen(bob, f"&identity={ada.caller.handle}") == set()
    assert {ada.principal, bob.principal} <= seen(admin)
    limits = f"/identities/{ada.caller.handle}/limits"
    assert admin.caller.ask("POST", limits, {"methods": ["GET"]}).status == 200
    try:
        events = ada.caller.ask("GET", "/audit/events?limit=200").json()["events"]
        assert isinstance(events, list)
        assert {each["identity"] for each in events} == {ada.caller.handle}
        assert ada.caller.ask("GET", f"/audit/events?identity={admin.caller.handle}").json() == {"events": []}
    finally:
        assert admin.caller.ask("POST", limits, {}).status == 200
    assert Event.IDENTITY_LIMITED in {
        str(each["event"])
        for each in ada.caller.ask("GET", "/audit/events").json()["events"]  # type: ignore[union-attr]
    }
