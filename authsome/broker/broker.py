"""The broker: every use case, wired to one vault."""

from dataclasses import dataclass

from authsome.broker.audit_log import AuditLog
from authsome.broker.backups import Backups
from authsome.broker.claims import Claims
from authsome.broker.context import Context
from authsome.broker.credentials import Credentials
from authsome.broker.dashboard_sessions import DashboardSessions
from authsome.broker.entrance import Entrance
from authsome.broker.freshness import Freshness
from authsome.broker.honeytokens import Honeytokens
from authsome.broker.identities import Identities
from authsome.broker.logins import Logins
from authsome.broker.principals import Principals
from authsome.broker.providers import Providers
from authsome.broker.refresh import Refresher
from authsome.broker.rekeying import Rekeying
from authsome.broker.renewal import Renewal
from authsome.broker.revocations import Revocations
from authsome.broker.runs import Runs
from authsome.broker.scan import Scan
from authsome.broker.spools import Spools
from authsome.broker.upstream import UpstreamImport
from authsome.broker.usage import Usage
from authsome.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The use cases, by noun."""

    context: Context
    identities: Identities
    entrance: Entrance
    dashboard_sessions: DashboardSessions
    claims: Claims
    principals: Principals
    providers: Providers
    upstream: UpstreamImport
    scan: Scan
    logins: Logins
    credentials: Credentials
    runs: Runs
    spools: Spools
    refresher: Refresher
    revocations: Revocations
    renewal: Renewal
    rekeying: Rekeying
    backups: Backups
    freshness: Freshness
    audit_log: AuditLog
    usage: Usage
    honeytokens: Honeytokens


def wire(context: Context, home: Home, *, base_url: str) -> Broker:
    """Put the use cases together.

    Args:
        context: what they stand on.
        home: where the bootstrap secret lies.
        base_url: the daemon's URL as browsers and providers know it.
    """
    identities = Identities(context, home)
    principals = Principals(context)
    sessions = DashboardSessions(context, identities)
    renewal = Renewal(context)
    rekeying = Rekeying(context, home)
    freshness = Freshness(context.steady, renewal.watch)
    refresher = Refresher(context, freshness)
    providers = Providers(context, home)
    return Broker(
        context=context,
        identities=identities,
        entrance=Entrance(context, identities, principals, sessions),
        dashboard_sessions=sessions,
        claims=Claims(context),
        principals=principals,
        providers=providers,
        upstream=UpstreamImport(context, providers),
        scan=Scan(context),
        logins=Logins(context, providers, base_url=base_url),
        credentials=Credentials(context, refresher, freshness),
        runs=Runs(context, identities),
        spools=Spools(context, home),
        refresher=refresher,
        revocations=Revocations(context, refresher),
        renewal=renewal,
        rekeying=rekeying,
        backups=Backups(context, home, rekeying),
        freshness=freshness,
        audit_log=AuditLog(context, home),
        usage=Usage(context),
        honeytokens=Honeytokens(context),
    )
