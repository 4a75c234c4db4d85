"""`.env` files, read by the byte, so that a value can be replaced and everything else stays as it is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from authsome.cli.scan.found import Found, Place
from authsome.secret import Secret

_NAME: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]{0,127})[ \t]*=[ \t]*")
_COMMENT: Final = re.compile(rb"[ \t]#")
_QUOTES: Final = (b'"', b"'")
_EXAMPLES: Final = frozenset({"example", "sample", "template", "dist", "defaults", "schema"})


def is_dotenv(name: str) -> bool:
    """Whether a file of this name holds variables; not one that shows others what to fill in."""
    parts = name.split(".")
    return (name == ".envrc" or "env" in parts[1:]) and not _EXAMPLES & set(parts)


def read(data: bytes, path: Path) -> Iterator[Found]:
    """Every assignment of a value on one line, quoted or not, with or without `export`."""
    offset = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        if name := _NAME.match(line):
            start, end = _value(line, name.end())
            text = line[start:end]
            if text and text.isascii():
                place = Place(path=path, line=number, span=(offset + start, offset + end))
                yield Found(value=Secret(text.decode()), place=place, variable=name[1].decode())
        offset += len(line) + 1


def _value(line: bytes, start: int) -> tuple[int, int]:
    """Where the value stands in its line, without quotes, comment and the rest of the line's end."""
    quote = line[start : start + 1]
    if quote in _QUOTES:
        end = line.find(quote, start + 1)
        return (start + 1, end) if end > start else (start, start)
    comment = _COMMENT.search(line, start - 1)
    text = line[start : max(start, comment.start()) if comment else len(line)]
    return start, start + len(text.rstrip())
