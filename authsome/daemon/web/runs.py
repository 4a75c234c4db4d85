"""Runs in the dashboard: watched while they go on, and stopped."""

from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import runs
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.visits import Pages, Visitor

_MOST_PAGES = 10_000


class RunPages(Pages):
    """What gets credentials now."""

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", runs.PATH, self.show, "The live runs"),
            endpoint("POST", runs.STOP, self.stop, "Stop a run: it gets no further credential"),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /ui/runs."""
        asked = visitor.query()
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        broker, caller = self._broker, visitor.caller
        broker.spools.take_all()
        live = broker.runs.list_live(caller, limit=runs.PAGE, offset=(page - 1) * runs.PAGE)
        view = runs.Live(
            runs=live,
            total=broker.runs.count_live(caller),
            page=page,
            uses=broker.usage.of_runs(caller, live),
            now=visitor.now,
        )
        return visitor.page("Runs", runs.content(view, visitor.token_for))

    def stop(self, visitor: Visitor) -> Response:
        """POST …/stop."""
        visitor.form.done()
        stopped = self._broker.runs.stop(visitor.caller, visitor.values["run"])
        return visitor.onward(runs.PATH, f"the run of {stopped.identity} gets no further credential")
