"""What every use case of the broker stands on, wired once."""

from collections.abc import Callable
from dataclasses import dataclass

from authsome.broker.catalog import Catalog
from authsome.clock import Clock
from authsome.message import HttpRequest, HttpResponse
from authsome.vault.database import Database
from authsome.vault.vaults import Sealers

Send = Callable[[HttpRequest, bool], HttpResponse]
"""Sends a request to a provider; the flag says whether its hosts may lie on a private network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The vault, the providers, the clock and the way out."""

    database: Database
    sealers: Sealers
    catalog: Catalog
    clock: Clock
    send: Send
