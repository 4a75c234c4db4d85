"""Templates: text with `{names}` in it, each to be replaced by one value.

Rule: a value is put in as it is and never read again as a template; a name that is not known is an error when the
definition is read, not when a request waits for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TOKEN: Final = "token"  # noqa: S105  # a name
"""Stands for whatever is the one token of a connection: its access token, or its API key if that is one field."""

_PART: Final = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with `{names}`."""

    text: str
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    """The names that the template needs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(_PART.findall(self.text)))  # once: each request asks for them

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Check a template.

        Raises:
            ValueError: a brace that belongs to no `{name}`.
        """
        if set(_PART.sub("", text)) & set("{}"):
            raise ValueError("has a brace that belongs to no {name}")
        return cls(text)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with each name replaced by its value.

        Raises:
            KeyError: a name has no value.
        """
        return _PART.sub(lambda found: values[found[1]], self.text)
