"""The overview: what is connected, who uses it, what needs somebody; values in, page out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authsome.broker.identities import Listed
from authsome.broker.usage import Day
from authsome.daemon.dashboard import connections, html, identities, pieces, runs
from authsome.daemon.dashboard.connections import Shown
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TokenFor
from authsome.models.run import Run

SHOWN: Final = 8  # rows of a list; the rest has pages of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the page shows."""

    wanting: Sequence[Shown]
    """Some of those that want somebody."""
    number_wanting: int
    recent: Sequence[Shown]
    """Some of those that were used last."""
    number: int
    """How many connections there are."""
    days: Sequence[Day]
    runs: Sequence[Run]
    identities: Sequence[Listed]
    """Some of the principal's, those that may act first."""
    now: datetime


def content(view: Overview, token_for: TokenFor) -> Html:
    """What needs somebody first; then use, connections, runs and identities."""
    now = view.now
    return html.render(
        "overview",
        attention=_attention(view, token_for),
        chart=pieces.chart(view.days),
        all_connections=pieces.link(connections.PATH, f"All {view.number}") if view.number > SHOWN else None,
        connections=_rows([connections.row(each, now) for each in view.recent]) or connections.nothing(),
        all_runs=pieces.link(runs.PATH, "All"),
        all_identities=pieces.link(identities.PATH, "All"),
        runs=_rows([runs.brief(each, now) for each in view.runs])
        or pieces.empty("No command is running. Start one:", "authsome run -- COMMAND"),
        identities=_rows([identities.row(each, now) for each in identities.acting(view.identities, now)])
        or pieces.empty("No identity may act for you. Have one ask you:", "authsome identity claim"),
    )


def _attention(view: Overview, token_for: TokenFor) -> Html | None:
    if not view.wanting:
        return None
    rows = [connections.row(each, view.now, mend=token_for) for each in view.wanting]
    if view.number_wanting > len(view.wanting):
        more = f"{view.number_wanting - len(view.wanting)} more"
        rows.append(html.render("row", content=pieces.link(f"{connections.PATH}?state=attention", more)))
    return html.render("attention", rows=html.join(rows))


def _rows(rows: Sequence[Html]) -> Html | None:
    return html.render("rows", rows=html.join(rows)) if rows else None
