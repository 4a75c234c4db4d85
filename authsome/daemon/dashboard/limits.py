"""What an identity may not do, as fields of a form: for the page that claims it, and for its own."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from authsome.broker.identities import describe
from authsome.daemon.dashboard import html, shell
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField
from authsome.models.limits import MOST_PATTERNS, Limits

NAMES: Final = ("connections", "methods", "hours")
PERIODS: Final[Mapping[str, str]] = MappingProxyType(
    {"": "No end", "1": "1 hour", "24": "1 day", "168": "7 days", "720": "30 days", "2160": "90 days"}
)
"""How long an identity may act, in hours, and in words."""
KEEP: Final = "keep"  # what is sent for the end that it has
SEEN: Final = "seen"  # the field that says which limits a form was made for
_MOST_SHOWN: Final = 9_000  # bytes of a field; what can be a limit has 8,319


def fields(given: Mapping[str, str], present: Limits | None = None) -> Html:
    """The fields, filled in with what was given; `present` are limits whose end can be kept."""
    end = present.expires_at if present else None
    periods = PERIODS if end is None else {KEEP: f"Until {end:%Y-%m-%d %H:%M} UTC", **PERIODS}
    return html.join(
        [
            shell.hidden(SEEN, given[SEEN]) if SEEN in given else Html(""),
            shell.text_field(
                TextField(
                    name="connections",
                    label="Connections",
                    value=html.clipped(given.get("connections", ""), _MOST_SHOWN),
                    hint="patterns such as `github`, `github/work` or `open*`, parted by blanks,"
                    f" {MOST_PATTERNS} at most; empty allows all",
                    required=False,
                )
            ),
            shell.text_field(
                TextField(
                    name="methods",
                    label="Methods",
                    value=html.clipped(given.get("methods", ""), _MOST_SHOWN),
                    hint="such as `GET HEAD`; empty allows all",
                    required=False,
                )
            ),
            shell.select("hours", "For how long", periods, given.get("hours", "")),
        ]
    )


def filled(present: Limits) -> dict[str, str]:
    """Present limits as a form's values."""
    return {
        "connections": " ".join(present.connections or ()),
        "methods": " ".join(sorted(present.methods or ())),
        "hours": KEEP if present.expires_at else "",
        SEEN: mark(present),
    }


def mark(present: Limits) -> str:
    """What tells limits from any others, in few characters."""
    return hashlib.sha256(describe(present).encode()).hexdigest()[:32]
