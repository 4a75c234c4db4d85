"""The HTTP API: which endpoint serves a request, after its caller has shown who it is."""

import json
from collections.abc import Callable

from authsome import __version__
from authsome.broker.broker import Broker
from authsome.daemon import openapi
from authsome.daemon.api.admin import AdminApi
from authsome.daemon.api.call import Call, Handler
from authsome.daemon.api.connections import Connections
from authsome.daemon.api.logins import LoginsApi
from authsome.daemon.api.providers import ProvidersApi
from authsome.daemon.api.runs import RunsApi
from authsome.daemon.api.scan import ScanApi
from authsome.daemon.api.system import Nameplate, System
from authsome.daemon.authentication import Authentication
from authsome.daemon.dashboard import assets
from authsome.daemon.messages import Request, Response, problem
from authsome.daemon.router import Access, Endpoint, Match, Router
from authsome.errors import AuthenticationFailed, NotFound

SELF_ADMITTING = "/proxy/resolve"
"""The endpoint that admits its caller in its own transaction: the one that is asked thousands of times a second."""


class Api:
    """Answers requests: finds the endpoint, authenticates the caller, calls the handler."""

    def __init__(
        self,
        broker: Broker,
        *,
        audiences: frozenset[str],
        nameplate: Nameplate,
        stop: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._authentication = Authentication(broker.context, broker.principals, broker.runs, audiences)
        endpoints: tuple[Endpoint[Handler], ...] = (
            *System(broker, self._authentication, nameplate, stop).endpoints(),
            *Connections(broker).endpoints(),
            *ProvidersApi(broker).endpoints(),
            *LoginsApi(broker, base_url=nameplate.url).endpoints(),
            *RunsApi(broker).endpoints(),
            *AdminApi(broker).endpoints(),
            *ScanApi(broker).endpoints(),
            Endpoint(
                method="GET",
                template="/ui/{asset}",
                handler=lambda call: assets.asset(call.values["asset"]),
                access=Access.OPEN,
                summary="Style sheet and icon of the pages",
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                template="/openapi.json",
                handler=self._describe,
                access=Access.OPEN,
                summary="This description",
                response={"type": "object"},
            ),
        )
        self.router: Router[Handler] = Router(endpoints)

    def handle(self, request: Request) -> Response:
        """The answer to a request.

        Raises:
            AuthsomeError: what is to be answered as a problem.
        """
        match = self.router.match(request.method, request.path)
        try:
            return match.endpoint.handler(self._call(request, match))
        except AuthenticationFailed as error:
            if error.reason is None:  # a page's own words, not a refused caller
                raise
            self._authentication.record(request, error)
            return problem(AuthenticationFailed())

    def _call(self, request: Request, match: Match[Handler]) -> Call:
        match match.endpoint.access:
            case Access.OPEN | Access.BROWSER:
                return Call(request=request, values=match.values)
            case Access.RUN:
                admit = self._authentication.run(request)
            case Access.PROOF_OR_RUN:
                admit = self._authentication.either(request)
            case Access.PROOF:
                admit = self._authentication.identity(request)
        if match.endpoint.template == SELF_ADMITTING:
            return Call(request=request, values=match.values, admit=admit)
        with self._broker.context.database.transaction(durable=False) as tx:
            admitted = admit(tx)
        return Call(request=request, values=match.values, admitted=admitted)

    def _describe(self, _call: Call) -> Response:
        # the table's schemas are read-only mappings, which `json` does not know
        text = json.dumps(openapi.document(self.router, version=__version__), separators=(",", ":"), default=dict)
        return Response(status=200, content_type="application/json", body=text.encode())
