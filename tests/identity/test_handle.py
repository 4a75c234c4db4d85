"""Handles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.identity import handle


@given(st.text(), st.text(), st.binary())
def test_any_suggestion_is_a_handle(user, host, key):
    """Whatever the machine and its user are called, the suggestion is a handle."""
    assert handle.is_handle(handle.suggest(user, host, key))


def test_suggestion_is_readable_and_tells_keys_apart():
    """It says who and where; two keys of one user on one machine get two handles."""
    first = handle.suggest("Ada.Lovelace", "Laptop.example.com", b"1")
    assert first.startswith("ada-lovelace-laptop-")
    assert first != handle.suggest("Ada.Lovelace", "Laptop.example.com", b"2")


@pytest.mark.parametrize("text", ["a", "0", "ada-laptop-1f2e3d", "a" * 63, "a-"])
def test_accepts(text):
    assert handle.is_handle(text)


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a.b", "a/b", "../a", "é", "a" * 64, "a\n", "a\0", " a"])
def test_refuses(text):
    assert not handle.is_handle(text)
