"""What a worker is started with, as one line on its standard input."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from authsome.errors import AuthsomeError, UsageError
from authsome.home import Home
from authsome.models.route import RouteTable
from authsome.proxy import rules
from authsome.proxy.rules import Lease, Unmatched
from authsome.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker is started with."""

    lease: Lease
    table: RouteTable
    daemon_url: str
    is_supervised: bool
    """Whether it is the daemon of `home`, to be told from a stranger on its port by the lock that it holds."""
    home: Home
    upstream_roots: Path
    extra_roots: Path | None
    https_proxy: str
    """The way out, as the caller's environment says it (a company's proxy); empty for none."""
    no_proxy: str
    pid: int
    """The process whose end is the run's end."""

    def to_json(self) -> bytes:
        """One line for the worker's standard input; it holds the run's secret."""
        expires_at = self.lease.expires_at
        data = {
            "run": self.lease.run,
            "secret": self.lease.secret.reveal(),
            "password": self.lease.password.reveal(),
            "expires_at": expires_at.isoformat() if expires_at else None,
            "unmatched": self.lease.unmatched,
            "routes": rules.table_to_json(self.table),
            "daemon_url": self.daemon_url,
            "is_supervised": self.is_supervised,
            "home": str(self.home.root),
            "upstream_roots": str(self.upstream_roots),
            "extra_roots": str(self.extra_roots) if self.extra_roots else None,
            "https_proxy": self.https_proxy,
            "no_proxy": self.no_proxy,
            "pid": self.pid,
        }
        return json.dumps(data).encode() + b"\n"


def assignment_from_json(text: bytes) -> Assignment:
    """Read `Assignment.to_json`'s line.

    Raises:
        UsageError: it is something else.
    """
    try:
        data = json.loads(text)
        expires_at = data["expires_at"]
        return Assignment(
            lease=Lease(
                run=data["run"],
                secret=Secret(data["secret"]),
                password=Secret(data["password"]),
                expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
                unmatched=Unmatched(data["unmatched"]),
            ),
            table=rules.table_from_json(data["routes"]),
            daemon_url=data["daemon_url"],
            is_supervised=data["is_supervised"],
            home=Home(Path(data["home"])),
            upstream_roots=Path(data["upstream_roots"]),
            extra_roots=Path(data["extra_roots"]) if data["extra_roots"] else None,
            https_proxy=data["https_proxy"],
            no_proxy=data["no_proxy"],
            pid=data["pid"],
        )
    except (AuthsomeError, ValueError, KeyError, TypeError) as error:
        raise UsageError("the proxy worker is started by `authsome run`, not by hand") from error
