"""The rule book: who may use the proxy, which connections it opens, and which requests may carry a credential.

Plain values, no I/O and no engine: whatever carries the bytes asks here.

Rule: whether a request may carry a credential is decided on the CONNECT address, the SNI and the Host together. Each of
them alone is the client's word, and a client that lies in one of them gets nothing.
"""

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from authsome.errors import AuthenticationFailed, NotAllowed, RequestInvalid, RequestMisdirected
from authsome.models.route import HostPattern, Route, RouteTable, canonical_host
from authsome.secret import Secret

_HTTP: Final = 80
_HTTPS: Final = 443
_LONGEST_PORT: Final = 5  # digits; Python refuses to read thousands


class Unmatched(StrEnum):
    """What becomes of a host that no route names."""

    TUNNEL = "tunnel"
    DENY = "deny"


class Opening(StrEnum):
    """What becomes of a CONNECT."""

    INTERCEPT = "intercept"
    """TLS ends here, and each request may get a credential."""
    TUNNEL = "tunnel"
    """Bytes pass, unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a client wants to go, as it said in its CONNECT."""

    host: str
    """Canonical when it is a plain name; else as it came, and then no route matches it."""
    port: int

    @property
    def authority(self) -> str:
        """Host and port for people to read."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _HTTPS else f"{host}:{self.port}"

    @property
    def http_host(self) -> str:
        """The Host header of a request for it in clear text (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _HTTP else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, as the daemon is asked for its credential."""

    method: str
    """For the audit."""
    target: Target
    path: str
    """Without the query."""
    provider: str
    """The provider whose route it takes, to be named in an error."""
    connection: str | None = None
    """The one that the child asks for; None: the run's own choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a worker knows of its run."""

    run: str
    secret: Secret[str]
    """What the daemon knows the run by: never told to the child, which could ask for credentials with it."""
    password: Secret[str]
    """What the child's proxy URL holds: good for this proxy and nothing else."""
    expires_at: datetime | None
    unmatched: Unmatched = Unmatched.TUNNEL

    def admit(self, authorization: Sequence[str], now: datetime) -> None:
        """Check the `Proxy-Authorization` headers of a request: exactly one, Basic, `run:password` (RFC 7617 §2).

        Raises:
            AuthenticationFailed: it is not this run's child that asks.
            NotAllowed: the run's time is over.
        """
        scheme, _, given = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        wanted = base64.b64encode(f"{self.run}:{self.password.reveal()}".encode())
        is_right = hmac.compare_digest(given.strip(" ").encode("utf-8", "surrogateescape"), wanted)
        if scheme.lower() != "basic" or not is_right:
            raise AuthenticationFailed(
                "this proxy serves the children of live runs, each by its own credential",
                hint="the run is over, or the program did not send the user and password of its proxy URL",
            )
        self.check_time(now)

    def within(self, outer: "Lease") -> "Lease":
        """This run as one that is begun in another, which it does not outgrow."""
        return self if outer.unmatched is Unmatched.TUNNEL else replace(self, unmatched=outer.unmatched)

    def is_over(self, clock: Callable[[], datetime]) -> bool:
        """Whether the run's time is over."""
        return self.expires_at is not None and clock() >= self.expires_at

    def check_time(self, now: datetime) -> None:
        """Check that the run's time is not over, on a connection that was admitted before.

        Raises:
            NotAllowed: it is.
        """
        if self.expires_at is not None and now >= self.expires_at:
            raise NotAllowed("the run's time is over", hint="start a new one with `authsome run`")

    def opening(self, table: RouteTable, first: RouteTable, target: Target) -> Opening:
        """What becomes of a CONNECT to this target.

        Args:
            table: the routes as of now.
            first: those that the run began with. A host of theirs stays one that is opened: its child may hold a
                placeholder for it, which is not to leave through a tunnel.
            target: where the CONNECT leads.

        Raises:
            NotAllowed: no route names it and the run denies such hosts.
        """
        if table.opens(target.host, target.port) or first.opens(target.host, target.port):
            return Opening.INTERCEPT
        self.allow_unmatched(target)
        return Opening.TUNNEL

    def allow_unmatched(self, target: Target) -> None:
        """Check that a host may be reached without a credential.

        Raises:
            NotAllowed: the run denies it.
        """
        if self.unmatched is Unmatched.DENY:
            raise NotAllowed(
                f"{target.authority} belongs to no connected provider, and this run denies such hosts",
                hint="log in to its provider, or run without `--unmatched deny`",
            )


def target_of(host: str, port: int) -> Target:
    """The target that a CONNECT or an absolute URL names."""
    return Target(host=canonical_host(host) or host, port=port)


def check_server_name(target: Target, server_name: str | None) -> None:
    """Check a ClientHello's SNI against the CONNECT address; an IP literal has none (RFC 6066 §3).

    Raises:
        RequestMisdirected: they differ.
    """
    is_address = ":" in target.host or target.host.rpartition(".")[2].isdigit()
    if server_name is None and is_address:
        return
    if server_name is None or canonical_host(server_name) != target.host:
        raise RequestMisdirected(f"TLS inside a connection to {target.authority} asked for another server")


def check_authorities(target: Target, authorities: Sequence[str]) -> None:
    """Check every spelling of a request's host (Host headers, `:authority`, absolute URL) against the CONNECT address.

    Raises:
        RequestMisdirected: there is none, or one that differs in host or port (RFC 9110 §7.4).
    """
    if not authorities or any(not _names(target, authority) for authority in authorities):
        raise RequestMisdirected(f"a request inside a connection to {target.authority} was for another host")


def _names(target: Target, authority: str) -> bool:
    host, colon, port = authority.rpartition(":") if not authority.endswith("]") else (authority, "", "")
    if not colon:
        host, port = authority, str(_HTTPS)
    if not (port.isascii() and port.isdigit() and len(port) <= _LONGEST_PORT and int(port) == target.port):
        return False
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1].lower() == target.host
    return canonical_host(host) == target.host


def table_from_json(data: object) -> RouteTable:
    """Read the daemon's `routes`.

    Raises:
        RequestInvalid: they are not of the agreed form.
    """
    if not isinstance(data, list):
        raise RequestInvalid("the routes are not a list")
    return RouteTable(routes=tuple(_route_from_json(entry) for entry in data))


def _route_from_json(entry: object) -> Route:
    if not isinstance(entry, Mapping):
        raise RequestInvalid("a route is not an object")
    host, port, prefix = entry.get("host"), entry.get("port"), entry.get("path_prefix", "/")
    provider, connection = entry.get("provider"), entry.get("connection")
    texts = (host, prefix, provider, connection)
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(port, int)
        or canonical_host(str(host)) != host
    ):
        raise RequestInvalid("a route is not of the agreed form")
    pattern = HostPattern(host=str(host), is_suffix=entry.get("suffix") is True, port=port, path_prefix=str(prefix))
    return Route(
        provider=str(provider),
        connection=str(connection),
        pattern=pattern,
        allow_private_addresses=entry.get("allow_private_addresses") is True,
    )


def table_to_json(table: RouteTable) -> list[dict[str, object]]:
    """What `table_from_json` reads, as the daemon writes it, too."""
    return [
        {
            "host": route.pattern.host,
            "suffix": route.pattern.is_suffix,
            "port": route.pattern.port,
            "path_prefix": route.pattern.path_prefix,
            "provider": route.provider,
            "connection": route.connection,
            "allow_private_addresses": route.allow_private_addresses,
        }
        for route in table.routes
    ]
