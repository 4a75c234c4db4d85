"""The files that pages load from us: style sheet, script and icon, read once."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from authsome.daemon.messages import Response
from authsome.errors import NotFound

_TYPES: Final = MappingProxyType(
    {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml", "script.js": "text/javascript; charset=utf-8"}
)
PLACE: Final = "/ui/"
PATHS: Final = frozenset(PLACE + name for name in _TYPES)
"""Where they lie."""
_CONTENT: Final[Mapping[str, bytes]] = MappingProxyType(
    {name: Path(__file__).with_name(name).read_bytes() for name in _TYPES}
)


def asset(name: str) -> Response:
    """The answer to `GET /ui/{name}`.

    Raises:
        NotFound: there is no such file.
    """
    content = _CONTENT.get(name)
    if content is None:
        raise NotFound
    return Response(status=200, content_type=_TYPES[name], body=content)
