"""A provider's API keys, as its definition says it: what to ask for, and how it looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN
from authsome.models.pattern import Pattern
from authsome.models.section import Section
from authsome.models.template import TOKEN
from authsome.models.variable import NAME, read_pattern
from authsome.secret import Secret

API_KEY: Final = "api_key"
DEFAULT_LABEL: Final = "API key"
_TAKEN: Final = frozenset({ACCESS_TOKEN, REFRESH_TOKEN, TOKEN})
_FIELD_LIMIT: Final = 8
_ZEROS: Final = "0" * 20  # which placeholders were made of; in a real key once in 16 ** 20
_MARK: Final = b"authsome".hex()  # in a placeholder that may hold digits only


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyField:
    """One thing to ask for."""

    name: str
    label: str
    secret: bool = True
    """Whether it is masked where it is typed; it is stored sealed in any case."""
    pattern: Pattern | None = None
    hint: str | None = None
    """How a right one looks, for somebody who gave a wrong one."""
    env_var: str | None = None
    """Where it commonly lies already."""

    def fits(self, value: str) -> bool:
        """Whether a value is of this field's form."""
        return self.pattern is None or self.pattern.matches(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What an API key of this provider consists of: most often one field, named `api_key`."""

    fields: tuple[KeyField, ...]

    @property
    def names(self) -> frozenset[str]:
        """What templates may use: the fields, and `token` for the only one."""
        names = frozenset(field.name for field in self.fields)
        return names | {TOKEN} if len(names) == 1 else names

    def field(self, name: str) -> KeyField | None:
        """The field that a name in a template stands for."""
        if name == TOKEN and len(self.fields) == 1:
            return self.fields[0]
        return next((field for field in self.fields if field.name == name), None)

    def problem(self, given: Mapping[str, Secret[str]]) -> str | None:
        """What is wrong with a key that was given, in words for whoever gave it; None if nothing."""
        for field in self.fields:
            value = given[field.name].reveal() if field.name in given else ""
            if not value:
                return f"{field.label} is missing"
            if is_placeholder(value):
                return f"{field.label}: that is the placeholder that `authsome run` shows to its child, not the key"
            if not field.fits(value):
                hint = f": {field.hint}" if field.hint else ""
                return f"that does not look like {_with_article(field.label)}{hint}"
        return None

    @classmethod
    def from_json(cls, section: Section) -> "ApiKey":
        """Read the section `api_key`: a list `fields`, or one field said directly."""
        if section.has("fields"):
            fields = tuple(_field(each) for each in section.sections("fields"))
            if not 1 <= len(fields) <= _FIELD_LIMIT:
                raise section.error("fields", f"must name 1 to {_FIELD_LIMIT} fields")
            if len({field.name for field in fields}) != len(fields):
                raise section.error("fields", "names something twice")
            for key in ("label", "key_pattern", "key_pattern_hint", "env_var"):
                if section.has(key):
                    raise section.error(key, "belongs into the entries of fields")
        else:
            fields = (
                KeyField(
                    name=API_KEY,
                    label=section.text("label", DEFAULT_LABEL),
                    pattern=read_pattern(section, "key_pattern"),
                    hint=section.optional_text("key_pattern_hint"),
                    env_var=section.variable_name("env_var"),
                ),
            )
        section.close()
        return cls(fields=fields)

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads, without what is usual."""
        only = self.fields[0]
        if len(self.fields) == 1 and only.name == API_KEY and only.secret:
            written = {
                "label": None if only.label == DEFAULT_LABEL else only.label,
                "env_var": only.env_var,
                "key_pattern": only.pattern.text if only.pattern else None,
                "key_pattern_hint": only.hint,
            }
            return {key: value for key, value in written.items() if value is not None}
        return {"fields": [_field_to_json(field) for field in self.fields]}


def _field(section: Section) -> KeyField:
    name = section.text("name")
    if not NAME.match(name):
        raise section.error("name", f"{name[:64]!r} is not a name", hint="small letters, digits and _")
    if name in _TAKEN:
        raise section.error("name", f"{name} means something else in templates", hint=f"for one key: {API_KEY}")
    is_shown = section.has("secret") and not section.boolean("secret")
    found = KeyField(
        name=name,
        label=section.text("label"),
        secret=not is_shown,
        pattern=read_pattern(section, "pattern"),
        hint=section.optional_text("hint"),
        env_var=section.variable_name("env_var"),
    )
    section.close()
    return found


def _field_to_json(field: KeyField) -> dict[str, object]:
    written: dict[str, object] = {
        "name": field.name,
        "label": field.label,
        "secret": None if field.secret else False,
        "env_var": field.env_var,
        "pattern": field.pattern.text if field.pattern else None,
        "hint": field.hint,
    }
    return {key: value for key, value in written.items() if value is not None}


def is_placeholder(value: str) -> bool:
    """Whether a value says of itself that it is one of our placeholders: in letters, or in digits."""
    plain = value.lower().replace("-", "")
    return ("authsome" in plain and "placeholder" in plain) or _MARK in plain or _ZEROS in plain


def _with_article(label: str) -> str:
    return f"{'an' if label[0] in 'AEIOaeio' else 'a'} {label}"
