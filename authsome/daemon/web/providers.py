"""Providers of one's own in the dashboard: looked through, registered, removed; all of it for admins."""

import json
from typing import Final

from authsome.broker.providers import ADMINS_ONLY, Review
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import apps, providers
from authsome.daemon.dashboard.providers import NOTHING, Given
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.visits import Pages, Visitor, refused_status, said_of
from authsome.errors import AuthsomeError, NotAllowed, ProviderInvalid, RequestInvalid
from authsome.models.provider import definition_digest, definition_to_json

_MOST_PAGES: Final = 1000
_SOURCE: Final = "definition"  # what errors call it


class ProviderPages(Pages):
    """The list, what is to be registered, and what it may do."""

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", providers.PATH, self.list_all, "The definitions that are not bundled"),
            endpoint("POST", providers.BY_KEY, self.look_at_key, "Look through what a form says of an API with a key"),
            endpoint("POST", providers.REVIEW, self.look_at_definition, "Look a definition through"),
            endpoint("POST", providers.REGISTER, self.register, "Register a definition that was looked through"),
            endpoint("POST", providers.REMOVE, self.remove, "Remove a definition that is not bundled"),
        )

    def list_all(self, visitor: Visitor) -> Response:
        """GET /ui/settings/providers."""
        asked = visitor.query()
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        return self._page(visitor, page=page)

    def look_at_key(self, visitor: Visitor) -> Response:
        """POST …/by-key."""
        form = visitor.form
        given = {name: (form.optional_text(name) or "").strip() for name in providers.FIELDS}
        form.done()
        if given["placing"] not in providers.PLACINGS:
            raise RequestInvalid("there is no such way to send a key")
        try:
            return self._looked_at(visitor, json.dumps(providers.definition_of(given)))
        except ProviderInvalid as error:
            problems = {providers.field_of(error.field): said_of(_without_source(error))}
            return self._page(visitor, given=Given(fields=given, problems=problems), refused=error)

    def look_at_definition(self, visitor: Visitor) -> Response:
        """POST …/review."""
        text = _definition(visitor)
        visitor.form.done()
        try:
            return self._looked_at(visitor, text)
        except ProviderInvalid as error:
            kept = text if providers.is_shown_whole(text) else ""
            given = Given(definition=kept, definition_problem=said_of(_without_source(error)))
            return self._page(visitor, given=given, refused=error)

    def register(self, visitor: Visitor) -> Response:
        """POST …/register."""
        form, text = visitor.form, _definition(visitor)
        replaces, private = form.boolean("replaces"), form.boolean("private")
        form.done()
        known = self._broker.providers
        review = known.examine(visitor.caller, text.encode(), source=_SOURCE, force=True)
        if definition_digest(review.provider) != visitor.values["digest"]:
            raise NotAllowed("this is not the definition that was looked through", hint="look it through once more")
        try:
            known.register(
                visitor.caller, text.encode(), source=_SOURCE, force=replaces, allow_private_addresses=private
            )
        except AuthsomeError as error:
            return self._review(visitor, review, error)
        name = review.provider.name
        return visitor.onward(apps.place(name), f"the provider {name} is registered; connect it here")

    def remove(self, visitor: Visitor) -> Response:
        """POST …/remove."""
        visitor.form.done()
        try:
            gone = self._broker.providers.remove(visitor.caller, visitor.values["provider"], forget=False)
        except AuthsomeError as error:
            return visitor.onward(providers.PATH, said_of(error), is_good=False)
        back = ", and the bundled one is back" if gone.restored else ""
        return visitor.onward(providers.PATH, f"the definition of {gone.name} is removed{back}")

    def _looked_at(self, visitor: Visitor, text: str) -> Response:
        review = self._broker.providers.examine(visitor.caller, text.encode(), source=_SOURCE, force=True)
        return self._review(visitor, review)

    def _review(self, visitor: Visitor, review: Review, refused: AuthsomeError | None = None) -> Response:
        provider = review.provider
        written = json.dumps(definition_to_json(provider), indent=1, ensure_ascii=False)
        if not providers.is_shown_whole(written):
            raise ProviderInvalid(
                "is too long for a page", hint="register it in the terminal: `authsome register FILE`"
            )
        content = providers.review(
            review,
            written,
            action=providers.REGISTER.format(digest=definition_digest(provider)),
            problem=said_of(refused) if refused else None,
            token_for=visitor.token_for,
        )
        status = refused_status(refused)
        return visitor.page("Register a provider", content, status=status)

    def _page(
        self, visitor: Visitor, *, page: int = 1, given: Given = NOTHING, refused: AuthsomeError | None = None
    ) -> Response:
        visitor.caller.require_admin(ADMINS_ONLY)
        entries = self._broker.context.catalog.own()
        start = (page - 1) * providers.PAGE
        view = providers.Listing(entries=entries[start : start + providers.PAGE], total=len(entries), page=page)
        content = providers.listing(view, visitor.token_for, given)
        status = refused_status(refused)
        return visitor.page("Providers of your own", content, status=status)


def _definition(visitor: Visitor) -> str:
    return visitor.form.document("definition").replace("\r\n", "\n")  # as browsers send lines (HTML §4.10.22.4)


def _without_source(error: ProviderInvalid) -> ProviderInvalid:
    """The error for whoever sees the field beside it, and knows which definition it is about."""
    return ProviderInvalid(error.message.removeprefix(f"{_SOURCE}: "), hint=error.hint, field=error.field)
