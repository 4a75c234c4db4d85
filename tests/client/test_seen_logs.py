"""What this machine has seen of logs: kept by daemon, privately, and never guessed at."""

import stat
from pathlib import Path

import pytest

from authsome.client import seen_logs
from authsome.client.seen_logs import Seen
from authsome.errors import StorageFailed, UsageError
from authsome.home import Home, make_private_directory, write_private

HERE = Seen(key="did:key:z6MkHere", entry=7, mark="ab" * 32)
THERE = Seen(key="did:key:z6MkThere", entry=0, mark="cd" * 32)


@pytest.fixture(name="kept")
def fixture_kept(home: Path) -> Home:
    make_private_directory(home)
    return Home(home)


def test_each_daemon_has_its_own(kept: Home):
    """Another's is not disturbed, and what is newer takes the place of what was there."""
    assert seen_logs.recall(kept, seen_logs.OWN) is None
    seen_logs.remember(kept, seen_logs.OWN, THERE)
    seen_logs.remember(kept, "https://auth.example", THERE)
    seen_logs.remember(kept, seen_logs.OWN, HERE)
    assert seen_logs.recall(kept, seen_logs.OWN) == HERE
    assert seen_logs.recall(kept, "https://auth.example") == THERE
    assert stat.S_IMODE(kept.seen_logs.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "\xff",
        '{"home": 1}',
        '{"home": {}}',
        '{"home": {"key": "k", "entry": true, "mark": "m"}}',
        '{"home": {"key": null, "entry": 1, "mark": "m"}}',
        '{"home": {"key": "k", "entry": 1, "mark": "m", "more": 1}}',
    ],
)
def test_what_is_not_ours_is_said(kept: Home, text: str):  # SEC-183
    """A file that somebody has bent is not taken for one that has seen nothing."""
    write_private(kept.seen_logs, text.encode("latin-1"))
    with pytest.raises(UsageError, match="seen"):
        seen_logs.recall(kept, seen_logs.OWN)


def test_nothing_is_kept_where_nothing_can_be(kept: Home):
    kept.root.rmdir()
    with pytest.raises(StorageFailed):
        seen_logs.remember(kept, seen_logs.OWN, HERE)
