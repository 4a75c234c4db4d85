"""The settings' page: values in, page out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from authsome.daemon.dashboard import html, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField, TokenFor
from authsome.models.visit import DashboardSession, Way

PATH = "/ui/settings"
PASSWORD = PATH + "/password"
SESSION_END = PATH + "/sessions/{id}/end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the page shows."""

    sessions: Sequence[DashboardSession]
    present: DashboardSession
    """The one of this browser."""
    email: str | None
    has_password: bool
    now: datetime


def content(settings: Settings, token_for: TokenFor, *, email: str | None = None, problem: str | None = None) -> Html:
    """Password, and the browsers that are signed in."""
    rows = (_session(each, settings, token_for) for each in settings.sessions)
    return html.render(
        "settings",
        password=shell.post(token_for, PASSWORD, _password(settings, email, problem), kind="narrow"),
        lead=html.sentence(
            "a new password signs all other browsers out"
            if settings.has_password
            else "with a password you can sign in where the link of `authsome ui` cannot be opened"
        ),
        sessions=html.join(rows),
    )


def _password(settings: Settings, email: str | None, problem: str | None) -> Html:
    asks_present = settings.has_password and settings.present.way is Way.PASSWORD
    fields = [
        TextField(
            name="email",
            label="E-mail",
            kind="email",
            value=email if email is not None else settings.email,
            autocomplete="username",
        )
    ]
    if asks_present:
        fields.append(
            TextField(name="present", label="Present password", kind="password", autocomplete="current-password")
        )
    fields.append(
        TextField(
            name="password",
            label="New password" if settings.has_password else "Password",
            kind="password",
            hint="15 characters or more; several words in a row do",
            autocomplete="new-password",
        )
    )
    submit = shell.button("Change the password" if settings.has_password else "Set a password")
    shown = shell.problem(problem) or Html("")
    return html.join([shown, *map(shell.text_field, fields), html.render("actions", content=submit)])


def _session(session: DashboardSession, settings: Settings, token_for: TokenFor) -> Html:
    is_present = session.id == settings.present.id
    end = shell.post(token_for, SESSION_END.format(id=session.id), shell.button("Sign out", "quiet small"))
    by = f"link of {session.identity}" if session.way is Way.LINK else "password"
    return html.render(
        "session",
        browser=session.browser.name,
        here=html.render("tag", kind="good", text="this browser") if is_present else None,
        by=by,
        address=session.browser.address,
        since=times.moment(session.created_at, settings.now),
        seen=times.moment(session.seen_at, settings.now),
        end=None if is_present else end,
    )
