"""The settings: password, and the browsers that are signed in."""

from authsome.broker.broker import Broker
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.authentication import Authentication
from authsome.daemon.dashboard import settings
from authsome.daemon.dashboard.settings import Administered
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.visits import Pages, Visitor, Visits, refused_status, said_of
from authsome.errors import AuthenticationFailed, AuthsomeError

_MOST_PAGES = 1000


class SettingsPages(Pages):
    """What a principal sets for itself."""

    def __init__(self, broker: Broker, visits: Visits, authentication: Authentication) -> None:
        super().__init__(broker, visits)
        self._authentication = authentication

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", settings.PATH, self.show, "The settings"),
            endpoint("POST", settings.PASSWORD, self.set_password, "Set e-mail address and password"),
            endpoint("POST", settings.SESSION_END, self.end_session, "Sign another browser out"),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /ui/settings."""
        asked = visitor.query()
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        return self._page(visitor, page=page)

    def set_password(self, visitor: Visitor) -> Response:
        """POST …/password."""
        email, present = visitor.form.text("email"), visitor.form.optional_secret("present")
        new = visitor.form.secret("password")
        visitor.form.done()
        try:
            self._broker.entrance.set_password(visitor.caller, visitor.session, email=email, new=new, present=present)
        except AuthsomeError as error:
            if isinstance(error, AuthenticationFailed):
                self._authentication.record(visitor.request, error)
            return self._page(visitor, email=email, refused=error)
        return visitor.onward(settings.PATH, "the password is set; other browsers have been signed out")

    def end_session(self, visitor: Visitor) -> Response:
        """POST …/sessions/{id}/end."""
        visitor.form.done()
        self._broker.dashboard_sessions.end(visitor.caller, visitor.values["id"])
        return visitor.onward(settings.PATH, "that browser is signed out")

    def _administered(self, visitor: Visitor) -> Administered | None:
        broker = self._broker
        if not visitor.caller.is_admin:
            return None
        return Administered(
            age=broker.rekeying.age(),
            providers=len(broker.context.catalog.own()),
            principals=broker.principals.count(visitor.caller),
        )

    def _page(
        self, visitor: Visitor, *, page: int = 1, email: str | None = None, refused: AuthsomeError | None = None
    ) -> Response:
        sessions, total = self._broker.dashboard_sessions.page(
            visitor.caller, limit=settings.SESSIONS, offset=(page - 1) * settings.SESSIONS
        )
        values = settings.Settings(
            sessions=sessions,
            total=total,
            page=page,
            present=visitor.session,
            email=visitor.caller.principal.email,
            has_password=self._broker.entrance.has_password(visitor.caller),
            is_fresh=self._broker.entrance.is_fresh(visitor.session),
            administered=self._administered(visitor),
            now=visitor.now,
        )
        content = settings.content(
            values, visitor.token_for, email=email, problem=said_of(refused) if refused else None
        )
        return visitor.page("Settings", content, status=refused_status(refused))
