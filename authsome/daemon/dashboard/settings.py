"""The settings' page: values in, page out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from authsome.broker.rekeying import Age
from authsome.daemon.dashboard import html, pieces, principals, providers, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField, TokenFor
from authsome.models.visit import DashboardSession, Way

PATH = "/ui/settings"
SESSIONS: Final = 20  # of a page
PASSWORD = PATH + "/password"
SESSION_END = PATH + "/sessions/{id}/end"

_SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "environment": "in the environment",
        "file": "in a file in the home of the daemon",
        "keyring": "in the keyring of the system",
        "passphrase": "made from a passphrase",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the page shows."""

    sessions: Sequence[DashboardSession]
    """Some of them, the last used first."""
    total: int
    """How many there are."""
    page: int
    present: DashboardSession
    """The one of this browser."""
    email: str | None
    has_password: bool
    is_fresh: bool
    """Whether a link has opened this browser's just now, which stands for the present password."""
    administered: "Administered | None"
    """What is an admin's to see; None for anybody else."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Administered:
    """What counts for everybody."""

    age: Age
    """Of the keys."""
    providers: int
    """How many are not bundled."""
    principals: int


def content(settings: Settings, token_for: TokenFor, *, email: str | None = None, problem: str | None = None) -> Html:
    """Password, and the browsers that are signed in."""
    rows = (_session(each, settings, token_for) for each in settings.sessions)
    return html.render(
        "settings",
        password=shell.post(token_for, PASSWORD, _password(settings, email, problem), kind="narrow")
        if settings.has_password or settings.is_fresh
        else pieces.empty("To set one, open the dashboard anew, by its link:", "authsome ui"),
        lead=html.sentence(
            "a new password signs all other browsers out"
            if settings.has_password
            else "with a password you can sign in where the link of `authsome ui` cannot be opened"
        ),
        sessions=pieces.rows(html.join(rows), page=settings.page),
        pager=pieces.pager(PATH, {}, page=settings.page, size=SESSIONS, total=settings.total),
        admin=_administered(settings.administered, settings.now) if settings.administered else None,
    )


def _administered(found: Administered, now: datetime) -> Html:
    age = found.age
    keys: list[tuple[str, Html | str]] = [
        ("Master key", _SOURCES[age.source]),
        ("Made", times.moment(age.master_key_at, now)),
    ]
    if age.vault_key_at is not None:
        keys.append(("Oldest vault key", times.moment(age.vault_key_at, now)))
    return html.render(
        "settings_admin",
        keys=html.join(html.render("detail", name=name, value=value) for name, value in keys),
        providers=pieces.link(providers.PATH, f"See all {found.providers}" if found.providers else "Register one"),
        principals=pieces.link(principals.PATH, f"See all {found.principals}" if found.principals > 1 else "See them"),
    )


def _password(settings: Settings, email: str | None, problem: str | None) -> Html:
    asks_present = not settings.is_fresh
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
            TextField(
                name="present",
                label="Present password",
                kind="password",
                hint="forgotten? Open the dashboard anew: `authsome ui`",
                autocomplete="current-password",
            )
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
        key=session.id,
        browser=session.browser.name[:1].upper() + session.browser.name[1:],
        here=html.render("tag", kind="good", text="this browser") if is_present else None,
        by=by,
        address=session.browser.address,
        since=times.moment(session.created_at, settings.now),
        seen=times.moment(session.seen_at, settings.now),
        end=None if is_present else end,
    )
