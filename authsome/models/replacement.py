"""Where placeholders that a program puts on a request itself are replaced, beside what is injected.

Rule: a place is named because the provider reads a credential there and nothing else. What it keeps and shows to others
(a text, a name, the address of a webhook) is no such place, so nothing named here publishes the value.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from authsome.models.section import Section

_ON, _OFF = "on", "off"
_PATH_BEGINS: Final = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """The places, each kind by its names; none of them unless `is_everywhere`."""

    header: tuple[str, ...] = ()
    """Headers, in lower case: anywhere in their values."""
    query: tuple[str, ...] = ()
    """Parameters of the query: as their whole values."""
    form: tuple[str, ...] = ()
    """Fields of a form in the body: as their whole values."""
    path: tuple[str, ...] = ()
    """What a path begins with before it: as a whole segment."""
    is_everywhere: bool = False

    def __bool__(self) -> bool:
        """Whether there is any place."""
        return self != NOWHERE

    @property
    def named(self) -> dict[str, list[str]] | None:
        """The names by kind, as in a definition; None where it is everywhere."""
        return None if self.is_everywhere else {kind: list(names) for kind, names in self._kinds() if names}

    def _kinds(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        return ((kind, getattr(self, kind)) for kind in KINDS)

    def to_json(self) -> object:
        """What `from_json` reads; None: the usual."""
        return None if self.is_everywhere else self.named or _OFF

    @classmethod
    def from_json(cls, section: Section, key: str) -> "Replacement":
        """Read `"on"`, `"off"`, or the names of the places by kind."""
        if not isinstance(section.raw(key), dict):
            return EVERYWHERE if section.choice(key, (_ON, _OFF), _ON) == _ON else NOWHERE
        below = section.section(key)
        for name in below.texts("header"):
            below.check_header("header", name, "")
        for each in below.texts("path"):
            if not each.startswith(_PATH_BEGINS) or not each.endswith(_PATH_BEGINS) or set(each) & set("%?#{}"):
                raise below.error("path", f"{each[:64]!r} is not the beginning of a path", hint='as in "/tokens/"')
        found = cls(
            header=tuple(name.lower() for name in below.texts("header")),
            query=below.texts("query"),
            form=below.texts("form"),
            path=below.texts("path"),
        )
        below.close()
        if not found:
            raise section.error(key, "names no place", hint='to have none, say "off"')
        return found


EVERYWHERE: Final = Replacement(is_everywhere=True)
NOWHERE: Final = Replacement()
KINDS: Final = tuple(each.name for each in fields(Replacement) if each.name != "is_everywhere")
"""The kinds of places."""
