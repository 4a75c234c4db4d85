"""Patterns that a definition brings along, in a part of the regular expressions that cannot run away.

Rule: matching takes time linear in the text. So there is no repeated group, no back reference, no look-around; two
repeats of unknown length are kept apart by a character that neither of them may match, so that there is only one way
to divide the text between them; and choices are few.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PATTERN_LIMIT: Final = 256  # characters
INPUT_LIMIT: Final = 4096  # characters; longer keys are files, which no pattern describes
CHOICE_LIMIT: Final = 12  # alternatives and optional parts: what is tried is at most two to this power
_REPEAT_LIMIT: Final = 1024
_SAMPLE_LENGTH: Final = 24  # characters; a placeholder is told by twenty zeros
_SAMPLE_CHARACTERS: Final = "0x" + "".join(map(chr, range(128)))

_REPEAT: Final = re.compile(r"[*+?]|\{(?P<low>[0-9]{1,4})(?P<to>,(?P<high>[0-9]{0,4}))?\}")
_CLASS: Final = re.compile(r"\[\^?(?:[A-Za-z0-9_.,:;=/+@!~%&#$ -]|\\[][\\.^dws/+-])+\]")
_ESCAPE: Final = re.compile(r"\\[dws\\.^$*+?{}()|/\[\]-]")


Choose = Callable[[str], str]
"""Takes one character of a text."""


def _first(characters: str) -> str:
    return characters[0]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that begins with `^`; it says all of a text if it ends with `$`, else how it begins."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Check a pattern.

        Raises:
            ValueError: it is none, or one that might take long; the message says why.
        """
        if len(text) > PATTERN_LIMIT:
            raise ValueError(f"is longer than {PATTERN_LIMIT} characters")
        if not text.isascii():
            raise ValueError("holds a character that is not ASCII")
        if not text.startswith("^"):
            raise ValueError("must begin with ^")
        pattern = cls(text)
        _Checker(text[1:-1] if pattern.is_whole else text[1:]).check()
        try:
            pattern._compiled()
        except (re.error, OverflowError) as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return pattern

    @property
    def is_whole(self) -> bool:
        """Whether the pattern says all of a text."""
        return self.text.endswith("$") and not self.text.endswith("\\$")

    def matches(self, value: str) -> bool:
        """Whether a text is of this form; one longer than `INPUT_LIMIT` is not."""
        return len(value) <= INPUT_LIMIT and self._compiled().match(value) is not None

    def specificity(self) -> int:
        """How many plain characters each text of this form begins with; a single choice among some counts for none."""
        return _Beginnings(self.text[1:-1] if self.is_whole else self.text[1:]).branches()[0]

    def sample(self, choose: Choose = _first, length: int = _SAMPLE_LENGTH) -> str:
        """Some text of this form; of zeros as far as those fit, which nothing real is, unless told otherwise.

        Args:
            choose: takes one of the characters that fit; letters and digits alone, where there are such.
            length: of what may have any, as far as it may.
        """
        return _Sampler(self.text[1:-1] if self.is_whole else self.text[1:], choose, length).branches()

    def _compiled(self) -> re.Pattern[str]:
        # `$` would also match before a final line feed
        return re.compile(self.text[:-1] + r"\Z" if self.is_whole else self.text, re.ASCII)


class _Scanner:
    """Reads a pattern once, left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _take_atom(self) -> str:
        for form in (_CLASS, _ESCAPE):
            found = form.match(self._text, self._at)
            if found:
                self._at = found.end()
                return found[0]
        char = self._next()
        if char in "[\\^$*+?{})":
            raise ValueError(f"has a {char} that is not understood at character {self._at + 2}")
        self._at += 1
        return char

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]


class _Checker(_Scanner):
    """Finds what might take long.

    `open` are the atoms of unknown length that the text just before this place may still belong to: the next repeat
    must not be able to match what they match.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._choices = 0

    def check(self) -> None:
        self._branches(frozenset())
        if self._at < len(self._text):
            raise ValueError("has a ) without its (")

    def _branches(self, before: frozenset[str]) -> frozenset[str]:
        after = self._sequence(before)
        while self._next() == "|":
            self._at += 1
            self._choose()
            after |= self._sequence(before)
        return after

    def _sequence(self, before: frozenset[str]) -> frozenset[str]:
        open_ = before
        while self._next() not in {"", "|", ")"}:
            open_ = self._group(open_) if self._next() == "(" else self._atom(open_)
        return open_

    def _group(self, before: frozenset[str]) -> frozenset[str]:
        self._at += 1
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._next() == "?":
            raise ValueError("uses (?…), which is not allowed here except for (?:…)")
        after = self._branches(before)
        if self._next() != ")":
            raise ValueError("has a ( without its )")
        self._at += 1
        if self._next() == "?":
            self._at += 1
            self._choose()
            after |= before
        if _REPEAT.match(self._text, self._at):
            raise ValueError("repeats a group, which may take for ever to match")
        return after

    def _atom(self, before: frozenset[str]) -> frozenset[str]:
        atom = self._take_atom()
        repeat = _REPEAT.match(self._text, self._at)
        if repeat is None:
            return frozenset(each for each in before if _overlap(each, atom))
        self._at = repeat.end()
        if self._next() in {"*", "+", "?"} or _REPEAT.match(self._text, self._at):
            raise ValueError("repeats a repeat")
        low, high = _bounds(repeat)
        if low == high:
            return frozenset(each for each in before if _overlap(each, atom)) if low else before
        if repeat[0] == "?":
            self._choose()
        if any(_overlap(each, atom) for each in before):
            raise ValueError(
                "has two repeats that may match the same characters with nothing to keep them apart,"
                " which may take long to match"
            )
        return before | {atom} if low == 0 else frozenset({atom})

    def _choose(self) -> None:
        self._choices += 1
        if self._choices > CHOICE_LIMIT:
            raise ValueError(f"has more than {CHOICE_LIMIT} choices")


class _Beginnings(_Scanner):
    """Counts the plain characters that a checked pattern begins with, before the first repeat.

    Each part gives the number, and whether what follows still belongs to the beginning.
    """

    def branches(self) -> tuple[int, bool]:
        found = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            found.append(self._sequence())
        return min(found)[0], all(is_open for _, is_open in found)

    def _sequence(self) -> tuple[int, bool]:
        count, is_open = 0, True
        while self._next() not in {"", "|", ")"}:
            more, still_open = self._group() if self._next() == "(" else self._atom()
            count, is_open = count + (more if is_open else 0), is_open and still_open
        return count, is_open

    def _group(self) -> tuple[int, bool]:
        self._at += 3 if self._text.startswith("(?:", self._at) else 1
        found = self.branches()
        is_optional = self._text.startswith(")?", self._at)
        self._at += 2 if is_optional else 1
        return (0, False) if is_optional else found

    def _atom(self) -> tuple[int, bool]:
        atom = self._take_atom()
        repeat = _REPEAT.match(self._text, self._at)
        if repeat is not None:
            self._at = repeat.end()
            return 0, False
        return int(atom.isalnum() or atom in {"_", "-"}), True


class _Sampler(_Scanner):
    """Writes a text of a pattern that was checked: the first of each choice, and of whatever length what is wanted."""

    def __init__(self, text: str, choose: Choose, length: int) -> None:
        super().__init__(text)
        self._choose = choose
        self._length = length

    def branches(self) -> str:
        found = self._sequence()
        while self._next() == "|":
            self._at += 1
            self._sequence()
        return found

    def _sequence(self) -> str:
        parts = []
        while self._next() not in {"", "|", ")"}:
            parts.append(self._group() if self._next() == "(" else self._atom())
        return "".join(parts)

    def _group(self) -> str:
        self._at += 3 if self._text.startswith("(?:", self._at) else 1
        found = self.branches()
        self._at += 2 if self._text.startswith(")?", self._at) else 1
        return found

    def _atom(self) -> str:
        fits = re.compile(self._take_atom(), re.ASCII)
        fitting = "".join(each for each in _SAMPLE_CHARACTERS if fits.fullmatch(each))
        usual = "".join(each for each in fitting if each.isalnum()) or fitting
        repeat = _REPEAT.match(self._text, self._at)
        if repeat is None:
            return self._choose(usual)
        self._at = repeat.end()
        low, high = _bounds(repeat)
        return "".join(self._choose(usual) for _ in range(min(high, max(low, self._length))))


def _bounds(repeat: re.Match[str]) -> tuple[int, int]:
    simple = {"*": (0, _REPEAT_LIMIT), "+": (1, _REPEAT_LIMIT), "?": (0, 1)}
    if repeat[0] in simple:
        return simple[repeat[0]]
    low = int(repeat["low"])
    high = low if repeat["to"] is None else int(repeat["high"] or _REPEAT_LIMIT)
    if low > _REPEAT_LIMIT or high > _REPEAT_LIMIT:
        raise ValueError(f"repeats something more than {_REPEAT_LIMIT} times")
    return low, high


def _overlap(one: str, other: str) -> bool:
    """Whether some character is matched by both atoms; to an ASCII pattern those beyond ASCII are all alike."""
    first, second = re.compile(one, re.ASCII), re.compile(other, re.ASCII)
    return any(first.fullmatch(char) and second.fullmatch(char) for char in map(chr, range(129)))
