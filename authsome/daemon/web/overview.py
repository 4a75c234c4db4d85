"""The dashboard's first page."""

from authsome.broker.broker import Broker
from authsome.daemon.api.call import Call, Endpoints
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard.html import Html
from authsome.daemon.messages import Response, redirect
from authsome.daemon.router import Access, Endpoint
from authsome.daemon.web.visits import HOME, Visitor, Visits


class Overview(Endpoints):
    """What there is to see at once."""

    def __init__(self, broker: Broker, visits: Visits) -> None:
        super().__init__(broker)
        self._visits = visits

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        return (
            self._visits.endpoint("GET", HOME, self.show, "The overview"),
            *map(_way_home, ("/", "/ui")),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /ui/."""
        visitor.query().done()
        return visitor.page("Overview", Html("<h1>Overview</h1>\n"))


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
