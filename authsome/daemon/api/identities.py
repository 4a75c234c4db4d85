"""Endpoints of identities: registered, asked to be claimed, listed, limited, revoked."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from authsome.broker.broker import Broker
from authsome.broker.claims import CLAIM_PATH, ClaimState
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.authentication import Authentication
from authsome.daemon.forwarding import is_loopback
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import NotAllowed, NotFound, TooManyAttempts
from authsome.models import limits
from authsome.secret import Secret

LONGEST_POLL: Final = 25  # seconds: below what proxies in between allow a request
_ONE: Final = "/identities/{handle}"


class IdentitiesApi(Endpoints):
    """What can be asked of and done to identities."""

    def __init__(
        self, broker: Broker, authentication: Authentication, *, base_url: str, step_aside: Callable[[], None]
    ) -> None:
        """Take the use cases, what checks a new key, the daemon's URL, and what lets others be served meanwhile."""
        super().__init__(broker)
        self._authentication = authentication
        self._base_url = base_url
        self._step_aside = step_aside

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="POST",
                template="/identities",
                handler=self.register,
                access=Access.OPEN,
                summary="Register the key that signs this request; the first one of a home is claimed by its owner",
                request=views.shape({"handle": views.TEXT, "did": views.TEXT}, {"bootstrap": views.TEXT}),
                response=views.shape({"identity": views.IDENTITY, "claimed": views.BOOLEAN}),
                errors=(NotAllowed, TooManyAttempts),
            ),
            Endpoint(
                method="GET",
                template="/identities",
                handler=self.list_all,
                access=Access.PROOF,
                summary="The principal's identities, for an admin also those of everybody; a limited one sees itself",
                query={"everybody": views.BOOLEAN},
                response=views.shape({"identities": views.array(views.LISTED_IDENTITY)}),
                errors=(NotAllowed,),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/limits",
                handler=self.limit,
                access=Access.PROOF,
                summary="Limit an identity anew, from its next request on; null or absent limits nothing",
                query={"last": views.BOOLEAN},
                request=views.shape(
                    {},
                    {
                        "connections": views.OPTIONAL_TEXTS,
                        "methods": views.OPTIONAL_TEXTS,
                        "expires_at": views.OPTIONAL_TEXT,
                    },
                ),
                response=views.shape({"identity": views.IDENTITY, "limits": views.LIMITS}),
                errors=(NotAllowed, NotFound),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/revoke",
                handler=self.revoke,
                access=Access.PROOF,
                summary="Revoke an identity, from its next request on; its runs end",
                query={"last": views.BOOLEAN},
                response=views.shape({"identity": views.IDENTITY, "revoked_at": views.TEXT}),
                errors=(NotAllowed, NotFound),
            ),
            Endpoint(
                method="POST",
                template="/claim",
                handler=self.ask,
                access=Access.KEY,
                summary="Ask for this identity to be claimed: a link for somebody who is signed in, good once",
                response=views.shape({"identity": views.IDENTITY, "url": views.TEXT, "expires_at": views.TEXT}),
                status=201,
                errors=(NotAllowed,),
            ),
            Endpoint(
                method="GET",
                template="/claim",
                handler=self.claim_state,
                access=Access.KEY,
                summary="What became of this identity's question; with `wait`, as soon as it was answered",
                query={"wait": views.INTEGER},
                response=views.shape({"state": {"type": "string", "enum": list(ClaimState)}}),
            ),
        )

    def register(self, call: Call) -> Response:
        """POST /identities."""
        body = call.request.json()
        handle, did = body.text("handle"), body.text("did")
        bootstrap = body.optional_text("bootstrap")
        body.done()
        proof = self._authentication.new_identity(call.request, handle=handle, key=did)
        peer = call.request.peer
        identity, claimed = self._broker.identities.register(
            name=handle,
            key=did,
            bootstrap=Secret(bootstrap) if bootstrap else None,
            address=None if is_loopback(peer) else peer,
            proof=proof,
        )
        return json_response({"identity": views.identity(identity), "claimed": claimed})

    def list_all(self, call: Call) -> Response:
        """GET /identities."""
        query = call.request.query_fields()
        everybody = query.boolean("everybody")
        query.done()
        now = self._broker.context.clock()
        found = self._broker.identities.list_all(call.caller, everybody=everybody)
        return json_response({"identities": [views.listed_identity(each, now) for each in found]})

    def limit(self, call: Call) -> Response:
        """POST …/limits."""
        body = call.request.json()
        wanted = limits.parse(
            connections=body.optional_strings("connections"),
            methods=body.optional_strings("methods"),
            expires_at=body.moment("expires_at"),
        )
        body.done()
        limited = self._broker.identities.limit(call.caller, call.values["handle"], wanted, last=_is_last(call))
        return json_response({"identity": views.identity(limited), "limits": views.limits(limited.limits)})

    def revoke(self, call: Call) -> Response:
        """POST …/revoke."""
        revoked = self._broker.identities.revoke(call.caller, call.values["handle"], last=_is_last(call))
        at = views.time(revoked.revoked_at) if revoked.revoked_at else None
        return json_response({"identity": views.identity(revoked), "revoked_at": at})

    def ask(self, call: Call) -> Response:
        """POST /claim."""
        asked = self._broker.claims.ask(call.holder)
        return json_response(
            {
                "identity": views.identity(call.holder),
                "url": f"{self._base_url}{CLAIM_PATH}{asked.token.reveal()}",
                "expires_at": views.time(asked.claim.expires_at),
            },
            status=201,
        )

    def claim_state(self, call: Call) -> Response:
        """GET /claim."""
        query = call.request.query_fields()
        wait = query.integer("wait", minimum=0, maximum=LONGEST_POLL) or 0
        query.done()
        if wait:
            self._step_aside()
        state = self._broker.claims.wait(call.holder, timedelta(seconds=wait), call.request.stopping)
        return json_response({"state": state})


def _is_last(call: Call) -> bool:
    """Whether it is meant for the last identity that acts without limits, too."""
    query = call.request.query_fields()
    last = query.boolean("last")
    query.done()
    return last
