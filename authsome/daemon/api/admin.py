"""Endpoints for what concerns the whole vault."""

from pathlib import Path

from authsome.broker.upstream import Report
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import NotAllowed, RequestInvalid, UnsafeFile, VaultUnusable

_ITEM = views.shape(
    {
        "what": views.TEXT,
        "provider": views.TEXT,
        "connection": views.OPTIONAL_TEXT,
        "outcome": views.TEXT,
        "reason": views.OPTIONAL_TEXT,
    }
)


class AdminApi(Endpoints):
    """What an admin can have done."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="POST",
                template="/admin/import-upstream",
                handler=self.import_upstream,
                access=Access.PROOF,
                summary="Take over the connections, OAuth clients and definitions in a home of upstream authsome",
                request=views.shape(
                    {"directory": views.TEXT},
                    {"master_key_file": views.TEXT, "force": views.BOOLEAN, "dry_run": views.BOOLEAN},
                ),
                response=views.shape(
                    {
                        "release": views.TEXT,
                        "dry_run": views.BOOLEAN,
                        "items": views.array(_ITEM),
                        "unreadable": views.TEXTS,
                        "foreign": views.INTEGER,
                    }
                ),
                errors=(NotAllowed, RequestInvalid, UnsafeFile, VaultUnusable),
            ),
        )

    def import_upstream(self, call: Call) -> Response:
        """POST /admin/import-upstream."""
        body = call.request.json()
        directory, key_file = body.text("directory"), body.optional_text("master_key_file")
        force, rehearse = body.boolean("force"), body.boolean("dry_run")
        body.done()
        report = self._broker.upstream.run(
            call.caller,
            _absolute("directory", directory),
            master_key_file=_absolute("master_key_file", key_file) if key_file else None,
            force=force,
            rehearse=rehearse,
        )
        return json_response(_report(report))


def _absolute(name: str, text: str) -> Path:
    if not text.startswith("/"):
        raise RequestInvalid(f'field "{name}" must be an absolute path')
    return Path(text)


def _report(report: Report) -> views.JsonObject:
    return {
        "release": report.release,
        "dry_run": report.is_rehearsal,
        "items": [
            {
                "what": item.what,
                "provider": item.provider,
                "connection": item.name or None,
                "outcome": item.outcome,
                "reason": item.reason or None,
            }
            for item in report.items
        ],
        "unreadable": list(report.unreadable),
        "foreign": report.foreign,
    }
