"""Patterns from definitions: what they match, and which are refused because they might run away."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.models.pattern import CHOICE_LIMIT, INPUT_LIMIT, PATTERN_LIMIT, Pattern


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("^sk-[A-Za-z0-9_-]{20,}$", "sk-" + "a" * 20, True),
        ("^sk-[A-Za-z0-9_-]{20,}$", "sk-" + "a" * 19, False),
        ("^sk-[A-Za-z0-9_-]{20,}$", "sk-" + "a" * 20 + "\n", False),  # `$` alone would let it pass
        ("^sk-[A-Za-z0-9_-]{20,}$", "x sk-" + "a" * 20, False),
        ("^sk-", "sk-anything at all", True),
        ("^(gh[pousr]_[a-z]{3,}|pat_[a-z_]{2,})$", "ghs_abc", True),
        ("^(gh[pousr]_[a-z]{3,}|pat_[a-z_]{2,})$", "pat_ab_c", True),
        ("^(gh[pousr]_[a-z]{3,}|pat_[a-z_]{2,})$", "ghx_abc", False),
        (r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$", "a.b.c", True),
        (r"^\d+:[A-Za-z0-9_-]{35}$", "12345:" + "a" * 35, True),
        (r"^\d+$", "\u0661\u0662", False),  # digits are ASCII digits
        (r"^(?:eu-)?[a-z]+$", "eu-west", True),
        (r"^a\$", "a$b", True),
        ("^a{3}$", "aaa", True),
        ("^a{3}$", "aa", False),
        ("^$", "", True),
    ],
)
def test_matches(pattern: str, value: str, *, matches: bool):
    """A pattern without `$` says how a value begins, one with it says all of the value."""
    assert Pattern.parse(pattern).matches(value) is matches


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("^(a+)+$", "repeats a group"),
        ("^(a|a)*$", "repeats a group"),
        ("^(?:a|b){2,}$", "repeats a group"),
        ("^(ab)+$", "repeats a group"),
        ("^a*a*b$", "nothing to keep them apart"),
        ("^[ab]+[bc]+$", "nothing to keep them apart"),
        ("^[a-z]+-?[a-z]+$", "nothing to keep them apart"),
        ("^[ab]+b[ab]+$", "nothing to keep them apart"),
        ("^a{1,9}a{1,9}$", "nothing to keep them apart"),
        ("^(a+|b)a+$", "nothing to keep them apart"),
        ("^[^ -~]+[^ -~]+$", "nothing to keep them apart"),  # both take what is not ASCII
        ("^.+x.+$", "nothing to keep them apart"),
        ("^a+a?$", "nothing to keep them apart"),
        ("^" + "(a|a)" * (CHOICE_LIMIT + 1) + "$", "choices"),
        ("^" + "a?b" * (CHOICE_LIMIT + 1) + "$", "choices"),
        ("^a++$", "repeats a repeat"),
        ("^a{2}{3}$", "repeats a repeat"),
        ("^a+?$", "repeats a repeat"),
        (r"^(a)\1$", "not understood"),
        ("^(?=a)$", "(?…)"),
        ("^(?P<x>a)$", "(?…)"),
        ("^(?i)a$", "(?…)"),
        ("^(a$", "( without its )"),
        ("^a)$", ") without its ("),
        ("^[a$", "not understood"),
        ("^[z-a]$", "not a regular expression"),
        ("^a{2000}$", "more than 1024 times"),
        ("^a{3,2}$", "not a regular expression"),
        ("^*$", "not understood"),
        ("abc", "must begin with ^"),
        ("^a|^b", "not understood"),
        ("^é$", "not ASCII"),
        ("^" + "a" * PATTERN_LIMIT, "longer than"),
    ],
)
def test_refused(pattern: str, reason: str):
    """Whatever might take long is refused where it is read, with the reason."""
    # SEC-110
    with pytest.raises(ValueError, match=re.escape(reason)):
        Pattern.parse(pattern)


def test_long_input_never_matches():
    """Input beyond the limit is not looked at."""
    assert not Pattern.parse("^a+$").matches("a" * (INPUT_LIMIT + 1))
    assert Pattern.parse("^a+$").matches("a" * INPUT_LIMIT)


@given(st.text(alphabet="ab|()[]{}*+?.^$\\-,12d:", max_size=24))
def test_accepted_patterns_are_quick_and_mean_what_re_means(body: str):
    """Any accepted pattern is one that `re` takes, and answers for a hostile text without running away."""
    try:
        pattern = Pattern.parse("^" + body)
    except ValueError:
        return
    for text in ("a" * 400 + "!", "ab" * 200 + "!", "a", "b", "1", ""):
        expected = re.match(pattern.text[:-1] + r"\Z" if pattern.is_whole else pattern.text, text, re.ASCII)
        assert pattern.matches(text) is bool(expected)


@pytest.mark.parametrize(
    ("pattern", "sample"),
    [
        ("^sk-[A-Za-z0-9_-]{20,}$", "sk-" + "0" * 24),
        ("^(ghp_|github_pat_)[A-Za-z0-9_]{36}$", "ghp_" + "0" * 36),
        (r"^[a-f]+\.(?:eu-)?\d{2,3}$", "a" * 24 + ".eu-000"),
        (r"^a?b*\$[^0x]$", "a" + "b" * 24 + "$1"),
        ("^x|y", "x"),
        ("^$", ""),
    ],
)
def test_sample(pattern: str, sample: str):
    """A sample is of the pattern's form, and of zeros where those fit."""
    parsed = Pattern.parse(pattern)
    assert parsed.sample() == sample
    assert parsed.matches(sample)


@given(st.lists(st.sampled_from(["[a-z0-9]{3,}-", r"\d+x", "(?:a|bc)?", "(d[e-g]{2}|h)", "i?", r"\w{4}\.", "k{2,9}_"])))
def test_samples_fit(parts: list[str]):
    """Whatever a checked pattern is made of, its sample is of its form."""
    text = f"^{''.join(parts[:8])}$"
    try:
        pattern = Pattern.parse(text)
    except ValueError:
        return
    assert pattern.matches(pattern.sample())


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("^sk-[A-Za-z0-9_-]{20,}$", 3),
        ("^(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})$", 3),
        ("^(ghp_|github_pat_)[a-z]+$", 4),
        ("^[a-z]{4}abc$", 0),
        ("^(?:eu-)?abc$", 0),
        ("^a(b|cd)ef", 4),
        ("^ab?c", 1),
        (r"^a\.b", 2),
        ("^$", 0),
    ],
)
def test_specificity(pattern: str, count: int):
    """What every text of a form begins with, counted as far as it is certain."""
    assert Pattern.parse(pattern).specificity() == count
