"""Signed-in browsers: which cookie says so, what a request of theirs is given, and what they are told.

Rule: a handler of the dashboard is reached by a session alone, and its POST only after the form's token was spent; so
no page can forget either.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import quote

from authsome.broker.broker import Broker
from authsome.broker.dashboard_sessions import LONGEST, DashboardSessions, Opened, Visit
from authsome.broker.news import News, Told
from authsome.daemon import cross_origin
from authsome.daemon.api.call import Call, Endpoints
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.cross_origin import Forms
from authsome.daemon.dashboard import bridge, entrance, shell
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import EVENTS, Frame
from authsome.daemon.fields import Fields
from authsome.daemon.messages import SCRIPTED_PAGE_POLICY, Request, Response, html_response, redirect, retry_after
from authsome.daemon.router import PAGE, Access, Endpoint
from authsome.errors import AuthenticationFailed, AuthsomeError, TooManyAttempts
from authsome.models.principal import Caller
from authsome.models.visit import Browser, DashboardSession
from authsome.secret import Secret

_log = logging.getLogger("authsome.daemon")

HOME: Final = "/ui/"
SIGN_IN: Final = "/ui/sign-in"
FORM_TOKEN: Final = "form_token"  # noqa: S105  # a form field's name
_NOTE: Final = "note"
_MOST_SEARCHED: Final = 200  # characters
_COOKIE: Final = "authsome_session"
_OURS: Final = re.compile(r"/(?:ui/|claim/|audit)[!-\[\]-~]*")
_BROWSERS: Final = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS: Final = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A request of a signed-in browser."""

    request: Request
    values: Mapping[str, str]
    """What the path holds, by name."""
    session: DashboardSession
    caller: Caller
    now: datetime
    form: Fields = field(default_factory=lambda: Fields({}))
    """What was posted, without its token; nothing for GET."""
    _visit: Visit = field(repr=False)
    _key: Secret[str] = field(repr=False)
    _forms: Forms = field(repr=False)
    _sessions: DashboardSessions = field(repr=False)

    def query(self) -> Fields:
        """What the address asks for."""
        found = self.request.query_fields()
        found.optional_text(_NOTE)  # is the frame's
        return found

    def token_for(self, action: str) -> str:
        """The token of a form that is posted to this path."""
        return self._forms.token(self._key, action)

    def page(self, title: str, content: Html, *, place: str | None = None, status: int = 200) -> Response:
        """A page of the dashboard; it belongs to the `place` that its address says, unless it is another one."""
        frame = self._frame(shell.place_of(self.request.path) if place is None else place)
        return html_response(shell.page(frame, title, content), status=status, policy=SCRIPTED_PAGE_POLICY)

    def looks_on(self, news: News, *, heard: int | None) -> Told:
        """What this browser has missed since an entry of the log, and from where on it is told."""
        return news.begin(self._visit, self._key, heard=heard)

    def onward(self, path: str, said: str | None = None, *, is_good: bool = True) -> Response:
        """Go on to a page of ours, which says what came of the act."""
        if said is None:
            return redirect(path)
        note = self._sessions.note(self.session, said, is_good=is_good)
        return redirect(f"{path}{'&' if '?' in path else '?'}{_NOTE}={note.id}")

    def _frame(self, place: str | None) -> Frame:
        note = self.session.note
        shown = note is not None and f"{_NOTE}={note.id}" in self.request.query.split("&")
        return Frame(
            principal=self.caller.principal,
            place=place,
            token_for=self.token_for,
            events=f"{EVENTS}?heard={self._visit.heard}",
            note=note if shown else None,
        )


Handler = Callable[[Visitor], Response]


class Visits:
    """Serves the endpoints of signed-in browsers."""

    def __init__(self, broker: Broker, forms: Forms) -> None:
        self._broker = broker
        self._forms = forms

    def endpoint(
        self, method: Literal["GET", "POST"], template: str, handler: Handler, summary: str, media: str = PAGE
    ) -> Endpoint[CallHandler]:
        """A row of the table, whose handler is reached by signed-in browsers alone."""
        return Endpoint(
            method=method,
            template=template,
            handler=lambda call: self._serve(call, handler),
            access=Access.SESSION,
            summary=summary,
            status=303 if method == "POST" else 200,
            media=media,
        )

    def _serve(self, call: Call, handler: Handler) -> Response:
        """The answer to a request, or the way to the sign-in page, or a page that says what went wrong."""
        request = call.request
        key = session_key(request)
        # what our script fetches by itself is nobody's use of the session
        is_used = request.headers.get("sec-fetch-dest") != ("empty",)
        visit = self._broker.dashboard_sessions.visit(key, is_used=is_used) if key is not None else None
        if key is None or visit is None:
            return _sign_in_first(request)
        visitor = Visitor(
            request=request,
            values=call.values,
            session=visit.session,
            caller=visit.caller,
            now=self._broker.context.clock(),
            _visit=visit,
            _key=key,
            _forms=self._forms,
            _sessions=self._broker.dashboard_sessions,
        )
        try:
            if request.method in {"GET", "HEAD"}:
                return handler(visitor)
            form = request.form()
            self._forms.check(request, key=key, purpose=request.path, token=form.optional_text(FORM_TOKEN))
            return handler(replace(visitor, form=form))
        except Exception as error:  # noqa: BLE001  # a handler's last line: who looks gets a page, and no account of it
            if self._broker.dashboard_sessions.visit(key, is_used=False) is None:  # not any more, and so it failed
                return _sign_in_first(request)
            told = error if isinstance(error, AuthsomeError) else AuthsomeError()
            if told is not error:
                _log.exception("unexpected error")
            content = bridge.error_content(told.http_status, told.message, told.hint)
            return visitor.page("This did not work", content, status=told.http_status)


class Pages(Endpoints):
    """Pages of the dashboard that belong together."""

    def __init__(self, broker: Broker, visits: Visits) -> None:
        super().__init__(broker)
        self._visits = visits


def session_key(request: Request) -> Secret[str] | None:
    """The key in the session's cookie."""
    value = cross_origin.cookie(request, _cookie_name(request))
    return Secret(value) if value else None


def signed_in(request: Request, opened: Opened) -> tuple[str, str]:
    """The header that keeps a new session's key in the browser."""
    return _cookie(request, opened.key.reveal(), LONGEST)


def signed_out(request: Request) -> tuple[str, str]:
    """The header that takes it out again."""
    return _cookie(request, "", timedelta(0))


def is_secure(request: Request) -> bool:
    """Whether the browser came by https, as far as it says which of our names it asked for."""
    return request.received_over.startswith("https:")


def place_of_ours(text: str | None) -> str:
    """An address to go on to, if it is one of the dashboard; the overview otherwise."""
    return text if text is not None and _OURS.fullmatch(text) and "//" not in text else HOME


def browser_of(request: Request) -> Browser:
    """What a browser says of itself, in two words of ours."""
    agent = (request.headers.get("user-agent") or ("",))[0]
    name = next((name for mark, name in _BROWSERS if mark in agent), "a browser")
    system = next((name for mark, name in _SYSTEMS if mark in agent), None)
    return Browser(name=f"{name} on {system}" if system else name, address=request.peer)


def said_of(error: AuthsomeError) -> str:
    """What went wrong, and what helps, as one text for a form."""
    if isinstance(error, TooManyAttempts):
        return f"{error.message}; try again in {retry_after(error)[1]} s"
    if error.hint and not isinstance(error, AuthenticationFailed):
        return f"{error.message}. {error.hint[:1].upper()}{error.hint[1:]}"
    return error.message


def searched(asked: Fields, *names: str) -> dict[str, str]:
    """What a list is searched for, by name; no name of anything is longer than is taken of it."""
    return {name: (asked.optional_text(name) or "")[:_MOST_SEARCHED] for name in names}


def refused_status(error: AuthsomeError | None) -> int:
    """The status of a page that shows a form again; None: for the first time."""
    if error is None:
        return 200
    # 401 would ask for a scheme of authentication, which a form is not (RFC 9110 §15.5.2)
    return 403 if error.http_status == 401 else error.http_status


def _sign_in_first(request: Request) -> Response:
    site = request.headers.get("sec-fetch-site")
    if request.method == "GET" and site == ("cross-site",) and "cookie" not in request.headers:
        # A strict cookie does not come along from another site's link; from our own page it does.
        return html_response(entrance.bounce_page(place_of_ours(request.target)))
    if request.method == "GET":
        return redirect(f"{SIGN_IN}?next={quote(place_of_ours(request.target), safe='/')}")
    message = "this browser is not signed in any more, and nothing was done"
    return html_response(bridge.error_page(403, message, "open the dashboard again: `authsome ui`"), status=403)


def _cookie(request: Request, value: str, lifetime: timedelta) -> tuple[str, str]:
    return cross_origin.set_cookie(
        _cookie_name(request), value, path="/", same_site="Strict", lifetime=lifetime, secure=is_secure(request)
    )


def _cookie_name(request: Request) -> str:
    """With the prefix a browser takes it over TLS alone, from this host alone."""
    return f"__Host-{_COOKIE}" if is_secure(request) else _COOKIE
