"""Columns: moments are exact, words and names come back, and what cannot be read is damage."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import VaultDamaged
from authsome.vault import columns

MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))]))


def test_moments_are_exact_and_ordered():
    @given(one=MOMENTS, other=MOMENTS)
    def holds(one, other):
        assert columns.to_moment(columns.from_moment(one)) == one
        assert (columns.from_moment(one) < columns.from_moment(other)) == (one < other)

    holds()


def test_moments_are_microseconds_since_the_epoch():
    assert columns.from_moment(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
    assert columns.from_optional_moment(None) is None
    assert columns.to_optional_moment(None) is None
    assert columns.to_optional_moment(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_words_and_names_come_back():
    @given(words=st.lists(st.text()).map(tuple), names=st.dictionaries(st.text(), st.text()))
    def holds(words, names):
        assert columns.to_words(columns.from_words(words)) == words
        assert columns.to_names(columns.from_names(names)) == names

    holds()


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (columns.to_words, "{}"),
        (columns.to_words, "[1]"),
        (columns.to_words, ""),
        (columns.to_words, None),
        (columns.to_names, "[]"),
        (columns.to_names, '{"a": null}'),
        (columns.to_names, b"\xff"),
        (columns.to_moment, "soon"),
        (columns.to_moment, None),
        (columns.to_moment, 10**30),
    ],
)
def test_what_cannot_be_read_is_damage(read, value):
    with pytest.raises(VaultDamaged, match="the record of a thing is damaged"), columns.readable("a thing"):
        read(value)
