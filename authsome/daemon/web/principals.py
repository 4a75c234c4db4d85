"""Principals in the dashboard: let in, given a role, removed; all of it for admins."""

from authsome.broker.broker import Broker
from authsome.broker.principals import INVITATION_PATH
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import html, principals
from authsome.daemon.dashboard.principals import NOTHING, Given
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.visits import Pages, Visitor, Visits, refused_status, said_of
from authsome.errors import AuthsomeError, RequestInvalid
from authsome.models.principal import Role

_MOST_PAGES = 10_000


class PrincipalPages(Pages):
    """Who has a vault here, and who may join."""

    def __init__(self, broker: Broker, visits: Visits, *, base_url: str) -> None:
        super().__init__(broker, visits)
        self._base_url = base_url

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", principals.PATH, self.show, "The principals, and who is invited"),
            endpoint("POST", principals.ONE + "/role", self.set_role, "Make one an admin, or a user"),
            endpoint("POST", principals.ONE + "/remove", self.remove, "Remove one with all that is its own"),
            endpoint("POST", principals.ADD, self.add, "Add a principal for programs"),
            endpoint("POST", principals.INVITE, self.invite, "Invite a person; the answer has the link"),
            endpoint("POST", principals.INVITATION, self.withdraw, "Make an invitation worthless"),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /ui/settings/principals."""
        asked = visitor.query()
        page = asked.integer("page", minimum=1, maximum=_MOST_PAGES) or 1
        asked.done()
        return self._page(visitor, page=page)

    def set_role(self, visitor: Visitor) -> Response:
        """POST …/role."""
        role = _role(visitor.form.text("role"))
        visitor.form.done()
        try:
            changed = self._broker.principals.set_role(visitor.caller, visitor.values["principal"], role)
        except AuthsomeError as error:
            return visitor.onward(principals.PATH, said_of(error), is_good=False)
        return visitor.onward(principals.PATH, f"the role of {changed.email or changed.name} is {role} now")

    def remove(self, visitor: Visitor) -> Response:
        """POST …/remove."""
        visitor.form.done()
        try:
            left = self._broker.principals.remove(visitor.caller, visitor.values["principal"])
        except AuthsomeError as error:
            return visitor.onward(principals.PATH, said_of(error), is_good=False)
        gone = left.principal.email or left.principal.name
        connections = html.counted(left.connections, "connection")
        identities = html.counted(left.identities, "identity", "identities")
        said = f"the principal {gone} is removed, with {connections} and {identities}"
        return visitor.onward(principals.PATH, said)

    def invite(self, visitor: Visitor) -> Response:
        """POST …/invitations."""
        email, role = visitor.form.text("email"), _role(visitor.form.text("role"))
        visitor.form.done()
        try:
            made = self._broker.principals.invite(visitor.caller, email, role)
        except AuthsomeError as error:
            given = Given(email=email, invite_role=role, email_problem=said_of(error))
            return self._page(visitor, given=given, refused=error)
        url = f"{self._base_url}{INVITATION_PATH}{made.token.reveal()}"
        return visitor.page("Invited", principals.invited(made.invitation.email, url))

    def add(self, visitor: Visitor) -> Response:
        """POST …/programs."""
        name, role = visitor.form.optional_text("name") or "", _role(visitor.form.text("role"))
        visitor.form.done()
        try:
            made = self._broker.principals.add(visitor.caller, name, role)
        except AuthsomeError as error:
            return self._page(
                visitor, given=Given(name=name, add_role=role, name_problem=said_of(error)), refused=error
            )
        said = (
            f"the principal {made.name} is added; claim identities for it: `authsome identity claim`, as each of them"
        )
        return visitor.onward(principals.PATH, said)

    def withdraw(self, visitor: Visitor) -> Response:
        """POST …/withdraw."""
        visitor.form.done()
        self._broker.principals.withdraw(visitor.caller, visitor.values["invitation"])
        return visitor.onward(principals.PATH, "that invitation is worth nothing now")

    def _page(
        self, visitor: Visitor, *, page: int = 1, given: Given = NOTHING, refused: AuthsomeError | None = None
    ) -> Response:
        known = self._broker.principals
        found, total = known.page(visitor.caller, limit=principals.PAGE, offset=(page - 1) * principals.PAGE)
        waiting, invited = known.invitations(visitor.caller, limit=principals.PAGE)
        group = principals.Group(
            principals=found,
            total=total,
            present=visitor.caller.principal,
            invitations=waiting,
            invited=invited,
            page=page,
            now=visitor.now,
        )
        content = principals.content(group, visitor.token_for, given)
        return visitor.page("Principals", content, status=refused_status(refused))


def _role(text: str) -> Role:
    if text not in principals.ROLES:
        raise RequestInvalid("there is no such role")
    return Role(text)
