"""Pieces that several pages show: a provider's mark, how a connection is, uses by day, the way to the next page."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from authsome.broker.usage import Day
from authsome.daemon.dashboard import html, times
from authsome.daemon.dashboard.html import Html
from authsome.models.connection import Connection, Status

TONES: Final = 8  # colours of a monogram in style.css
SOON: Final = timedelta(days=7)  # what ends by then, and nothing renews it, needs somebody

MOST_CODES: Final = 40  # hosts or scopes, of which a definition may name 256
WHOLE_HOST: Final = 300
"""Bytes by which no host is cut, scheme and port included: whose it is stands at its end."""

_WIDTH: Final = 20  # of a day in the chart, in its own units
_HEIGHT: Final = 100
_WORDS: Final = {Status.CONNECTED: "connected", Status.EXPIRED: "expired", Status.INVALID: "login needed"}


def monogram(provider: str, *, small: bool = False) -> Html:
    """The provider's first letter on a colour of its own: no logo to load, nobody's mark to misuse."""
    letter = next((character for character in provider if character.isalnum()), "•").upper()
    size = " small" if small else ""
    return html.render("monogram", tone=sum(provider.encode()) % TONES, letter=letter, size=size)


def tag(text: str, kind: str = "") -> Html:
    """A word or two on a ground: `good`, `bad`, `warn`, or none of these."""
    return html.render("tag", kind=kind, text=text)


def health(connection: Connection, now: datetime, *, caught: bool = False) -> Html:
    """How a connection is, in a word; whether a honeytoken was `caught` in use."""
    if connection.is_honeytoken:
        return tag("honeytoken, used", "bad") if caught else tag("honeytoken")
    status = connection.status_at(now)
    if status is not Status.CONNECTED:
        return tag(_WORDS[status], "bad")
    return tag("ends soon", "warn") if ends_soon(connection, now) else tag("connected", "good")


def ends_soon(connection: Connection, now: datetime) -> bool:
    """Whether a connection ends within days and nothing renews it."""
    ends = connection.expires_at
    return ends is not None and not connection.has_refresh_token and now < ends <= now + SOON


def expiry(connection: Connection, now: datetime) -> Html:
    """Until when, and what happens then."""
    if connection.expires_at is None:
        return Html("no end")
    if not connection.has_refresh_token or connection.status is Status.INVALID:
        word = "ended" if connection.expires_at <= now else "ends"
    elif connection.expires_at > now:
        word = "renews"
    else:
        return Html("renews when it is next used")
    return html.render("worded", word=word, moment=times.moment(connection.expires_at, now))


def chart(days: Sequence[Day]) -> Html:
    """Uses by day as bars, drawn without style or script; what they say is said in words, too."""
    most = max((day.uses for day in days), default=0)
    bars = []
    for place, day in enumerate(days):
        height = 0 if most == 0 else max(round(day.uses / most * _HEIGHT, 1), 1.5 if day.uses else 0)
        bars.append(
            html.render(
                "bar",
                x=place * _WIDTH + 3,
                y=str(_HEIGHT - height),
                width=_WIDTH - 6,
                height=str(height),
                title=f"{day.on:%d %b}: {day.uses}",
            )
        )
    total = sum(day.uses for day in days)
    return html.render(
        "chart",
        label=f"uses on each of the last {len(days)} days: {total} in all, {most} on the busiest day",
        box=f"0 0 {len(days) * _WIDTH} {_HEIGHT + 1}",
        line=_HEIGHT,
        wide=len(days) * _WIDTH,
        bars=html.join(bars),
        first=f"{days[0].on:%d %b}" if days else None,
        last="today",
        total=html.counted(total, "use"),
    )


def link(address: str, text: str) -> Html:
    """A link to a page of ours."""
    return html.render("page_link", url=address, text=text)


def codes(words: Sequence[str]) -> Html | None:
    """Names of machines' things, one beside the other; of many only the first."""
    shown = [html.render("code", text=html.clipped(word, WHOLE_HOST)) for word in words[:MOST_CODES]]
    if len(words) > MOST_CODES:
        shown.append(Html(f"and {len(words) - MOST_CODES} more"))
    return html.join(shown, between=Html(" ")) if shown else None


def empty(text: str, command: str) -> Html:
    """Nothing there yet, and the command that changes that."""
    return html.render("empty", text=text, command=command)


def rows(shown: Html, *, page: int, otherwise: Html | None = None) -> Html | None:
    """Rows as a list; where there are none, what is said instead, of a page beyond the last that it is one."""
    if shown:
        return html.render("rows", rows=shown)
    return html.render("nothing", text="There are not so many pages.") if page > 1 else otherwise


def pager(path: str, query: dict[str, str], *, page: int, size: int, total: int) -> Html | None:
    """The way to the page before and after, the filters kept; from beyond the last page it leads to that one."""
    last = max(1, -(-total // size))
    links = []
    if page > 1:
        links.append(link(address(path, {**query, "page": str(min(page - 1, last))}), "Previous"))
    if page <= last > 1:
        links.append(html.render("page_of", page=page, last=f"{last:,}"))
    if page < last:
        links.append(link(address(path, {**query, "page": str(page + 1)}), "Next"))
    return html.render("pager", links=html.join(links)) if links else None


def address(path: str, query: dict[str, str]) -> str:
    """A page's address with what it asks for; what is empty is left out."""
    asked = urlencode({name: value for name, value in query.items() if value})
    return f"{path}?{asked}" if asked else path
