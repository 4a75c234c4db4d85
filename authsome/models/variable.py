"""Variables of a definition: what differs between installations of one service, as `base_url` does.

Rule: a value is checked when it is given and again in the place where it is used, because it decides where a
credential goes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from authsome.errors import RequestInvalid
from authsome.models import url
from authsome.models.connection import Kind
from authsome.models.pattern import Pattern
from authsome.models.section import Section
from authsome.models.template import Template

BASE_URL: Final = "base_url"
_URL_SUFFIX: Final = "_url"
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
# Without `/`, `:`, `@`, `?` and `#` a value cannot end the host it stands in.
_VALUE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_LABEL: Final = Pattern.parse("^[a-z0-9][a-z0-9-]{0,62}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable. A name that ends in `_url` takes an https URL, another one a word that fits its pattern."""

    name: str
    default: str | None = None
    pattern: Pattern | None = None
    """For a word without a pattern: one label of a host name."""
    description: str | None = None
    example: str | None = None
    """A value as it may be; what is made of the definition is tried with it."""
    auth: Kind | None = None
    """The kind of login that has it; None for each."""
    from_token: str | None = None
    """The member of the token endpoint's answer that says it: names joined by dots."""
    from_callback: str | None = None
    """The parameter of the callback that says it."""

    @property
    def is_asked(self) -> bool:
        """Whether somebody has to give it who logs in; the provider itself says the others."""
        return self.from_token is None and self.from_callback is None

    @property
    def is_url(self) -> bool:
        """Whether the value is a URL."""
        return self.name.endswith(_URL_SUFFIX)

    @property
    def sample(self) -> str:
        """Some value that is allowed in form, for checking what is made of it."""
        return self.default or self.example or ("https://sample.example.com" if self.is_url else "sample")

    def checked(self, value: str, *, allow_private: bool) -> str:
        """The value in its one spelling.

        Raises:
            ValueError: it is not allowed, in words that follow the variable's name.
        """
        if self.is_url:
            found = url.parse(value.strip().rstrip("/"), allow_private=allow_private).text
        else:
            found = value.strip()
            if not _VALUE.match(found):
                raise ValueError("must be a word of letters, digits, `.`, `_` and `-`")
        pattern = self.pattern or (None if self.is_url else _LABEL)
        if pattern is not None and not pattern.matches(found):
            raise ValueError(f"must match {pattern.text}")
        return found


def of_kind(variables: Iterable[Variable], kind: Kind) -> tuple[Variable, ...]:
    """Those that a login of this kind has."""
    return tuple(each for each in variables if each.auth in {None, kind})


def checked(
    variables: Iterable[Variable], given: Mapping[str, str], *, allow_private: bool, partial: bool = False
) -> dict[str, str]:
    """A value for every variable that is asked for: the given one, else its default.

    Args:
        variables: those that there are.
        given: values by name.
        allow_private: whether a URL may lead to this machine or a private network.
        partial: leave those out that are missing.

    Raises:
        RequestInvalid: a value is not allowed or missing, or there is no such variable.
    """
    known = {variable.name: variable for variable in variables if variable.is_asked}
    for name in given:
        if name not in known:
            hint = f"it takes: {', '.join(known)}" if known else "it takes none"
            raise RequestInvalid(f"this provider takes no {name[:64]!r}", hint=hint)
    found: dict[str, str] = {}
    for name, variable in known.items():
        value = given.get(name) or variable.default
        if value is None and partial:
            continue
        if value is None:
            raise RequestInvalid(f"{name} is missing", hint=variable.description)
        try:
            found[name] = variable.checked(value, allow_private=allow_private)
        except ValueError as error:
            raise RequestInvalid(f"{name} {error}", hint=variable.description) from error
    return found


def fill(written: str, variables: Mapping[str, str]) -> str:
    """A URL or a host with its variables replaced, by values that cannot change more than their own place in it.

    Raises:
        ValueError: a value is missing or would reach beyond its place, in words that follow the field's name.
    """
    template = Template.parse(written)
    for name in sorted(template.names):
        if name not in variables:
            raise ValueError(f"there is no variable {name}")
        if name.endswith(_URL_SUFFIX):
            if written.rfind(f"{{{name}}}") != 0:
                raise ValueError(f"{{{name}}} is a whole URL, so it can stand at the beginning only")
        elif not _VALUE.match(variables[name]):
            raise ValueError(f"{name} must be a word of letters, digits, `.`, `_` and `-`")
    return template.render(variables)


def from_json(section: Section, *, allow_private: bool) -> tuple[Variable, ...]:
    """Read `base_url` (short for a variable of that name with a default) and `variables`."""
    found: list[Variable] = []
    short = section.optional_text(BASE_URL)
    if short is not None:
        found.append(_with_default(section, BASE_URL, Variable(name=BASE_URL, default=short), allow_private))
    below = section.section("variables")
    for name in below.keys():  # noqa: SIM118  # not a mapping
        if not NAME.match(name):
            raise below.error("", f"{name[:64]!r} is not a name", hint="small letters, digits and _")
        if name == BASE_URL and short is not None:
            raise below.error(name, "stands already at the top")
        each = below.section(name)
        variable = Variable(
            name=name,
            default=each.optional_text("default"),
            pattern=read_pattern(each, "pattern", whole=True),
            description=each.optional_text("description"),
            example=each.optional_text("example"),
            auth=each.choice("auth", tuple(Kind), Kind.OAUTH2) if each.has("auth") else None,
            from_token=each.json_path("from_token"),
            from_callback=_parameter(each, "from_callback"),
        )
        _check_source(each, variable)
        if not variable.is_asked:
            variable = replace(variable, auth=Kind.OAUTH2)
        found.append(_with_default(each, "default", variable, allow_private))
        if variable.example is not None:
            _with_default(each, "example", replace(variable, default=variable.example), allow_private)
        each.close()
    return tuple(found)


def to_json(variables: Iterable[Variable]) -> dict[str, object]:
    """The fields that `from_json` reads."""
    found: dict[str, object] = {}
    below: dict[str, object] = {}
    for each in variables:
        if each == Variable(name=BASE_URL, default=each.default) and each.default is not None:
            found[BASE_URL] = each.default
            continue
        pattern = each.pattern.text if each.pattern else None
        parts = {
            "default": each.default,
            "pattern": pattern,
            "description": each.description,
            "example": each.example,
            "auth": each.auth.value if each.auth and each.is_asked else None,
            "from_token": each.from_token,
            "from_callback": each.from_callback,
        }
        below[each.name] = {key: value for key, value in parts.items() if value is not None}
    return {**found, "variables": below} if below else found


def _parameter(section: Section, key: str) -> str | None:
    found = section.optional_text(key)
    if found is not None and not _PARAMETER.match(found):
        raise section.error(key, "is not the name of a parameter")
    return found


def _check_source(section: Section, variable: Variable) -> None:
    """What the provider says is as much a stranger's word as what a user types, and decides as much."""
    if variable.is_asked:
        return
    if variable.from_token is not None and variable.from_callback is not None:
        raise section.error("from_callback", "cannot stand beside from_token")
    if variable.default is not None:
        raise section.error("default", "is never used: the provider says the value")
    if variable.pattern is None or variable.example is None:
        missing = "pattern" if variable.pattern is None else "example"
        raise section.error(missing, "is missing", hint="the provider's word decides where a credential goes")


def read_pattern(section: Section, key: str, *, whole: bool = False) -> Pattern | None:
    """A pattern, None when missing; `whole`: one that says all of a text."""
    text = section.optional_text(key)
    if text is None:
        return None
    try:
        pattern = Pattern.parse(text)
    except ValueError as error:
        raise section.error(key, str(error)) from error
    if whole and not pattern.is_whole:
        raise section.error(key, "must begin with ^ and end with $")
    return pattern


def _with_default(section: Section, key: str, variable: Variable, allow_private: bool) -> Variable:  # noqa: FBT001
    if variable.default is not None:
        try:
            canonical = variable.checked(variable.default, allow_private=allow_private)
        except ValueError as error:
            raise section.error(key, str(error)) from error
        if canonical != variable.default:
            raise section.error(key, f"should be written {canonical}")
    return variable
