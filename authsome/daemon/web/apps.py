"""The catalogue in the dashboard: what can be connected, and the beginning of every login from here."""

from authsome.broker import catalog
from authsome.broker.broker import Broker
from authsome.broker.catalog import Listed
from authsome.broker.logins import Wanted
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.api.logins import LoginsApi
from authsome.daemon.dashboard import apps
from authsome.daemon.dashboard.apps import App
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.connections import ConnectionPages
from authsome.daemon.web.visits import Pages, Visitor, Visits, refused_status, said_of, searched
from authsome.errors import AuthsomeError, ConnectionExists, RequestInvalid
from authsome.models.connection import DEFAULT_CONNECTION
from authsome.models.login import Flow
from authsome.vault.connections import Search

_MOST_PAGES = 1000
_TAKEN = "choose another name, or reconnect that one on its own page"


class AppPages(Pages):
    """The list, one provider, and the way to connect it."""

    def __init__(self, broker: Broker, visits: Visits, logins: LoginsApi, connections: ConnectionPages) -> None:
        super().__init__(broker, visits)
        self._logins = logins
        self._connections = connections

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", apps.PATH, self.list_all, "The catalogue"),
            endpoint("POST", apps.BY_URL, self.connect_url, "Begin a login to what is at a URL"),
            endpoint("GET", apps.ONE, self.show, "One provider"),
            endpoint("POST", apps.ONE + "/connect", self.connect, "Begin a login to it"),
        )

    def list_all(self, visitor: Visitor) -> Response:
        """GET /ui/apps."""
        asked = visitor.query()
        query = searched(asked, "q", "kind", "state")
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        if query["kind"] not in apps.KINDS or query["state"] not in apps.STATES:
            raise RequestInvalid("there is no such filter")
        return visitor.page("Apps", apps.listing(self._listing(visitor, query, page), visitor.token_for))

    def show(self, visitor: Visitor) -> Response:
        """GET /ui/apps/{provider}."""
        visitor.query().done()
        return self._page(visitor, {}, None)

    def connect(self, visitor: Visitor) -> Response:
        """POST /ui/apps/{provider}/connect."""
        form, name = visitor.form, visitor.values["provider"]
        given = {each: form.optional_text(each) or "" for each in ("flow", "connection", "scopes")}
        form.done()
        try:
            wanted = Wanted(
                provider=name,
                connection=given["connection"] or DEFAULT_CONNECTION,
                flow=_flow(given["flow"]),
                scopes=tuple(given["scopes"].replace(",", " ").split()),
                variables={},
            )
            login = self._broker.logins.begin(visitor.caller, wanted)
        except ConnectionExists as error:
            return self._page(visitor, given, ConnectionExists(error.message, hint=_TAKEN))
        except AuthsomeError as error:
            return self._page(visitor, given, error)
        return self._logins.sent_to(login)

    def connect_url(self, visitor: Visitor) -> Response:
        """POST /ui/apps/by-url."""
        address = visitor.form.text("url")
        visitor.form.done()
        try:
            login = self._broker.logins.begin(visitor.caller, Wanted(url=address, variables={}))
        except ConnectionExists as error:
            return visitor.onward(apps.PATH, error.message, is_good=False)
        except AuthsomeError as error:
            return visitor.onward(apps.PATH, said_of(error), is_good=False)
        return self._logins.sent_to(login)

    def _listing(self, visitor: Visitor, query: dict[str, str], page: int) -> apps.Listing:
        connected = self._broker.credentials.count_by_provider(visitor.caller)
        known = [_app(each, connected.get(each.name, 0)) for each in self._broker.context.catalog.list_all()]
        fitting = [each for each in known if _fits(each, query)]
        start = (page - 1) * apps.PAGE
        return apps.Listing(
            apps=fitting[start : start + apps.PAGE],
            total=len(fitting),
            query=query,
            page=page,
            may_add=visitor.caller.is_admin,
        )

    def _page(self, visitor: Visitor, given: dict[str, str], refused: AuthsomeError | None) -> Response:
        entry = self._broker.context.catalog.entry(visitor.values["provider"])
        credentials = self._broker.credentials
        names = credentials.names_of(visitor.caller, entry.name)
        wanted = Search(provider=entry.name, soon=visitor.now)
        found, _ = credentials.search(visitor.caller, wanted, limit=apps.SHOWN)
        stored = self._connections.shown(visitor, found)
        provider = entry.provider
        view = apps.One(
            app=_app(catalog.listed(entry), len(names)),
            docs_url=provider.docs_url if provider else None,
            hosts=provider.api_url if provider else (),
            scopes=provider.oauth.scopes if provider and provider.oauth else (),
            connections=stored,
            names=names,
            given=given,
            refused=said_of(refused) if refused else None,
            now=visitor.now,
        )
        status = refused_status(refused)
        return visitor.page(view.app.title, apps.one(view, visitor.token_for), status=status)


def _app(listed: Listed, connected: int) -> App:
    return App(
        name=listed.name,
        title=listed.summary.title,
        description=listed.summary.description,
        flows=listed.summary.flows,
        source=listed.source,
        connected=connected,
        problem=said_of(listed.problem) if listed.problem else None,
    )


def _fits(app: App, query: dict[str, str]) -> bool:
    kinds = {"api_key"} & {str(flow) for flow in app.flows} | {"device_code"} & {str(flow) for flow in app.flows}
    kinds |= {"oauth"} if any(flow is not Flow.API_KEY for flow in app.flows) else set()
    states = ({"connected"} if app.connected else set()) | ({"custom"} if app.source != "bundled" else set())
    wanted = query["q"].lower().strip()
    return (
        wanted in f"{app.name} {app.title} {app.description or ''}".lower()
        and query["kind"] in {"", *kinds}
        and query["state"] in {"", *states}
    )


def _flow(text: str) -> Flow | None:
    try:
        return Flow(text) if text else None
    except ValueError as error:
        raise RequestInvalid("there is no such way to connect") from error
