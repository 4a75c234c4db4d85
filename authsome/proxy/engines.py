"""Which engine serves a run's child: `proxy.engine` in config.json.

`auto` is the express engine, and the full one for children that speak HTTP/2 only, in a process of its own that is
started when the first of them comes; `full` is the full one for all.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from authsome.clock import Clock
from authsome.errors import UsageError
from authsome.home import Home, read_config
from authsome.proxy.engine import Engine
from authsome.proxy.tenancy import Tenants

if TYPE_CHECKING:
    from authsome.proxy.authority import Issuer


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


def engine(  # noqa: PLR0913  # each by name
    wanted: Choice, tenants: Tenants, issuer: "Issuer", *, clock: Clock, home: Home, full_command: Sequence[str]
) -> Engine:
    """The engine of a worker, ready to listen; `full_command` starts the full one's process, if not `apart.command`."""
    # TLS: a worker says that it is there before it loads that.
    from authsome.proxy import apart, exchange, express, monitor  # noqa: PLC0415

    memory = exchange.Memory()
    full = monitor.Monitor(
        tenants, issuer, clock=clock, memory=memory, home=home, command=full_command or apart.command()
    )
    if wanted is Choice.FULL:
        return full
    return express.Express(tenants, issuer, clock=clock, memory=memory, full=full)
