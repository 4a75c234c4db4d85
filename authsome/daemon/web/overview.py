"""The dashboard's first page, and the ways to it."""

from authsome.broker.broker import Broker
from authsome.daemon.api.call import Call
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import overview, pieces
from authsome.daemon.messages import Response, redirect
from authsome.daemon.router import Access, Endpoint
from authsome.daemon.web.connections import ConnectionPages
from authsome.daemon.web.visits import HOME, Pages, Visitor, Visits
from authsome.vault.connections import Search

_DAYS = 14


class OverviewPage(Pages):
    """What there is to see at once."""

    def __init__(self, broker: Broker, visits: Visits, connections: ConnectionPages) -> None:
        super().__init__(broker, visits)
        self._connections = connections

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        return (
            self._visits.endpoint("GET", HOME, self.show, "The overview"),
            *map(_way_home, ("/", "/ui")),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /ui/."""
        visitor.query().done()
        broker, caller = self._broker, visitor.caller
        broker.spools.take_all()
        wanting = Search(wanting=True, soon=visitor.now + pieces.SOON)
        urgent, number = broker.credentials.search(caller, wanting, limit=overview.SHOWN)
        recent = broker.credentials.recent(caller, limit=overview.SHOWN)
        rows = self._connections.shown(visitor, [*urgent, *recent])
        view = overview.Overview(
            wanting=rows[: len(urgent)],
            number_wanting=number,
            recent=rows[len(urgent) :],
            number=broker.credentials.count(caller),
            days=broker.usage.days(caller, _DAYS),
            runs=broker.runs.list_live(caller, limit=overview.SHOWN),
            identities=broker.identities.page(caller, limit=overview.SHOWN)[0],
            now=visitor.now,
        )
        return visitor.page("Overview", overview.content(view, visitor.token_for))


def _way_home(template: str) -> Endpoint[CallHandler]:
    return Endpoint(
        method="GET",
        template=template,
        handler=_home,
        access=Access.OPEN,
        summary="The way to the dashboard",
        status=303,
    )


def _home(_call: Call) -> Response:
    return redirect(HOME)
