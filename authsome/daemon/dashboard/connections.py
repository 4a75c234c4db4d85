"""Connections' pages: the list, and one connection with what can be done about it; values in, page out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from authsome.broker.usage import Day
from authsome.daemon.dashboard import audit, html, pieces, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TokenFor
from authsome.models.audit import Event
from authsome.models.connection import DEFAULT_CONNECTION, Connection, Kind, Status
from authsome.vault.usage import LastUse

PATH: Final = "/ui/connections"
ONE: Final = PATH + "/{provider}/{connection}"
STATES: Final = {"": "All", "attention": "Needs attention", "good": "Connected", "honeytoken": "Honeytokens"}
PAGE: Final = 40  # rows of a page
_MOST_VARIABLES: Final = 16
_OF_A_DECOY: Final = "nobody's: its secret is a decoy, and whoever uses it is on record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A connection as it is shown."""

    connection: Connection
    provider: str
    """Its display name."""
    last: LastUse | None
    caught_at: datetime | None = None
    """When a honeytoken was used last, by whichever way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of the list."""

    rows: Sequence[Shown]
    total: int
    """How many fit."""
    query: dict[str, str]
    """What was asked for: `q` and `state`."""
    page: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """One connection's page."""

    shown: Shown
    hosts: Sequence[str]
    days: Sequence[Day]
    can_revoke: bool
    now: datetime


def place(connection: Connection, act: str = "") -> str:
    """The address of a connection's page, or of something to be done about it."""
    return "/".join(
        [PATH, quote(connection.provider, safe=""), quote(connection.name, safe=""), *([act] if act else [])]
    )


def row(shown: Shown, now: datetime, *, mend: TokenFor | None = None) -> Html:
    """A row of a list; with `mend` one that says what is wrong with it, and has a form to mend it."""
    connection = shown.connection
    return html.render(
        "connection_row",
        monogram=pieces.monogram(shown.provider, small=True),
        url=place(connection),
        provider=html.clipped(shown.provider),
        name=_name(connection),
        health=pieces.health(connection, now, caught=shown.caught_at is not None),
        facts=_facts(shown, now) if mend is None else _why(shown, now),
        act=_mending(connection, mend) if mend else None,
    )


def nothing() -> Html:
    """What there is to do where nothing is connected."""
    return pieces.empty(html.render("choose_app"), "authsome login github")


def listing(view: Listing) -> Html:
    """The list, with its search."""
    rows = html.join(row(each, view.now) for each in view.rows)
    asked = any(view.query.values())
    return html.render(
        "connections",
        q=view.query.get("q"),
        state=shell.select("state", "State", STATES, view.query.get("state", "")),
        count=html.counted(view.total, "connection"),
        list=pieces.rows(
            rows,
            page=view.page,
            otherwise=html.render("nothing", text="No connection fits.") if asked else nothing(),
        ),
        pager=pieces.pager(PATH, view.query, page=view.page, size=PAGE, total=view.total),
    )


def one(view: One, token_for: TokenFor) -> Html:
    """What is known of a connection, and what can be done."""
    connection = view.shown.connection
    problem = connection.problem
    return html.render(
        "connection",
        monogram=pieces.monogram(view.shown.provider),
        provider=html.clipped(view.shown.provider),
        name=_name(connection),
        problem=shell.problem(problem),
        facts=html.join(html.render("detail", name=name, value=value) for name, value in _details(view)),
        chart=pieces.chart(view.days),
        acts=html.join(_acts(view, token_for)),
    )


def _details(view: One) -> list[tuple[str, Html | str]]:
    connection, now, last = view.shown.connection, view.now, view.shown.last
    caught_at = view.shown.caught_at
    used: Html | str = "not yet"
    if caught_at is not None:
        who = pieces.link(_uses(connection), "see by whom")
        used = html.render("caught", moment=times.moment(caught_at, now), who=who)
    elif last is not None:
        used = html.render("used_by", moment=times.moment(last.at, now), identity=last.identity)
    is_oauth, is_decoy = connection.kind is Kind.OAUTH2, connection.is_honeytoken
    nobody = _OF_A_DECOY if is_decoy else "not known"
    found: list[tuple[str, Html | str | None]] = [
        ("State", pieces.health(connection, now, caught=caught_at is not None)),
        ("Account", html.clipped(connection.account, 600) if connection.account else nobody),
        ("Kind", "OAuth" if is_oauth else "API key"),
        ("Default", "yes" if connection.is_default else "no"),
        ("Expires", pieces.expiry(connection, now)),
        ("Scopes", pieces.codes(connection.scopes) or ("none named" if is_oauth else None)),
        ("Last used", used),
        ("Planted" if is_decoy else "Connected", times.moment(connection.created_at, now)),
        (
            "Last renewed",
            times.moment(connection.updated_at, now)
            if connection.updated_at != connection.created_at and connection.status is not Status.INVALID
            else None,
        ),
        ("Sent only to", pieces.codes(view.hosts)),
        *((name, html.clipped(value, 600)) for name, value in list(connection.variables.items())[:_MOST_VARIABLES]),
    ]
    return [(name, value) for name, value in found if value]


def _acts(view: One, token_for: TokenFor) -> list[Html]:
    connection = view.shown.connection

    def form(act: str, text: str, kind: str = "small") -> Html:
        return shell.post(token_for, place(connection, act), shell.button(text, kind))

    provider = html.shortened(view.shown.provider)
    found = []
    if connection.has_refresh_token:
        text = "Ask the provider for a new access token now."
        found.append(
            html.render("plain_act", name="Refresh", text=text, form=form("refresh", "Refresh", "quiet small"))
        )
    is_decoy = connection.is_honeytoken
    name, present = ("Connect", "for real; the decoy") if is_decoy else ("Reconnect", "again; what is stored")
    text = f"Log in {present} is replaced once that has succeeded."
    found.append(html.render("plain_act", name=name, text=text, form=form("reconnect", name, "quiet small")))
    if not connection.is_default:
        text = f"Use this one of {provider} when none is named."
        found.append(
            html.render(
                "plain_act", name="Default", text=text, form=form("default", "Make it the default", "quiet small")
            )
        )
    if is_decoy:
        text = f"Forget this decoy. {provider} has never known it."
    else:
        text = f"Forget this connection here. What {provider} granted lives on there until it is revoked."
    found.append(html.render("act", name="Log out", text=text, form=form("logout", "Log out", "danger small")))
    if view.can_revoke:
        text = f"Have {provider} end this login, and forget it here. Whatever uses it stops working at once."
        found.append(html.render("act", name="Revoke", text=text, form=form("revoke", "Revoke", "danger small")))
    return found


def _facts(shown: Shown, now: datetime) -> Html:
    connection = shown.connection
    parts: list[Html] = []
    if connection.account:
        parts.append(html.clipped(connection.account))
    if connection.expires_at is not None:
        parts.append(pieces.expiry(connection, now))
    used_at = shown.caught_at or (shown.last.at if shown.last else None)
    if used_at is not None:
        parts.append(html.render("worded", word="used", moment=times.moment(used_at, now)))
    else:
        parts.append(Html("not used yet"))
    return html.join(parts, between=Html(" · "))


def _why(shown: Shown, now: datetime) -> Html:
    connection = shown.connection
    if shown.caught_at is not None:
        return html.render("decoy_used", moment=times.moment(shown.caught_at, now))
    if connection.problem:
        return html.sentence(connection.problem)
    if connection.expires_at is None:
        return html.text("The provider no longer accepts this login.")
    return pieces.expiry(connection, now)


def _mending(connection: Connection, token_for: TokenFor) -> Html:
    """What there is to do about a connection that wants somebody."""
    if connection.is_honeytoken:
        return html.render("button_link", url=_uses(connection), text="See by whom")
    return shell.post(token_for, place(connection, "reconnect"), shell.button("Reconnect", "quiet small"))


def _uses(honeytoken: Connection) -> str:
    """The address of the entries of the log that say who used one."""
    return pieces.address(audit.PATH, {"event": Event.HONEYTOKEN, "provider": honeytoken.provider})


def _name(connection: Connection) -> Html | None:
    """A connection's name, where it says something."""
    return None if connection.name == DEFAULT_CONNECTION else html.render("name", text=connection.name)
