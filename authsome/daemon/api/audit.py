"""Endpoints of the log: a page of it, a check of it, an export."""

from authsome.broker.audit_log import PAGE as EXPORT_PAGE
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import RequestInvalid
from authsome.identity.did import did_from_public_key
from authsome.models.audit import Event
from authsome.vault import audit

PAGE = 200  # entries of the log in one answer, at most
_LARGEST = 2**62


class AuditApi(Endpoints):
    """What happened, and whether the record of it is whole."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="GET",
                template="/audit/events",
                handler=self.events,
                access=Access.PROOF,
                summary="The log, newest first; `before` is the id that the next page begins below",
                query={
                    "limit": views.INTEGER,
                    "before": views.INTEGER,
                    "event": views.TEXT,
                    "provider": views.TEXT,
                    "identity": views.TEXT,
                    "since": views.TEXT,
                },
                response=views.shape({"events": views.array(views.EVENT)}),
            ),
            Endpoint(
                method="GET",
                template="/audit/verification",
                handler=self.verify,
                access=Access.PROOF,
                summary="Check the next stretch of the log's chain, `after` the entry that was `reached` before;"
                " `known` is an entry whose mark is asked for, to be compared with the one told when it was `reached`",
                query={"after": views.INTEGER, "known": views.INTEGER},
                response=views.shape(
                    {
                        "begins_after": views.INTEGER,
                        "before_chain": views.INTEGER,
                        "reached": views.INTEGER,
                        "mark": views.TEXT,
                        "known_mark": views.OPTIONAL_TEXT,
                        "last": views.INTEGER,
                        "checkpoints": views.INTEGER,
                        "done": views.BOOLEAN,
                        "flaw": {
                            "anyOf": [views.shape({"entry": views.INTEGER, "problem": views.TEXT}), {"type": "null"}]
                        },
                        "key": views.TEXT,
                    }
                ),
            ),
            Endpoint(
                method="POST",
                template="/audit/exports",
                handler=self.begin_export,
                access=Access.PROOF,
                summary="Begin an export: its first and last line; for others than admins, of their own entries",
                request=views.shape({}, {"since": views.OPTIONAL_TEXT}),
                response=views.shape(
                    {
                        "after": views.INTEGER,
                        "upto": views.INTEGER,
                        "header": {"type": "object"},
                        "checkpoint": {"type": ["object", "null"]},
                    }
                ),
                status=201,
            ),
            Endpoint(
                method="GET",
                template="/audit/exports",
                handler=self.export,
                access=Access.PROOF,
                summary="The lines of an export that has begun, oldest first, `after` the last one that came",
                query={"after": views.INTEGER, "upto": views.INTEGER, "limit": views.INTEGER},
                response=views.shape({"entries": views.array({"type": "object"})}),
            ),
        )

    def events(self, call: Call) -> Response:
        """GET /audit/events."""
        query = call.request.query_fields()
        limit = query.integer("limit", minimum=1, maximum=PAGE) or 50
        before = query.integer("before", minimum=1, maximum=2**62)
        event, since = query.optional_text("event"), query.moment("since")
        provider, identity = query.optional_text("provider"), query.optional_text("identity")
        query.done()
        if event is not None and event not in set(Event):
            raise RequestInvalid(f"there is no event {event[:64]}", hint=_nearest(event))
        caller = call.caller
        if not caller.limits.is_none:  # it sees what it did itself
            if identity not in {None, caller.handle}:
                return json_response({"events": []})
            identity = caller.handle
        self._broker.spools.take_all()
        with self._broker.context.database.read() as reader:
            page = audit.page(
                reader,
                None if caller.is_admin else caller.vault_id,  # refused callers belong to no vault
                audit.Filter(
                    event=Event(event) if event is not None else None,
                    provider=provider,
                    identity=identity,
                    since=since,
                    tells_decoys=not caller.limits.is_narrow,
                ),
                before_id=before,
                limit=limit,
            )
        return json_response({"events": [views.event(each) for each in page]})

    def verify(self, call: Call) -> Response:
        """GET /audit/verification."""
        query = call.request.query_fields()
        after = query.integer("after", minimum=0, maximum=_LARGEST)
        known = query.integer("known", minimum=0, maximum=_LARGEST)
        query.done()
        log = self._broker.audit_log
        if after is None:
            self._broker.spools.take_all()
        progress = log.verify(after)
        flaw = progress.flaw
        return json_response(
            {
                "begins_after": progress.begins,
                "before_chain": progress.before_chain,
                "reached": progress.reached,
                "mark": progress.mark,
                "known_mark": log.mark_of(known) if known is not None else None,
                "last": progress.last,
                "checkpoints": progress.signed,
                "done": progress.is_done,
                "flaw": {"entry": flaw.entry, "problem": flaw.problem} if flaw else None,
                "key": did_from_public_key(log.public),
            }
        )

    def begin_export(self, call: Call) -> Response:
        """POST /audit/exports."""
        body = call.request.json()
        since = body.moment("since")
        body.done()
        self._broker.spools.take_all()
        begun = self._broker.audit_log.begin_export(call.caller, since)
        checkpoint = begun.checkpoint
        return json_response(
            {
                "after": begun.begins.id,
                "upto": begun.ends.id,
                "header": begun.header.to_json(),
                "checkpoint": checkpoint.to_json() if checkpoint else None,
            },
            status=201,
        )

    def export(self, call: Call) -> Response:
        """GET /audit/exports."""
        query = call.request.query_fields()
        after = query.integer("after", minimum=0, maximum=_LARGEST) or 0
        upto = query.integer("upto", minimum=0, maximum=_LARGEST) or 0
        limit = query.integer("limit", minimum=1, maximum=EXPORT_PAGE) or EXPORT_PAGE
        query.done()
        lines = self._broker.audit_log.export_page(call.caller, after=after, upto=upto, limit=limit)
        return json_response({"entries": lines})


def _nearest(event: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # 4 ms that only a mistake should cost

    near = get_close_matches(event[:64], list(Event), n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(Event)}"
