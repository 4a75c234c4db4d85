"""Getting in, and out: the endpoints of one-time links, passwords, the first account and invitations.

Rule: what stands in a link's address is taken out of it at once, so that it is in no history and no Referer; and a
form that is sent before anybody is signed in is bound to the browser that it was shown to, so that no other site signs
its visitors in as somebody else.
"""

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from authsome.broker.broker import Broker
from authsome.broker.dashboard_sessions import Opened
from authsome.broker.entrance import DEVICE_LIFETIME, LINK_LIFETIME
from authsome.broker.principals import INVITATION_PATH
from authsome.daemon import cross_origin
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.authentication import Authentication
from authsome.daemon.cross_origin import Forms
from authsome.daemon.dashboard import bridge, entrance
from authsome.daemon.dashboard.html import Html
from authsome.daemon.fields import Fields
from authsome.daemon.messages import (
    SCRIPTED_PAGE_POLICY,
    Request,
    Response,
    html_response,
    json_response,
    redirect,
    retry_after,
)
from authsome.daemon.router import Access, Endpoint
from authsome.daemon.web import visits
from authsome.daemon.web.visits import FORM_TOKEN, HOME, SIGN_IN, Visitor, Visits, refused_status, said_of
from authsome.errors import AuthenticationFailed, AuthsomeError, NotAllowed, NotFound, TooManyAttempts
from authsome.secret import Secret

ENTER: Final = "/ui/enter"
FIRST: Final = "/ui/first"
JOIN: Final = INVITATION_PATH + "{token}"
LINKS: Final = "/ui/links"
_PATH: Final = "/ui/"
_FORM_COOKIE: Final = "authsome_form"  # binds a form to the browser that it was shown to
_LINK_COOKIE: Final = "authsome_link"  # a one-time link's key on its way from the address to the form
_DEVICE_COOKIE: Final = "authsome_device"  # what a browser that signed in before is known by
_FORM_TIME: Final = timedelta(hours=1)


class EntranceApi(Endpoints):
    """What can be asked before anybody is signed in."""

    def __init__(
        self, broker: Broker, visits: Visits, forms: Forms, authentication: Authentication, *, base_url: str
    ) -> None:
        super().__init__(broker)
        self._visits = visits
        self._forms = forms
        self._authentication = authentication
        self._base_url = base_url

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        link = views.shape({"url": views.TEXT, "expires_at": views.TEXT})
        pages: tuple[tuple[str, str, Callable[[Call], Response], str], ...] = (
            ("GET", SIGN_IN, self.sign_in_form, "The form for e-mail and password"),
            ("POST", SIGN_IN, self.sign_in, "Sign a browser in by e-mail and password"),
            ("GET", ENTER, self.enter_form, "Where a one-time link leads: takes the key from it and asks to go on"),
            ("POST", ENTER, self.enter, "Sign a browser in by a one-time link"),
            ("GET", FIRST, self.first_form, "The form for the first account"),
            ("POST", FIRST, self.first, "Make the first account, an admin's, and sign it in"),
            ("GET", JOIN, self.join_form, "The form of an invitation"),
            ("POST", JOIN, self.join, "Take up an invitation, and sign its account in"),
        )
        return (
            Endpoint(
                method="POST",
                template=LINKS,
                handler=self.offer,
                access=Access.PROOF,
                summary="A one-time link that signs a browser in as the caller's principal",
                response=link,
                status=201,
                errors=(NotAllowed,),
            ),
            *(
                Endpoint(
                    method=method,
                    template=template,
                    handler=_as_page(handler),
                    access=Access.OPEN,
                    summary=summary,
                    status=303 if method == "POST" else 200,
                )
                for method, template, handler, summary in pages
            ),
            self._visits.endpoint("POST", "/ui/sign-out", self.sign_out, "Sign this browser out"),
        )

    # ---- by link -------------------------------------------------------------------------------------------

    def offer(self, call: Call) -> Response:
        """POST /ui/links."""
        link = self._broker.entrance.offer_link(call.caller)
        url = f"{self._base_url}{ENTER}?key={link.key.reveal()}"
        return json_response({"url": url, "expires_at": views.time(link.expires_at)}, status=201)

    def enter_form(self, call: Call) -> Response:
        """GET /ui/enter: first with the key in the address, then with the key in a cookie; changes nothing here."""
        request = call.request
        query = request.query_fields()
        given = query.optional_text("key")
        query.done()
        if given is not None:
            if self._broker.entrance.offered_to(Secret(given)) is None:
                raise NotFound
            headers = (_cookie(request, _LINK_COOKIE, given, LINK_LIFETIME),)
            if request.headers.get("sec-fetch-site") in {("cross-site",), ("same-site",)}:
                # a redirect on the way from another site would not bring the strict cookie along
                return html_response(entrance.bounce_page(ENTER), headers=headers)
            return redirect(ENTER, headers=headers)
        key = _link_key(request)
        principal = self._broker.entrance.offered_to(key) if key is not None else None
        if key is None or principal is None:
            raise NotFound
        # Another site could lead its visitors to a link of its own, to have them work in a vault that is not theirs.
        by_itself = request.headers.get("sec-fetch-site") == ("none",)
        token, person = self._forms.token(key, ENTER), principal.email or principal.name
        return html_response(entrance.enter_page(token, person, by_itself=by_itself), policy=SCRIPTED_PAGE_POLICY)

    def enter(self, call: Call) -> Response:
        """POST /ui/enter."""
        request = call.request
        form = request.form()
        key, token = _link_key(request), form.optional_text(FORM_TOKEN)
        form.done()
        if key is None:
            raise NotFound
        self._forms.check(request, key=key, purpose=ENTER, token=token)
        opened = self._broker.entrance.enter(key, visits.browser_of(request))
        return self._let_in(request, opened, HOME, _cookie(request, _LINK_COOKIE, "", timedelta(0)))

    # ---- by password ---------------------------------------------------------------------------------------

    def sign_in_form(self, call: Call) -> Response:
        """GET /ui/sign-in."""
        query = call.request.query_fields()
        onward = visits.place_of_ours(query.optional_text("next"))
        query.done()
        key = visits.session_key(call.request)
        if key is not None and self._broker.dashboard_sessions.visit(key) is not None:
            return redirect(onward)
        if self._broker.entrance.awaits_first():
            return redirect(FIRST)
        return self._form(call, lambda token: entrance.sign_in_page(token, onward=onward))

    def sign_in(self, call: Call) -> Response:
        """POST /ui/sign-in."""
        request = call.request
        form = self._checked(call)
        email, password = form.optional_text("email") or "", form.secret("password")
        onward = visits.place_of_ours(form.optional_text("next"))
        form.done()
        known_by = cross_origin.cookie(request, _DEVICE_COOKIE)
        try:
            found = self._broker.entrance.sign_in(
                email, password, visits.browser_of(request), Secret(known_by) if known_by else None
            )
        except AuthenticationFailed as error:
            refused = error
            self._authentication.record(request, error)
        else:
            device = _cookie(request, _DEVICE_COOKIE, found.device.reveal(), DEVICE_LIFETIME)
            return self._let_in(request, found.opened, onward, device)
        return self._form(
            call,
            lambda token: entrance.sign_in_page(token, onward=onward, email=email, problem=said_of(refused)),
            refused=refused,
        )

    def sign_out(self, visitor: Visitor) -> Response:
        """POST /ui/sign-out."""
        visitor.form.done()
        self._broker.dashboard_sessions.end(visitor.caller, visitor.session.id)
        return redirect(SIGN_IN, headers=(visits.signed_out(visitor.request),))

    # ---- by being new --------------------------------------------------------------------------------------

    def first_form(self, call: Call) -> Response:
        """GET /ui/first."""
        if not self._broker.entrance.awaits_first():
            return redirect(SIGN_IN)
        return self._form(call, entrance.first_page)

    def first(self, call: Call) -> Response:
        """POST /ui/first."""
        form = self._checked(call)
        code, password = form.secret("code"), form.secret("password")
        email, name = form.text("email"), form.text("name")
        form.done()
        try:
            opened = self._broker.entrance.first(
                code=code, email=email, name=name, password=password, browser=visits.browser_of(call.request)
            )
        except AuthsomeError as error:
            refused = error
        else:
            return self._let_in(call.request, opened, HOME)
        return self._form(
            call,
            lambda token: entrance.first_page(token, email=email, name=name, problem=said_of(refused)),
            refused=refused,
        )

    def join_form(self, call: Call) -> Response:
        """GET /ui/join/{token}."""
        return self._join_page(call)

    def join(self, call: Call) -> Response:
        """POST /ui/join/{token}."""
        form = self._checked(call)
        name, password = form.text("name"), form.secret("password")
        form.optional_text("username")  # for the browser, which keeps it with the password
        form.done()
        try:
            opened = self._broker.entrance.join(
                Secret(call.values["token"]), name=name, password=password, browser=visits.browser_of(call.request)
            )
        except NotFound:
            raise
        except AuthsomeError as error:
            return self._join_page(call, name=name, refused=error)
        return self._let_in(call.request, opened, HOME)

    # ---- inside --------------------------------------------------------------------------------------------

    def _join_page(self, call: Call, *, name: str = "", refused: AuthsomeError | None = None) -> Response:
        with self._broker.context.database.read() as reader:
            invitation = self._broker.principals.invitation(reader, Secret(call.values["token"]))
        problem = said_of(refused) if refused else None
        return self._form(
            call,
            lambda token: entrance.join_page(
                token, action=call.request.path, email=invitation.email, name=name, problem=problem
            ),
            refused=refused,
        )

    def _form(self, call: Call, make: Callable[[str], Html], *, refused: AuthsomeError | None = None) -> Response:
        """A page whose form only this browser can send."""
        request = call.request
        present = cross_origin.cookie(request, _FORM_COOKIE)
        key = Secret(present or secrets.token_urlsafe(32))
        headers = [_cookie(request, _FORM_COOKIE, key.reveal(), _FORM_TIME)]
        if isinstance(refused, TooManyAttempts):
            headers.append(retry_after(refused))
        page = make(self._forms.token(key, request.path))
        return html_response(page, status=refused_status(refused), headers=tuple(headers))

    def _checked(self, call: Call) -> Fields:
        """The fields of a form that this browser was shown."""
        request = call.request
        form = request.form()
        key = cross_origin.cookie(request, _FORM_COOKIE)
        if key is None:
            raise NotAllowed("this form was not sent from a page of this daemon", hint="open the page again")
        self._forms.check(request, key=Secret(key), purpose=request.path, token=form.optional_text(FORM_TOKEN))
        return form

    def _let_in(self, request: Request, opened: Opened, onward: str, *cookies: tuple[str, str]) -> Response:
        """Go on as somebody: whoever was signed in here before is so no more."""
        before = visits.session_key(request)
        visit = self._broker.dashboard_sessions.visit(before) if before is not None else None
        if visit is not None:
            self._broker.dashboard_sessions.end(visit.caller, visit.session.id)
        return redirect(onward, headers=(visits.signed_in(request, opened), *cookies))


def _as_page(handler: CallHandler) -> CallHandler:
    """The same, with a page for whatever goes wrong."""

    def answer(call: Call) -> Response:
        try:
            return handler(call)
        except NotFound as error:
            page = (
                entrance.expired_page()
                if call.request.path == ENTER
                else bridge.error_page(error.http_status, error.message, error.hint)
            )
            return html_response(page, status=error.http_status)
        except AuthsomeError as error:
            page = bridge.error_page(error.http_status, error.message, error.hint)
            return html_response(page, status=error.http_status)

    return answer


def _link_key(request: Request) -> Secret[str] | None:
    value = cross_origin.cookie(request, _LINK_COOKIE)
    return Secret(value) if value else None


def _cookie(request: Request, name: str, value: str, lifetime: timedelta) -> tuple[str, str]:
    return cross_origin.set_cookie(
        name, value, path=_PATH, same_site="Strict", lifetime=lifetime, secure=visits.is_secure(request)
    )
