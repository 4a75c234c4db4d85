"""Pieces of pages: what they say of connections, hosts and numbers, and which place a page belongs to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from authsome.daemon.dashboard import html, pieces, shell, times
from authsome.models.connection import Connection, Kind, Status

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CONNECTION = Connection(
    vault_id="vault_1",
    provider="github",
    name="default",
    kind=Kind.OAUTH2,
    status=Status.CONNECTED,
    is_default=True,
    scopes=(),
    account=None,
    expires_at=NOW + timedelta(hours=1),
    has_refresh_token=True,
    variables={},
    revision=1,
    created_at=NOW,
    updated_at=NOW,
)
SOON, BEFORE = NOW + timedelta(hours=1), NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("ends", "renews", "status", "words"),
    [
        (SOON, True, Status.CONNECTED, "renews <time"),
        (BEFORE, True, Status.CONNECTED, "renews when it is next used"),
        (SOON, False, Status.CONNECTED, "ends <time"),
        (BEFORE, False, Status.CONNECTED, "ended <time"),
        (SOON, True, Status.INVALID, "ends <time"),
        (BEFORE, True, Status.INVALID, "ended <time"),
        (None, True, Status.INVALID, "no end"),
    ],
)
def test_expiry(ends, renews, status, words):
    """What its provider no longer accepts renews nothing, whatever is stored."""
    shown = pieces.expiry(replace(CONNECTION, expires_at=ends, has_refresh_token=renews, status=status), NOW)
    assert words in shown


def test_whose_a_host_is_is_never_cut():
    """It stands at the end of the name."""
    host = f"https://{'.'.join(['api.github.com', 'a' * 63, 'a' * 63, 'a' * 63, 'evil.example'])}:65535"
    assert host in str(pieces.codes([f"{host}/{'p' * 500}"]))
    assert "…" in str(pieces.codes([f"{host}/{'p' * 500}"]))


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 identities"), (1, "1 identity"), (2, "2 identities"), (1200, "1,200 identities")]
)
def test_counting(number, shown):
    """One of a thing is one."""
    assert html.counted(number, "identity", "identities") == shown
    assert html.counted(number, "run") == shown.replace("identities", "runs").replace("identity", "run")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/ui/", "/ui/"),
        ("/ui/connections/github/default", "/ui/connections"),
        ("/ui/settings/principals", "/ui/settings"),
        ("/audit", "/audit"),
        ("/ui/nothing", None),
        ("/claim/token", None),
    ],
)
def test_places(path, place):
    """A page belongs where its address says, and the overview is no heap for all others."""
    assert shell.place_of(path) == place


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(days=7), "in 7 days"),
        (timedelta(days=7, seconds=-20), "in 7 days"),
        (timedelta(days=6, hours=20), "in 6 days"),
        (timedelta(minutes=15, seconds=-2), "in 15 minutes"),
        (timedelta(minutes=14, seconds=30), "in 14 minutes"),
        (timedelta(days=1, seconds=-20), "in 1 day"),
        (timedelta(hours=22), "in 22 hours"),
        (timedelta(seconds=30), "just now"),
        (timedelta(0), "just now"),
        (timedelta(seconds=-59), "just now"),
        (timedelta(seconds=-119), "1 minute ago"),
        (timedelta(hours=-23, minutes=-59), "23 hours ago"),
        (timedelta(days=-400), "400 days ago"),
    ],
    ids=str,
)
def test_moments(distance, words):
    """In whole units; what was just given so many of them does not seem to have lost one."""
    assert f">{words}</time>" in times.moment(NOW + distance, NOW)
