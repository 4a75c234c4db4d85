"""The limits of an identity, in words."""

from authsome.cli import times

TYPE_CHECKING = False  # type checkers take it for typing's, which short commands do without
if TYPE_CHECKING:
    from authsome.client.api import JsonObject


def words(limits: "JsonObject") -> str:
    """Limits as people read them; empty when there are none."""
    parts = [
        ", ".join(str(each) for each in value)
        for name in ("connections", "methods")
        if isinstance(value := limits.get(name), list)
    ]
    if (end := times.parse_time(limits.get("expires_at"))) is not None:
        parts.append(f"until {end:%Y-%m-%d %H:%M} UTC")
    return "; ".join(parts)
