"""Runs side by side in one worker: each is known by its own credential, sees its own routes, and ends alone."""

import base64
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authsome.address import AddressPolicy
from authsome.errors import (
    AuthenticationFailed,
    CredentialUnavailable,
    DaemonUnavailable,
    NotAllowed,
    RefreshFailed,
    RouteAmbiguous,
)
from authsome.models.route import HostPattern, Route, RouteTable
from authsome.proxy.inject import Credential
from authsome.proxy.rules import Lease, Opening, Question, Target, Unmatched
from authsome.proxy.tenancy import Ground, Tenancy, Tenants
from authsome.secret import Secret
from fakes.patience import wait

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
API = Target(host="api.example.com", port=443)
NOTHING = RouteTable(routes=())


def route(provider: str = "p", connection: str = "c", **pattern: object) -> Route:
    """A route to `API`."""
    return Route(provider=provider, connection=connection, pattern=HostPattern(host=API.host, **pattern))  # type: ignore[arg-type]


@dataclass
class Daemon:
    """Answers what it was told to."""

    table: RouteTable = NOTHING
    failure: Exception | None = None
    asked: int = 0
    rejected: list[str] = field(default_factory=list)

    def resolve(self, question: Question, *, is_rejected: bool = False) -> Credential:
        assert is_rejected
        asked = f"{question.method} {question.target.authority}{question.path}"
        self.rejected.append(f"{asked} {question.provider} {question.connection or '-'}")
        raise RefreshFailed("it was revoked")

    def routes(self) -> RouteTable:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.table


def tenancy(daemon: Daemon, *, run: str = "run-1", first: RouteTable = NOTHING) -> Tenancy:
    """A run whose password is its name turned around."""
    password = Secret(run[::-1])
    return Tenancy(
        Ground(
            lease=Lease(run=run, secret=Secret("daemons"), password=password, expires_at=NOW + timedelta(minutes=1)),
            table=first,
            source=daemon,
            trust=Path("/nowhere"),
            tunnel_policy=AddressPolicy(allow_intranet=True),
        )
    )


def basic(run: str, password: str | None = None) -> list[str]:
    """The header of a run's child."""
    pair = f"{run}:{run[::-1] if password is None else password}"
    return ["Basic " + base64.b64encode(pair.encode()).decode()]


# ---- who is admitted ---------------------------------------------------------------------------------------


def test_each_credential_leads_to_its_own_run():
    """And no other's password, name or mixture of the two leads anywhere."""
    # SEC-149
    tenants = Tenants()
    first, second = tenancy(Daemon(), run="run-1"), tenancy(Daemon(), run="run-2")
    tenants.add(first)
    tenants.add(second)
    assert tenants.admit(basic("run-1"), NOW) is first
    assert tenants.admit(basic("run-2"), NOW) is second
    for wrong in (
        [],
        [""],
        ["Basic"],
        ["Basic !"],
        basic("run-1", "2-nur"),
        basic("run-3"),
        basic("nobody", ""),
        basic("run-1") * 2,
        [*basic("run-1"), *basic("run-2")],
    ):
        with pytest.raises(AuthenticationFailed):
            tenants.admit(wrong, NOW)


def test_an_ended_run_is_unknown_at_once_and_the_others_are_not():
    # SEC-138
    tenants = Tenants()
    first, second = tenancy(Daemon(), run="run-1"), tenancy(Daemon(), run="run-2")
    tenants.add(first)
    tenants.add(second)
    assert tenants.end("run-1") is first
    assert tenants.end("run-1") is None
    with pytest.raises(AuthenticationFailed):
        tenants.admit(basic("run-1"), NOW)
    assert tenants.admit(basic("run-2"), NOW) is second
    assert (len(tenants), tenants.end_all(), len(tenants)) == (1, [second], 0)


def test_a_run_whose_time_is_over_is_told_so():
    tenants = Tenants()
    tenants.add(tenancy(Daemon()))
    with pytest.raises(NotAllowed, match="time is over"):
        tenants.admit(basic("run-1"), NOW + timedelta(minutes=1))


def test_the_end_closes_what_is_attached_once_and_lets_nothing_more_in():
    # SEC-138
    run, closed = tenancy(Daemon()), []
    stays, goes = (lambda: closed.append("stays")), (lambda: closed.append("goes"))
    run.attach(stays)
    run.attach(goes)
    run.detach(goes)
    run.end()
    run.end()
    assert closed == ["stays"]
    with pytest.raises(NotAllowed):
        run.attach(goes)
    run.detach(goes)


# ---- its routes --------------------------------------------------------------------------------------------


def test_routes_are_those_of_the_moment():
    """A login is seen by the next CONNECT; a host that was once a route's stays one that is opened."""
    # SEC-169
    daemon = Daemon()
    run = tenancy(daemon)
    assert run.opening(API) is Opening.TUNNEL
    daemon.table = RouteTable(routes=(route(),))
    assert run.opening(API) is Opening.INTERCEPT
    begun = tenancy(Daemon(), first=daemon.table)
    assert begun.opening(API) is Opening.INTERCEPT


def test_a_request_that_has_no_route_is_believed_of_fresh_routes_only():
    """Known routes cost no question; that there is none, or are too many, does."""
    # SEC-169 SEC-171
    daemon = Daemon(table=RouteTable(routes=(route(path_prefix="/a/"),)))
    run = tenancy(daemon)
    found = run.route(API, "/a/x")
    assert (found, daemon.asked) == (daemon.table.routes[0], 1)
    assert (run.route(API, "/a/x"), daemon.asked) == (found, 1)
    assert (run.route(API, "/b"), daemon.asked) == (None, 2)
    daemon.table = RouteTable(routes=(route("p"), route("q")))
    with pytest.raises(RouteAmbiguous):
        run.route(API, "/b")
    daemon.table = RouteTable(routes=(route("q"),))
    assert run.route(API, "/b") == daemon.table.routes[0]


def test_a_route_that_is_gone_is_no_reason_to_send_a_placeholder():
    """What the run began with is remembered for that."""
    # SEC-162
    run = tenancy(Daemon(), first=RouteTable(routes=(route(),)))
    assert run.route(API, "/") is not None  # the daemon decides when it is asked for the credential
    run.table()
    with pytest.raises(
        CredentialUnavailable, match="p is no longer connected, or this identity may no longer use it"
    ) as told:
        run.route(API, "/")
    assert told.value.hint == "log in again: authsome login p; its limits: authsome whoami"
    assert run.claimant(API, "/") == "p"


def test_a_tie_names_those_that_have_a_claim():
    """Those of now; or those as the run began, where what is left has no claim to the path."""
    # SEC-171
    tied = RouteTable(routes=(route("p", "work"), route("q")))
    run = tenancy(Daemon(table=tied), first=tied)
    with pytest.raises(RouteAmbiguous, match=r"more than one connection claims .*: p \(work\), q \(c\)"):
        run.route(API, "/")
    assert run.claimant(API, "/") is None
    gone = tenancy(Daemon(), first=tied)
    with pytest.raises(RouteAmbiguous, match=r"claimed .* as the run began: p \(work\), q \(c\)"):
        gone.route(API, "/")


def test_a_daemon_that_cannot_be_asked_leaves_the_last_routes():
    """It is asked again after a moment, not by every request."""
    daemon = Daemon(table=RouteTable(routes=(route(),)))
    run = tenancy(daemon)
    known = run.table()
    daemon.failure = DaemonUnavailable("gone")
    assert run.table() is run.table() is known
    assert daemon.asked == 2


def test_an_answer_that_was_overtaken_is_dropped():
    """Of two questions at once, the later one's answer stays, in whatever order they come back."""
    newer, go_on = RouteTable(routes=(route(),)), threading.Event()

    class Slow(Daemon):
        def routes(self) -> RouteTable:
            self.asked += 1
            if self.asked == 1:
                assert go_on.wait(60)
                return NOTHING
            return newer

    daemon = Slow()
    run = tenancy(daemon)
    first = threading.Thread(target=run.table)
    first.start()
    wait(lambda: daemon.asked, "the daemon to be asked")
    assert run.table() is newer
    go_on.set()
    first.join()
    assert run.route(API, "/") == newer.routes[0]
    assert daemon.asked == 2


@pytest.mark.parametrize("is_now", [True, False])
def test_private_addresses_are_for_routes_that_allow_them(is_now):
    """By the routes as of now, or of the beginning; a tunnel has the worker's own policy."""
    allowing = RouteTable(
        routes=(Route(provider="p", connection="c", pattern=HostPattern(host=API.host), allow_private_addresses=True),)
    )
    run = tenancy(Daemon(table=allowing if is_now else NOTHING), first=NOTHING if is_now else allowing)
    run.table()
    ports = frozenset({7998})
    assert run.policy(API, is_routed=True, own_ports=ports) == AddressPolicy(allow_private=True, own_ports=ports)
    assert run.policy(API, is_routed=False, own_ports=ports) == AddressPolicy(allow_intranet=True, own_ports=ports)
    other = Target(host="other.example.com", port=443)
    assert not run.policy(other, is_routed=True, own_ports=ports).allow_private


def test_a_refused_credential_is_reported_once():
    """A refresh that fails is logged, and the 401 goes to the child."""
    daemon = Daemon()
    run = tenancy(daemon)
    question = Question(method="GET", target=API, path="/x", provider="p", connection="work")
    for revision in ("1", "1", "2"):
        run.rejected(question, Credential(provider="p", connection="c", credential_id=revision))
    assert daemon.rejected == ["GET api.example.com/x p work"] * 2


def test_an_engines_port_is_nobodys_target():
    # SEC-160
    tenants = Tenants(frozenset({7998}))
    tenants.reserve(1234)
    assert tenants.own_ports == {7998, 1234}


def test_a_request_that_asks_for_a_connection_is_the_daemons_to_decide():
    """That one may have other claims than those in the table; a tie of the others is none of its business."""
    # SEC-171
    twice = RouteTable(routes=(route("p"), route("q")))
    run = tenancy(Daemon(table=twice), first=twice)
    assert run.provider(API, "/", wanted="work") == "p"
    with pytest.raises(RouteAmbiguous):
        run.provider(API, "/", wanted=None)
    assert tenancy(Daemon()).provider(API, "/", wanted=None) is None


def test_a_run_in_a_run_denies_what_that_one_denies():
    """And never more than its own wish beyond that."""
    free, strict = (
        Lease(run="r", secret=Secret("s"), password=Secret("p"), expires_at=None, unmatched=each) for each in Unmatched
    )
    assert free.within(strict).unmatched is strict.within(free).unmatched is Unmatched.DENY
    assert free.within(free).unmatched is Unmatched.TUNNEL
