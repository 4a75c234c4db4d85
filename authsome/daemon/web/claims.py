"""Claims: a signed-in principal says whether the identity that asks is its own."""

from authsome.broker.claims import CLAIM_PATH
from authsome.broker.identities import describe
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import claims
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web import limits
from authsome.daemon.web.visits import Pages, Visitor, refused_status, said_of
from authsome.errors import RequestInvalid
from authsome.identity import did
from authsome.secret import Secret

_CLAIM = CLAIM_PATH + "{token}"


class ClaimPages(Pages):
    """The question, and its two answers."""

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", _CLAIM, self.show, "An identity that asks to be claimed"),
            endpoint("POST", _CLAIM + "/confirm", self.confirm, "Claim it, within limits"),
            endpoint("POST", _CLAIM + "/refuse", self.refuse, "Refuse it"),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /claim/{token}."""
        visitor.query().done()
        return self._page(visitor, {}, None)

    def confirm(self, visitor: Visitor) -> Response:
        """POST …/confirm."""
        given = limits.read(visitor.form, "owner")
        visitor.form.done()
        try:
            allowed = limits.of_form(given, visitor.now)
        except RequestInvalid as error:
            return self._page(visitor, given, error)
        identity = self._broker.claims.confirm(
            visitor.caller.principal, _token(visitor), allowed, owner=given["owner"] or None
        )
        owner = "you"
        if identity.principal_id != visitor.caller.principal.id:
            (found,) = self._broker.principals.named(visitor.caller, {identity.principal_id or ""})
            owner = found.email or found.name
        return visitor.page("Claimed", claims.claimed(identity.handle, owner, describe(allowed)))

    def refuse(self, visitor: Visitor) -> Response:
        """POST …/refuse."""
        visitor.form.done()
        self._broker.claims.refuse(visitor.caller.principal, _token(visitor))
        return visitor.page("Refused", claims.refused())

    def _page(self, visitor: Visitor, given: dict[str, str], refused: RequestInvalid | None) -> Response:
        claim = self._broker.claims.find(_token(visitor))
        form = claims.ClaimForm(
            path=CLAIM_PATH + visitor.values["token"],
            handle=claim.handle,
            fingerprint=did.fingerprint(claim.did),
            asked_at=claim.created_at,
            now=visitor.now,
            owners=self._broker.claims.candidates(visitor.caller.principal, limit=claims.MOST_OFFERED + 1),
            given=given,
            problem=said_of(refused) if refused else None,
        )
        content = claims.content(form, visitor.token_for)
        return visitor.page("Claim an identity", content, status=refused_status(refused))


def _token(visitor: Visitor) -> Secret[str]:
    return Secret(visitor.values["token"])
