"""The strict reading of a provider definition: one JSON object at a time, every error naming file, field and fix.

Rule: a field is what the contract says or the definition is refused; nobody's typing error is silently left out.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from authsome.errors import ProviderInvalid

TEXT_LIMIT: Final = 2048  # characters; the longest URL of the known providers has under 200
LIST_LIMIT: Final = 256  # entries of a list or an object; the longest known list of hosts has under 60

HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")  # RFC 9110 §5.6.2, token
JSON_PATH: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,7}\Z")
ENVIRONMENT_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}\Z")

# Framing and routing are the transport's: a definition that could set these could smuggle (RFC 9112 §6, §3.2).
FORBIDDEN_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

Choice = TypeVar("Choice", bound=str)


class Section:
    """One JSON object of a definition; each field is asked for by name, and `close` refuses what nobody asked for."""

    def __init__(self, data: object, *, source: str, path: str = "") -> None:
        self._source = source
        self._path = path
        self._asked: set[str] = set()
        if not isinstance(data, Mapping):
            raise self.error("", f"must be an object, not {_kind(data)}")
        if len(data) > LIST_LIMIT:
            raise self.error("", f"has more than {LIST_LIMIT} fields")
        self._data: Mapping[object, object] = data

    def error(self, key: str, problem: str, *, hint: str | None = None) -> ProviderInvalid:
        """The error for one field, ready to be raised: `github.json: oauth.token_url: must be …`."""
        where = ".".join(part for part in (self._path, key) if part)
        said = ": ".join(part for part in (self._source, where, problem) if part)
        return ProviderInvalid(said, hint=hint, field=where)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        self._asked.add(key)
        return self._data.get(key) is not None

    def raw(self, key: str) -> object:
        """The field's value as it is, None when it is missing."""
        self._asked.add(key)
        return self._data.get(key)

    def keys(self) -> tuple[str, ...]:
        """The names of all fields, for an object whose names are data; they count as asked for."""
        names = tuple(key for key in self._data if isinstance(key, str))
        self._asked.update(names)
        return names

    def text(self, key: str, default: str | None = None) -> str:
        """A line of text; required unless there is a default."""
        found = self.optional_text(key)
        if found is None and default is None:
            raise self.error(key, "is missing")
        return found if found is not None else default or ""

    def optional_text(self, key: str) -> str | None:
        """A line of text, or None when the field is missing or null."""
        found = self.raw(key)
        return None if found is None else self._line(key, found)

    def boolean(self, key: str) -> bool:
        """True or false; false when missing."""
        found = self.raw(key)
        if found is None:
            return False
        if not isinstance(found, bool):
            raise self.error(key, f"must be true or false, not {_kind(found)}")
        return found

    def seconds(self, key: str) -> int | None:
        """A positive number of seconds, or None when missing."""
        found = self.raw(key)
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool) or not 0 < found <= 10**9:
            raise self.error(key, "must be a whole number of seconds above 0")
        return found

    def choice(self, key: str, choices: Iterable[Choice], default: Choice) -> Choice:
        """One of a few words."""
        found = self.optional_text(key)
        if found is None:
            return default
        known = tuple(choices)
        for each in known:
            if found == each:
                return each
        raise self.error(key, f"is {found!r}", hint=f"one of: {', '.join(known)}")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of lines without duplicates; one line counts as a list of one, a missing field as an empty list."""
        found = self.raw(key)
        if found is None:
            return ()
        if isinstance(found, str):
            return (self._line(key, found),)
        if not isinstance(found, list):
            raise self.error(key, f"must be a text or a list of texts, not {_kind(found)}")
        if len(found) > LIST_LIMIT:
            raise self.error(key, f"has more than {LIST_LIMIT} entries")
        lines = tuple(self._line(f"{key}[{index}]", each) for index, each in enumerate(found))
        if len(set(lines)) != len(lines):
            raise self.error(key, "names something twice")
        return lines

    def pairs(self, key: str) -> dict[str, str]:
        """An object of texts, empty when missing."""
        if not self.has(key):
            return {}
        section = self.section(key)
        return {name: section.text(name) for name in section.keys()}  # noqa: SIM118  # not a mapping

    def headers(self, key: str) -> dict[str, str]:
        """An object of header names and values that are safe to send."""
        found = self.pairs(key)
        for name, value in found.items():
            self.check_header(f"{key}.{name}", name, value)
        return found

    def check_header(self, key: str, name: str, value: str) -> None:
        """Refuse a header name that is none or belongs to the transport, and a value that is not plain ASCII."""
        if not HEADER_NAME.match(name):
            raise self.error(key, f"{name[:64]!r} is not a header name")
        if name.lower() in FORBIDDEN_HEADERS:
            raise self.error(key, f"the header {name} belongs to the transport and cannot be set")
        if not value.isascii():
            raise self.error(key, "a header's value must be ASCII")

    def json_path(self, key: str, default: str | None = None) -> str | None:
        """Names joined by dots that lead to a value in a JSON document."""
        found = self.optional_text(key)
        if found is not None and not JSON_PATH.match(found):
            raise self.error(
                key, "must be names joined by dots, at most eight", hint='as in "authed_user.access_token"'
            )
        return found if found is not None else default

    def variable_name(self, key: str) -> str | None:
        """The name of an environment variable."""
        found = self.optional_text(key)
        if found is not None and not ENVIRONMENT_VARIABLE.match(found):
            raise self.error(key, "must be the name of an environment variable", hint="capitals, digits and _")
        return found

    def section(self, key: str) -> "Section":
        """The object below this one; a missing one is read as empty."""
        found = self.raw(key)
        return Section({} if found is None else found, source=self._source, path=self._below(key))

    def sections(self, key: str) -> tuple["Section", ...]:
        """The objects of a list; a single object counts as a list of one."""
        found = self.raw(key)
        if found is None:
            return ()
        if isinstance(found, Mapping):
            return (self.section(key),)
        if not isinstance(found, list):
            raise self.error(key, f"must be an object or a list of objects, not {_kind(found)}")
        if len(found) > LIST_LIMIT:
            raise self.error(key, f"has more than {LIST_LIMIT} entries")
        return tuple(
            Section(each, source=self._source, path=self._below(f"{key}[{index}]")) for index, each in enumerate(found)
        )

    def close(self) -> None:
        """Refuse fields that nobody asked for: they mean something to their author that would not happen."""
        for key in self._data:
            if key not in self._asked:
                shown = repr(key)[:80]
                raise self.error("", f"there is no field {shown}", hint=_nearest(str(key), sorted(self._asked)))

    def _below(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _line(self, key: str, found: object) -> str:
        if not isinstance(found, str):
            raise self.error(key, f"must be a text, not {_kind(found)}")
        if not found:
            raise self.error(key, "is empty", hint="leave the field out, or say what belongs there")
        if len(found) > TEXT_LIMIT:
            raise self.error(key, f"is longer than {TEXT_LIMIT} characters")
        if not found.isprintable():
            raise self.error(key, "holds a character that does not print")
        if found != found.strip():
            raise self.error(key, "begins or ends with a space")
        return found


def _nearest(word: str, known: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # 4 ms that only a mistake should cost

    near = get_close_matches(word[:64], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"fields here: {', '.join(known)}"


def _kind(found: object) -> str:
    if found is None:
        return "null"
    if isinstance(found, bool):
        return "true or false"
    names: dict[type, str] = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(found), type(found).__name__)
