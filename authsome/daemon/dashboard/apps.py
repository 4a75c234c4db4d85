"""The catalogue's pages: what can be connected, and how; values in, page out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from typing import Final
from urllib.parse import quote

from authsome.daemon.dashboard import connections, html, pieces, shell
from authsome.daemon.dashboard.connections import Shown
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField, TokenFor
from authsome.models import url
from authsome.models.login import Flow

PATH: Final = "/ui/apps"
ONE: Final = PATH + "/{provider}"
BY_URL: Final = PATH + "/by-url"
PAGE: Final = 60  # cards of a page
SHOWN: Final = 20  # connections on an app's page
KINDS: Final[Mapping[str, str]] = {"": "All", "oauth": "OAuth", "device_code": "Device code", "api_key": "API key"}
STATES: Final[Mapping[str, str]] = {"": "All", "connected": "Connected", "custom": "Your own"}
SOURCES: Final[Mapping[str, str]] = {
    "bundled": "bundled with Authsome",
    "custom": "your own",
    "override": "your own, in place of the bundled one",
}
FLOWS: Final[Mapping[Flow, str]] = {
    Flow.PKCE: "OAuth in the browser",
    Flow.DCR_PKCE: "OAuth, with a client that registers itself",
    Flow.DEVICE_CODE: "a code to enter on any device",
    Flow.CLIENT_CREDENTIALS: "OAuth for a client itself",
    Flow.API_KEY: "an API key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A provider as it is shown."""

    name: str
    title: str
    description: str | None
    flows: tuple[Flow, ...]
    source: str
    """`bundled`, `custom` or `override`."""
    connected: int
    """How many connections there are."""
    problem: str | None = None
    """Why its definition cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of the catalogue."""

    apps: Sequence[App]
    total: int
    """How many fit."""
    query: dict[str, str]
    page: int
    may_add: bool
    """Whether a provider may be added by its URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """A provider's page."""

    app: App
    docs_url: str | None
    hosts: Sequence[str]
    scopes: Sequence[str]
    connections: Sequence[Shown]
    """Some of them."""
    names: Collection[str]
    """Of all of them."""
    given: Mapping[str, str]
    """What was filled in before."""
    refused: str | None
    now: datetime


def place(provider: str, act: str = "") -> str:
    """The address of a provider's page, or of something to be done there."""
    return "/".join([PATH, quote(provider, safe=""), *([act] if act else [])])


def listing(view: Listing, token_for: TokenFor) -> Html:
    """The catalogue, with its search."""
    cards = html.join(_card(each) for each in view.apps)
    by_url = None
    if view.may_add and view.page == 1:
        field = TextField(
            name="url",
            label="Any MCP server or OAuth issuer, by its URL",
            kind="url",
            hint="such as `https://mcp.example.com/mcp`; it is asked how to log in there",
        )
        content = html.join([shell.text_field(field), shell.button("Look it up", "quiet")])
        by_url = shell.post(token_for, BY_URL, content, kind="filters by-url")
    return html.render(
        "apps",
        q=view.query.get("q"),
        kind=shell.select("kind", "Kind", KINDS, view.query.get("kind", "")),
        state=shell.select("state", "State", STATES, view.query.get("state", "")),
        count=html.counted(view.total, "app"),
        cards=html.render("cards", cards=cards)
        if cards
        else pieces.rows(cards, page=view.page, otherwise=html.render("nothing", text="No app fits.")),
        pager=pieces.pager(PATH, view.query, page=view.page, size=PAGE, total=view.total),
        by_url=by_url,
    )


def one(view: One, token_for: TokenFor) -> Html:
    """What a provider is, what is connected there, and the form to connect."""
    app = view.app
    docs = view.docs_url if view.docs_url and url.is_link(view.docs_url) else None
    rows = html.join(connections.row(each, view.now) for each in view.connections)
    facts = [
        ("Connect by", html.text("; ".join(FLOWS[flow] for flow in app.flows))),
        ("Sent only to", pieces.codes(view.hosts)),
        ("Definition", html.text(SOURCES[app.source])),
    ]
    return html.render(
        "app",
        monogram=pieces.monogram(app.title),
        title=html.clipped(app.title),
        description=html.sentence(app.description),
        docs=html.render(
            "docs_paragraph", link=html.render("docs_link", url=docs, text="Where its keys and clients are made")
        )
        if docs
        else None,
        facts=html.join(html.render("detail", name=name, value=value) for name, value in facts if value),
        connected=_connected(view, rows) if rows else None,
        connect=_connect(view, token_for)
        if app.problem is None
        else shell.problem(f"its definition cannot be used: {app.problem}"),
    )


def _connected(view: One, rows: Html) -> Html:
    more = None
    if len(view.names) > len(view.connections):
        asked = {"q": view.app.name}
        more = pieces.link(pieces.address(connections.PATH, asked), f"All {len(view.names)}")
    return html.render("connected", rows=html.render("rows", rows=rows), all_connections=more)


def _connect(view: One, token_for: TokenFor) -> Html:
    app, given = view.app, view.given
    names = chain(["default"], (f"account-{number}" for number in count(2)))
    free = next(name for name in names if name not in view.names)
    fields = []
    if len(app.flows) > 1:
        shown = {str(flow): FLOWS[flow][0].upper() + FLOWS[flow][1:] for flow in app.flows}
        fields.append(shell.select("flow", "How", shown, given.get("flow", str(app.flows[0]))))
    more = [
        TextField(
            name="connection",
            label="Name of the connection",
            value=given.get("connection", free),
            hint="tells several accounts apart",
        )
    ]
    if any(flow is not Flow.API_KEY for flow in app.flows):
        more.append(
            TextField(
                name="scopes",
                label="Scopes",
                value=given.get("scopes"),
                hint=f"usual: {' '.join(view.scopes)}" if view.scopes else "empty leaves them to the provider",
                required=False,
            )
        )
    is_open = bool(view.connections or given)
    fields.append(
        html.render(
            "options",
            name="Options",
            fields=html.join(map(shell.text_field, more)),
            open=Html(" open") if is_open else None,
        )
    )
    fields.append(html.render("actions", content=shell.button(f"Connect {html.shortened(app.title)}")))
    form = shell.post(token_for, place(app.name, "connect"), html.join(fields), kind="narrow")
    return html.join([shell.problem(view.refused) or Html(""), form])


def _card(app: App) -> Html:
    kinds = ["OAuth"] if any(flow is not Flow.API_KEY for flow in app.flows) else []
    kinds += ["API key"] if Flow.API_KEY in app.flows else []
    marks = (
        [pieces.tag(f"{app.connected} connected" if app.connected > 1 else "connected", "good")]
        if app.connected
        else []
    )
    marks += [pieces.tag("broken", "bad")] if app.problem else []
    marks += [pieces.tag("your own")] if app.source != "bundled" else []
    return html.render(
        "card",
        url=place(app.name),
        monogram=pieces.monogram(app.title, small=True),
        title=html.clipped(app.title),
        kinds=", ".join(kinds),
        marks=html.join(marks, between=Html(" ")),
    )
