"""What this machine has seen of daemons' logs: the key that signs each, and how far it had come when it was whole.

Whoever holds a daemon's files can write another history, with another key, that is whole in itself. What is kept here
lies with whoever asks, so it tells that from the one that was there before: for a daemon of another machine, out of
its reach.

Rule: only a check that has found a log whole adds to it, and none that found another log than the one that is known.
"""

import json
from typing import NamedTuple

from authsome.errors import UsageError
from authsome.home import Home, read_private, write_private

OWN = "home"
"""Stands for the daemon of this very home, wherever it listens; any other is known by its URL."""


class Seen(NamedTuple):
    """A log as it was when it was last found whole."""

    key: str
    """The did:key that its checkpoints are signed with."""
    entry: int
    """Its last entry."""
    mark: str
    """That entry's mark (`models/chain`)."""


def recall(home: Home, daemon: str) -> Seen | None:
    """What is known of a daemon's log; None before it was first looked at.

    Raises:
        UsageError: the file is none of ours.
        UnsafeFile: it is open to others.
    """
    found = _read(home).get(daemon)
    if found is None:
        return None
    if isinstance(found, dict) and found.keys() == set(Seen._fields):
        seen = Seen(**found)
        if isinstance(seen.key, str) and type(seen.entry) is int and isinstance(seen.mark, str):
            return seen
    raise _unreadable(home)


def remember(home: Home, daemon: str, seen: Seen) -> None:
    """Keep what a daemon's log was found to be.

    Raises:
        UsageError, UnsafeFile: see `recall`.
        StorageFailed: it cannot be written.
    """
    known = {**_read(home), daemon: seen._asdict()}
    write_private(home.seen_logs, json.dumps(known, indent=2, sort_keys=True).encode() + b"\n")


def _read(home: Home) -> dict[str, object]:
    try:
        found = json.loads(read_private(home.seen_logs))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _unreadable(home) from error
    if not isinstance(found, dict):
        raise _unreadable(home)
    return found


def _unreadable(home: Home) -> UsageError:
    return UsageError(
        f"{home.seen_logs} does not say what was seen of logs",
        hint="if nobody should have changed it, check with --key; then remove it",
    )
