"""Templates: a value is put in as it is, once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.models.template import Template


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Bearer {token}", {"token"}),
        ("{a}:{b_2}", {"a", "b_2"}),
        ("2023-06-01", set()),
        ("", set()),
    ],
)
def test_names(text: str, names: set[str]):
    assert Template.parse(text).names == names


@pytest.mark.parametrize(
    "text", ["{", "}", "{}", "{Token}", "{to ken}", "{{token}}", "{1a}", "{token", "{token!r}", "{a.b}"]
)
def test_stray_braces_are_refused(text: str):
    """There is one kind of brace, and no format language behind it."""
    with pytest.raises(ValueError, match="brace"):
        Template.parse(text)


@given(st.text())
def test_values_are_never_read_again(value: str):
    """A value that looks like a template stays as it is."""
    assert Template.parse("<{a}{b}>").render({"a": value, "b": "{a}"}) == f"<{value}{{a}}>"


def test_missing_value():
    with pytest.raises(KeyError):
        Template.parse("{a}").render({})
