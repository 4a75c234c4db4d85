"""The log in the dashboard: looked through, checked, exported. An admin sees all of it, anybody else their own."""

import time
from datetime import UTC, datetime, timedelta

from authsome.broker.audit_log import PAGE as EXPORT_PAGE
from authsome.daemon.api.call import Handler as CallHandler
from authsome.daemon.dashboard import audit as pages
from authsome.daemon.messages import Response
from authsome.daemon.router import Endpoint
from authsome.daemon.web.visits import Pages, Visitor, searched
from authsome.errors import RequestInvalid, RequestTooLarge
from authsome.models import log_export
from authsome.models.audit import Event
from authsome.models.chain import Flaw
from authsome.vault import audit

_LARGEST = 2**62
_CHECKING = timedelta(milliseconds=500)  # a step of a check, so that a page comes soon


class AuditPages(Pages):
    """What happened, and whether the record of it is whole."""

    def endpoints(self) -> tuple[Endpoint[CallHandler], ...]:
        """See `Endpoints`."""
        endpoint = self._visits.endpoint
        return (
            endpoint("GET", pages.PATH, self.show, "The log"),
            endpoint("POST", pages.CHAIN, self.check, "Check the log's chain, a step of it"),
            endpoint("POST", pages.EXPORT, self.export, "Export the log, as lines of JSON that can be checked"),
        )

    def show(self, visitor: Visitor) -> Response:
        """GET /audit."""
        asked = visitor.query()
        query = searched(asked, "event", "provider", "identity", "since")
        before = asked.integer("before", minimum=1, maximum=_LARGEST)
        asked.done()
        if query["event"] not in {"", *Event}:
            raise RequestInvalid("there is no such event")
        filters = audit.Filter(
            event=Event(query["event"]) if query["event"] else None,
            provider=query["provider"] or None,
            identity=query["identity"] or None,
            since=_day(query["since"]) if query["since"] else None,
        )
        caller = visitor.caller
        self._broker.spools.take_all()
        with self._broker.context.database.read() as reader:
            found = audit.page(
                reader,
                None if caller.is_admin else caller.vault_id,
                filters,
                before_id=before,
                limit=pages.PAGE + 1,
            )
        shown = {each.entry.principal for each in found if each.entry.principal is not None}
        known = self._broker.principals.named(caller, shown)
        view = pages.Log(
            entries=found[: pages.PAGE],
            query=query,
            more=len(found) > pages.PAGE,
            is_newest=before is None,
            sees_all=caller.is_admin,
            names={each.id: each.email or each.name for each in known},
            now=visitor.now,
        )
        return visitor.page("Log", pages.content(view, visitor.token_for))

    def check(self, visitor: Visitor) -> Response:
        """POST /ui/audit/chain."""
        after = visitor.form.integer("after", minimum=0, maximum=_LARGEST)
        visitor.form.done()
        visitor.caller.require_admin()
        if after is None:
            self._broker.spools.take_all()
        deadline = time.monotonic() + _CHECKING.total_seconds()
        progress = self._broker.audit_log.verify(after)
        while not progress.is_done and progress.flaw is None and time.monotonic() < deadline:
            progress = self._broker.audit_log.verify(progress.reached)
        flaw = progress.flaw
        check = pages.Check(
            begins=progress.begins,
            reached=progress.reached,
            last=progress.last,
            flaw=_said(flaw) if flaw else None,
            is_done=progress.is_done,
        )
        return visitor.page("Check of the log", pages.checked(check, visitor.token_for), place=pages.PATH)

    def export(self, visitor: Visitor) -> Response:
        """POST /ui/audit/export."""
        since = visitor.form.optional_text("since")
        visitor.form.done()
        caller, log = visitor.caller, self._broker.audit_log
        self._broker.spools.take_all()
        begun = log.begin_export(caller, _day(since) if since else None)
        if begun.ends.id - begun.begins.id > pages.MOST_EXPORTED:
            raise RequestTooLarge(
                f"that is more than {pages.MOST_EXPORTED:,} entries",
                hint="choose a later day, or use `authsome log export`",
            )
        lines: list[str] = [log_export.render(begun.header.to_json())]
        after = begun.begins.id
        while page := log.export_page(caller, after=after, upto=begun.ends.id, limit=EXPORT_PAGE):
            lines += (log_export.render(each) for each in page)
            last = page[-1]["id"]
            assert isinstance(last, int)
            after = last
        if begun.checkpoint is not None:
            lines.append(log_export.render(begun.checkpoint.to_json()))
        name = f"authsome-log-{visitor.now:%Y%m%d-%H%M%S}.ndjson"
        return Response(
            status=200,
            content_type="application/x-ndjson",
            body="".join(f"{line}\n" for line in lines).encode(),
            headers=(("Content-Disposition", f'attachment; filename="{name}"'),),
        )


def _said(flaw: Flaw) -> str:
    """What is wrong, and where, if that is not said in the same words."""
    return flaw.problem if "entr" in flaw.problem or not flaw.entry else f"entry {flaw.entry:,}: {flaw.problem}"


def _day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise RequestInvalid('field "since" must be a day, as in 2026-01-31') from error
