"""The HTTP API: which endpoint serves a request, after its caller has shown who it is."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from authsome.broker.broker import Broker
from authsome.broker.credentials import Outcome, Resolved
from authsome.daemon.api.call import Call, Handler
from authsome.daemon.api.joint import Joint, Told
from authsome.daemon.api.runs import RunsApi
from authsome.daemon.api.system import Nameplate, System
from authsome.daemon.assistant import Assistant
from authsome.daemon.authentication import Admit, Audiences, Authentication, Proven
from authsome.daemon.messages import Request, Response, html_response, problem
from authsome.daemon.router import Access, Match, Router
from authsome.errors import AuthenticationFailed, AuthsomeError

if TYPE_CHECKING:
    from authsome.daemon.streams import Streams

SELF_ADMITTING = "/proxy/resolve"
"""The endpoint that admits its caller in its own transaction: the one that is asked thousands of times a second."""


class Api:
    """Answers requests: finds the endpoint, authenticates the caller, calls the handler."""

    def __init__(  # noqa: PLR0913  # each by name
        self,
        broker: Broker,
        *,
        audiences: Audiences,
        nameplate: Nameplate,
        stop: Callable[[], None],
        step_aside: Callable[[], None],
        most_streams: int,
    ) -> None:
        """Take what the endpoints stand on; those of runs are there at once, the others when the first is asked for."""
        self._broker = broker
        self._runs = RunsApi(broker)
        self._assistant = Assistant()
        self._authentication = Authentication(broker.context, broker.identities, broker.runs, audiences)
        self._base_url = nameplate.url
        self._step_aside = step_aside
        self._first = Router((*System(broker, nameplate, stop).endpoints(), *self._runs.endpoints()))
        self._whole: Router[Handler] | None = None
        self._loading = threading.Lock()
        self._most_streams = most_streams
        self._streams: Streams | None = None
        self._is_closed = False

    def router(self) -> Router[Handler]:
        """Every endpoint; loaded when it is first asked for."""
        if self._whole is not None:
            return self._whole
        self._step_aside()
        with self._loading:
            if self._whole is None:
                from authsome.daemon.api.table import table  # noqa: PLC0415  # half of the daemon's modules: see Broker
                from authsome.daemon.streams import Streams  # noqa: PLC0415

                self._streams = streams = Streams(self._broker.news.look, most=self._most_streams)
                if self._is_closed:
                    streams.close()
                self._broker.context.database.report_to(streams.tell)
                self._whole = table(
                    self._broker,
                    self._authentication,
                    streams,
                    base_url=self._base_url,
                    step_aside=self._step_aside,
                    first=self._first.endpoints,
                )
            return self._whole

    def close(self) -> None:
        """End what does not end by itself: streams of events; no more begin."""
        with self._loading:
            self._is_closed = True
            if self._streams is not None:
                self._streams.close()

    def handle(self, request: Request) -> Response:
        """The answer to a request.

        Raises:
            AuthsomeError: what is to be answered as a problem.
        """
        told: AuthsomeError
        try:
            match = self._match(request)
            call = self._call(request, match)
            try:
                return match.endpoint.handler(call)
            except Exception:
                self._still(call)
                raise
        except AuthenticationFailed as error:
            told = self._refused(request, error)
        except AuthsomeError as error:
            told = error
        if not request.wants_page:
            raise told
        from authsome.daemon.dashboard import bridge  # noqa: PLC0415  # for browsers alone

        page = bridge.error_page(told.http_status, told.message, told.hint, back="/ui/")
        return html_response(page, status=told.http_status, headers=problem(told).headers)

    def begin(self, request: Request) -> Joint | None:
        """What a request is among those that `carry_out` takes; None: it is for `handle`.

        Raises:
            AuthsomeError: it is for `handle`, which will say so.
        """
        if request.path != SELF_ADMITTING or request.method != "POST":
            return None
        return self._runs.begin_resolve(self._call(request, self._match(request), checks=False))

    def carry_out(self, begun: Sequence[Joint]) -> list[Response | Callable[[Request], Response]]:
        """The answers to requests that have begun: each one itself, or what makes it and may take long."""
        proven = [joint.admit for joint in begun if isinstance(joint.admit, Proven)]
        self._assistant.share([each.check_signature for each in proven])
        for each in proven:
            each.check()
        outcomes = self._broker.context.database.combined_all([joint.body for joint in begun])
        told: Told = {}
        return [
            joint.answer(outcome, told) if isinstance(outcome, Resolved) else partial(self._late, joint, outcome)
            for joint, outcome in zip(begun, outcomes, strict=True)
        ]

    def _match(self, request: Request) -> Match[Handler]:
        """Raises NotFound or MethodNotAllowed."""
        # A path without names fits no other template better, so it may be looked up in a part of the table.
        return self._first.plain(request.method, request.path) or self.router().match(request.method, request.path)

    def _still(self, call: Call) -> None:
        """See that a call that failed did not do so because its caller is no more.

        Raises:
            AuthenticationFailed: its identity was revoked, or its principal removed, after it was admitted.
        """
        if call.admitted is None or (handle := call.admitted.caller.handle) is None:
            return
        with self._broker.context.database.read() as reader:
            if self._broker.identities.caller(reader, handle) is None:
                raise AuthenticationFailed(reason="the identity may no longer act")

    def _late(self, joint: Joint, outcome: Outcome | Exception, request: Request) -> Response:
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return joint.answer(outcome, {})
        except AuthenticationFailed as error:
            raise self._refused(request, error) from None

    def _refused(self, request: Request, error: AuthenticationFailed) -> AuthenticationFailed:
        """What is told of an error."""
        if error.reason is None:  # a page's own words, not a refused caller
            return error
        self._authentication.record(request, error)
        return AuthenticationFailed()

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
