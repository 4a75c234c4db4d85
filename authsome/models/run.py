"""A run: one child behind the proxy, and what its requests may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it is stored: of its secret only the hash."""

    id: str
    secret_hash: bytes = field(repr=False)
    vault_id: str
    identity: str
    pinned: Mapping[str, str]
    """Connection by provider, where it is not the default one."""
    only: frozenset[str]
    """The providers that are routed; empty for all that are connected."""
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    inside: str | None = None
    """The run that it was begun in, with which it ends."""
    command: str | None = None
    """The child's program by its name alone: arguments may hold secrets. None: whoever began the run has not said."""


LONGEST_COMMAND: Final = 64
"""Characters of a command's name."""


def is_command(text: str) -> bool:
    """Whether a text may be a command's name: short, printable, no path."""
    return 0 < len(text) <= LONGEST_COMMAND and text.isprintable() and "/" not in text
