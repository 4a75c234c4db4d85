"""The runs' page: what gets credentials now, as it goes on; values in, page out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from authsome.daemon.dashboard import html, identities, pieces, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TokenFor
from authsome.models.connection import DEFAULT_CONNECTION
from authsome.models.run import Run

PATH: Final = "/ui/runs"
STOP: Final = PATH + "/{run}/stop"
PAGE: Final = 20  # runs, with a form each
_MOST_NAMED: Final = 3  # connections of a run

Uses = Mapping[tuple[str, str], int]
"""How often each connection was used, by provider and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What the page shows."""

    runs: Sequence[Run]
    """Those of the page, the newest first."""
    total: int
    """How many there are."""
    page: int
    uses: Mapping[str, Uses]
    """By run's id."""
    now: datetime


def brief(run: Run, now: datetime) -> Html:
    """A row for the overview."""
    only = html.join([Html("; only "), html.enumerated(sorted(run.only))]) if run.only else None
    return html.render(
        "run_row",
        key=run.id,
        command=_command(run),
        identity=run.identity,
        since=times.moment(run.created_at, now),
        only=only,
    )


def content(view: Live, token_for: TokenFor) -> Html:
    """Each run with whose it is, what it has used, and a way to stop it."""
    rows = html.join(_row(each, view, token_for) for each in view.runs)
    nothing = pieces.empty("No command is running. Start one:", "authsome run -- COMMAND")
    return html.render(
        "runs",
        count=html.counted(view.total, "live run"),
        list=pieces.rows(rows, page=view.page, otherwise=nothing),
        pager=pieces.pager(PATH, {}, page=view.page, size=PAGE, total=view.total),
    )


def _row(run: Run, view: Live, token_for: TokenFor) -> Html:
    now = view.now
    facts = [
        html.render("worded", word="since", moment=times.moment(run.created_at, now)),
        html.render("worded", word="ends at the latest", moment=times.moment(run.expires_at, now))
        if run.expires_at
        else None,
        html.join([Html("only "), html.enumerated(sorted(run.only), _MOST_NAMED)]) if run.only else None,
        html.join(
            [
                Html("with "),
                html.enumerated([f"{name}={chosen}" for name, chosen in sorted(run.pinned.items())], _MOST_NAMED),
            ]
        )
        if run.pinned
        else None,
    ]
    return html.render(
        "run_live_row",
        key=run.id,
        url=identities.place(run.identity),
        identity=run.identity,
        command=_command(run),
        marks=pieces.tag("in another run") if run.inside else None,
        facts=html.join((each for each in facts if each is not None), between=Html(" · ")),
        used=_used(view.uses.get(run.id, {})),
        stop=html.render(
            "act",
            name="Stop",
            text="It gets no further credential, nor do runs that were begun within it.",
            form=shell.post(
                token_for, STOP.format(run=quote(run.id, safe="")), shell.button("Stop this run", "danger small")
            ),
        ),
    )


def _command(run: Run) -> Html | None:
    return html.render("command", name=html.clipped(run.command, 200)) if run.command else None


def _used(uses: Uses) -> Html:
    total = sum(uses.values())
    if total == 0:
        return Html("no request has got a credential yet")
    most = sorted(uses.items(), key=lambda each: (-each[1], each[0]))[:_MOST_NAMED]
    named = [
        html.render(
            "used",
            code=html.render("code", text=provider if name == DEFAULT_CONNECTION else f"{provider}/{name}"),
            number=f"{number:,}",
        )
        for (provider, name), number in most
    ]
    if len(uses) > len(most):
        named.append(html.text(f"and {html.counted(len(uses) - len(most), 'more connection')}"))
    words = html.text(f"{html.counted(total, 'request')} with a credential: ")
    return html.join([words, html.join(named, between=Html(", "))])
