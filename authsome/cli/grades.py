"""How a check of `doctor` ends, and what it says."""

from enum import StrEnum


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


Row = tuple[Grade, str, str | None]
"""A grade, what was found, and what to do about it."""
