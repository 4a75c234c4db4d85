"""The whole table of endpoints: the API's, and the pages'."""

import json
from collections.abc import Callable

from authsome import __version__
from authsome.broker.broker import Broker
from authsome.daemon import openapi
from authsome.daemon.api.admin import AdminApi
from authsome.daemon.api.audit import AuditApi
from authsome.daemon.api.call import Handler
from authsome.daemon.api.connections import Connections
from authsome.daemon.api.identities import IdentitiesApi
from authsome.daemon.api.keys import KeysApi
from authsome.daemon.api.logins import LoginsApi
from authsome.daemon.api.principals import PrincipalsApi
from authsome.daemon.api.providers import ProvidersApi
from authsome.daemon.api.scan import ScanApi
from authsome.daemon.authentication import Authentication
from authsome.daemon.cross_origin import Forms
from authsome.daemon.dashboard import assets
from authsome.daemon.messages import Response
from authsome.daemon.router import Access, Endpoint, Router
from authsome.daemon.streams import Streams
from authsome.daemon.web.apps import AppPages
from authsome.daemon.web.audit import AuditPages
from authsome.daemon.web.claims import ClaimPages
from authsome.daemon.web.connections import ConnectionPages
from authsome.daemon.web.entrance import EntranceApi
from authsome.daemon.web.events import NewsStream
from authsome.daemon.web.identities import IdentityPages
from authsome.daemon.web.overview import OverviewPage
from authsome.daemon.web.principals import PrincipalPages
from authsome.daemon.web.providers import ProviderPages
from authsome.daemon.web.runs import RunPages
from authsome.daemon.web.settings import SettingsPages
from authsome.daemon.web.visits import Visits
from authsome.errors import NotFound


def table(  # noqa: PLR0913  # each by name
    broker: Broker,
    authentication: Authentication,
    streams: Streams,
    *,
    base_url: str,
    step_aside: Callable[[], None],
    first: tuple[Endpoint[Handler], ...],
) -> Router[Handler]:
    """Every endpoint.

    Args:
        broker: the use cases.
        authentication: who calls.
        streams: events for browsers.
        base_url: the daemon's URL as browsers know it.
        step_aside: called by a thread that is going to wait.
        first: those that are there already.
    """
    forms = Forms(broker.context.clock, broker.dashboard_sessions.spend_form)
    visits = Visits(broker, forms)
    logins = LoginsApi(broker, forms, streams, base_url=base_url, step_aside=step_aside)
    connections = ConnectionPages(broker, visits, logins)
    endpoints: tuple[Endpoint[Handler], ...] = (
        *first,
        *IdentitiesApi(broker, authentication, base_url=base_url, step_aside=step_aside).endpoints(),
        *PrincipalsApi(broker, base_url=base_url).endpoints(),
        *Connections(broker).endpoints(),
        *ProvidersApi(broker).endpoints(),
        *logins.endpoints(),
        *AdminApi(broker).endpoints(),
        *KeysApi(broker, step_aside=step_aside).endpoints(),
        *ScanApi(broker).endpoints(),
        *AuditApi(broker).endpoints(),
        *EntranceApi(broker, visits, forms, authentication, base_url=base_url).endpoints(),
        *OverviewPage(broker, visits, connections).endpoints(),
        *connections.endpoints(),
        *AppPages(broker, visits, logins, connections).endpoints(),
        *AuditPages(broker, visits).endpoints(),
        *RunPages(broker, visits).endpoints(),
        *IdentityPages(broker, visits).endpoints(),
        *ClaimPages(broker, visits).endpoints(),
        *PrincipalPages(broker, visits, base_url=base_url).endpoints(),
        *ProviderPages(broker, visits).endpoints(),
        *SettingsPages(broker, visits, authentication).endpoints(),
        *NewsStream(broker, visits, streams).endpoints(),
        Endpoint(
            method="GET",
            template="/ui/{asset}",
            handler=lambda call: assets.asset(call.values["asset"]),
            access=Access.OPEN,
            summary="Style sheet, script and icon of the pages",
            errors=(NotFound,),
        ),
        Endpoint(
            method="GET",
            template="/openapi.json",
            handler=lambda _: _described(router),
            access=Access.OPEN,
            summary="This description",
            response={"type": "object"},
        ),
    )
    router = Router(endpoints)
    return router


def _described(router: Router[Handler]) -> Response:
    # the table's schemas are read-only mappings, which `json` does not know
    text = json.dumps(openapi.document(router, version=__version__), separators=(",", ":"), default=dict)
    return Response(status=200, content_type="application/json", body=text.encode())
