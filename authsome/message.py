"""HTTP requests and responses as plain values, for code that does no I/O, and the strict reading of what others sent.

Bodies and headers may hold secrets, so neither shows in a repr. Named tuples, as in `home`: every command loads this.
"""

import json
import re
from typing import Final, NamedTuple, Never

Headers = tuple[tuple[str, str], ...]

MAX_JSON_DEPTH: Final = 32  # ten times what any token answer nests; far below what a thread's stack takes
_TERMINAL_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor (ECMA-48 §5.4)
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS and kin: titles, links
)
_JSON_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|([\[{])|[\]}]', re.DOTALL)  # possessive: linear in the text


class HttpRequest(NamedTuple):
    """A request to send: absolute URL, header pairs in order, body bytes."""

    method: str
    url: str
    headers: Headers = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpRequest(method={self.method!r})"


class HttpResponse(NamedTuple):
    """A response as it came, its body decoded from any content coding."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpResponse(status={self.status!r})"

    def header(self, name: str) -> str | None:
        """The first header of that name (any case), or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


def clean_line(text: str, limit: int = 200) -> str:
    """Somebody else's text as one inert line of at most `limit` characters, for a terminal, a page, a log.

    Terminal sequences go; every other character that does not print (controls, line separators, bidirectional
    overrides, zero-width marks, lone surrogates) becomes a space; runs of space become one.
    """
    shown = _TERMINAL_SEQUENCE.sub("", text[: 16 * limit])  # a bound on the work, wide enough for any markup
    line = " ".join("".join(char if char.isprintable() else " " for char in shown).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def json_object(data: bytes) -> dict[str, object]:
    """Parse a JSON object that an untrusted party sent, in the one way that leaves no two readers to disagree.

    Raises:
        ValueError: not UTF-8 without a mark, not an object, a member named twice, NaN or Infinity, or nested deeper
            than `MAX_JSON_DEPTH` (RFC 8259 §4, §6, §8.1, §9).
    """
    value = json_document(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # the caller has one thing to catch
    return value


def json_document(data: bytes) -> dict[str, object] | list[object]:
    """Parse a JSON object or list, as strictly as `json_object` does.

    Raises:
        ValueError: as there.
    """
    text = data.decode()
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH:
        _check_depth(text)
    value = _DECODER.decode(text)
    if not isinstance(value, dict | list):
        raise ValueError("neither a JSON object nor a list")  # noqa: TRY004  # as above
    return value


def member(data: object, path: str) -> object:
    """The value at a path of member names joined by dots, a number for an entry of a list; None when there is none."""
    value = data
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for found in _JSON_BRACKET.finditer(text):
        if found[1]:
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise ValueError("nested too deeply")
        elif found[0] in "]}":
            depth -= 1


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        left = dict(pairs)
        twice = next(name for name, _ in pairs if left.pop(name, _MISSING) is _MISSING)
        raise ValueError(f"the member {json.dumps(clean_line(twice, 64), ensure_ascii=False)} is named twice")
    return found


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


_MISSING: Final = object()
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
"""Made once: `json.loads` makes one for each call that has a hook."""
