"""Connections in the dashboard: what there is, and what to do about it."""

from collections.abc import Collection

from authsome.broker.broker import Broker
from authsome.broker.logins import Wanted
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.api.logins import LoginsApi
from authsome.daemon.dashboard import connections, pieces
from authsome.daemon.dashboard.connections import Shown
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.visits import Pages, Visitor, Visits, said_of, searched
from authsome.errors import AuthsomeError, NotFound, RequestInvalid
from authsome.models.connection import Connection, Kind
from authsome.models.login import Flow
from authsome.vault.connections import Search

_DAYS = 30
_MOST_PAGES = 10_000


class ConnectionPages(Pages):
    """The list, one connection, and what can be done."""

    def __init__(self, broker: Broker, visits: Visits, logins: LoginsApi) -> None:
        super().__init__(broker, visits)
        self._logins = logins

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint, one = self._visits.endpoint, connections.ONE
        return (
            endpoint("GET", connections.PATH, self.list_all, "The connections"),
            endpoint("GET", one, self.show, "One connection"),
            endpoint("POST", one + "/refresh", self.refresh, "Refresh its token now"),
            endpoint("POST", one + "/reconnect", self.reconnect, "Log in again"),
            endpoint("POST", one + "/default", self.set_default, "Make it its provider's default"),
            endpoint("POST", one + "/logout", self.logout, "Forget it here"),
            endpoint("POST", one + "/revoke", self.revoke, "Revoke it at the provider, and forget it here"),
        )

    def shown(self, visitor: Visitor, found: Collection[Connection]) -> list[Shown]:
        """Connections with their providers' display names and their last uses."""
        last = self._broker.usage.last(visitor.caller, {each.provider for each in found})
        caught = self._broker.honeytokens.last_uses(visitor.caller, found)
        titles = self._broker.context.catalog.titles({each.provider for each in found})
        rows = []
        for each in found:
            use = last.get((each.provider, each.name))
            rows.append(
                Shown(
                    connection=each,
                    provider=titles[each.provider],
                    last=use if use and use.at >= each.created_at else None,
                    caught_at=caught.get((each.provider, each.name)) if each.is_honeytoken else None,
                )
            )
        return rows

    def list_all(self, visitor: Visitor) -> Response:
        """GET /ui/connections."""
        asked = visitor.query()
        query = searched(asked, "q", "state")
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        if query["state"] not in connections.STATES:
            raise RequestInvalid("there is no such state")
        words = query["q"].strip()
        wanted = Search(
            words=words,
            providers=self._titled(words) if words else (),
            wanting={"attention": True, "good": False}.get(query["state"]),
            decoys={"good": False, "honeytoken": True}.get(query["state"]),
            soon=visitor.now + pieces.SOON,
        )
        found, total = self._broker.credentials.search(
            visitor.caller, wanted, limit=connections.PAGE, offset=(page - 1) * connections.PAGE
        )
        view = connections.Listing(
            rows=self.shown(visitor, found), total=total, query=query, page=page, now=visitor.now
        )
        return visitor.page("Connections", connections.listing(view))

    def show(self, visitor: Visitor) -> Response:
        """GET one connection."""
        visitor.query().done()
        connection = self._named(visitor)
        self._broker.spools.take_all()
        provider = self._broker.context.catalog.find(connection.provider)
        (shown,) = self.shown(visitor, [connection])
        view = connections.One(
            shown=shown,
            hosts=tuple(
                ("*." if pattern.is_suffix else "") + pattern.host
                for pattern in (provider.patterns(connection.variables) if provider else ())
            ),
            days=self._broker.usage.days(visitor.caller, _DAYS, connection),
            can_revoke=connection.kind is Kind.OAUTH2 and not connection.is_honeytoken,
            now=visitor.now,
        )
        content = connections.one(view, visitor.token_for)
        return visitor.page(f"{shown.provider} {connection.name}", content)

    def refresh(self, visitor: Visitor) -> Response:
        """POST …/refresh."""
        connection = self._chosen(visitor)
        try:
            fresh = self._broker.credentials.refresh(visitor.caller, connection.provider, connection.name)
        except AuthsomeError as error:
            return visitor.onward(connections.place(connection), said_of(error), is_good=False)
        if fresh.revision == connection.revision:
            return visitor.onward(connections.place(connection), "the token came less than a minute ago, and is kept")
        return visitor.onward(connections.place(connection), "the token is fresh")

    def reconnect(self, visitor: Visitor) -> Response:
        """POST …/reconnect."""
        connection = self._chosen(visitor)
        wanted = Wanted(
            provider=connection.provider,
            connection=connection.name,
            flow=_flow_of(connection),
            scopes=connection.scopes,
            force=True,
            variables=connection.variables,
        )
        return self._logins.sent_to(self._broker.logins.begin(visitor.caller, wanted))

    def set_default(self, visitor: Visitor) -> Response:
        """POST …/default."""
        connection = self._chosen(visitor)
        self._broker.credentials.set_default(visitor.caller, connection.provider, connection.name)
        said = f"`{connection.name}` is the default of {connection.provider} now"
        return visitor.onward(connections.place(connection), said)

    def logout(self, visitor: Visitor) -> Response:
        """POST …/logout."""
        gone = self._chosen(visitor)
        self._broker.credentials.logout(visitor.caller, gone.provider, gone.name)
        return visitor.onward(connections.PATH, f"`{gone.provider}/{gone.name}` is forgotten here")

    def revoke(self, visitor: Visitor) -> Response:
        """POST …/revoke."""
        connection = self._chosen(visitor)
        try:
            done = self._broker.revocations.revoke(visitor.caller, connection.provider, connection.name)
        except AuthsomeError as error:
            return visitor.onward(connections.place(connection), said_of(error), is_good=False)
        for kept in done.kept:
            return visitor.onward(connections.place(connection), said_of(kept.error), is_good=False)
        said = f"`{connection.provider}/{connection.name}` is revoked, and forgotten here"
        return visitor.onward(connections.PATH, said)

    def _titled(self, words: str) -> list[str]:
        """The providers whose display names hold these words."""
        known = self._broker.context.catalog.list_all()
        return [each.name for each in known if words.lower() in each.summary.title.lower()]

    def _named(self, visitor: Visitor) -> Connection:
        provider, name = visitor.values["provider"], visitor.values["connection"]
        found = self._broker.credentials.get(visitor.caller, provider, name)
        if found.name != name:  # `-` stands for the default elsewhere
            raise NotFound
        return found

    def _chosen(self, visitor: Visitor) -> Connection:
        """The connection that a form is about."""
        visitor.form.done()
        return self._named(visitor)


def _flow_of(connection: Connection) -> Flow | None:
    """How somebody logged in; None leaves the choice to the definition."""
    if connection.flow in set(Flow):
        return Flow(connection.flow)
    return Flow.API_KEY if connection.kind is Kind.API_KEY else None
