"""Pages from template files: every value is escaped unless it is `Html`.

Rule: a template has no script, no inline style, and its values stand in text or between double quotes; so escaping
five characters is enough everywhere. A value that a template does not name, or the other way round, is an error.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Final

Template = tuple[str, ...]
"""Text and names in turn, text first and last."""

_SLOT: Final = re.compile(r"\{\{([a-z_]+)\}\}")
_CODE: Final = re.compile(r"`([^`]+)`")
_PLACE: Final = re.compile(r"[^ ]*[A-Za-z0-9](?:://|[./:=_@])[A-Za-z0-9]")
"""What begins with a host, an address, a file or a setting, whose spelling is its own."""
_MORE: Final = "…"
_NAME: Final = 60  # characters


class Html(str):
    """Markup that is meant as such; anything else is text."""

    __slots__ = ()


def render(template: str, **values: str | int | None) -> Html:
    """Fill a template by name; None leaves its place empty.

    Raises:
        KeyError: there is no such template.
        ValueError: the values are not those that the template names.
    """
    parts = TEMPLATES[template]
    names = parts[1::2]
    if set(names) != set(values):
        raise ValueError(f"{template}: {sorted(set(names) ^ set(values))} are given or named, not both")
    filled = list(parts)
    filled[1::2] = [escaped(values[name]) for name in names]
    return Html("".join(filled))


def page(title: str, content: Html, *, refresh: str | None = None, events: str | None = None) -> Html:
    """A page that is one card.

    Args:
        title: its title.
        content: its content.
        refresh: goes on by itself (`SECONDS; url=ADDRESS`, or looks again).
        events: where our script is told to look again, in place of `refresh`.
    """
    again = render("refresh", content=refresh) if refresh else None
    if events is not None:
        again = render("scripted", without=again)
    return render("layout", head=head(title), refresh=again, events=attribute("data-events", events), content=content)


def attribute(name: str, value: str | None) -> Html | None:
    """An attribute in a tag, or nothing."""
    return None if value is None else Html(f' {name}="{escape(value)}"')


def head(title: str) -> Html:
    """What the head of every page holds."""
    return render("head", title=clipped(title))


def join(pieces: Iterable[Html], between: Html = Html("")) -> Html:  # noqa: B008  # it never changes
    """Pieces of markup in a row."""
    return Html(between.join(pieces))


def text(value: str) -> Html:
    """What is meant as text, as markup."""
    return Html(escape(value))


def clipped(text: str, most: int = 120) -> Html:
    """Text of which no more is shown than takes so many bytes of a page, whatever characters it is made of."""
    whole = escape(text)
    if len(whole.encode()) <= most:
        return Html(whole)
    kept = text[:most]
    while len((shown := escape(kept) + _MORE).encode()) > most:
        kept = kept[:-1]
    return Html(shown)


def shortened(text: str) -> str:
    """A name of which only the beginning is said, within a sentence."""
    return text if len(text) <= _NAME else text[:_NAME] + _MORE


def enumerated(words: Sequence[str], most: int = 8, *, widest: int = 120) -> Html:
    """Names, one after the other, each cut to so many bytes; beyond so many names it is only said how many more."""
    shown = [clipped(word, widest) for word in words[:most]]
    if len(words) > most:
        shown.append(Html(f"and {len(words) - most} more"))
    return join(shown, between=Html(", "))


def counted(number: int, one: str, many: str | None = None) -> str:
    """So many of something: `1 run`, `2 runs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def lines(text: str) -> Html:
    """What stands in a field of several lines, where quotation marks mean nothing."""
    return Html(escape(text, quote=False))


def sentence(text: str | None, most: int = 600) -> Html:
    """An error's message or hint as a sentence: first letter large, full stop, `commands` in backticks as code.

    Of what is longer than `most` characters only the beginning is shown.
    """
    if not text:
        return Html("")
    shown = text if _PLACE.match(text) else text[0].upper() + text[1:]
    if len(shown) > most:
        shown = shown[:most] + _MORE
    if shown[-1] not in ".?!…":
        shown += "."
    return Html(_CODE.sub(r"<code>\1</code>", escape(shown)))


def escaped(value: str | int | None) -> str:
    """A value as it stands in a page; None leaves its place empty."""
    if value is None:
        return ""
    return value if isinstance(value, Html) else escape(str(value))


def _load(directory: Path) -> MappingProxyType[str, Template]:
    """Every template, read once: a request reads no file, and an upgrade under a running daemon changes nothing."""
    return MappingProxyType(
        {path.stem: tuple(_SLOT.split(path.read_text(encoding="utf-8"))) for path in sorted(directory.rglob("*.html"))}
    )


TEMPLATES: Final = _load(Path(__file__).with_name("templates"))
