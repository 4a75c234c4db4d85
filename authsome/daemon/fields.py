"""Named values out of a JSON body, a form or a query, read with their types; what nobody asked for is refused.

Rule: every error names the field and never repeats its value, which may be a secret.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Never, TypeVar
from urllib.parse import unquote_to_bytes

from authsome.errors import RequestInvalid, RequestTooLarge
from authsome.secret import Secret

FORM_LIMIT: Final = 64 * 1024  # bytes; our forms have a handful of short fields
PAIR_LIMIT: Final = 100
DEPTH_LIMIT: Final = 32  # our bodies are three deep
TEXT_LIMIT: Final = 4096  # characters of a name, a URL, a list's item
DOCUMENT_LIMIT: Final = 512 * 1024  # characters; a provider's definition, of which the broker takes half as much
SECRET_LIMIT: Final = 64 * 1024  # characters; a service account's key file is about 2,400

_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

Value = TypeVar("Value")


class Fields:
    """Reads the values of one body or query; `done()` refuses those that were not read."""

    __slots__ = ("_textual", "_unread", "_values")

    def __init__(self, values: Mapping[str, object], *, textual: bool = False) -> None:
        """Args: the values by name; `textual` when all came as text (form, query), so that numbers are parsed."""
        self._values = values
        self._textual = textual
        self._unread = set(values)

    def text(self, name: str) -> str:
        """A string of one line that must be there and not be empty."""
        value = self.optional_text(name)
        if not value:
            raise RequestInvalid(f'field "{name}" is missing')
        return value

    def optional_text(self, name: str, *, most: int = TEXT_LIMIT) -> str | None:
        """A string of one line and of `most` characters, or None when absent (or null)."""
        value = self._take(name)
        return None if value is None else _line(name, value, most)

    def document(self, name: str) -> str:
        """A text of several lines that must be there and not be empty: a file's content."""
        value = self._take(name)
        if value is None or value == "":
            raise RequestInvalid(f'field "{name}" is missing')
        return _string(name, value, DOCUMENT_LIMIT)

    def secret(self, name: str) -> Secret[str]:
        """A string that must be there and not be empty; it may have several lines."""
        value = self._take(name)
        if value is None or value == "":
            raise RequestInvalid(f'field "{name}" is missing')
        return _secret(name, value)

    def optional_secret(self, name: str) -> Secret[str] | None:
        """The same, or None when absent or empty."""
        value = self._take(name)
        return None if value is None or value == "" else _secret(name, value)

    def secrets(self, name: str) -> Mapping[str, Secret[str]]:
        """An object of strings; empty when absent."""
        return {key: _secret(f"{name}.{key}", value) for key, value in self._object(name).items()}

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self._take(name)
        if value is None:
            return default
        if self._textual:
            value = {"true": True, "false": False}.get(str(value))
        if not isinstance(value, bool):
            _wrong(name, "true or false")
        return value

    def integer(self, name: str, *, minimum: int, maximum: int) -> int | None:
        """A whole number within bounds, or None when absent."""
        value = self._take(name)
        if value is None:
            return None
        if self._textual and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            _wrong(name, f"a whole number from {minimum} to {maximum}")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of strings of one line; empty when absent."""
        value = self._take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            _wrong(name, "a list of strings")
        return tuple(_line(name, item) for item in value)

    def optional_strings(self, name: str) -> tuple[str, ...] | None:
        """A list of strings of one line, or None when absent."""
        listed = self._values.get(name) is not None
        found = self.strings(name)
        return found if listed else None

    def moment(self, name: str) -> datetime | None:
        """A time (RFC 3339; in UTC unless it says otherwise), or None when absent."""
        text = self.optional_text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):  # the latter for one that in UTC lies before the year 1, or after 9999
            _wrong(name, "a time as in RFC 3339")

    def objects(self, name: str) -> "tuple[Fields, ...]":
        """A list of objects, each with fields of its own; empty when absent."""
        value = self._take(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            _wrong(name, "a list of objects")
        return tuple(Fields(item) for item in value)

    def mapping(self, name: str) -> Mapping[str, str]:
        """An object of strings of one line; empty when absent."""
        return {_line(name, key): _line(f"{name}.{key}", value) for key, value in self._object(name).items()}

    def rest(self) -> Mapping[str, Secret[str]]:
        """Everything that was not read yet, as strings: the fields of a form that a provider's definition names."""
        return {name: _secret(name, self._take(name)) for name in sorted(self._unread)}

    def done(self) -> None:
        """Refuse what was not read.

        Raises:
            RequestInvalid: naming one such field.
        """
        if self._unread:
            raise RequestInvalid(f'unknown field "{_shown(min(self._unread))}"')

    def _take(self, name: str) -> object:
        self._unread.discard(name)
        return self._values.get(name)

    def _object(self, name: str) -> Mapping[str, object]:
        value = self._take(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            _wrong(name, "an object of strings")
        return value


def parse_json(body: bytes) -> Fields:
    """The fields of a JSON object (RFC 8259): UTF-8, no name twice, no NaN, no deep nesting.

    Raises:
        RequestInvalid: it is not that.
    """
    # The C parser recurses, and overflows a small stack before Python's own limit stops it (3.13, below 1.3 MiB).
    if body.count(b"[") + body.count(b"{") > DEPTH_LIMIT and _depth(body) > DEPTH_LIMIT:
        raise RequestInvalid("the body is nested too deeply")
    try:
        value = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestInvalid("the body is not a JSON object in UTF-8")
    return Fields(value)


def parse_form(body: bytes) -> Fields:
    """The fields of a form (application/x-www-form-urlencoded): no name twice.

    Raises:
        RequestInvalid: it is malformed.
        RequestTooLarge: more than `FORM_LIMIT`.
    """
    if len(body) > FORM_LIMIT:
        raise RequestTooLarge("the form is too large")
    try:
        return parse_query(body.decode("ascii"))
    except UnicodeDecodeError as error:
        raise RequestInvalid("malformed form") from error


def parse_query(query: str) -> Fields:
    """The fields of a query (without its question mark): no name twice, every escape whole and UTF-8.

    Raises:
        RequestInvalid: it is malformed.
    """
    pairs = query.split("&") if query else []
    if len(pairs) > PAIR_LIMIT:
        raise RequestInvalid("too many fields")
    values: dict[str, object] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        name = _decode(name)
        if not name:
            raise RequestInvalid("a field has no name")
        if name in values:
            raise RequestInvalid(f'field "{_shown(name)}" is there twice')
        values[name] = _decode(value)
    return Fields(values, textual=True)


def decode_escapes(text: str) -> str | None:
    """Undo percent-encoding once (RFC 3986 §2.1); None for a broken escape or bytes that are not UTF-8."""
    if _BROKEN_ESCAPE.search(text):
        return None
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return None


def _decode(text: str) -> str:
    value = decode_escapes(text.replace("+", " "))
    if value is None:
        raise RequestInvalid("malformed percent-encoding")
    return value


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(_STRINGS.sub(b"", body)):
        depth += 1 if match.group() in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > DEPTH_LIMIT:
            break
    return deepest


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in pairs:
        if name in values:
            raise RequestInvalid(f'field "{_shown(name)}" is there twice')
        values[name] = value
    return values


def _no_constant(name: str) -> Never:
    raise RequestInvalid(f"{name} is not JSON")


def _string(name: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        _wrong(name, "a string")
    if len(value) > limit:
        raise RequestInvalid(f'field "{_shown(name)}" is too long')
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON's \u escapes can spell
        raise RequestInvalid(f'field "{_shown(name)}" is not Unicode text') from error
    return value


def _line(name: str, value: object, most: int = TEXT_LIMIT) -> str:
    text = _string(name, value, most)
    if _CONTROL.search(text):
        raise RequestInvalid(f'field "{_shown(name)}" has control characters')
    return text


def _secret(name: str, value: object) -> Secret[str]:
    return Secret(_string(name, value, SECRET_LIMIT))


def _wrong(name: str, wanted: str) -> Never:
    raise RequestInvalid(f'field "{_shown(name)}" must be {wanted}')


def _shown(name: str) -> str:
    """A client's own name for a field, fit for one line of an error."""
    return name.encode("ascii", "backslashreplace").decode()[:80].translate(dict.fromkeys([*range(32), 127], "?"))


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
"""Made once: `json.loads` makes one for each call that has a hook."""
