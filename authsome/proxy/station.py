"""What is told to a worker first, as one line on its standard input: where it stands.

Apart from what it is told later (`assignment`), as each command that starts a worker loads this, and waits for it.
"""

import json
from pathlib import Path
from typing import NamedTuple

from authsome.errors import UsageError
from authsome.home import Home


class Station(NamedTuple):
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
