"""The table of endpoints: which handler serves a method and path, and who may call it.

Rule: a path has one spelling. Segments are decoded once, after the path was split, and one that would then hold a
slash, a dot segment or a control character names nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from authsome.daemon.fields import decode_escapes
from authsome.errors import AuthsomeError, MethodNotAllowed, NotFound

PAGE: Final = "text/html"
_ANY: Final = "{}"  # stands for a name in a split template
SEGMENT_LIMIT: Final = 200  # characters of a name in a path

Handler = TypeVar("Handler")
Schema = Mapping[str, object]
"""A JSON Schema (2020-12)."""

_NAME: Final = re.compile(r"\{([a-z_]+)\}")
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")


class Access(StrEnum):
    """Who may call an endpoint."""

    OPEN = "open"
    """Anybody on this machine."""
    PROOF = "proof"
    """An identity, by its proof."""
    KEY = "key"
    """An identity that is registered, claimed or not, by its proof."""
    RUN = "run"
    """A run, by its secret."""
    PROOF_OR_RUN = "proof_or_run"
    SESSION = "session"
    """A browser that is signed in, by its cookie; what it posts needs a form's token besides."""
    BROWSER = "browser"
    """The browser that was sent here, by the key in its link or cookie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[Handler]):
    """One method of one path, with what the description of the API says about it."""

    method: str
    template: str
    """`/connections/{provider}/{connection}`: each name stands for one segment."""
    handler: Handler
    access: Access
    summary: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    """Query parameters, all optional."""
    request: Schema | None = None
    """The JSON body it takes."""
    response: Schema | None = None
    """The JSON body it answers with; None for a page or nothing."""
    status: int = 200
    media: str = PAGE
    """What a page is that is none."""
    errors: tuple[type[AuthsomeError], ...] = ()
    """What may go wrong beyond what any endpoint may answer."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the template, in order."""
        return tuple(_NAME.findall(self.template))


@dataclass(frozen=True, slots=True)
class Match(Generic[Handler]):
    """The endpoint of a request, and its path's values by name."""

    endpoint: Endpoint[Handler]
    values: Mapping[str, str]


class Router(Generic[Handler]):
    """Finds the endpoint of a request."""

    def __init__(self, endpoints: Sequence[Endpoint[Handler]]) -> None:
        """Take the table; no method of a template may be there twice."""
        self.endpoints: tuple[Endpoint[Handler], ...] = tuple(endpoints)
        templates: dict[tuple[str, ...], dict[str, Endpoint[Handler]]] = {}
        for endpoint in self.endpoints:
            methods = templates.setdefault(tuple(_NAME.sub(_ANY, endpoint.template).split("/")), {})
            if endpoint.method in methods:
                raise ValueError(f"{endpoint.method} {endpoint.template} is there twice")
            methods[endpoint.method] = endpoint
        self._plain = {(each.method, each.template): Match(each, {}) for each in self.endpoints if not each.names}
        self._by_length: dict[int, list[tuple[tuple[str, ...], dict[str, Endpoint[Handler]]]]] = {}
        # Of two templates that fit, the one that spells out more of the path comes first.
        for template in sorted(templates, key=lambda parts: parts.count(_ANY)):
            self._by_length.setdefault(len(template), []).append((template, templates[template]))

    def plain(self, method: str, path: str) -> Match[Handler] | None:
        """The endpoint whose template, without any name in it, is this very path; HEAD is served by GET's."""
        return self._plain.get((_wanted(method), path))

    def match(self, method: str, path: str) -> Match[Handler]:
        """The endpoint for a method and a path as it came; HEAD is served by GET's.

        Raises:
            NotFound: there is nothing at this path.
            MethodNotAllowed: there is, but not with this method.
        """
        plain = self.plain(method, path)
        if plain is not None:
            return plain
        wanted = _wanted(method)
        segments = path.split("/")
        allowed: set[str] = set()
        for template, methods in self._by_length.get(len(segments), ()):
            if not _fits(template, segments):
                continue
            endpoint = methods.get(wanted)
            if endpoint is not None:
                pairs = zip(template, segments, strict=True)
                values = [_decoded(given) for part, given in pairs if part == _ANY]
                return Match(endpoint, dict(zip(endpoint.names, values, strict=True)))
            allowed.update(methods, ["HEAD"] if "GET" in methods else [])
        if allowed:
            raise MethodNotAllowed(allowed=tuple(sorted(allowed)))
        raise NotFound


def _wanted(method: str) -> str:
    return "GET" if method == "HEAD" else method


def _fits(template: Sequence[str], segments: Sequence[str]) -> bool:
    return all(part in (_ANY, given) for part, given in zip(template, segments, strict=True))


def _decoded(segment: str) -> str:
    value = decode_escapes(segment)
    if not value or value in {".", ".."} or len(value) > SEGMENT_LIMIT or _UNFIT.search(value):
        raise NotFound
    return value
