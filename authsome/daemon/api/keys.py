"""Endpoints for the keys of the store, renewed and moved, and for backups that hold them; for admins."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from authsome.broker.broker import Broker
from authsome.broker.rekeying import State
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import NotAllowed, RequestInvalid, StorageFailed, UsageError, VaultUnusable
from authsome.home import decode_key
from authsome.vault.backup import Lock
from authsome.vault.key_sources.source import Source

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

    def __init__(self, broker: Broker, *, step_aside: Callable[[], None]) -> None:
        """Take the use cases, and what a thread calls that is going to take long."""
        super().__init__(broker)
        self._step_aside = step_aside

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
            Endpoint(
                method="POST",
                template="/admin/backup",
                handler=self.backup,
                access=Access.PROOF,
                summary="Write everything into one encrypted file (age) on the daemon's machine; for admins",
                request=views.shape(
                    {"file": views.TEXT},
                    {
                        "recipients": views.TEXTS,
                        "passphrase": views.TEXT,
                        "identities": views.BOOLEAN,
                        "force": views.BOOLEAN,
                    },
                ),
                response=views.shape(
                    {
                        "file": views.TEXT,
                        "created_at": views.TEXT,
                        "master_key": _SOURCE,
                        "has_key": views.BOOLEAN,
                        "identities": views.TEXTS,
                    }
                ),
                errors=(NotAllowed, RequestInvalid, StorageFailed, UsageError),
            ),
        )

    def rekey(self, call: Call) -> Response:
        """POST /admin/rekey."""
        body = call.request.json()
        wanted, key = body.optional_text("to"), body.optional_secret("key")
        passphrase, master_only = body.optional_secret("passphrase"), body.boolean("master_only")
        body.done()
        self._step_aside()  # Argon2id, and a keyring may ask its user
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

    def backup(self, call: Call) -> Response:
        """POST /admin/backup."""
        body = call.request.json()
        path, recipients = body.text("file"), body.strings("recipients")
        passphrase, with_identities = body.optional_secret("passphrase"), body.boolean("identities", default=True)
        force = body.boolean("force")
        body.done()
        if not path.startswith("/"):
            raise RequestInvalid('field "file" must be an absolute path')
        self._step_aside()
        manifest = self._broker.backups.write(
            call.caller,
            Path(path),
            Lock(recipients=recipients, passphrase=passphrase),
            with_identities=with_identities,
            force=force,
        )
        return json_response(
            {
                "file": path,
                "created_at": manifest.created_at,
                "master_key": manifest.master_key,
                "has_key": manifest.has_key,
                "identities": list(manifest.identities),
            }
        )

    def _view(self, state: State) -> views.JsonObject:
        return {
            "running": state.is_running,
            "total": state.progress.total,
            "done": state.progress.done,
            "damaged": state.progress.damaged,
            "problem": state.problem,
            "source": self._broker.rekeying.age().source,
        }
