"""Limits: what an identity may not do although its principal may.

Rule: whoever is limited in what it uses changes nothing in the vault, and whoever is limited at all administers
nothing; otherwise a limit could be shed by its bearer.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.errors import RequestInvalid

MOST_PATTERNS: Final = 64
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*-]{1,64}(?:/[A-Za-z0-9._*-]{1,64})?")
_METHOD: Final = re.compile(r"[A-Z]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an identity is limited to; None limits nothing."""

    connections: tuple[str, ...] | None = None
    """Patterns `provider` or `provider/connection`, where `*` stands for any characters but the slash."""
    methods: frozenset[str] | None = None
    """Of the requests that get a credential."""
    expires_at: datetime | None = None
    """From when on it may do nothing."""

    @property
    def is_none(self) -> bool:
        """Whether nothing is limited."""
        return self.connections is None and self.methods is None and self.expires_at is None

    @property
    def is_narrow(self) -> bool:
        """Whether it is limited in what it may use, and not only in how long."""
        return self.connections is not None or self.methods is not None

    def admits(self, provider: str, connection: str) -> bool:
        """Whether this connection may be used."""
        return self.connections is None or any(_matches(each, provider, connection) for each in self.connections)

    def admits_method(self, method: str) -> bool:
        """Whether requests with this method may get a credential."""
        return self.methods is None or method in self.methods

    def has_ended(self, now: datetime) -> bool:
        """Whether the time is over."""
        return self.expires_at is not None and self.expires_at <= now


UNLIMITED: Final = Limits()


def parse(
    *,
    connections: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    expires_at: datetime | None = None,
) -> Limits:
    """Limits from what somebody typed.

    Raises:
        RequestInvalid: a pattern or a method is malformed, or a list is empty or too long.
    """
    patterns = None if connections is None else tuple(dict.fromkeys(connections))
    words = None if methods is None else frozenset(method.upper() for method in methods)
    for pattern in patterns or ():
        if not _PATTERN.fullmatch(pattern):
            raise RequestInvalid(
                f"{pattern[:64]!r} is no pattern of connections", hint="as in github, github/work, open*, */ci"
            )
    for word in words or ():
        if not _METHOD.fullmatch(word):
            raise RequestInvalid(f"{word[:32]!r} is no HTTP method", hint="as in GET,HEAD,POST")
    for name, given in (("connections", patterns), ("methods", words)):
        if given is not None and not 0 < len(given) <= MOST_PATTERNS:
            raise RequestInvalid(
                f"1 to {MOST_PATTERNS} {name} can be named", hint="leave it out to limit nothing; to forbid all, revoke"
            )
    return Limits(connections=patterns, methods=words, expires_at=expires_at)


def _matches(pattern: str, provider: str, connection: str) -> bool:
    first, _, second = pattern.partition("/")
    return fnmatch.fnmatchcase(provider, first) and fnmatch.fnmatchcase(connection, second or "*")
