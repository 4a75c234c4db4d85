"""Endpoints about the daemon itself and its callers."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from authsome import __version__
from authsome.broker.broker import Broker
from authsome.daemon import gate
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What the daemon says of itself."""

    url: str
    build: str
    home: str


class System(Endpoints):
    """Health, the caller, and the end."""

    def __init__(self, broker: Broker, nameplate: Nameplate, stop: Callable[[], None]) -> None:
        super().__init__(broker)
        self._nameplate = nameplate
        self._stop = stop

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        build = {"version": views.TEXT, "build": views.TEXT}
        daemon = views.shape({"url": views.TEXT, "pid": views.INTEGER, **build})
        return (
            Endpoint(
                method="GET",
                template=gate.HEALTH,
                handler=self.health,
                access=Access.OPEN,
                summary="Whether the daemon is alive",
                response=views.shape({"status": views.TEXT, **build}),
            ),
            Endpoint(
                method="GET",
                template="/ready",
                handler=self.ready,
                access=Access.PROOF,
                summary="Whether the whole vault can be read, which it does; where its master key is; how old keys are",
                response=views.shape(
                    {
                        "status": views.TEXT,
                        "database": views.TEXT,
                        "master_key": views.TEXT,
                        "master_key_at": views.TEXT,
                        "vault_key_at": views.OPTIONAL_TEXT,
                    }
                ),
            ),
            Endpoint(
                method="GET",
                template="/whoami",
                handler=self.whoami,
                access=Access.PROOF,
                summary="The calling identity, its principal, and this daemon",
                response=views.shape(
                    {
                        "identity": views.IDENTITY,
                        "principal": views.PRINCIPAL,
                        "limits": views.LIMITS,
                        "daemon": daemon,
                        "home": views.OPTIONAL_TEXT,
                    }
                ),
            ),
            Endpoint(
                method="POST",
                template="/daemon/stop",
                handler=self.stop,
                access=Access.PROOF,
                summary="Finish the requests in flight and stop",
                status=202,
            ),
        )

    def health(self, _call: Call) -> Response:
        """GET /health."""
        return gate.health(self._nameplate.build)

    def ready(self, call: Call) -> Response:
        """GET /ready."""
        call.caller.require_admin("only an admin may have the whole vault read")
        problems = self._broker.context.database.check()
        keys = self._broker.rekeying.age()
        return json_response(
            {
                "status": "failing" if problems else "ok",
                "database": "; ".join(problems[:5]) or "ok",
                "master_key": keys.source,
                "master_key_at": views.time(keys.master_key_at),
                "vault_key_at": None if keys.vault_key_at is None else views.time(keys.vault_key_at),
            },
            status=503 if problems else 200,
        )

    def whoami(self, call: Call) -> Response:
        """GET /whoami."""
        plate = self._nameplate
        daemon = {"url": plate.url, "version": __version__, "build": plate.build, "pid": os.getpid()}
        home = plate.home if call.caller.is_admin else None  # nobody else's business, where the daemon is shared
        return json_response({**views.caller(call.caller), "daemon": daemon, "home": home})

    def stop(self, call: Call) -> Response:
        """POST /daemon/stop."""
        call.caller.require_admin("only an admin may stop the daemon")
        self._stop()
        return Response(status=202)
