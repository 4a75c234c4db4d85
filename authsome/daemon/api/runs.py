"""Endpoints of the proxy: runs, their routes, and the credential for one request."""

from datetime import timedelta
from functools import partial

from authsome.broker import routing
from authsome.broker.broker import Broker
from authsome.broker.credentials import Claimant, Target
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import (
    ConnectionNotFound,
    CredentialUnavailable,
    NotFound,
    ProviderNotFound,
    RequestInvalid,
    RouteAmbiguous,
)
from authsome.models.run import Run
from authsome.vault.database import Transaction

LONGEST_RUN = 30 * 24 * 3600  # seconds
_HOST_LIMIT = 253


class RunsApi:
    """What the proxy and `run` ask."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """The table's rows."""
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
                errors=(ConnectionNotFound, ProviderNotFound),
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
                    {"port": {"type": "integer", "minimum": 1, "maximum": 65535}, "rejected": views.BOOLEAN},
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
                        "expires_at": views.OPTIONAL_TEXT,
                        "credential_id": views.TEXT,
                    }
                ),
                errors=(NotFound, RouteAmbiguous, CredentialUnavailable),
            ),
        )

    def begin(self, call: Call) -> Response:
        """POST /proxy/runs."""
        body = call.request.json()
        pinned = body.mapping("connections")
        only = frozenset(body.strings("only"))
        seconds = body.integer("seconds", minimum=1, maximum=LONGEST_RUN)
        body.done()
        lifetime = timedelta(seconds=seconds) if seconds is not None else None
        begun = self._broker.runs.begin(call.caller, pinned=pinned, only=only, lifetime=lifetime)
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
        self._broker.runs.end(run, call.caller)
        return Response(status=204)

    def routes(self, call: Call) -> Response:
        """GET /proxy/routes."""
        run = _run(call)
        if run is not None:
            return json_response({"routes": views.routes(self._broker.runs.routes(run))})
        context = self._broker.context
        with context.database.read() as reader:
            table = routing.table(reader, context.catalog, call.caller.vault_id, routing.DEFAULT_CHOICE)
        return json_response({"routes": views.routes(table)})

    def resolve(self, call: Call) -> Response:
        """POST /proxy/resolve."""
        try:
            target, rejected = _question(call)
        except RequestInvalid:
            with self._broker.context.database.transaction(durable=False) as tx:
                _claimant(call, tx)  # who may not ask is told that first
            raise
        resolved = self._broker.credentials.resolve(partial(_claimant, call), target, rejected=rejected)
        return json_response(views.resolved(resolved.connection, resolved.injected, target.path))


def _question(call: Call) -> tuple[Target, bool]:
    body = call.request.json()
    target = Target(
        method=body.text("method")[:32],
        host=body.text("host")[: _HOST_LIMIT + 1],
        port=body.integer("port", minimum=1, maximum=65535) or 443,
        path=body.text("path").partition("?")[0],
    )
    rejected = body.boolean("rejected")
    body.done()
    return target, rejected


def _run(call: Call) -> Run | None:
    return call.admitted.run if call.admitted is not None else None


def _claimant(call: Call, tx: Transaction) -> Claimant:
    assert call.admit is not None
    admitted = call.admit(tx)
    run = admitted.run
    if run is None:
        return Claimant(caller=admitted.caller)
    choice = routing.Choice(pinned=run.pinned, only=run.only)
    return Claimant(caller=admitted.caller, choice=choice, run=run.id)
