"""What is told to a worker of each run, as one line on its socket.

Rule: these lines hold runs' secrets. They go through a private socket whose other end has been checked, and are written
nowhere.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from authsome.errors import AuthsomeError, UsageError
from authsome.models.route import RouteTable
from authsome.proxy import rules
from authsome.proxy.rules import Lease, Unmatched
from authsome.secret import Secret

LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a line; a run with a thousand routes has a tenth of a MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A run for a worker to serve."""

    lease: Lease
    table: RouteTable
    inside: str
    """The run that it was begun in; empty for none."""
    upstream_roots: Path
    https_proxy: str
    """The way out, as the caller's environment says it (a company's proxy); empty for none."""
    no_proxy: str


def assignment_from_json(text: bytes) -> Assignment:
    """Read what `launch.assignment` wrote.

    Raises:
        UsageError: it is something else.
    """
    try:
        data = json.loads(text)
        begun = data["begun"]
        expires_at = begun["expires_at"]
        return Assignment(
            lease=Lease(
                run=begun["run"],
                secret=Secret(begun["secret"]),
                password=Secret(data["password"]),
                expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
                unmatched=Unmatched(data["unmatched"]),
            ),
            table=rules.table_from_json(begun["routes"]),
            inside=data["inside"],
            upstream_roots=Path(data["upstream_roots"]),
            https_proxy=data["https_proxy"],
            no_proxy=data["no_proxy"],
        )
    except (AuthsomeError, ValueError, KeyError, TypeError) as error:
        raise UsageError("a run is assigned to the proxy by `authsome run`, not by hand") from error
