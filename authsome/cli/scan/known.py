"""Whose key a value is: by the variable that it lies in, by the host that it is for, or by its own form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from authsome.cli.scan.found import Found
from authsome.client.api import JsonObject
from authsome.models.api_key import is_placeholder
from authsome.models.pattern import Pattern
from authsome.secret import Secret

_TELLING: Final = 3  # plain characters that a form begins with, for a value to be known by it alone
_SHORTEST: Final = 8
_SHOWN_FROM: Final = 20  # characters: of a shorter value not even the end is shown
_DUMMIES: Final = ("change", "dummy", "example", "fake", "placeholder", "redacted", "todo", "xxxx", "your")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyForm:
    """How one field of a provider's key looks, as the daemon tells it."""

    provider: str
    field: str
    is_secret: bool
    placeholders: Mapping[str, str]
    pattern: Pattern | None
    hosts: tuple[str, ...]
    is_importable: bool

    @classmethod
    def from_json(cls, value: JsonObject) -> "KeyForm":
        """Read the daemon's answer."""
        variables, hosts, pattern = value.get("variables"), value.get("hosts"), value.get("pattern")
        return cls(
            provider=str(value["provider"]),
            field=str(value["field"]),
            is_secret=value.get("secret") is not False,
            placeholders={str(k): str(v) for k, v in variables.items()} if isinstance(variables, dict) else {},
            pattern=Pattern(str(pattern)) if pattern else None,
            hosts=tuple(map(str, hosts)) if isinstance(hosts, list) else (),
            is_importable=value.get("importable") is True,
        )

    def fits(self, value: str) -> bool:
        """Whether a value is of this form."""
        return self.pattern is None or self.pattern.matches(value)

    def names(self, host: str) -> bool:
        """Whether the provider names this host."""
        return any(host == each or (each[:2] == "*." and host.endswith(each[1:])) for each in self.hosts)

    def masked(self, value: Secret[str]) -> str:
        """As much of a value as its form tells anyway, and its end, for the owner to know it by."""
        text = value.reveal()
        shown = self.pattern.specificity() if self.pattern else 0
        return f"{text[:shown]}…{text[-4:]}" if len(text) >= _SHOWN_FROM + shown else f"{text[:shown]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A value, and whose key it is: several when its form is that of more than one, none when no provider takes it."""

    found: Found
    forms: tuple[KeyForm, ...]

    @property
    def is_telling(self) -> bool:
        """Whether it is a secret, and not only what belongs to one."""
        return not self.forms or any(form.is_secret for form in self.forms)


def match(forms: Sequence[KeyForm], found: Iterable[Found]) -> list[Match]:
    """What was found that is a key, in order."""
    matches = []
    for each in found:
        fitting = _fitting(forms, each)
        if fitting or (each.is_key and _is_real(each.value.reveal())):
            matches.append(Match(found=each, forms=tuple(fitting)))
    return matches


def _fitting(forms: Sequence[KeyForm], found: Found) -> list[KeyForm]:
    value = found.value.reveal()
    if not _is_real(value):
        return []
    fitting = [form for form in forms if form.fits(value)]
    for by in (_by_variable, _by_host):
        if known := by(fitting, found):
            return known
    telling = [(form.pattern.specificity(), form) for form in fitting if form.pattern and form.is_secret]
    most = max((count for count, _ in telling), default=0)
    return [form for count, form in telling if count == most and count >= _TELLING]


def _by_variable(forms: Iterable[KeyForm], found: Found) -> list[KeyForm]:
    return [form for form in forms if found.variable in form.placeholders]


def _by_host(forms: Iterable[KeyForm], found: Found) -> list[KeyForm]:
    return [form for form in forms if found.host and form.is_secret and form.names(found.host.lower())]


def _is_real(value: str) -> bool:
    """Whether a value is no reference to another one, no placeholder, and nothing that says it is to be filled in."""
    lowered = value.lower()
    return (
        len(value) >= _SHORTEST
        and value.isprintable()
        and not set(value) & set(" <>{}$`")
        and not any(dummy in lowered for dummy in _DUMMIES)
        and not is_placeholder(value)
        and len(set(value)) > 2  # all of one or two characters
    )
