"""Who uses the dashboard: browsers that are signed in, and what a page has to tell them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Way(StrEnum):
    """How a browser was signed in."""

    LINK = "link"
    """By a one-time link that an identity of the principal asked for."""
    PASSWORD = "password"  # noqa: S105  # a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the next page has to say of the last act."""

    id: str
    """Named by that page's address: any other shows nothing."""
    is_good: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """What a browser says of itself, cleaned; for its owner to tell it from others."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSession:
    """A browser that is signed in."""

    id: str
    """Names it in lists; the key in its cookie is another thing, and is not kept."""
    principal_id: str
    identity: str | None
    """The handle that asked for the link; it is worth no more than that identity."""
    way: Way
    browser: Browser
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    """At the latest, whatever happens in it."""
    note: Note | None = None
