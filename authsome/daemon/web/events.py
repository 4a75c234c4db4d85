"""Events for the dashboard's pages: that something changed, so that they fetch what they show."""

from typing import Final

from authsome.broker.broker import Broker
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard.shell import EVENTS
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.streams import CONTENT_TYPE, Streams
from authsome.daemon.web.visits import Pages, Visitor, Visits
from authsome.errors import RequestInvalid

_LARGEST: Final = 2**62
_LAST: Final = "last-event-id"


class NewsStream(Pages):
    """The stream of a signed-in browser."""

    def __init__(self, broker: Broker, visits: Visits, streams: Streams) -> None:
        super().__init__(broker, visits)
        self._streams = streams

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        summary = "Events: which parts of the dashboard have changed since an entry of the log"
        return (self._visits.endpoint("GET", EVENTS, self.watch, summary, media=CONTENT_TYPE),)

    def watch(self, visitor: Visitor) -> Response:
        """GET /ui/events."""
        asked = visitor.request.query_fields()
        heard = asked.integer("heard", minimum=0, maximum=_LARGEST)
        asked.done()
        last = visitor.request.header(_LAST)
        if last is not None:  # the browser's own attempt to come back
            if not (last.isascii() and last.isdigit() and len(last) < 20 and int(last) <= _LARGEST):
                raise RequestInvalid(f"{_LAST} is none of ours")
            heard = int(last)
        told = visitor.looks_on(self._broker.news, heard=heard)
        return self._streams.answer(visitor.request, told.watcher, told.topics)
