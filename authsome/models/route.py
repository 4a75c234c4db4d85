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
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASHES: Final = re.compile(r"[/\\]+")
HTTPS_PORT: Final = 443


def canonical_host(host: str) -> str | None:
    """The host in lower case when it is a plain ASCII name or dotted quad (RFC 1123 §2.1), else None.

    A trailing dot, an empty label, an IDN in Unicode form, user information and brackets are all refused, not repaired:
    two spellings of a host are two chances to disagree about it.
    """
    lowered = host.lower() if host.isascii() else ""
    return lowered if _HOST.match(lowered) else None


def has_dot_segments(path: str) -> bool:
    """Whether some server reads a request path (without query) as one that climbs (RFC 3986 §5.2.4).

    Encoded dots and slashes, backslashes and segment parameters (`..;`) count, each as the most lenient server has it.
    """
    if "." not in path and "%" not in path:
        return False
    segments = _unescaped(path).replace("\\", "/").split("/")
    return any(segment.partition(";")[0] in {".", ".."} for segment in segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPattern:
    """Where a provider's credential may go: one host, or every name below a suffix; one port; below one path."""

    host: str
    """Canonical; for a suffix without its leading `*.`."""
    is_suffix: bool = False
    port: int = HTTPS_PORT
    path_prefix: str = "/"
    """Begins and ends with `/`; the path without the final `/` belongs to it too."""

    @property
    def specificity(self) -> tuple[bool, int, int]:
        """Orders patterns that match one request: exact before suffix, longer suffix, longer path."""
        return (not self.is_suffix, len(self.host), len(self.path_prefix))

    def matches_address(self, host: str, port: int) -> bool:
        """Whether requests to this host and port may match at all (and so TLS to it is opened)."""
        if port != self.port or not host.isascii():
            return False
        name = host.lower()
        if not self.is_suffix:
            return name == self.host  # which is canonical
        return name.endswith("." + self.host) and canonical_host(name) is not None

    def matches_path(self, path: str) -> bool:
        """Whether a request path (without query) lies below the prefix, for whoever reads it.

        Without dot segments, decoding and merging slashes can only split what comes after the prefix.
        """
        if self.path_prefix == "/":
            return True
        return (path + "/").startswith(self.path_prefix) and not has_dot_segments(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A pattern and the connection whose credential goes there."""

    provider: str
    connection: str
    pattern: HostPattern
    allow_private_addresses: bool = False


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

        An exact host beats a suffix, a longer suffix a shorter one, then a longer path prefix a shorter one. Where more
        than one connection lies at an address, a path that servers may read in different ways is ambiguous.
        """
        at_address = [route for route in self.routes if route.pattern.matches_address(host, port)]
        matching = [route for route in at_address if route.pattern.matches_path(path)]
        if len(_connections(at_address)) > 1 and (has_dot_segments(path) or matching != _leniently(at_address, path)):
            return "ambiguous"
        if not matching:
            return "none"
        best = max(route.pattern.specificity for route in matching)
        winners = [route for route in matching if route.pattern.specificity == best]
        return winners[0] if len(_connections(winners)) == 1 else "ambiguous"


def _connections(routes: Iterable[Route]) -> set[tuple[str, str]]:
    return {(route.provider, route.connection) for route in routes}


def _leniently(routes: Iterable[Route], path: str) -> list[Route]:
    """The routes that match for a server that decodes, drops empty segments and ignores case before it looks at a path.

    A segment of nothing but parameters (`;x`) is as good as empty to some.
    """
    segments = _SLASHES.split(_unescaped(path).lower())
    read = "/".join(("", *(each for each in segments if each.partition(";")[0]), ""))
    return [route for route in routes if read.startswith(route.pattern.path_prefix.lower())]


def _unescaped(path: str) -> str:
    for _ in range(2):  # some decode twice
        path = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), path)
    return path
