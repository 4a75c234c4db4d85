"""Routes: which request belongs to which connection.

Rule: a credential goes only to a host that its provider names exactly, or by a suffix anchored at a dot, over https,
to the port that was named. Whatever is not plainly a host name of that kind matches nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z"
)
HTTPS_PORT: Final = 443


def canonical_host(host: str) -> str | None:
    """The host in lower case when it is a plain ASCII name or dotted quad (RFC 1123 §2.1), else None.

    A trailing dot, an empty label, an IDN in Unicode form, user information and brackets are all refused, not repaired:
    two spellings of a host are two chances to disagree about it.
    """
    lowered = host.lower() if host.isascii() else ""
    return lowered if _HOST.match(lowered) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPattern:
    """Where a provider's credential may go: one host, or every name below a suffix; one port; below one path."""

    host: str
    """Canonical; for a suffix without its leading `*.`."""
    is_suffix: bool = False
    port: int = HTTPS_PORT
    path_prefix: str = "/"
    """Starts with `/` and ends with `/` unless it is to match that very path only."""

    def matches_address(self, host: str, port: int) -> bool:
        """Whether requests to this host and port may match at all (and so TLS to it is opened)."""
        name = canonical_host(host)
        if name is None or port != self.port:
            return False
        return name.endswith("." + self.host) if self.is_suffix else name == self.host

    def matches_path(self, path: str) -> bool:
        """Whether a request path (without query) lies below the prefix; one that could be read two ways does not."""
        if self.path_prefix == "/":
            return True
        lowered = path.lower()
        if "//" in path or "\\" in path or "%2f" in lowered or "%5c" in lowered or "%2e" in lowered:
            return False
        if any(segment in {".", ".."} for segment in path.split("/")):
            return False
        return path == self.path_prefix.rstrip("/") or path.startswith(self.path_prefix.rstrip("/") + "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A pattern and the connection whose credential goes there."""

    provider: str
    connection: str
    pattern: HostPattern
    allow_private_addresses: bool = False
    is_default: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The routes of one run, and the decision for one request."""

    routes: tuple[Route, ...]

    def opens(self, host: str, port: int) -> bool:
        """Whether TLS to this address is to be intercepted."""
        return any(route.pattern.matches_address(host, port) for route in self.routes)

    def allows_private_addresses(self, host: str, port: int) -> bool:
        """Whether every provider that names this address says that it may lie on a private network."""
        matching = [route for route in self.routes if route.pattern.matches_address(host, port)]
        return bool(matching) and all(route.allow_private_addresses for route in matching)

    def decide(self, host: str, port: int, path: str) -> "Route | Literal['none', 'ambiguous']":
        """The most specific route for a request; a tie decides nothing.

        An exact host beats a suffix, a longer suffix a shorter one, then a longer path prefix a shorter one.
        """
        matching = [
            route
            for route in self.routes
            if route.pattern.matches_address(host, port) and route.pattern.matches_path(path)
        ]
        if not matching:
            return "none"
        best = max(_specificity(route) for route in matching)
        winners = _distinct(route for route in matching if _specificity(route) == best)
        return winners[0] if len(winners) == 1 else "ambiguous"


def _specificity(route: Route) -> tuple[bool, int, int]:
    pattern = route.pattern
    return (not pattern.is_suffix, len(pattern.host), len(pattern.path_prefix))


def _distinct(routes: Iterable[Route]) -> list[Route]:
    by_connection = {(route.provider, route.connection): route for route in routes}
    return list(by_connection.values())
