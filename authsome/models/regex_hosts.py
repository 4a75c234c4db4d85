"""Hosts that a definition for upstream authsome names by a `regex:`, as the exact names and suffixes that it comes to.

Rule: a regular expression is read, never run; one that is not plainly a list of host names, each perhaps with whatever
stands before a dot, comes to nothing here, and so is refused by the reader of definitions.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "regex:"
_CHOICES: Final = 32  # entries; the longest known list has four
_LENGTH: Final = 512  # characters
_DEPTH: Final = 16  # groups within groups; people write one or two

_ANYTHING: Final = ("(?:.*\\.)?", "(.*\\.)?", "(?:.+\\.)?", "(.+\\.)?")
_SOMETHING: Final = (".*\\.", ".+\\.")
_LITERAL: Final = re.compile(r"[a-z0-9-]|\\([.-])")
_HOST: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")


@dataclass(frozen=True, slots=True)
class _Text:
    """One of the texts that an expression stands for: what it says from a place on, and whether more may precede it."""

    said: str = ""
    is_suffix: bool = False


def expand(entry: str) -> tuple[str, ...] | None:
    """The hosts that a `regex:` matches as a whole, exactly or as `*.suffix`; None when it matches anything else.

    Upstream matches the whole host whether or not the expression is anchored, and ignores case.
    """
    text = entry[len(PREFIX) :].strip().lower()
    if len(text) > _LENGTH:
        return None
    try:
        found = _Reader(text).whole()
    except ValueError:
        return None
    if not all(_HOST.fullmatch(each.said) for each in found):
        return None
    return tuple(dict.fromkeys(f"*.{each.said}" if each.is_suffix else each.said for each in found))


class _Reader:
    """Reads an expression once, left to right, and says all texts that it stands for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> list[_Text]:
        """What the whole expression stands for."""
        found = self._branches(is_inner=False, is_first=True)
        if self._at < len(self._text):
            raise ValueError("unread")
        return found

    def _branches(self, *, is_inner: bool, is_first: bool) -> list[_Text]:
        found = self._sequence(is_inner=is_inner, is_first=is_first)
        while self._take("|"):
            found += self._sequence(is_inner=is_inner, is_first=is_first)
        return _few(found)

    def _sequence(self, *, is_inner: bool, is_first: bool) -> list[_Text]:
        """One choice; only what stands first in the whole may begin with anything, only the whole is anchored."""
        if not is_inner:
            self._take("^")
        found = self._beginning() if is_first else [_Text()]
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if not is_inner and self._take("$"):
                break
            following = self._part(is_first=is_first and found == [_Text()])
            found = _few(
                _Text(one.said + other.said, one.is_suffix or other.is_suffix) for one in found for other in following
            )
        return found

    def _beginning(self) -> list[_Text]:
        if any(self._take(form) for form in _ANYTHING):
            return [_Text(), _Text(is_suffix=True)]
        if any(self._take(form) for form in _SOMETHING):
            return [_Text(is_suffix=True)]
        return [_Text()]

    def _part(self, *, is_first: bool) -> list[_Text]:
        literal = _LITERAL.match(self._text, self._at)
        if literal is not None:
            self._at = literal.end()
            found = [_Text(literal[1] or literal[0])]
        elif self._take("(?:") or self._take("("):
            self._depth += 1
            if self._depth > _DEPTH:
                raise ValueError("deep")
            found = self._branches(is_inner=True, is_first=is_first)
            if not self._take(")"):
                raise ValueError("open")
            self._depth -= 1
        else:
            raise ValueError("no plain text")
        if self._take("?"):
            found.append(_Text())
        if self._at < len(self._text) and self._text[self._at] in "*+{?":
            raise ValueError("repeated")
        return found

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True


def _few(found: Iterable[_Text]) -> list[_Text]:
    few: list[_Text] = []
    for each in found:
        few.append(each)
        if len(few) > _CHOICES:
            raise ValueError("many")
    return few
