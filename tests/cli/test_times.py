"""Times are read and written as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from authsome.cli import times
from authsome.errors import UsageError

NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(seconds=5), "in 5 s"),
        (timedelta(minutes=59, seconds=59), "in 59 min"),
        (timedelta(hours=3, minutes=59), "in 3 h"),
        (timedelta(days=40), "in 40 d"),
        (timedelta(hours=-2), "2 h ago"),
    ],
)
def test_distances(distance, words):
    assert times.until(NOW + distance, NOW) == words


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1h", NOW - timedelta(hours=1)),
        ("90s", NOW - timedelta(seconds=90)),
        ("2d", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, 0, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, 0, tzinfo=UTC)),
    ],
)
def test_since(text, moment):
    assert times.parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "5", "h", "-1h", "1y", "٣h", "9999999d", "999999w"])
def test_what_is_no_moment(text):
    with pytest.raises(UsageError):
        times.parse_since(text, NOW)


@pytest.mark.parametrize("value", [None, 5, "", "soon"])
def test_no_time_in_json(value):
    assert times.parse_time(value) is None


def test_a_time_in_json_is_aware():
    assert times.parse_time("2026-05-17T12:00:00Z") == NOW
    assert times.parse_time("2026-05-17T12:00:00") == NOW
