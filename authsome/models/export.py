"""The environment variables in which SDKs look for a credential: its value for `export`, a placeholder for `run`.

Rule: a placeholder looks like the real thing to a program and like nothing to its provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authsome.models.api_key import ApiKey
from authsome.models.connection import Kind, Secrets
from authsome.models.injection import Names, kinds_for, plain_values
from authsome.models.section import ENVIRONMENT_VARIABLE, Section
from authsome.models.template import Template
from authsome.secret import Secret

DEFAULT_PLACEHOLDER: Final = "authsome-placeholder-00000000000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedVariable:
    """One environment variable."""

    name: str
    value: Template
    placeholder: str = DEFAULT_PLACEHOLDER
    auth: Kind | None = None
    """The kind of login that it is set for; None for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A provider's environment variables."""

    env: tuple[ExportedVariable, ...] = ()

    def values(self, kind: Kind, secrets: Secrets) -> Mapping[str, Secret[str]]:
        """The variables with their real values; one whose fields the login does not hold is left out."""
        held = plain_values(secrets)
        return {
            each.name: Secret(each.value.render(held))
            for each in self.env
            if each.auth in {None, kind} and each.value.names <= held.keys()
        }

    def placeholders(self, kind: Kind) -> Mapping[str, str]:
        """The variables as a run's child sees them."""
        return {each.name: each.placeholder for each in self.env if each.auth in {None, kind}}

    @classmethod
    def from_json(cls, section: Section, names: Names, api_key: ApiKey | None) -> "Export":
        """Read the section `export`: in `env` a template, or `value` and `placeholder`, by variable."""
        below = section.section("env")
        found = tuple(_variable(below, name, names, api_key) for name in below.keys())  # noqa: SIM118  # not a mapping
        section.close()
        return cls(env=found)

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads."""
        return {"env": {each.name: _variable_to_json(each) for each in self.env}} if self.env else {}


def _variable(below: Section, name: str, names: Names, api_key: ApiKey | None) -> ExportedVariable:
    if not ENVIRONMENT_VARIABLE.match(name):
        raise below.error("", f"{name[:64]!r} is not the name of an environment variable", hint="capitals, digits, _")
    placeholder = DEFAULT_PLACEHOLDER
    if isinstance(below.raw(name), str):
        written = below.text(name)
    else:
        each = below.section(name)
        written, placeholder = each.text("value"), each.text("placeholder", placeholder)
        each.close()
    try:
        value = Template.parse(written)
        fitting = kinds_for(value.names, names)
    except ValueError as error:
        raise below.error(name, str(error)) from error
    if not value.names:
        raise below.error(name, "holds no {field} of a login")
    _check_placeholder(below, name, value, placeholder, api_key)
    return ExportedVariable(
        name=name, value=value, placeholder=placeholder, auth=fitting[0] if len(fitting) == 1 else None
    )


def _check_placeholder(below: Section, name: str, value: Template, placeholder: str, api_key: ApiKey | None) -> None:
    where = f"{name}.placeholder"
    if not placeholder.isascii() or set(placeholder) & set(" {}"):
        raise below.error(where, "must be ASCII without spaces and braces")
    field = api_key.field(value.text.strip("{}")) if api_key else None
    if field is not None and not field.fits(placeholder):
        pattern = field.pattern.text if field.pattern else ""
        raise below.error(where, f"does not match {pattern}", hint="programs that check the key's form would refuse it")


def _variable_to_json(each: ExportedVariable) -> object:
    if each.placeholder == DEFAULT_PLACEHOLDER:
        return each.value.text
    return {"value": each.value.text, "placeholder": each.placeholder}
