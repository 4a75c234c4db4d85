"""Endpoints of the proxy: runs, their routes, and the credential for one request."""

from datetime import timedelta
from functools import partial

from authsome.broker import routing
from authsome.broker.credentials import Claimant, Outcome, Question, Resolved, Target
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.api.joint import Joint, Told
from authsome.daemon.authentication import Admit, Proven
from authsome.daemon.fields import Fields
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import (
    ConnectionNotFound,
    CredentialUnavailable,
    NotAllowed,
    NotFound,
    ProviderNotFound,
    RequestInvalid,
    RouteAmbiguous,
)
from authsome.models.run import LONGEST_COMMAND, Run, is_command
from authsome.vault.database import Transaction

LONGEST_RUN = 30 * 24 * 3600  # seconds
MOST_USES = 2**53  # more than any run will make, and a whole number to every reader of JSON
_HOST_LIMIT = 253


class RunsApi(Endpoints):
    """What the proxy and `run` ask."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="POST",
                template="/proxy/runs",
                handler=self.begin,
                access=Access.PROOF,
                summary="Begin a run: its secret, its routes and the placeholders for its child",
                request=views.shape(
                    {},
                    {
                        "connections": views.TEXT_MAP,
                        "only": views.TEXTS,
                        "seconds": {"type": ["integer", "null"], "minimum": 1, "maximum": LONGEST_RUN},
                        "inside": views.OPTIONAL_TEXT,
                        "command": {"type": ["string", "null"], "minLength": 1, "maxLength": LONGEST_COMMAND},
                    },
                ),
                response=views.shape(
                    {
                        "run": views.TEXT,
                        "secret": views.TEXT,
                        "expires_at": views.OPTIONAL_TEXT,
                        "routes": views.array(views.ROUTE),
                        "environment": views.TEXT_MAP,
                    }
                ),
                status=201,
                errors=(ConnectionNotFound, ProviderNotFound, NotAllowed),
            ),
            Endpoint(
                method="DELETE",
                template="/proxy/runs/{run}",
                handler=self.end,
                access=Access.RUN,
                summary="End the run whose secret this is",
                status=204,
            ),
            Endpoint(
                method="GET",
                template="/proxy/routes",
                handler=self.routes,
                access=Access.PROOF_OR_RUN,
                summary="The routes as of now",
                response=views.shape({"routes": views.array(views.ROUTE)}),
            ),
            Endpoint(
                method="POST",
                template="/proxy/resolve",
                handler=self.resolve,
                access=Access.PROOF_OR_RUN,
                summary="What to put on one request: the credential, freshly refreshed, audited first",
                request=views.shape(
                    {"method": views.TEXT, "host": views.TEXT, "path": views.TEXT},
                    {
                        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                        "rejected": views.BOOLEAN,
                        "connection": views.OPTIONAL_TEXT,
                    },
                ),
                response=views.shape(
                    {
                        "provider": views.TEXT,
                        "connection": views.TEXT,
                        "set": views.PAIRS,
                        "default": views.PAIRS,
                        "remove": views.TEXTS,
                        "query": views.PAIRS,
                        "path": views.OPTIONAL_TEXT,
                        "placeholders": views.PAIRS,
                        "replaced_in": views.NAMES,
                        "secrets": views.TEXTS,
                        "expires_at": views.OPTIONAL_TEXT,
                        "credential_id": views.TEXT,
                        "reusable_seconds": views.NUMBER,
                        "any_path": views.BOOLEAN,
                    }
                ),
                errors=(NotFound, ConnectionNotFound, NotAllowed, RouteAmbiguous, CredentialUnavailable),
            ),
            Endpoint(
                method="GET",
                template="/proxy/spool",
                handler=self.open_spool,
                access=Access.RUN,
                summary="How the run's proxy writes down its uses of what it keeps: by which key, from which number on",
                response=views.shape({"key": views.TEXT, "next": views.INTEGER}),
            ),
            Endpoint(
                method="POST",
                template="/proxy/spool",
                handler=self.take_spool,
                access=Access.RUN,
                summary="Take into the log what the run's proxy has written down; how many uses that are altogether",
                request=views.shape({"count": views.INTEGER}, {"is_last": views.BOOLEAN}),
                response=views.shape({"arrived": views.BOOLEAN}),
            ),
            Endpoint(
                method="POST",
                template="/proxy/explain",
                handler=self.explain,
                access=Access.PROOF,
                summary="What would become of a request of a run, and why",
                request=views.shape(
                    {"host": views.TEXT, "path": views.TEXT},
                    {
                        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                        "connections": views.TEXT_MAP,
                        "only": views.TEXTS,
                    },
                ),
                response=views.EXPLANATION,
                errors=(ProviderNotFound, ConnectionNotFound),
            ),
        )

    def begin(self, call: Call) -> Response:
        """POST /proxy/runs."""
        body = call.request.json()
        choice = routing.Choice(pinned=body.mapping("connections"), only=frozenset(body.strings("only")))
        seconds = body.integer("seconds", minimum=1, maximum=LONGEST_RUN)
        inside, command = body.optional_text("inside"), body.optional_text("command")
        body.done()
        if command is not None and not is_command(command):
            raise RequestInvalid('field "command" must be the name of a program, without path, arguments and controls')
        lifetime = timedelta(seconds=seconds) if seconds is not None else None
        begun = self._broker.runs.begin(call.caller, choice, lifetime=lifetime, inside=inside, command=command)
        return json_response(
            {
                "run": begun.run.id,
                "secret": begun.secret.reveal(),
                "expires_at": views.time(begun.run.expires_at) if begun.run.expires_at else None,
                "routes": views.routes(begun.routes),
                "environment": dict(begun.environment),
            },
            status=201,
        )

    def end(self, call: Call) -> Response:
        """DELETE /proxy/runs/{run}."""
        run = _run(call)
        if run is None or run.id != call.values["run"]:
            raise NotFound("there is no such run")
        try:
            self._broker.spools.take(run.id)
        finally:  # whatever becomes of its uses, its secret is to die now
            self._broker.runs.end(run, call.caller)
        return Response(status=204)

    def open_spool(self, call: Call) -> Response:
        """GET /proxy/spool."""
        run, spools = _run_of(call), self._broker.spools
        return json_response({"key": spools.key(run.id).reveal().hex(), "next": spools.next(run.id)})

    def take_spool(self, call: Call) -> Response:
        """POST /proxy/spool."""
        body = call.request.json()
        count, is_last = body.integer("count", minimum=0, maximum=MOST_USES), body.boolean("is_last")
        body.done()
        return json_response({"arrived": self._broker.spools.take(_run_of(call).id, count=count, is_last=is_last)})

    def routes(self, call: Call) -> Response:
        """GET /proxy/routes."""
        return json_response({"routes": views.routes(self._broker.runs.routes(call.caller, _run(call)))})

    def resolve(self, call: Call) -> Response:
        """POST /proxy/resolve."""
        try:
            question = _question(call)
        except RequestInvalid:
            with self._broker.context.database.transaction(durable=False) as tx:
                assert call.admit is not None
                _claimant(call.admit, tx)  # who may not ask is told that first
            raise
        return _told(question, self._broker.credentials.resolve(question))

    def begin_resolve(self, call: Call) -> Joint:
        """POST /proxy/resolve, together with others.

        Raises:
            RequestInvalid: for `resolve` to tell.
        """
        question = _question(call)
        credentials = self._broker.credentials

        def answer(outcome: Outcome, told: Told) -> Response:
            resolved = credentials.settle(question, outcome)
            if resolved not in told or resolved.injected.path:  # which makes one path of another
                told[resolved] = _told(question, resolved)
            return told[resolved]

        assert call.admit is not None
        return Joint(admit=call.admit, body=credentials.attempt(question), answer=answer)

    def explain(self, call: Call) -> Response:
        """POST /proxy/explain."""
        body = call.request.json()
        target = _target(body, method="GET")
        choice = routing.Choice(pinned=body.mapping("connections"), only=frozenset(body.strings("only")))
        body.done()
        with self._broker.context.database.read() as reader:
            self._broker.runs.check_choice(reader, call.caller, choice)
        return json_response(views.explanation(self._broker.credentials.explain(call.caller, choice, target)))


def _question(call: Call) -> Question:
    body = call.request.json()
    target = _target(body, method=body.text("method")[:32])
    rejected = body.boolean("rejected")
    named = body.optional_text("connection")
    body.done()
    assert call.admit is not None
    again = call.admit.again if isinstance(call.admit, Proven) else call.admit
    return Question(
        admit=partial(_claimant, call.admit, named=named),
        again=partial(_claimant, again, named=named),
        target=target,
        rejected=rejected,
    )


def _told(question: Question, resolved: Resolved) -> Response:
    return json_response(views.resolved(resolved, question.target.path))


def _target(body: Fields, *, method: str) -> Target:
    return Target(
        method=method,
        host=body.text("host")[: _HOST_LIMIT + 1],
        port=body.integer("port", minimum=1, maximum=65535) or 443,
        path=body.text("path").partition("?")[0],
    )


def _run_of(call: Call) -> Run:
    """The run that asks, at an endpoint for nobody else."""
    run = _run(call)
    assert run is not None
    return run


def _run(call: Call) -> Run | None:
    return call.admitted.run if call.admitted is not None else None


def _claimant(admit: Admit, tx: Transaction, *, named: str | None = None) -> Claimant:
    admitted = admit(tx)
    run, limits = admitted.run, admitted.caller.limits
    if run is None:
        return Claimant(caller=admitted.caller, choice=routing.Choice(pinned={}, named=named, limits=limits))
    return Claimant(caller=admitted.caller, choice=routing.choice_of(run, limits, named=named), run=run.id)
