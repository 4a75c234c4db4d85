"""The broker: every use case, wired to one vault.

Rule: what a run needs is loaded at once, everything else when it is first asked for. The first `run` after a pause
waits for the daemon to start, and half of its modules are for pages, logins and administration.
"""

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from authsome.broker.context import Context
from authsome.broker.credentials import Credentials
from authsome.broker.freshness import Freshness
from authsome.broker.honeytokens import Honeytokens
from authsome.broker.identities import Identities
from authsome.broker.refresh import Refresher
from authsome.broker.rekeying import Rekeying
from authsome.broker.renewal import Renewal
from authsome.broker.runs import Runs
from authsome.broker.spools import Spools
from authsome.broker.usage import Usage
from authsome.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable

    from authsome.broker.audit_log import AuditLog
    from authsome.broker.backups import Backups
    from authsome.broker.claims import Claims
    from authsome.broker.dashboard_sessions import DashboardSessions
    from authsome.broker.entrance import Entrance
    from authsome.broker.logins import Logins
    from authsome.broker.news import News
    from authsome.broker.principals import Principals
    from authsome.broker.providers import Providers
    from authsome.broker.revocations import Revocations
    from authsome.broker.scan import Scan
    from authsome.broker.upstream import UpstreamImport

T = TypeVar("T")


class _Late(Generic[T]):
    """Makes a use case when it is first asked for; it then stays, whichever thread asks."""

    def __init__(self, make: "Callable[[Broker], T]") -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, broker: "Broker", _owner: type) -> T:
        name = self._make.__name__
        with broker.loading:
            if name not in vars(broker):
                vars(broker)[name] = self._make(broker)  # found there from now on, before this is asked
            found: T = vars(broker)[name]
            return found


class Broker:
    """The use cases, by noun."""

    def __init__(self, context: Context, home: Home, *, base_url: str) -> None:
        """Put the use cases together.

        Args:
            context: what they stand on.
            home: where the bootstrap secret lies.
            base_url: the daemon's URL as browsers and providers know it.
        """
        self.loading = threading.RLock()
        self.context = context
        self._home = home
        self._base_url = base_url
        self.identities = Identities(context, home)
        self.renewal = Renewal(context)
        self.rekeying = Rekeying(context, home)
        self.freshness = Freshness(context.steady, self.renewal.watch)
        self.refresher = Refresher(context, self.freshness)
        self.credentials = Credentials(context, self.refresher, self.freshness)
        self.runs = Runs(context, self.identities)
        self.spools = Spools(context, home)
        self.usage = Usage(context)
        self.honeytokens = Honeytokens(context)

    def close(self) -> None:
        """End what is done in the background for logins."""
        with self.loading:
            if "logins" in vars(self):
                self.logins.close()

    @_Late
    def principals(self) -> "Principals":
        """Who owns a vault."""
        from authsome.broker.principals import Principals  # noqa: PLC0415  # as said above, and all the following

        return Principals(self.context)

    @_Late
    def dashboard_sessions(self) -> "DashboardSessions":
        """Browsers that are signed in."""
        from authsome.broker.dashboard_sessions import DashboardSessions  # noqa: PLC0415

        return DashboardSessions(self.context)

    @_Late
    def entrance(self) -> "Entrance":
        """How a browser signs in."""
        from authsome.broker.entrance import Entrance  # noqa: PLC0415

        return Entrance(self.context, self.identities, self.principals, self.dashboard_sessions)

    @_Late
    def news(self) -> "News":
        """What pages are told while somebody looks at them."""
        from authsome.broker.news import News  # noqa: PLC0415

        return News(self.context, self.dashboard_sessions, self.spools)

    @_Late
    def claims(self) -> "Claims":
        """Identities that ask to act for somebody."""
        from authsome.broker.claims import Claims  # noqa: PLC0415

        return Claims(self.context)

    @_Late
    def providers(self) -> "Providers":
        """The catalogue, and what a user adds to it."""
        from authsome.broker.providers import Providers  # noqa: PLC0415

        return Providers(self.context, self._home)

    @_Late
    def logins(self) -> "Logins":
        """Logins under way."""
        from authsome.broker.logins import Logins  # noqa: PLC0415

        return Logins(self.context, self.providers, base_url=self._base_url)

    @_Late
    def revocations(self) -> "Revocations":
        """How a login ends at its provider."""
        from authsome.broker.revocations import Revocations  # noqa: PLC0415

        return Revocations(self.context, self.refresher)

    @_Late
    def audit_log(self) -> "AuditLog":
        """The log, as people read it."""
        from authsome.broker.audit_log import AuditLog  # noqa: PLC0415

        return AuditLog(self.context, self._home)

    @_Late
    def scan(self) -> "Scan":
        """Keys that a scan found, compared with what is stored."""
        from authsome.broker.scan import Scan  # noqa: PLC0415

        return Scan(self.context)

    @_Late
    def backups(self) -> "Backups":
        """Everything in one encrypted file."""
        from authsome.broker.backups import Backups  # noqa: PLC0415

        return Backups(self.context, self._home, self.rekeying)

    @_Late
    def upstream(self) -> "UpstreamImport":
        """What a home of upstream's holds."""
        from authsome.broker.upstream import UpstreamImport  # noqa: PLC0415

        return UpstreamImport(self.context, self.providers)
