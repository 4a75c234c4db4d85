"""Templates escape every value, and name exactly the values they are given."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.daemon.dashboard import assets, html
from authsome.daemon.dashboard.html import Html
from authsome.errors import NotFound

TEMPLATES = Path(html.__file__).with_name("templates")


@given(st.text())
def test_values_are_text(value):
    """Any text can be read back from between tags and from between quotes, and is no markup."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend([tag, *(value for name, value in attrs if name == "href")])

        def handle_data(self, data):
            found.append(data)

    reader = Reader()
    reader.feed(html.render("docs_link", url=value, text="x"))
    reader.feed(html.render("docs_link", url="y", text=value))
    reader.close()
    assert found[:4] == ["a", value, "x", "a"]
    assert found[4] == "y"
    assert "".join(found[5:]) == value.replace("\r\n", "\n").replace("\r", "\n") or "".join(found[5:]) == value


def test_markup_is_not_escaped_twice():
    """`Html` is markup; a string that looks like it is not."""
    assert html.render("host", name=Html("<b>x</b>")) == "<li><code><b>x</b></code></li>\n"
    assert html.render("host", name="<b>x</b>") == "<li><code>&lt;b&gt;x&lt;/b&gt;</code></li>\n"
    assert html.render("host", name=None) == "<li><code></code></li>\n"
    assert html.render("host", name=404) == "<li><code>404</code></li>\n"


@pytest.mark.parametrize("values", [{}, {"nome": "x"}, {"name": "x", "more": "y"}])
def test_missing_and_unknown_names_are_errors(values):
    """A page with a hole is not shown."""
    with pytest.raises(ValueError, match="host"):
        html.render("host", **values)
    with pytest.raises(KeyError):
        html.render("../secret", name="x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, ""),
        ("", ""),
        ("no provider named gihtub", "No provider named gihtub."),
        ("start again with `authsome login a<b`", "Start again with <code>authsome login a&lt;b</code>."),
        ("`<script>`", "<code>&lt;script&gt;</code>."),
        ("odd ` tick", "Odd ` tick."),
        ("really?", "Really?"),
        ("acme: no answer", "Acme: no answer."),
        ("login.acme.example: no answer", "login.acme.example: no answer."),
        ("http://localhost is no https URL", "http://localhost is no https URL."),
        ("base_url is missing", "base_url is missing."),
    ],
)
def test_sentences(text, shown):
    """Errors are lower case and without full stop for the terminal; a page writes sentences."""
    assert html.sentence(text) == shown


def test_forms_are_made_in_one_place():
    """The one template of a form that changes anything holds its token."""
    forms = [path for path in sorted(TEMPLATES.rglob("*.html")) if 'method="post"' in path.read_text()]
    assert [path.stem for path in forms] == ["post"]
    assert 'name="form_token" value="{{form_token}}"' in forms[0].read_text()


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.stem)
def test_templates_keep_their_rule(path):
    """No script but our own file, no inline style or handler, nothing from elsewhere; values in text or in quotes."""
    # SEC-36
    text = path.read_text().replace('<script src="/ui/script.js" defer></script>', "")
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|https?:|//", text)
    outside = re.sub(r'"[^"<>]*"', "", text)
    for tag in re.findall(r"<[^>]*>", outside):
        # Attributes that are there or not, and are our own words.
        assert re.findall(r"\{\{(\w+)\}\}", tag) in (
            [],
            ["required", "focus"],
            ["required", "fixed"],
            ["current"],
            ["kind"],
            ["selected"],
            ["open"],
            ["live"],
            ["events"],
            ["kind", "submits", "forgotten"],
        )


def test_assets_are_ours():
    """A style sheet, a script and an icon, which load nothing further; nothing else, and no path."""
    assert assets.asset("style.css").content_type == "text/css; charset=utf-8"
    assert assets.asset("icon.svg").content_type == "image/svg+xml"
    assert assets.asset("script.js").content_type == "text/javascript; charset=utf-8"
    for name in ("style.css", "icon.svg", "script.js"):
        assert not re.search(rb"@import|url\(|<script|href=|src=", assets.asset(name).body)
    for name in ("", "..", "html.py", "../html.py", "templates/layout.html"):
        with pytest.raises(NotFound):
            assets.asset(name)


# ---- colours -----------------------------------------------------------------------------------------------


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """Contrast ratio (WCAG 2.2)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


SHEET = assets.asset("style.css").body.decode()
SCHEMES = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{[^}]*\}", SHEET)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground", "ratio"),
    [
        ("text", "card", 7),
        ("text", "well", 7),
        ("muted", "card", 4.5),
        ("muted", "ground", 4.5),
        ("muted", "well", 4.5),
        ("accent", "card", 4.5),
        ("accent-strong", "card", 4.5),
        ("on-accent", "accent", 4.5),
        ("on-accent", "accent-strong", 4.5),
        ("good", "good-ground", 4.5),
        ("bad", "bad-ground", 4.5),
        ("bad", "card", 3),
        ("bad", "ground", 4.5),
        ("edge", "card", 3),
        ("accent", "card", 3),
    ],
)
def test_colours_can_be_read(scheme, ink, ground, ratio):
    """Text and controls have WCAG AA contrast in both schemes."""
    assert contrast(scheme[ink], scheme[ground]) >= ratio


def test_monograms_can_be_read():
    """White letters on every tone."""
    tones = re.findall(r"\.tone-\d \{ background: (#[0-9a-f]{6}); \}", SHEET)
    assert len(tones) == 8
    assert all(contrast("#ffffff", tone) >= 4.5 for tone in tones)


@pytest.mark.parametrize("text", ["", "short", "x" * 200, "\"<'&" * 60, "é" * 90, "\N{GRINNING FACE}" * 40])
def test_what_is_clipped_takes_no_more_bytes_than_it_may(text):
    """Whatever its characters take in a page; and what fits is whole."""
    for most in (20, 60, 120):
        shown = html.clipped(text, most)
        assert len(shown.encode()) <= most
        if shown.endswith("…"):
            assert text.startswith(unescape(shown[:-1]))
            assert len(html.escaped(text).encode()) > most
        else:
            assert unescape(shown) == text


def test_long_lists_and_sentences_are_cut():
    """Of many names it is said how many more there are; no error fills a page."""
    assert html.enumerated(["a", "<b>"], 2) == "a, &lt;b&gt;"
    assert html.enumerated(["a", "b", "c", "d"], 2) == "a, b, and 2 more"
    assert len(html.sentence("x" * 10_000)) < 1000
