"""The frame of the dashboard's pages: navigation, who is signed in, what came of the last act; and its forms.

Rule: every form of any page is made here, so that none is without its token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from authsome.daemon.dashboard import html
from authsome.daemon.dashboard.html import Html
from authsome.models.principal import Principal
from authsome.models.visit import Note

PLACES: Final = (
    ("/ui/", "Overview"),
    ("/ui/connections", "Connections"),
    ("/ui/apps", "Apps"),
    ("/ui/runs", "Runs"),
    ("/ui/identities", "Identities"),
    ("/audit", "Log"),
    ("/ui/settings", "Settings"),
)
"""The navigation: address and name of each place."""


EVENTS: Final = "/ui/events"
"""Where signed-in browsers are told what has changed."""


class TokenFor(Protocol):
    """What gives a form its token."""

    def __call__(self, action: str) -> str:
        """A fresh token for the form that is posted to this path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What every page shows besides its own."""

    principal: Principal
    place: str | None
    """The entry of `PLACES` that the page belongs to."""
    token_for: TokenFor
    events: str
    """Where our script is told what has changed since this page was made."""
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextField:
    """One line to be typed."""

    name: str
    label: str
    kind: str = "text"
    """`text`, `email`, `password`, `search`; what is secret is never filled in again."""
    value: str | None = None
    hint: str | None = None
    autocomplete: str = "off"
    required: bool = True
    focus: bool = False
    problem: str | None = None
    """Why it was not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextArea:
    """Several lines."""

    name: str
    label: str
    value: str
    rows: int = 12
    hint: str | None = None
    problem: str | None = None
    is_fixed: bool = False
    """Whether it is only shown, and sent as it is."""


def place_of(path: str) -> str | None:
    """The entry of `PLACES` that a page's address belongs to; the overview is nobody's but its own."""
    first, *others = (address for address, _ in PLACES)
    return first if path == first else next((each for each in others if path.startswith(each)), None)


def page(frame: Frame, title: str, content: Html) -> Html:
    """A whole page."""
    items = (
        html.render(
            "nav_item", href=href, text=text, current=html.render("nav_current") if href == frame.place else None
        )
        for href, text in PLACES
    )
    principal = frame.principal
    return html.render(
        "shell",
        head=html.head(title),
        nav=html.join(items),
        person=principal.email or principal.name,
        role=principal.role,
        sign_out=post(frame.token_for, "/ui/sign-out", button("Sign out", "quiet")),
        events=frame.events,
        note=_note(frame.note),
        content=content,
    )


def post(  # noqa: PLR0913  # each by name
    token_for: TokenFor,
    action: str,
    content: Html,
    *,
    kind: str | None = None,
    submits: bool = False,
    is_kept: bool = True,
) -> Html:
    """A form that is posted to a path of ours.

    Args:
        token_for: gives it its token.
        action: the path.
        content: fields and buttons.
        kind: its class in the style sheet.
        submits: whether our script sends it by itself.
        is_kept: whether the browser may keep what is typed; a field may say otherwise of itself.
    """
    return html.render(
        "post",
        action=action,
        form_token=token_for(action),
        kind=None if kind is None else Html(f' class="{html.escaped(kind)}"'),
        submits=Html(" data-submit") if submits else None,
        forgotten=None if is_kept else html.attribute("autocomplete", "off"),
        content=content,
    )


def button(text: str, kind: str = "") -> Html:
    """What sends a form: `quiet`, `danger`, or the page's main act."""
    return html.render("button", text=text, kind=kind)


def hidden(name: str, value: str) -> Html:
    """A field that nobody types."""
    return html.render("hidden", name=name, value=value)


def text_field(field: TextField) -> Html:
    """A field with its label and hint."""
    return html.render(
        "text_field",
        name=field.name,
        label=field.label,
        type=field.kind,
        value=None if field.kind == "password" else field.value,
        autocomplete=field.autocomplete,
        required=Html(" required") if field.required else None,
        focus=Html(" autofocus") if field.focus else None,
        **_beside(field),
    )


def text_area(area: TextArea) -> Html:
    """A field of several lines with its label and hint."""
    return html.render(
        "text_area",
        name=area.name,
        label=area.label,
        rows=area.rows,
        value=html.lines(area.value),
        required=None if area.is_fixed else Html(" required"),
        fixed=Html(" readonly") if area.is_fixed else None,
        **_beside(area),
    )


def select(name: str, label: str, options: Mapping[str, str], chosen: str, *, key: str | None = None) -> Html:
    """A choice: what is sent, and what is shown for it; with a `key` where a page has two of this name."""
    shown = (
        html.render("option", value=value, text=text, selected=Html(" selected") if value == chosen else None)
        for value, text in options.items()
    )
    return html.render("select", name=name, key=key or name, label=label, options=html.join(shown))


def check_box(name: str, label: str) -> Html:
    """What has to be agreed to."""
    return html.render("check_box", name=name, label=label)


def _beside(field: TextField | TextArea) -> dict[str, str | None]:
    """What stands beside a field: why it was not taken, and a hint."""
    parts = [("problem", field.problem), ("hint", field.hint)]
    return {
        "invalid": "true" if field.problem else "false",
        "described": " ".join(f"{kind}-{field.name}" for kind, text in parts if text),
        "problem": html.render("field_problem", name=field.name, text=html.sentence(field.problem))
        if field.problem
        else None,
        "hint": html.render("hint", name=field.name, text=html.sentence(field.hint)) if field.hint else None,
    }


def problem(text: str | None) -> Html | None:
    """Why a form was not taken."""
    return html.render("problem", text=html.sentence(text)) if text else None


def _note(note: Note | None) -> Html | None:
    if note is None:
        return None
    kind, role = ("good", "status") if note.is_good else ("bad", "alert")
    return html.render("note", kind=kind, role=role, text=html.sentence(note.text))
