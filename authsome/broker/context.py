"""What every use case of the broker stands on, wired once."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from authsome import clock as clocks
from authsome.broker.catalog import Catalog
from authsome.clock import Clock, Steady
from authsome.message import HttpRequest, HttpResponse
from authsome.vault.database import Database
from authsome.vault.vaults import Sealers

Send = Callable[[HttpRequest, bool], HttpResponse]
"""Sends a request to a provider; the flag says whether its hosts may lie on a private network."""


class Occasion(StrEnum):
    """What the user may want to be told of when no command of his is there to tell him."""

    LOGIN_NEEDED = "login_needed"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened to a connection behind the user's back."""

    occasion: Occasion
    provider: str
    connection: str
    message: str
    hint: str | None


Notify = Callable[[Notice], None]
"""Passes a notice on; returns at once and raises nothing."""


def keep_quiet(_: Notice) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The vault, the providers, the clocks, the way out, and the way to the user."""

    database: Database
    sealers: Sealers
    catalog: Catalog
    clock: Clock
    send: Send
    steady: Steady = clocks.steady
    notify: Notify = keep_quiet
