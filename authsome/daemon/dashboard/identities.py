"""Identities' pages: the list, who waits to be claimed, and one identity with what can be done; values in, page out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from authsome.broker.identities import Listed, describe
from authsome.daemon.dashboard import html, limits, pieces, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TokenFor
from authsome.identity import did
from authsome.models.principal import Claim

PATH: Final = "/ui/identities"
ONE: Final = PATH + "/{handle}"
WHOSE: Final = {"": "Mine", "all": "Everybody's"}
PAGE: Final = 40  # rows of a page


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of the list."""

    identities: Sequence[Listed]
    """Those of the page."""
    total: int
    """How many there are."""
    whose: str | None
    """The entry of `WHOSE` that was asked for; None for who has no choice."""
    page: int
    waiting: Sequence[Claim] | None
    """Who waits to be claimed; None for who may not know."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """One identity's page."""

    listed: Listed
    is_own: bool
    """Whether it acts for who looks."""
    opened_session: bool
    """Whether this browser is signed in by a link of its."""
    given: Mapping[str, str] | None
    """What was filled in before."""
    problem: str | None
    now: datetime


def place(handle: str, act: str = "") -> str:
    """The address of an identity's page, or of something to be done about it."""
    return "/".join([PATH, quote(handle, safe=""), *([act] if act else [])])


def acting(identities: Sequence[Listed], now: datetime) -> list[Listed]:
    """Those that may act."""
    return [each for each in identities if each.identity.revoked_at is None and not each.identity.limits.has_ended(now)]


def row(listed: Listed, now: datetime, *, whole: bool = False, whose: bool = False) -> Html:
    """A row of a list; with `whole` one that says all that is known, with `whose` also whom it acts for."""
    identity = listed.identity
    used = (
        html.render("last_used", moment=times.moment(listed.last_used_at, now))
        if listed.last_used_at
        else Html("not used yet")
    )
    facts = [used]
    if whole:
        facts.insert(0, html.render("code", text=did.fingerprint(identity.did)))
        facts.insert(1, html.render("worded", word="since", moment=times.moment(identity.created_at, now)))
        if not identity.limits.is_none:
            facts.append(html.clipped(describe(identity.limits), 240))
    if whose:
        facts.insert(0, html.clipped(f"for {listed.principal.email or listed.principal.name}"))
    return html.render(
        "identity_row",
        url=place(identity.handle),
        handle=identity.handle,
        marks=_state(listed, now) if whole or not identity.limits.is_none else None,
        facts=html.join(facts, between=Html(" · ")),
    )


def listing(view: Listing) -> Html:
    """The list, those that may act first; who waits; and how another one comes here."""
    now = view.now
    number = view.total
    query = {"whose": view.whose or ""}
    return html.render(
        "identities",
        filters=html.render("whose", whose=shell.select("whose", "Whose", WHOSE, view.whose))
        if view.whose is not None
        else None,
        count=html.counted(number, "identity", "identities"),
        list=pieces.rows(
            html.join(row(each, now, whole=True, whose=view.whose == "all") for each in view.identities),
            page=view.page,
            otherwise=html.render("nothing", text="No identity may act for you yet."),
        ),
        pager=pieces.pager(PATH, query, page=view.page, size=PAGE, total=number),
        waiting=None if view.waiting is None else _waiting(view.waiting, now),
    )


def one(view: One, token_for: TokenFor) -> Html:
    """What is known of an identity, its limits, and its end."""
    listed, now = view.listed, view.now
    identity, path = listed.identity, place(listed.identity.handle)
    facts: list[tuple[str, Html | str]] = [
        ("State", _state(listed, now)),
        ("Fingerprint", html.render("code", text=did.fingerprint(identity.did))),
        ("Since", times.moment(identity.created_at, now)),
        ("Last used", times.moment(listed.last_used_at, now) if listed.last_used_at else "not yet"),
        ("Limits", html.sentence(describe(identity.limits))),
    ]
    if not view.is_own:
        facts.insert(1, ("Acts for", listed.principal.email or listed.principal.name))
    if identity.revoked_at is not None:
        facts.append(("Revoked", times.moment(identity.revoked_at, now)))
    return html.render(
        "identity",
        handle=identity.handle,
        facts=html.join(html.render("detail", name=name, value=value) for name, value in facts),
        acts=None if identity.revoked_at is not None else _acts(view, path, token_for),
    )


def _acts(view: One, path: str, token_for: TokenFor) -> Html:
    present = view.listed.identity.limits
    given = limits.filled(present) if view.given is None else view.given
    submit = html.render("actions", content=shell.button("Set these limits"))
    caution = "A link of its signed this browser in, which is then signed out." if view.opened_session else None
    text = "From its next request on it may do nothing, and its runs end. A revoked identity stays revoked."
    revoke = shell.post(token_for, f"{path}/revoke", shell.button(f"Revoke {view.listed.identity.handle}", "danger"))
    return html.render(
        "identity_acts",
        caution=caution,
        problem=shell.problem(view.problem),
        limit=shell.post(
            token_for, f"{path}/limits", html.join([limits.fields(given, present), submit]), kind="narrow"
        ),
        revoke=html.render(
            "act", name="Revoke this identity", text=" ".join(each for each in (text, caution) if each), form=revoke
        ),
    )


def _waiting(waiting: Sequence[Claim], now: datetime) -> Html:
    rows = [
        html.render(
            "claim_row",
            handle=each.handle,
            fingerprint=did.fingerprint(each.did),
            asked=times.moment(each.created_at, now),
            ends=times.moment(each.expires_at, now),
        )
        for each in waiting
    ]
    shown = (
        html.render("rows", rows=html.join(rows))
        if rows
        else html.render("nothing", text="Nobody waits to be claimed.")
    )
    return html.render("claims_waiting", waiting=shown)


def _state(listed: Listed, now: datetime) -> Html:
    identity = listed.identity
    if identity.revoked_at is not None:
        return pieces.tag("revoked", "bad")
    if identity.limits.has_ended(now):
        return pieces.tag("ended", "bad")
    return pieces.tag("may act", "good") if identity.limits.is_none else pieces.tag("limited")
