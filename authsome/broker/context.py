"""What every use case of the broker stands on, wired once."""

from collections.abc import Callable
from dataclasses import dataclass

from authsome import clock as clocks
from authsome.broker.catalog import Catalog
from authsome.clock import Clock, Steady
from authsome.message import HttpRequest, HttpResponse
from authsome.models.notice import Notice
from authsome.vault.database import Database
from authsome.vault.vaults import Sealers

Send = Callable[[HttpRequest, bool], HttpResponse]
"""Sends a request to a provider; the flag says whether its hosts may lie on a private network."""


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
