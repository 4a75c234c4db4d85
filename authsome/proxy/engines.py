"""Which engine serves a run's child: `proxy.engine` in config.json.

`auto` is the express engine, and the full one for children that speak HTTP/2 only, started when the first of them
comes; `full` is the full one for all.
"""

import threading
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from authsome.clock import Clock
from authsome.errors import UsageError
from authsome.home import Home, read_config
from authsome.proxy import stubs
from authsome.proxy.engine import Engine
from authsome.proxy.tenancy import Tenants

if TYPE_CHECKING:
    from authsome.proxy.authority import Issuer
    from authsome.proxy.exchange import Memory


class Choice(StrEnum):
    """What the setting can be."""

    AUTO = "auto"
    FULL = "full"


def choice(home: Home) -> Choice:
    """What config.json says, when a worker starts.

    Raises:
        UsageError: it says something else.
    """
    section = read_config(home).get("proxy", {})
    value = section.get("engine", Choice.AUTO) if isinstance(section, dict) else section
    try:
        return Choice(str(value))
    except ValueError as error:
        message = f'"proxy" in {home.config} is not understood'
        raise UsageError(message, hint='as in {"proxy": {"engine": "auto"}}, or "full"') from error


def engine(wanted: Choice, tenants: Tenants, issuer: "Issuer", *, clock: Clock) -> Engine[object]:
    """The engine of a worker, ready to listen."""
    # TLS and mitmproxy: a worker says that it is there before it loads them.
    from authsome.proxy import exchange  # noqa: PLC0415

    memory = exchange.Memory()
    full = partial(_full, tenants, issuer, clock=clock, memory=memory)
    if wanted is Choice.FULL:
        return full()
    from authsome.proxy import express  # noqa: PLC0415

    return express.Express(tenants, issuer, clock=clock, memory=memory, handover=Late(full).port)


def _full(tenants: Tenants, issuer: "Issuer", *, clock: Clock, memory: "Memory") -> Engine[object]:
    stubs.install()
    from authsome.proxy import full  # noqa: PLC0415  # mitmproxy: after the stubs, and only where it is needed

    return full.Full(tenants, issuer, clock=clock, memory=memory)


class Late:
    """The full engine behind the express one, from when it is first needed."""

    def __init__(self, make: Callable[[], Engine[object]]) -> None:
        self._make = make
        self._port = 0
        self._lock = threading.Lock()

    def port(self) -> int:
        """Where it listens."""
        with self._lock:
            if not self._port:
                self._port = self._make().listen()
            return self._port
