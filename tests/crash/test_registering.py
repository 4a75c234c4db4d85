"""Definitions under `kill -9`: each is whole or not there, what was acknowledged holds, and none counts unrecorded."""

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from authsome.broker.catalog import Catalog, bundled_directory
from authsome.home import settings_from
from authsome.models.audit import Event
from authsome.vault import audit
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock

CHILD = Path(__file__).with_name("registering_at_work.py")
CALLS = "fsync,fdatasync,rename,unlink"
"""The system calls between which a definition takes or leaves its place."""


def at_work(home: Path, trace: Path, *options: str) -> list[str]:
    """Register and remove until the end, or until it is killed; what was acknowledged."""
    command = ["strace", "-f", "-qq", "-o", trace, "-e", f"trace={CALLS}", *options, sys.executable, CHILD, home]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def verify(home: Path, said: list[str]) -> None:
    """What stands there after a crash."""
    settings = settings_from({"AUTHSOME_HOME": str(home)})
    entries = Catalog(bundled=bundled_directory(), custom=settings.home.providers).all()
    assert [entry.problem for entry in entries if entry.problem is not None] == []
    there = {entry.name: entry.provider.api_url[0] for entry in entries if entry.provider and entry.source == "custom"}
    expected: dict[str, str | None] = {}
    for words in map(str.split, said):
        if words[0] in {"registered", "removed"}:
            expected[words[1]] = words[2] if words[0] == "registered" else None
    # the step after the last acknowledged one may have come about as well
    later = {"acme": {"one.acme.test", "two.acme.test"}, "other": {"one.other.test", None}}
    for name, host in expected.items():
        assert there.get(name) == host or there.get(name) in later[name]
    if "removed other" in said:
        assert "other" not in there
    if "registered acme two.acme.test" in said:
        assert there["acme"] == "two.acme.test"
    with HomeLock.acquire(settings.home) as lock:
        database = Database.open(lock, clock=lambda: datetime.now(UTC))
        with database.read() as reader:
            recorded = {
                (each.entry.provider, each.entry.detail)
                for each in audit.page(reader, None, audit.Filter(event=Event.REGISTER), limit=100)
            }
        database.close()
    for name, host in there.items():
        assert (name, f"custom: {host}") in recorded, "a definition counts that is not on record"


def test_kill_at_any_write(tmp_path: Path):  # SEC-130
    """From the first definition's first byte to the last one's removal."""
    trace = tmp_path / "trace"
    said = at_work(tmp_path / "whole", trace)
    assert said[-1] == "closed"
    verify(tmp_path / "whole", said)
    calls = Counter(re.findall(r"^\d+\s+(\w+)\(", trace.read_text(), re.MULTILINE))
    assert calls["rename"] >= 3
    moments = [(call, number) for call, count in sorted(calls.items()) for number in range(1, count + 1)]
    chosen = [each for each in moments if each[0] in {"rename", "unlink"}] + moments[:: max(1, len(moments) // 8)]
    interrupted = 0
    for call, number in dict.fromkeys(chosen):
        home = tmp_path / f"{call}-{number}"
        said = at_work(home, trace, "-e", f"inject={call}:signal=KILL:when={number}")
        if "ready" in said:
            interrupted += said[-1] != "closed"
            verify(home, said)
    assert interrupted >= 5
