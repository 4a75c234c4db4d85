"""Endpoints of principals: listed, invited, added, given a role, removed; all of them for admins."""

from typing import Final

from authsome.broker.broker import Broker
from authsome.broker.principals import INVITATION_PATH
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import NotAllowed, NotFound, RequestInvalid
from authsome.models.principal import Role

_ROLE: Final[views.JsonObject] = {"type": "string", "enum": list(Role)}


class PrincipalsApi(Endpoints):
    """What an admin can ask of and do to principals."""

    def __init__(self, broker: Broker, *, base_url: str) -> None:
        """Take the use cases, and the daemon's URL for links."""
        super().__init__(broker)
        self._base_url = base_url

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="GET",
                template="/principals",
                handler=self.list_all,
                access=Access.PROOF,
                summary="Every principal, and who was invited and has not come yet; for admins",
                response=views.shape(
                    {"principals": views.array(views.PRINCIPAL), "invitations": views.array(views.INVITATION)}
                ),
                errors=(NotAllowed,),
            ),
            Endpoint(
                method="POST",
                template="/principals",
                handler=self.add,
                access=Access.PROOF,
                summary="Add a principal for programs, as which nobody signs in; for admins",
                request=views.shape({"name": views.TEXT}, {"role": _ROLE}),
                response=views.PRINCIPAL,
                status=201,
                errors=(NotAllowed,),
            ),
            Endpoint(
                method="POST",
                template="/principals/{principal}/role",
                handler=self.set_role,
                access=Access.PROOF,
                summary="Make a principal, by id, e-mail address or name, an admin or a user; for admins",
                request=views.shape({"role": _ROLE}),
                response=views.PRINCIPAL,
                errors=(NotAllowed, NotFound),
            ),
            Endpoint(
                method="DELETE",
                template="/principals/{principal}",
                handler=self.remove,
                access=Access.PROOF,
                summary="Remove a principal with its vault, identities, runs and sessions; for admins",
                response=views.shape(
                    {
                        "principal": views.PRINCIPAL,
                        "connections": views.INTEGER,
                        "identities": views.INTEGER,
                        "runs": views.INTEGER,
                    }
                ),
                errors=(NotAllowed, NotFound),
            ),
            Endpoint(
                method="POST",
                template="/invitations",
                handler=self.invite,
                access=Access.PROOF,
                summary="Invite a person: a link that is good once; for admins",
                request=views.shape({"email": views.TEXT}, {"role": _ROLE}),
                response=views.shape({"invitation": views.INVITATION, "url": views.TEXT}),
                status=201,
                errors=(NotAllowed,),
            ),
            Endpoint(
                method="DELETE",
                template="/invitations/{invitation}",
                handler=self.withdraw,
                access=Access.PROOF,
                summary="Make an invitation worthless; for admins",
                status=204,
                errors=(NotAllowed, NotFound),
            ),
        )

    def list_all(self, call: Call) -> Response:
        """GET /principals."""
        group = self._broker.principals
        return json_response(
            {
                "principals": [views.principal(each) for each in group.list_all(call.caller)],
                "invitations": [views.invitation(each) for each in group.list_invitations(call.caller)],
            }
        )

    def add(self, call: Call) -> Response:
        """POST /principals."""
        body = call.request.json()
        name, role = body.text("name"), body.optional_text("role")
        body.done()
        return json_response(views.principal(self._broker.principals.add(call.caller, name, _role(role))), status=201)

    def set_role(self, call: Call) -> Response:
        """POST …/role."""
        body = call.request.json()
        role = _role(body.text("role"))
        body.done()
        return json_response(
            views.principal(self._broker.principals.set_role(call.caller, call.values["principal"], role))
        )

    def remove(self, call: Call) -> Response:
        """DELETE one principal."""
        left = self._broker.principals.remove(call.caller, call.values["principal"])
        return json_response(
            {
                "principal": views.principal(left.principal),
                "connections": left.connections,
                "identities": left.identities,
                "runs": left.runs,
            }
        )

    def invite(self, call: Call) -> Response:
        """POST /invitations."""
        body = call.request.json()
        email, role = body.text("email"), body.optional_text("role")
        body.done()
        invited = self._broker.principals.invite(call.caller, email, _role(role))
        return json_response(
            {
                "invitation": views.invitation(invited.invitation),
                "url": f"{self._base_url}{INVITATION_PATH}{invited.token.reveal()}",
            },
            status=201,
        )

    def withdraw(self, call: Call) -> Response:
        """DELETE one invitation."""
        self._broker.principals.withdraw(call.caller, call.values["invitation"])
        return Response(status=204)


def _role(text: str | None) -> Role:
    try:
        return Role.USER if text is None else Role(text)
    except ValueError as error:
        raise RequestInvalid(
            f"there is no role {text[:32] if text else ''}", hint=f"one of {', '.join(Role)}"
        ) from error
