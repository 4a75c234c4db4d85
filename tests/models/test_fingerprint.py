"""Likenesses tell whether two values are the same, under one key only."""

from hypothesis import given
from hypothesis import strategies as st

from authsome.models import fingerprint
from authsome.secret import Secret

KEY, OTHER = bytes(32), bytes(31) + b"\x01"


@given(st.text(), st.text())
def test_equal_values_and_no_others_are_alike(one: str, other: str):
    first, second = fingerprint.of(KEY, Secret(one)), fingerprint.of(KEY, Secret(other))
    assert fingerprint.is_same(first, second) == (one == other)
    assert not fingerprint.is_same(first, fingerprint.of(OTHER, Secret(one)))
    assert len(first) == 64


def test_what_is_no_likeness_is_like_nothing():
    for text in ("", "x", "é" * 64):
        assert not fingerprint.is_same(text, fingerprint.of(KEY, Secret("a")))
