"""The log's page: what happened, filtered, page by page; whether the record is whole. Values in, page out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.daemon.dashboard import html, pieces, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField, TokenFor
from authsome.models.audit import Entry, Event, Recorded

PATH: Final = "/audit"
CHAIN: Final = "/ui/audit/chain"
EXPORT: Final = "/ui/audit/export"
PAGE: Final = 50  # entries
MOST_EXPORTED: Final = 20_000  # entries in one file from here: some 10 MB

_BAD: Final = frozenset(
    {Event.DENIED, Event.HONEYTOKEN, Event.LOG_DAMAGED, Event.LOGIN_FAILED, Event.REFRESH_FAILED, Event.REVOKE_FAILED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A page of the log."""

    entries: Sequence[Recorded]
    query: Mapping[str, str]
    """What was asked for: `event`, `provider`, `identity`, `since`."""
    more: bool
    """Whether older ones fit."""
    is_newest: bool
    """Whether it begins with the newest."""
    sees_all: bool
    """Whether it is everybody's, as an admin sees it."""
    names: Mapping[str, str]
    """Principals that have names here, by id."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How far a check of the chain has come."""

    begins: int
    reached: int
    last: int
    flaw: str | None
    is_done: bool


def content(view: Log, token_for: TokenFor) -> Html:
    """Filters, entries, and what can be done with the whole."""
    query = dict(view.query)
    fields = [
        shell.select("event", "Event", {"": "All", **{each: each for each in Event}}, query.get("event", "")),
        *(
            shell.text_field(TextField(name=name, label=label, kind=kind, value=query.get(name), required=False))
            for name, label, kind in (
                ("provider", "App", "search"),
                ("identity", "Identity", "search"),
                ("since", "Since", "date"),
            )
        ),
    ]
    entries = html.join(_entry(each, view) for each in view.entries)
    older = None
    if view.more:
        last = str(view.entries[-1].id)
        older = html.render("pager", links=pieces.link(pieces.address(PATH, {**query, "before": last}), "Older"))
    return html.render(
        "audit",
        fields=html.join(fields),
        scope=html.text("Everything that happened on this daemon." if view.sees_all else "What concerns you."),
        live=html.attribute("data-live", "log" if view.is_newest else None),
        entries=html.render("entries", rows=entries) if entries else html.render("nothing", text="No entry fits."),
        pager=older,
        newest=None if view.is_newest else pieces.link(pieces.address(PATH, query), "Newest"),
        check=shell.post(token_for, CHAIN, shell.button("Check it", "quiet small")) if view.sees_all else None,
        export=shell.post(token_for, EXPORT, _export(query), kind="inline"),
    )


def checked(check: Check, token_for: TokenFor) -> Html:
    """How far the check has come; while it is not done, a form that goes on, which our script presses by itself."""
    if check.flaw is not None:
        outcome = html.render("note", kind="bad", role="alert", text=html.sentence(check.flaw))
    elif check.is_done:
        words = html.sentence(f"all entries from {check.begins + 1:,} to {check.reached:,} are as they were written")
        outcome = html.render("note", kind="good", role="status", text=words)
    else:
        goes_on = html.join([shell.hidden("after", str(check.reached)), shell.button("Go on", "quiet")])
        outcome = html.render(
            "checking",
            reached=f"{check.reached:,}",
            last=f"{check.last:,}",
            form=shell.post(token_for, CHAIN, goes_on, submits=True),
        )
    return html.render("checked", outcome=outcome)


def _export(query: Mapping[str, str]) -> Html:
    return html.join([shell.hidden("since", query.get("since", "")), shell.button("Export", "quiet small")])


def _entry(recorded: Recorded, view: Log) -> Html:
    entry = recorded.entry
    what = "/".join(each for each in (entry.provider, entry.connection) if each)
    where = " ".join(each for each in (entry.method, f"{entry.host or ''}{entry.path or ''}") if each)
    details = [html.clipped(each, most) for each, most in ((what, 130), (where, 270), (entry.detail, 150)) if each]
    return html.render(
        "entry",
        key=str(recorded.id),
        event=pieces.tag(entry.event, "bad" if entry.event in _BAD else ""),
        at=times.moment(entry.at, view.now),
        who=_who(entry, view),
        details=html.join(details, between=Html(" · ")),
    )


def _who(entry: Entry, view: Log) -> Html:
    if entry.identity:
        return html.clipped(entry.identity, 64)
    if entry.principal:
        return html.clipped(view.names.get(entry.principal, entry.principal), 64)
    return html.text("nobody known" if entry.event is Event.DENIED else "the daemon")
