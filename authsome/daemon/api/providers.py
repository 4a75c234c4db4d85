"""Endpoints for the definitions of providers."""

from typing import Final

from authsome.broker.providers import Review
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import ConnectionExists, NotAllowed, ProviderExists, ProviderInvalid, ProviderNotFound
from authsome.message import clean_line
from authsome.models.provider import definition_to_json

_ONE: Final = "/providers/{provider}"
_REVIEW: Final = views.shape(
    {
        "provider": views.TEXT,
        "display_name": views.TEXT,
        "source": views.TEXT,
        "replaced": views.OPTIONAL_TEXT,
        "registered": views.BOOLEAN,
        "hosts": views.TEXTS,
        "new_hosts": views.TEXTS,
        "endpoints": views.TEXTS,
        "allow_private_addresses": views.BOOLEAN,
        "variables": views.TEXT_MAP,
        "environment": views.TEXTS,
        "connections": views.TEXTS,
        "connections_of_others": views.INTEGER,
        "forgets_client": views.BOOLEAN,
        "path": views.TEXT,
    }
)


class ProvidersApi(Endpoints):
    """What can be asked of and done to definitions."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="GET",
                template="/providers",
                handler=self.list_all,
                access=Access.PROOF,
                summary="Every provider that is known",
                response=views.shape(
                    {
                        "providers": views.array(
                            views.shape(
                                {
                                    "name": views.TEXT,
                                    "display_name": views.TEXT,
                                    "source": views.TEXT,
                                    "auth_type": views.OPTIONAL_TEXT,
                                    "flow": views.OPTIONAL_TEXT,
                                    "flows": views.TEXTS,
                                    "problem": views.OPTIONAL_TEXT,
                                }
                            )
                        )
                    }
                ),
            ),
            Endpoint(
                method="GET",
                template=_ONE,
                handler=self.get,
                access=Access.PROOF,
                summary="A provider's definition and where it comes from",
                response=views.shape(
                    {"source": views.TEXT, "path": views.OPTIONAL_TEXT, "definition": {"type": "object"}}
                ),
                errors=(ProviderNotFound,),
            ),
            Endpoint(
                method="POST",
                template="/providers",
                handler=self.register,
                access=Access.PROOF,
                summary="Look a definition through; with `confirmed`, put it among the custom ones",
                request=views.shape(
                    {"definition": views.TEXT},
                    {
                        "source": views.TEXT,
                        "confirmed": views.BOOLEAN,
                        "force": views.BOOLEAN,
                        "allow_private_addresses": views.BOOLEAN,
                    },
                ),
                response=_REVIEW,
                errors=(ProviderInvalid, ProviderExists, NotAllowed),
            ),
            Endpoint(
                method="DELETE",
                template=_ONE,
                handler=self.remove,
                access=Access.PROOF,
                summary="Drop a custom definition; with `forget`, also what is connected under its name",
                query={"forget": views.BOOLEAN},
                response=views.shape(
                    {
                        "provider": views.TEXT,
                        "source": views.TEXT,
                        "restored": views.BOOLEAN,
                        "forgotten": views.array(views.CONNECTION),
                        "unregistered": {"type": ["boolean", "null"]},
                    }
                ),
                errors=(ProviderNotFound, ConnectionExists, NotAllowed),
            ),
        )

    def list_all(self, _call: Call) -> Response:
        """GET /providers."""
        return json_response(
            {
                "providers": [
                    {
                        "name": listed.name,
                        "display_name": listed.provider.display_name if listed.provider else listed.name,
                        "source": listed.source,
                        "auth_type": listed.provider.auth_type if listed.provider else None,
                        "flow": listed.provider.flow if listed.provider else None,
                        "flows": list(listed.provider.flows) if listed.provider else [],
                        "problem": listed.problem.message if listed.problem else None,
                    }
                    for listed in self._broker.context.catalog.all()
                ]
            }
        )

    def get(self, call: Call) -> Response:
        """GET /providers/{provider}."""
        name = call.values["provider"]
        catalog = self._broker.context.catalog
        found, entry = catalog.get(name), catalog.entry(name)
        return json_response(
            {
                "source": entry.source,
                "path": str(entry.path) if call.caller.is_admin else None,  # of the daemon's machine
                "definition": definition_to_json(found),
            }
        )

    def register(self, call: Call) -> Response:
        """POST /providers."""
        body = call.request.json()
        data = body.document("definition").encode()
        source = clean_line(body.optional_text("source") or "definition", 80)
        confirmed, force = body.boolean("confirmed"), body.boolean("force")
        private = body.boolean("allow_private_addresses")
        body.done()
        providers = self._broker.providers
        if confirmed:
            review = providers.register(call.caller, data, source=source, force=force, allow_private_addresses=private)
        else:
            review = providers.examine(call.caller, data, source=source, force=force)
        return json_response(self._review(review, registered=confirmed))

    def remove(self, call: Call) -> Response:
        """DELETE /providers/{provider}."""
        query = call.request.query_fields()
        forget = query.boolean("forget")
        query.done()
        removed = self._broker.providers.remove(call.caller, call.values["provider"], forget=forget)
        now = self._broker.context.clock()
        return json_response(
            {
                "provider": removed.name,
                "source": removed.source,
                "restored": removed.restored,
                "forgotten": [views.connection(each, now) for each in removed.forgotten],
                "unregistered": removed.unregistered,
            }
        )

    def _review(self, review: Review, *, registered: bool) -> views.JsonObject:
        """What a definition would be allowed to do, for whoever has to agree to it."""
        provider = review.provider
        return {
            "provider": provider.name,
            "display_name": provider.display_name,
            "source": review.source,
            "replaced": review.replaced,
            "registered": registered,
            "hosts": list(provider.api_url),
            "new_hosts": list(review.new_hosts),
            "endpoints": list(provider.endpoints),
            "allow_private_addresses": provider.allow_private_addresses,
            "variables": {each.name: each.default or "" for each in provider.variables},
            "environment": [each.name for each in provider.export.env],
            "connections": [each.name for each in review.connections],
            "connections_of_others": review.others,
            "forgets_client": review.forgets_client,
            "path": str(self._broker.context.catalog.custom_path(provider.name)),
        }
