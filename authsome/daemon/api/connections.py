"""Endpoints for stored credentials."""

from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import (
    ConnectionExists,
    ConnectionNotFound,
    CredentialUnavailable,
    EndpointRefused,
    EndpointUnreachable,
    ProviderNotFound,
    RequestInvalid,
)
from authsome.models.audit import Event

REDACTED = "…"
_PURPOSES = {"export": Event.EXPORT, "show": Event.SHOW}
_ONE = "/connections/{provider}/{connection}"


class Connections(Endpoints):
    """What can be asked of and done to connections."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="GET",
                template="/connections",
                handler=self.list_all,
                access=Access.PROOF,
                summary="Every connection of the caller's vault",
                response=views.shape({"connections": views.array(views.CONNECTION)}),
            ),
            Endpoint(
                method="GET",
                template=_ONE,
                handler=self.get,
                access=Access.PROOF,
                summary="One connection, its secret fields by name only; `-` is the default one",
                response=views.shape({"connection": views.CONNECTION, "fields": views.TEXT_MAP}),
                errors=(ConnectionNotFound, ProviderNotFound),
            ),
            Endpoint(
                method="POST",
                template="/connections/{provider}/honeytoken",
                handler=self.plant,
                access=Access.PROOF,
                summary="Store a connection that holds a decoy, whose use is an alarm",
                request=views.shape({"connection": views.TEXT}),
                response=views.CONNECTION,
                status=201,
                errors=(ProviderNotFound, ConnectionExists),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/secrets",
                handler=self.reveal,
                access=Access.PROOF,
                summary="The plain values, audited under the purpose that is given",
                request=views.shape({"purpose": {"type": "string", "enum": sorted(_PURPOSES)}}),
                response=views.shape(
                    {"provider": views.TEXT, "connection": views.TEXT, "fields": views.TEXT_MAP, "env": views.TEXT_MAP}
                ),
                errors=(ConnectionNotFound, CredentialUnavailable, ProviderNotFound),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/logout",
                handler=self.logout,
                access=Access.PROOF,
                summary="Forget one connection; what the provider granted lives on there",
                response=views.CONNECTION,
                errors=(ConnectionNotFound, ProviderNotFound),
            ),
            Endpoint(
                method="POST",
                template="/connections/{provider}/revoke",
                handler=self.revoke,
                access=Access.PROOF,
                summary="Revoke a provider's connections there and forget them here, all or one; what fails is kept",
                request=views.shape({}, {"connection": views.OPTIONAL_TEXT}),
                response=views.shape(
                    {
                        "revoked": views.array(views.CONNECTION),
                        "kept": views.array(views.KEPT),
                        "client": {"anyOf": [views.CLIENT_FATE, {"type": "null"}]},
                    }
                ),
                errors=(ConnectionNotFound, EndpointRefused, EndpointUnreachable, ProviderNotFound),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/default",
                handler=self.set_default,
                access=Access.PROOF,
                summary="Make a connection its provider's default one",
                response=views.CONNECTION,
                errors=(ConnectionNotFound, ProviderNotFound),
            ),
        )

    def list_all(self, call: Call) -> Response:
        """GET /connections."""
        now = self._broker.context.clock()
        stored = self._broker.credentials.list_all(call.caller)
        uses, tells = self._broker.honeytokens.last_uses(call.caller, stored), _tells_decoys(call)
        return json_response(
            {
                "connections": [
                    views.connection(each, now, uses.get((each.provider, each.name)), tells_decoys=tells)
                    for each in stored
                ]
            }
        )

    def get(self, call: Call) -> Response:
        """GET one connection."""
        found = self._broker.credentials.get(call.caller, call.values["provider"], call.values["connection"])
        self._broker.honeytokens.look_at(call.caller, found)
        return json_response(
            {
                "connection": views.connection(found, self._broker.context.clock(), tells_decoys=_tells_decoys(call)),
                "fields": dict.fromkeys(self._broker.credentials.field_names(found), REDACTED),
            }
        )

    def plant(self, call: Call) -> Response:
        """POST …/honeytoken."""
        body = call.request.json()
        name = body.text("connection")
        body.done()
        planted = self._broker.honeytokens.plant(call.caller, call.values["provider"], name)
        return json_response(views.connection(planted, self._broker.context.clock()), status=201)

    def reveal(self, call: Call) -> Response:
        """POST …/secrets."""
        body = call.request.json()
        purpose = _PURPOSES.get(body.text("purpose"))
        body.done()
        if purpose is None:
            raise RequestInvalid('field "purpose" must be export or show')
        revealed = self._broker.credentials.reveal(
            call.caller, call.values["provider"], call.values["connection"], purpose
        )
        return json_response(
            {
                "provider": revealed.connection.provider,
                "connection": revealed.connection.name,
                "fields": {name: value.reveal() for name, value in revealed.fields.items()},
                "env": {name: value.reveal() for name, value in revealed.environment.items()},
            }
        )

    def logout(self, call: Call) -> Response:
        """POST …/logout."""
        gone = self._broker.credentials.logout(call.caller, call.values["provider"], call.values["connection"])
        return json_response(views.connection(gone, self._broker.context.clock()))

    def revoke(self, call: Call) -> Response:
        """POST …/revoke."""
        body = call.request.json()
        name = body.optional_text("connection")
        body.done()
        done = self._broker.revocations.revoke(call.caller, call.values["provider"], name)
        now, client = self._broker.context.clock(), done.client
        return json_response(
            {
                "revoked": [views.connection(each, now) for each in done.gone],
                "kept": [{"connection": each.connection.name, "error": views.error(each.error)} for each in done.kept],
                "client": {
                    "given_back": client.is_given_back,
                    "error": views.error(client.error) if client.error else None,
                }
                if client
                else None,
            }
        )

    def set_default(self, call: Call) -> Response:
        """POST …/default."""
        chosen = self._broker.credentials.set_default(call.caller, call.values["provider"], call.values["connection"])
        return json_response(views.connection(chosen, self._broker.context.clock()))


def _tells_decoys(call: Call) -> bool:
    """Whether the caller is told which connections are decoys: whoever could plant one, and nobody else."""
    return not call.caller.limits.is_narrow
