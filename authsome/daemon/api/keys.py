"""Endpoints for the keys of the store: renewed, and moved from one source to another; for admins."""

from typing import Final

from authsome.broker.rekeying import State
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import NotAllowed, RequestInvalid, StorageFailed, UsageError, VaultUnusable
from authsome.home import decode_key
from authsome.vault.master_key import Source

_SOURCE: Final[views.JsonObject] = {"type": "string", "enum": list(Source)}
_STATE: Final = views.shape(
    {
        "running": views.BOOLEAN,
        "total": views.INTEGER,
        "done": views.INTEGER,
        "damaged": views.INTEGER,
        "problem": views.OPTIONAL_TEXT,
        "source": _SOURCE,
    }
)


class KeysApi(Endpoints):
    """What an admin can have done to keys."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="POST",
                template="/admin/rekey",
                handler=self.rekey,
                access=Access.PROOF,
                summary="Change the master key, and begin to seal everything with new keys; for admins",
                request=views.shape(
                    {},
                    {"to": _SOURCE, "key": views.TEXT, "passphrase": views.TEXT, "master_only": views.BOOLEAN},
                ),
                response=_STATE,
                status=202,
                errors=(NotAllowed, RequestInvalid, StorageFailed, UsageError, VaultUnusable),
            ),
            Endpoint(
                method="GET",
                template="/admin/rekey",
                handler=self.state,
                access=Access.PROOF,
                summary="How far a rekey has come: how many values are sealed with the new keys; for admins",
                response=_STATE,
                errors=(NotAllowed,),
            ),
        )

    def rekey(self, call: Call) -> Response:
        """POST /admin/rekey."""
        body = call.request.json()
        wanted, key = body.optional_text("to"), body.optional_secret("key")
        passphrase, master_only = body.optional_secret("passphrase"), body.boolean("master_only")
        body.done()
        if wanted is not None and wanted not in set(Source):
            raise RequestInvalid('field "to" names no source of keys', hint=f"one of {', '.join(Source)}")
        state = self._broker.rekeying.begin(
            call.caller,
            source=None if wanted is None else Source(wanted),
            key=None if key is None else decode_key(key.reveal(), what="the new master key"),
            passphrase=passphrase,
            master_only=master_only,
        )
        return json_response(self._view(state), status=202)

    def state(self, call: Call) -> Response:
        """GET /admin/rekey."""
        return json_response(self._view(self._broker.rekeying.state(call.caller)))

    def _view(self, state: State) -> views.JsonObject:
        return {
            "running": state.is_running,
            "total": state.progress.total,
            "done": state.progress.done,
            "damaged": state.progress.damaged,
            "problem": state.problem,
            "source": self._broker.rekeying.age().source,
        }
