"""What an identity may not do, as fields of a form: for the page that claims it, and for its own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from authsome.daemon.dashboard import html, shell
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField
from authsome.models.limits import Limits

NAMES: Final = ("connections", "methods", "hours")
PERIODS: Final[Mapping[str, str]] = MappingProxyType(
    {"": "No end", "1": "1 hour", "24": "1 day", "168": "7 days", "720": "30 days", "2160": "90 days"}
)
"""How long an identity may act, in hours, and in words."""
KEEP: Final = "keep"  # what is sent for the end that it has


def fields(given: Mapping[str, str], present: Limits | None = None) -> Html:
    """The fields, filled in with what was given; `present` are limits whose end can be kept."""
    end = present.expires_at if present else None
    periods = PERIODS if end is None else {KEEP: f"Until {end:%Y-%m-%d %H:%M} UTC", **PERIODS}
    return html.join(
        [
            shell.text_field(
                TextField(
                    name="connections",
                    label="Connections",
                    value=given.get("connections"),
                    hint="patterns such as `github`, `github/work` or `open*`, parted by blanks; empty allows all",
                    required=False,
                )
            ),
            shell.text_field(
                TextField(
                    name="methods",
                    label="Methods",
                    value=given.get("methods"),
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
    }
