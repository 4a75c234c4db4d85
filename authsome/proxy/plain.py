"""Small things that `run` needs, without the libraries that do them: JSON, and reading private files.

Rule: only what we have written ourselves is read here, and what is not exactly that is `Unusual`.
"""

import os
import stat

try:
    from _json import encode_basestring_ascii as quote
    from _json import make_scanner
except ImportError:  # an interpreter without the accelerator
    from json.encoder import encode_basestring_ascii as quote
    from json.scanner import make_scanner

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_FILE_LIMIT: "Final" = 1024 * 1024


class Unusual(Exception):
    """Something is not as it is on the short road."""


class _Reading:
    """How `json.loads` reads: what its scanner, a C function, is made from."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None  # the last is asked for since Python 3.15
    parse_float = float
    parse_int = int
    parse_constant = str


def from_json(data: bytes) -> "dict[str, object]":
    """A JSON object of our own daemon's, or of one of our own files.

    Raises:
        ValueError: it is none.
    """
    content = data.decode().strip()
    try:
        found, end = make_scanner(_Reading)(content, 0)  # type: ignore[arg-type]  # typeshed takes it for its own argument
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(content) or not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def to_json(value: object) -> str:
    """A value of strings, numbers, None, lists and dictionaries as JSON."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(name)}:{to_json(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(to_json(each) for each in value) + "]"
    return "null" if value is None else str(int(value))  # type: ignore[call-overload]


def text(data: "Mapping[str, object]", name: str) -> str:
    """A member that is a string; KeyError when there is none, Unusual when it is something else."""
    value = data[name]
    if not isinstance(value, str):
        raise Unusual
    return value


def size(path: str) -> int:
    """A file's size; -1 when there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def read_private(path: str) -> bytes:
    """Read one of our files, by the rule of `home.open_private`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        check_private(descriptor)
        return os.read(descriptor, _FILE_LIMIT)
    finally:
        os.close(descriptor)


def check_private(descriptor: int) -> None:
    """Raise Unusual unless nobody else could have written or read the open file."""
    status = os.fstat(descriptor)
    is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
    if not is_ours or status.st_mode & 0o077:
        raise Unusual
