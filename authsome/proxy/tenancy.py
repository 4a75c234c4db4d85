"""Whose a connection is: all that is one run's in a worker that serves many at the same time.

An engine knows nothing of runs. At a connection's first request it asks `Tenants.admit` for the `Tenancy`, and from
then on takes everything from there. All calls may come from any thread, and those that ask the daemon block.

Rule: nothing of a tenancy outlives its run. When the run ends, its credential is unknown from that moment, and every
connection that was admitted with it is closed.
"""

import base64
import binascii
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from authsome.address import AddressPolicy
from authsome.errors import AuthsomeError, CredentialUnavailable, NotAllowed, RouteAmbiguous
from authsome.models.route import Route, RouteTable
from authsome.outbound import DIRECT, Outbound
from authsome.proxy.inject import Credential
from authsome.proxy.rules import Lease, Opening, Question, Target
from authsome.secret import Secret

log = logging.getLogger(__name__)

TUNNEL_POLICY: Final = AddressPolicy(allow_intranet=True)
"""What a tunnel may reach: what the child could reach by itself, but not this machine through us."""
MOST_STRANGERS: Final = 512
"""More than all children of a busy machine begin within the time that one takes to send its first request."""
_RETRY_SECONDS: Final = 1.0  # how long the last known routes serve when the daemon could not be asked


class Source(Protocol):
    """Where a run's routes and credentials come from: the daemon, asked with the run's own secret."""

    @property
    def keeps(self) -> bool:
        """Whether answers may be used again."""

    def kept(self, method: str, target: Target, path: str, connection: str | None) -> Credential | None:
        """What goes on a request, where that is known and its use is on record; does not block."""

    def resolve(self, question: Question, *, is_rejected: bool = False) -> Credential:
        """What goes on a request."""

    def routes(self) -> RouteTable:
        """The run's routes as of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a run brings along."""

    lease: Lease
    table: RouteTable
    """The routes that it began with."""
    source: Source
    trust: Path
    """A PEM file with the roots that its servers are verified against."""
    outbound: Outbound = DIRECT
    """Its way out: the proxy that its caller's shell names."""
    tunnel_policy: AddressPolicy
    """What a tunnel, or a plain request, may reach."""


class Tenancy:
    """One run in a worker, from its admission to its end."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.lease = ground.lease
        self.source = ground.source
        self.trust = ground.trust
        self.outbound = ground.outbound
        self._tunnel_policy = ground.tunnel_policy
        self._first = ground.table
        self._table = ground.table
        self._asked = self._answered = 0
        self._retry_at = 0.0
        self._rejected: dict[tuple[str, str], str] = {}
        self._closers: set[Callable[[], None]] = set()
        self._has_ended = False
        self._lock = threading.Lock()

    def attach(self, close: Callable[[], None]) -> None:
        """Have `close` called, from any thread and once, when the run ends; for whatever serves a connection of it.

        Raises:
            NotAllowed: it has ended already.
        """
        with self._lock:
            if self._has_ended:
                raise NotAllowed("the run is over", hint="start a new one with `authsome run`")
            self._closers.add(close)

    def detach(self, close: Callable[[], None]) -> None:
        """The connection is gone by itself."""
        with self._lock:
            self._closers.discard(close)

    def end(self) -> None:
        """Close whatever is attached, and let nothing be attached any more."""
        with self._lock:
            self._has_ended = True
            closers, self._closers = self._closers, set()
        for close in closers:
            close()

    def table(self) -> RouteTable:
        """The run's routes as of now; the last ones known when the daemon cannot be asked.

        Old routes can only lead to a request that the daemon then refuses, or to a tunnel.
        """
        with self._lock:
            if time.monotonic() < self._retry_at:
                return self._table
            self._asked += 1
            number = self._asked
        try:
            table = self.source.routes()
        except AuthsomeError as error:
            log.warning("run %s: the routes could not be renewed: %s", self.lease.run, error.message)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return self._table
        with self._lock:
            if number > self._answered:  # else somebody who asked later has been answered before
                self._answered, self._table = number, table
            return self._table

    def opening(self, target: Target) -> Opening:
        """What becomes of a CONNECT to this target; asks the daemon.

        Raises:
            NotAllowed: no route names it and the run denies such hosts.
        """
        return self.lease.opening(self.table(), self._first, target)

    def policy(self, target: Target, *, is_routed: bool, own_ports: frozenset[int]) -> AddressPolicy:
        """Where a target may lie; `own_ports` are those that Authsome itself listens on."""
        if not is_routed:
            policy = self._tunnel_policy
            return AddressPolicy(
                allow_private=policy.allow_private, allow_intranet=policy.allow_intranet, own_ports=own_ports
            )
        tables = (self._table, self._first)
        allowed = any(table.allows_private_addresses(target.host, target.port) for table in tables)
        return AddressPolicy(allow_private=allowed, own_ports=own_ports)

    def route(self, target: Target, path: str) -> Route | None:
        """The route of a request; None: it belongs to none and goes as it is.

        A route may be an old one, as the daemon decides anew when it is asked for the credential. That there is none
        is believed only of the routes as of now: so a login takes effect on the next request.

        Raises:
            RouteAmbiguous: more than one claims it equally.
            CredentialUnavailable: it had one when the run began: what the child sends would be a placeholder.
        """
        route = self._table.decide(target.host, target.port, path)
        if not isinstance(route, Route):
            route = self.table().decide(target.host, target.port, path)
        if route == "ambiguous":
            raise _tie(f"more than one connection claims {target.authority}", self._table, target)
        if route != "none":
            return route
        before = self._first.decide(target.host, target.port, path)
        if before == "none":
            return None
        if before == "ambiguous":
            # Nothing was sent then, as nobody knew whose placeholder it held; nor is it known now.
            message = f"more than one connection claimed {target.authority} as the run began"
            raise _tie(message, self._first, target, hint="start a new one; `authsome run --explain URL` says more")
        provider = before.provider
        raise CredentialUnavailable(
            f"{provider} is no longer connected, or this identity may no longer use it",
            hint=f"log in again: authsome login {provider}; its limits: authsome whoami",
        )

    def claimant(self, target: Target, path: str) -> str | None:
        """Whose a request is, by the routes as they are known: to be named where it came to nothing."""
        for table in (self._table, self._first):
            found = table.decide(target.host, target.port, path)
            if isinstance(found, Route):
                return found.provider
        return None

    def provider(self, target: Target, path: str, *, wanted: str | None) -> str | None:
        """The provider whose credential a request is to get; None: it belongs to no route and goes as it is.

        With a connection that it asks for, this is a name for an error only: the daemon knows what that one claims.

        Raises:
            RouteAmbiguous, CredentialUnavailable: see `route`.
        """
        if wanted is None:
            route = self.route(target, path)
            return None if route is None else route.provider
        routes = (*self._table.routes, *self._first.routes)
        naming = [route.provider for route in routes if route.pattern.matches_address(target.host, target.port)]
        return naming[0] if naming else "its provider"

    def rejected(self, question: Question, credential: Credential) -> None:
        """A server has answered 401 to this credential: have it refreshed, once per credential; asks the daemon."""
        key = (credential.provider, credential.connection)
        with self._lock:
            if self._rejected.get(key) == credential.credential_id:
                return
            self._rejected[key] = credential.credential_id
        try:
            self.source.resolve(question, is_rejected=True)
        except AuthsomeError as error:
            log.warning("%s: refused, and not refreshed: %s", credential.provider, error.message)


def _tie(message: str, table: RouteTable, target: Target, *, hint: str | None = None) -> RouteAmbiguous:
    """The error that names those with a claim to a host."""
    routes = (route for route in table.routes if route.pattern.matches_address(target.host, target.port))
    names = ", ".join(sorted({f"{route.provider} ({route.connection})" for route in routes}))
    return RouteAmbiguous(f"{message}: {names}", hint=hint)


class Strangers:
    """Connections that have shown no run's credential yet, and how each is closed.

    Any user of this machine can make them, and each costs a descriptor, with some engines a thread: so there are only
    so many, and of too many the one that has waited longest goes.
    """

    def __init__(self) -> None:
        self._closers: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._lock = threading.Lock()

    def meet(self, close: Callable[[], None]) -> None:
        """Note a connection; `close` may be called from any thread, once."""
        longest: Callable[[], None] | None = None
        with self._lock:
            self._closers[close] = None
            if len(self._closers) > MOST_STRANGERS:
                longest, _ = self._closers.popitem(last=False)
        if longest is not None:
            longest()

    def part(self, close: Callable[[], None]) -> None:
        """Note that it is a run's from now on, or gone."""
        with self._lock:
            self._closers.pop(close, None)


class Tenants:
    """The runs that a worker serves."""

    def __init__(self, own_ports: frozenset[int] = frozenset()) -> None:
        """Take the ports that the daemon listens on; an engine reserves its own."""
        self.own_ports = own_ports
        """Where Authsome itself listens on this machine: nobody is led there."""
        self.strangers = Strangers()
        """Who has come to an engine and belongs to no run yet."""
        self._by_run: dict[str, Tenancy] = {}
        self._lock = threading.Lock()
        # Compared with when the run is unknown, so that this takes as long as a wrong password.
        self._nobody = Lease(
            run="nobody",
            secret=Secret(""),
            password=Secret(secrets.token_urlsafe(32)),
            expires_at=None,
        )

    def __len__(self) -> int:
        return len(self._by_run)

    def reserve(self, port: int) -> None:
        """Note a port that an engine listens on."""
        with self._lock:
            self.own_ports |= {port}

    def add(self, tenancy: Tenancy) -> None:
        """Admit a run's credential from now on."""
        with self._lock:
            self._by_run[tenancy.lease.run] = tenancy

    def admit(self, authorization: Sequence[str], now: datetime) -> Tenancy:
        """The run whose child sends these `Proxy-Authorization` headers.

        Raises:
            AuthenticationFailed: no live run's.
            NotAllowed: the run's time is over.
        """
        tenancy = self._by_run.get(_run_named(authorization))
        (self._nobody if tenancy is None else tenancy.lease).admit(authorization, now)
        assert tenancy is not None, "nobody knows that password"
        return tenancy

    def find(self, run: str) -> Tenancy | None:
        """A live run."""
        return self._by_run.get(run)

    def end(self, run: str) -> Tenancy | None:
        """End a run's tenancy; None when there is none."""
        with self._lock:
            tenancy = self._by_run.pop(run, None)
        if tenancy is not None:
            tenancy.end()
        return tenancy

    def end_all(self) -> list[Tenancy]:
        """End all of them."""
        with self._lock:
            tenancies = list(self._by_run.values())
            self._by_run.clear()
        for tenancy in tenancies:
            tenancy.end()
        return tenancies


def _run_named(authorization: Sequence[str]) -> str:
    """The user of a Basic credential, whatever the rest of it is worth."""
    if len(authorization) != 1:
        return ""
    pair = b""
    with suppress(binascii.Error, ValueError):
        pair = base64.b64decode(authorization[0].strip(" ").rpartition(" ")[2], validate=True)
    return pair.partition(b":")[0].decode("utf-8", "replace")
