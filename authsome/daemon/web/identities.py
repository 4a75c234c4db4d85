"""Identities in the dashboard: who may act, within which limits, and no longer."""

from collections.abc import Mapping

from authsome.broker.claims import MOST_WAITING
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import identities
from authsome.daemon.dashboard import limits as fields
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web import limits
from authsome.daemon.web.visits import Pages, Visitor, refused_status, said_of
from authsome.errors import AuthsomeError, LimitsChanged, NotAllowed, RequestInvalid

_MOST_PAGES = 10_000


class IdentityPages(Pages):
    """The list, one identity, and what can be done."""

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint, one = self._visits.endpoint, identities.ONE
        return (
            endpoint("GET", identities.PATH, self.list_all, "The identities, and who waits to be claimed"),
            endpoint("GET", one, self.show, "One identity"),
            endpoint("POST", one + "/limits", self.limit, "Limit it anew"),
            endpoint("POST", one + "/revoke", self.revoke, "Revoke it; its runs end"),
        )

    def list_all(self, visitor: Visitor) -> Response:
        """GET /ui/identities."""
        asked = visitor.query()
        whose = asked.optional_text("whose") or ""
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        if whose not in identities.WHOSE:
            raise RequestInvalid("there is no such choice")
        caller, broker = visitor.caller, self._broker
        found, total = broker.identities.page(
            caller, everybody=whose == "all", limit=identities.PAGE, offset=(page - 1) * identities.PAGE
        )
        view = identities.Listing(
            identities=found,
            total=total,
            whose=whose if caller.is_admin else None,
            page=page,
            waiting=broker.claims.list_open(caller, limit=MOST_WAITING) if caller.is_admin else None,
            now=visitor.now,
        )
        return visitor.page("Identities", identities.listing(view))

    def show(self, visitor: Visitor) -> Response:
        """GET one identity."""
        visitor.query().done()
        return self._page(visitor)

    def limit(self, visitor: Visitor) -> Response:
        """POST …/limits."""
        given = limits.read(visitor.form, fields.SEEN)
        visitor.form.done()
        handle = visitor.values["handle"]
        present = self._broker.identities.get(visitor.caller, handle).identity.limits
        try:
            wanted = limits.of_form(given, visitor.now, present)
        except RequestInvalid as error:
            return self._page(visitor, given, error)
        if given[fields.SEEN] != fields.mark(present):
            return self._page(visitor, None, LimitsChanged())  # with the limits as they are now
        try:
            self._broker.identities.limit(visitor.caller, handle, wanted, seen=present)
        except LimitsChanged as error:
            return self._page(visitor, None, error)
        except NotAllowed as error:
            return self._page(visitor, given, error)
        said = (
            f"the limits of {handle} are set" if not wanted.is_none else f"the identity {handle} is limited in nothing"
        )
        return visitor.onward(identities.place(handle), said)

    def revoke(self, visitor: Visitor) -> Response:
        """POST …/revoke."""
        visitor.form.done()
        handle = visitor.values["handle"]
        try:
            self._broker.identities.revoke(visitor.caller, handle)
        except NotAllowed as error:
            return self._page(visitor, None, error)
        return visitor.onward(identities.PATH, f"the identity {handle} is revoked")

    def _page(
        self, visitor: Visitor, given: Mapping[str, str] | None = None, refused: AuthsomeError | None = None
    ) -> Response:
        listed = self._broker.identities.get(visitor.caller, visitor.values["handle"])
        view = identities.One(
            listed=listed,
            is_own=listed.principal.id == visitor.caller.principal.id,
            opened_session=visitor.session.identity == listed.identity.handle,
            given=given,
            problem=said_of(refused) if refused else None,
            now=visitor.now,
        )
        content = identities.one(view, visitor.token_for)
        return visitor.page(listed.identity.handle, content, status=refused_status(refused))
