"""What a scan finds: a value, what it is called there, and where it stands."""

from dataclasses import dataclass
from pathlib import Path

from authsome.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file and a line in it, or the environment."""

    path: Path | None = None
    line: int = 0
    span: tuple[int, int] | None = None
    """Where in the file's bytes the value stands, if it may be replaced there."""

    @property
    def shown(self) -> str:
        """The place as it is told."""
        return "environment" if self.path is None else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A value that may be a key."""

    value: Secret[str]
    place: Place
    variable: str | None = None
    """What it is called, or what tools call it that read it from the environment."""
    host: str | None = None
    """Where it is sent, if its file says that."""
    is_key: bool = False
    """Whether it is a credential for certain, whatever it looks like."""
