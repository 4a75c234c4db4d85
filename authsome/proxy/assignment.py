"""What is told to a worker: where it stands, as one line on its standard input, and each run, as one on its socket.

Rule: these lines hold runs' secrets. They go through a pipe of the caller's, or a private socket whose other end has
been checked, and are written nowhere.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from authsome.errors import AuthsomeError, UsageError
from authsome.home import Home
from authsome.models.route import RouteTable
from authsome.proxy import rules
from authsome.proxy.rules import Lease, Unmatched
from authsome.secret import Secret

LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a line; a run with a thousand routes has a tenth of a MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Where a worker stands: what all of its runs have in common."""

    home: Home
    socket: Path
    """Where it is to be found."""
    daemon_url: str
    is_supervised: bool
    """Whether it is the daemon of `home`, to be told from a stranger on its port by the lock that it holds."""
    extra_roots: Path | None
    """For a daemon that is reached over https."""

    @property
    def lock(self) -> Path:
        """Held by whoever starts a worker, or lets one leave."""
        return self.socket.with_name("worker.lock")

    def to_json(self) -> bytes:
        """One line for the worker's standard input."""
        data = {
            "home": str(self.home.root),
            "socket": str(self.socket),
            "daemon_url": self.daemon_url,
            "is_supervised": self.is_supervised,
            "extra_roots": str(self.extra_roots) if self.extra_roots else None,
        }
        return json.dumps(data).encode() + b"\n"


def station_from_json(text: bytes) -> Station:
    """Read `Station.to_json`'s line.

    Raises:
        UsageError: it is something else.
    """
    try:
        data = json.loads(text)
        return Station(
            home=Home(Path(data["home"])),
            socket=Path(data["socket"]),
            daemon_url=data["daemon_url"],
            is_supervised=data["is_supervised"],
            extra_roots=Path(data["extra_roots"]) if data["extra_roots"] else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("the proxy worker is started by `authsome run`, not by hand") from error


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
