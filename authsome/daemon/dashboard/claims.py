"""The page on which a principal says whether an identity is its own: values in, page out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from authsome.daemon.dashboard import html, limits, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField, TokenFor
from authsome.models.principal import Principal

MOST_OFFERED: Final = 50  # principals to choose from; more are named instead


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimForm:
    """What is asked."""

    path: str
    """Where the question lies; its answers are posted below."""
    handle: str
    fingerprint: str
    asked_at: datetime
    now: datetime
    owners: Sequence[Principal]
    """For whom the answer may be; the one who answers first. Beyond `MOST_OFFERED` they are not all."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What was filled in before."""
    problem: str | None = None


def content(form: ClaimForm, token_for: TokenFor) -> Html:
    """Handle and fingerprint, to be compared with what the terminal shows; yes within limits, or no."""
    owner = _owner(form)
    within = html.render(
        "options",
        name="Limit what it may do",
        fields=limits.fields(form.given),
        open=Html(" open") if form.given else None,
    )
    answer = html.join([owner or Html(""), within, html.render("actions", content=shell.button("Yes, it is mine"))])
    return html.render(
        "claim",
        handle=form.handle,
        fingerprint=form.fingerprint,
        asked=times.moment(form.asked_at, form.now),
        problem=shell.problem(form.problem),
        confirm=shell.post(token_for, f"{form.path}/confirm", answer, kind="narrow"),
        refuse=shell.post(token_for, f"{form.path}/refuse", shell.button("No, refuse it", "quiet"), kind="narrow"),
    )


def _owner(form: ClaimForm) -> Html | None:
    given = form.given.get("owner", "")
    if len(form.owners) > MOST_OFFERED:
        hint = "empty: for yourself; or the name of a principal for programs"
        return shell.text_field(TextField(name="owner", label="For", value=given, hint=hint, required=False))
    if len(form.owners) > 1:
        return shell.select("owner", "For", {each.id: each.name for each in form.owners}, given)
    return None


def claimed(handle: str, owner: str, within: str) -> Html:
    """It was answered with yes, for whom and within which limits."""
    return html.render("claimed", handle=handle, owner=owner, limits=html.sentence(within))


def refused() -> Html:
    """It was answered with no."""
    return html.render("refused")
