"""Placeholders on a request: where the child has put one, what it stands for goes out instead.

Plain values, no I/O and no engine. Which placeholders there are, and what each stands for, the daemon says with the
credential of one request, whose host was checked before: for any other request there are none.

Rule 1: every byte that is not a placeholder's stays as it is, and so does a message without one.
Rule 2: in a query, a form and JSON a placeholder is a whole value. A text that quotes one (a prompt, an environment
that was printed) is kept and shown to others by many APIs, and is left alone.
Rule 3: where the definition names the places (`Replacement`), it is replaced in these and nowhere else.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from authsome.models.replacement import EVERYWHERE, Replacement
from authsome.secret import Secret

if TYPE_CHECKING:
    from authsome.proxy.inject import Fields

Placeholders = tuple[tuple[str, Secret[str]], ...]
"""Each with the value that it stands for."""

LARGEST_BODY: Final = 1024 * 1024
"""Bytes of a body that is looked through; a larger one passes as it comes. What carries a credential is small."""
_FORM: Final = b"application/x-www-form-urlencoded"
_JSON: Final = re.compile(rb"application/(?:[!#$&^_.+0-9a-z-]+\+)?json\Z")
_FORM_BEGINS: Final = re.compile(rb"[A-Za-z0-9_.~%+*$=&-]")
_JSON_VALUE: Final = rb'"(?<!\\")%b"(?![ \t\r\n]*:)'
"""A string that is a value, and nothing but this: its first quote is not an escaped one, and it is no member's name."""
_LENGTH: Final = re.compile(rb"[0-9]{1,7}\Z")
_CONTINUE: Final = b"100-continue"
_FRAMING: Final = frozenset(
    {
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that say how the message is read and where it goes."""
_BASIC: Final = re.compile(rb"([Bb][Aa][Ss][Ii][Cc] +)([A-Za-z0-9+/]+={0,2})\Z")


def may_be_in(target: bytes, placeholders: Placeholders) -> bool:
    """Whether a path and query may hold any: most have neither one nor a percent sign, which is told quickly."""
    if b"%" in target:
        return bool(placeholders)
    for text, _ in placeholders:  # noqa: SIM110  # done for everything that passes
        if text.encode() in target:
            return True
    return False


def in_path(path: bytes, placeholders: Placeholders, where: Replacement = EVERYWHERE) -> bytes:
    """A path with the values in place of the placeholders, each percent-encoded as one segment or a part of one."""
    plain = unquote_to_bytes(path) if b"%" in path else path
    there = [(text, _segment(value)) for text, value in placeholders if text.encode() in plain]
    fit = [(text, written) for text, written in there if written not in {b".", b".."}]  # would lead elsewhere
    if not where.is_everywhere:
        return _in_named_segment(path, fit, where.path)
    return _replaced(path, fit, b"%b", _percent_encoded) if fit else path


def _in_named_segment(path: bytes, there: list[tuple[str, bytes]], beginnings: Collection[str]) -> bytes:
    """The path with the value as the segment that follows one of these beginnings."""
    for beginning in (each.encode() for each in beginnings):
        if path.startswith(beginning):
            segment, slash, rest = path[len(beginning) :].partition(b"/")
            for text, written in there:
                if unquote_to_bytes(segment) == text.encode():
                    return beginning + written + slash + rest
    return path


def in_query(query: bytes, placeholders: Placeholders, where: Replacement = EVERYWHERE) -> bytes:
    """A query with the values in place of the placeholders."""
    return _in_pairs(query, placeholders, None if where.is_everywhere else where.query)


def _in_pairs(pairs: bytes, placeholders: Placeholders, names: Collection[str] | None) -> bytes:
    """A query or a form with the values in place of the placeholders, under these names; None: under any."""
    if b"%" not in pairs and not any(text.encode() in pairs for text, _ in placeholders):
        return pairs
    return b"&".join([_in_pair(pair, placeholders, names) for pair in pairs.split(b"&")])


def _in_pair(pair: bytes, placeholders: Placeholders, names: Collection[str] | None) -> bytes:
    name, equals, written = pair.partition(b"=")
    if names is not None and unquote_plus(name.decode("latin-1")) not in names:
        return pair
    for text, value in placeholders:
        if len(text) <= len(written) <= 3 * len(text) and unquote_plus(written.decode("latin-1")) == text:
            return name + equals + quote(value.reveal(), safe="").encode()
    return pair


def in_field(name: bytes, value: bytes, placeholders: Placeholders, where: Replacement = EVERYWHERE) -> bytes:
    """A header's value with the values in place of the placeholders, those of a Basic pair (RFC 7617) too."""
    spelling = name.lower()
    if spelling in _FRAMING or not (where.is_everywhere or spelling.decode("latin-1") in where.header):
        return value
    basic = _BASIC.match(value)
    if basic is not None:
        return basic[1] + _in_basic_pair(basic[2], placeholders)
    return _in_text(value, placeholders)


def _in_basic_pair(encoded: bytes, placeholders: Placeholders) -> bytes:
    try:
        pair = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return encoded
    username, colon, password = pair.partition(b":")
    named, proven = _in_text(username, placeholders), _in_text(password, placeholders)
    if b":" in named:  # a server would end the user name there
        named = username
    is_same = (named, proven) == (username, password)
    return encoded if is_same else base64.b64encode(named + colon + proven)


def _in_text(data: bytes, placeholders: Placeholders) -> bytes:
    there = [(text, value.reveal().encode()) for text, value in placeholders if text.encode() in data]
    return _replaced(data, there, b"%b", _as_it_is) if there else data


def takes_body(fields: "Fields", where: Replacement = EVERYWHERE) -> bool:
    """Whether a request's body is one that may hold placeholders: of a form or JSON, plain, and of a bounded length.

    JSON is a document, which an API may show to others: looked through only where placeholders are replaced everywhere.
    """
    if not where.is_everywhere and not where.form:
        return False
    told: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        told.setdefault(name.lower(), []).append(value)
    if told.keys() & {b"transfer-encoding", b"content-encoding", b"upgrade"}:
        return False
    if [each.lower() for each in told.get(b"expect", [])] not in ([], [_CONTINUE]):
        return False
    lengths, types = told.get(b"content-length", []), _media_types(fields)
    is_bounded = len(lengths) == 1 and bool(_LENGTH.match(lengths[0])) and 0 < int(lengths[0]) <= LARGEST_BODY
    is_json = where.is_everywhere and len(types) == 1 and bool(_JSON.match(types[0]))
    return is_bounded and (types == [_FORM] or is_json)


def in_body(fields: "Fields", body: bytes, placeholders: Placeholders, where: Replacement = EVERYWHERE) -> bytes:
    """A body that `takes_body` says it of, with the values in place of the placeholders.

    Not every API goes by the type: what is called a form, and begins as JSON or XML does, is read as that by some, and
    an ampersand in one of its texts is no border then.
    """
    if _media_types(fields) == [_FORM]:
        is_form = bool(_FORM_BEGINS.match(body))
        return _in_pairs(body, placeholders, None if where.is_everywhere else where.form) if is_form else body
    there = [
        (text, json.dumps(value.reveal()).encode())
        for text, value in placeholders
        if text.encode() in body or b"\\u" in body or (b"\\/" in body and "/" in text)
    ]
    return _replaced(body, there, _JSON_VALUE, _json_escaped) if there else body


def _media_types(fields: "Fields") -> list[bytes]:
    """What the message says that it is, without parameters."""
    return [value.partition(b";")[0].strip().lower() for name, value in fields if name.lower() == b"content-type"]


def _segment(value: Secret[str]) -> bytes:
    return quote(value.reveal(), safe=":").encode()


def _replaced(
    data: bytes, there: list[tuple[str, bytes]], frame: bytes, spellings: Callable[[str], tuple[bytes, ...]]
) -> bytes:
    """The data with what is written for each text in its place, in one pass: what was put in is not looked at again.

    Args:
        data: what is searched.
        there: texts and what is written for them.
        frame: a pattern of what stands around them.
        spellings: how else a character may be written.
    """
    ordered = sorted(there, key=lambda pair: len(pair[0]), reverse=True)
    either = b"|".join([b"(%b)" % _spelled(text, spellings) for text, _ in ordered])
    pattern = re.compile(frame % b"(?:%b)" % either)
    return pattern.sub(lambda match: ordered[(match.lastindex or 1) - 1][1], data)


def _spelled(text: str, spellings: Callable[[str], tuple[bytes, ...]]) -> bytes:
    """A pattern of the text, each character in any of its spellings."""
    return b"".join([b"(?:%b)" % b"|".join([re.escape(each.encode()), *spellings(each)]) for each in text])


def _as_it_is(_character: str) -> tuple[bytes, ...]:
    return ()


def _percent_encoded(character: str) -> tuple[bytes, ...]:
    return (b"%" + _hexadecimal(f"{ord(character):02x}"),)


def _json_escaped(character: str) -> tuple[bytes, ...]:
    """How else JSON writes it (RFC 8259 §7)."""
    found = [rb"\\u" + _hexadecimal(f"{ord(character):04x}")]
    if character in '"\\/':
        found.append(re.escape(f"\\{character}".encode()))
    return tuple(found)


def _hexadecimal(digits: str) -> bytes:
    return "".join(f"[{each}{each.upper()}]" for each in digits).encode()
