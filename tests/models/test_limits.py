"""Limits of identities: what a pattern stands for, and what is none."""

from datetime import UTC, datetime, timedelta

import pytest

from authsome.errors import RequestInvalid
from authsome.models import limits
from authsome.models.limits import UNLIMITED

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("patterns", "admitted", "others"),
    [
        (["github"], ["github/default", "github/work"], ["gitlab/default", "github2/default"]),
        (["github/work"], ["github/work"], ["github/default", "gitlab/work", "github/work2"]),
        (["open*"], ["openai/default", "open/x"], ["github/open", "reopen/default"]),
        (["*/ci"], ["github/ci", "openai/ci"], ["github/default", "ci/default"]),
        (["github", "*/ci"], ["github/default", "openai/ci"], ["openai/default"]),
        (["g*/w*"], ["github/work", "gitlab/w"], ["github/default"]),
        (["*"], ["anything/default"], []),
    ],
)
def test_patterns(patterns, admitted, others):
    """A pattern is of a provider, or of both names; a star is any text, and never the slash."""
    found = limits.parse(connections=patterns)
    assert all(found.admits(*each.split("/")) for each in admitted)
    assert not any(found.admits(*each.split("/")) for each in others)


@pytest.mark.parametrize(
    "words",
    [
        {"connections": []},
        {"connections": [""]},
        {"connections": ["a/b/c"]},
        {"connections": ["[a-z]"]},
        {"connections": ["git hub"]},
        {"connections": ["gïthub"]},
        {"connections": ["a" * 65]},
        {"connections": [f"a{n}" for n in range(65)]},
        {"methods": []},
        {"methods": ["GET "]},
        {"methods": ["G3T"]},
        {"methods": ["*"]},
    ],
)
def test_what_is_no_limit(words):
    """An empty list, a malformed word, or too many are refused, for each could be meant in two ways."""
    with pytest.raises(RequestInvalid):
        limits.parse(**words)


def test_methods_and_time():
    """Methods are compared as they are written in requests; the end belongs to what comes after it."""
    found = limits.parse(methods=["get", "HEAD"], expires_at=NOW)
    assert found.methods == {"GET", "HEAD"}
    assert [found.admits_method(each) for each in ("GET", "HEAD", "POST", "get")] == [True, True, False, False]
    assert [found.has_ended(NOW + timedelta(seconds=each)) for each in (-1, 0, 1)] == [False, True, True]


def test_kinds_of_limits():
    """No limit at all, a time alone, and a narrower use are told apart."""
    timed = limits.parse(expires_at=NOW)
    assert (UNLIMITED.is_none, UNLIMITED.is_narrow) == (True, False)
    assert (timed.is_none, timed.is_narrow) == (False, False)
    assert limits.parse(methods=["GET"]).is_narrow
    assert limits.parse(connections=["x"]).is_narrow
    assert UNLIMITED.admits("any", "any")
    assert UNLIMITED.admits_method("ANY")
    assert not UNLIMITED.has_ended(NOW)
