"""The HTTP API: which endpoint serves a request, after its caller has shown who it is."""

import json
from collections.abc import Callable, Sequence
from functools import partial

from authsome import __version__
from authsome.broker.broker import Broker
from authsome.broker.credentials import Outcome, Resolved
from authsome.daemon import openapi
from authsome.daemon.api.admin import AdminApi
from authsome.daemon.api.audit import AuditApi
from authsome.daemon.api.call import Call, Handler
from authsome.daemon.api.connections import Connections
from authsome.daemon.api.identities import IdentitiesApi
from authsome.daemon.api.joint import Joint
from authsome.daemon.api.keys import KeysApi
from authsome.daemon.api.logins import LoginsApi
from authsome.daemon.api.principals import PrincipalsApi
from authsome.daemon.api.providers import ProvidersApi
from authsome.daemon.api.runs import RunsApi
from authsome.daemon.api.scan import ScanApi
from authsome.daemon.api.system import Nameplate, System
from authsome.daemon.assistant import Assistant
from authsome.daemon.authentication import Admit, Audiences, Authentication, Proven
from authsome.daemon.cross_origin import Forms
from authsome.daemon.dashboard import assets, bridge
from authsome.daemon.messages import Request, Response, html_response, problem
from authsome.daemon.router import Access, Endpoint, Match, Router
from authsome.daemon.web.apps import AppPages
from authsome.daemon.web.audit import AuditPages
from authsome.daemon.web.claims import ClaimPages
from authsome.daemon.web.connections import ConnectionPages
from authsome.daemon.web.entrance import EntranceApi
from authsome.daemon.web.identities import IdentityPages
from authsome.daemon.web.overview import OverviewPage
from authsome.daemon.web.principals import PrincipalPages
from authsome.daemon.web.runs import RunPages
from authsome.daemon.web.settings import SettingsPages
from authsome.daemon.web.visits import Visits, wants_page
from authsome.errors import AuthenticationFailed, NotFound

SELF_ADMITTING = "/proxy/resolve"
"""The endpoint that admits its caller in its own transaction: the one that is asked thousands of times a second."""


class Api:
    """Answers requests: finds the endpoint, authenticates the caller, calls the handler."""

    def __init__(
        self,
        broker: Broker,
        *,
        audiences: Audiences,
        nameplate: Nameplate,
        stop: Callable[[], None],
        step_aside: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._runs = RunsApi(broker)
        self._assistant = Assistant()
        self._authentication = Authentication(broker.context, broker.identities, broker.runs, audiences)
        forms = Forms(broker.context.clock, broker.dashboard_sessions.spend_form)
        visits = Visits(broker, forms)
        logins = LoginsApi(broker, forms, base_url=nameplate.url, step_aside=step_aside)
        connections = ConnectionPages(broker, visits, logins)
        endpoints: tuple[Endpoint[Handler], ...] = (
            *System(broker, nameplate, stop).endpoints(),
            *IdentitiesApi(broker, self._authentication, base_url=nameplate.url, step_aside=step_aside).endpoints(),
            *PrincipalsApi(broker, base_url=nameplate.url).endpoints(),
            *Connections(broker).endpoints(),
            *ProvidersApi(broker).endpoints(),
            *logins.endpoints(),
            *self._runs.endpoints(),
            *AdminApi(broker).endpoints(),
            *KeysApi(broker, step_aside=step_aside).endpoints(),
            *ScanApi(broker).endpoints(),
            *AuditApi(broker).endpoints(),
            *EntranceApi(broker, visits, forms, self._authentication, base_url=nameplate.url).endpoints(),
            *OverviewPage(broker, visits, connections).endpoints(),
            *connections.endpoints(),
            *AppPages(broker, visits, logins, connections).endpoints(),
            *AuditPages(broker, visits).endpoints(),
            *RunPages(broker, visits).endpoints(),
            *IdentityPages(broker, visits).endpoints(),
            *ClaimPages(broker, visits).endpoints(),
            *PrincipalPages(broker, visits, base_url=nameplate.url).endpoints(),
            *SettingsPages(broker, visits, self._authentication).endpoints(),
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
        try:
            match = self.router.match(request.method, request.path)
        except NotFound as error:
            if not wants_page(request):
                raise
            page = bridge.error_page(error.http_status, error.message, "the dashboard is at `/ui/`")
            return html_response(page, status=error.http_status)
        try:
            return match.endpoint.handler(self._call(request, match))
        except AuthenticationFailed as error:
            return self._refused(request, error)

    def begin(self, request: Request) -> Joint | None:
        """What a request is among those that `carry_out` takes; None: it is for `handle`.

        Raises:
            AuthsomeError: it is for `handle`, which will say so.
        """
        if request.path != SELF_ADMITTING or request.method != "POST":
            return None
        match = self.router.match(request.method, request.path)
        return self._runs.begin_resolve(self._call(request, match, checks=False))

    def carry_out(self, begun: Sequence[Joint]) -> list[Response | Callable[[Request], Response]]:
        """The answers to requests that have begun: each one itself, or what makes it and may take long."""
        self._assistant.share([joint.admit.check for joint in begun if isinstance(joint.admit, Proven)])
        outcomes = self._broker.context.database.combined_all([joint.body for joint in begun])
        return [
            joint.answer(outcome) if isinstance(outcome, Resolved) else partial(self._late, joint, outcome)
            for joint, outcome in zip(begun, outcomes, strict=True)
        ]

    def _late(self, joint: Joint, outcome: Outcome | Exception, request: Request) -> Response:
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return joint.answer(outcome)
        except AuthenticationFailed as error:
            return self._refused(request, error)

    def _refused(self, request: Request, error: AuthenticationFailed) -> Response:
        if error.reason is None:  # a page's own words, not a refused caller
            raise error
        self._authentication.record(request, error)
        return problem(AuthenticationFailed())

    def _call(self, request: Request, match: Match[Handler], *, checks: bool = True) -> Call:
        admit: Admit
        match match.endpoint.access:
            case Access.OPEN | Access.BROWSER | Access.SESSION:
                return Call(request=request, values=match.values)
            case Access.KEY:
                return Call(request=request, values=match.values, identity=self._authentication.registered(request))
            case Access.RUN:
                admit = self._authentication.run(request)
            case Access.PROOF_OR_RUN:
                admit = self._authentication.either(request)
            case Access.PROOF:
                admit = self._authentication.identity(request)
        if isinstance(admit, Proven) and checks:
            admit.check()  # before anybody waits for it in the transaction
        if match.endpoint.template == SELF_ADMITTING:
            return Call(request=request, values=match.values, admit=admit)
        # A proof that is spent is no change to whoever keeps answers; nor is there one in the act, if it only reads.
        admitted = self._broker.context.database.combined(admit)
        return Call(request=request, values=match.values, admitted=admitted)

    def _describe(self, _call: Call) -> Response:
        # the table's schemas are read-only mappings, which `json` does not know
        text = json.dumps(openapi.document(self.router, version=__version__), separators=(",", ":"), default=dict)
        return Response(status=200, content_type="application/json", body=text.encode())
