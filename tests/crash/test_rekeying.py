"""A rekey under `kill -9`: at every instant one key opens the vault, and what was stored is there.

The processes are copies of `rekeying_at_work.py`: each finds what the one before left when it was killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes.patience import PATIENCE

WORK = Path(__file__).with_name("rekeying_at_work.py")
MOMENTS = 100


def numbers(words: Sequence[str]) -> dict[str, int]:
    """What NAME=NUMBER says; the last one counts."""
    return {name: int(number) for name, _, number in (word.partition("=") for word in words)}


@pytest.mark.parametrize("seed", [4711, 4712])
def test_kill_at_random_moments_loses_nothing_and_leaves_nothing_half(tmp_path, seed):  # SEC-117 SEC-131
    """All three places that we keep keys in, or none; the vaults' keys too; and somebody who writes all the while."""
    home, chance = tmp_path / "home", random.Random(seed)  # the same moments each time
    phases = chance.sample(["found", "moved", "renewed"], MOMENTS, counts=[45, 45, 10])
    acknowledged: dict[str, int] = {}
    moved, renewed, killed_while_busy = set(), 0, 0
    with subprocess.Popen(
        [sys.executable, WORK, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, phase in enumerate([*phases, "found"]):
            output = tmp_path / f"said-{number}"
            process.stdin.write(f"{output}\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
            deadline = time.monotonic() + PATIENCE
            while not output.exists() or f"\n{phase}".encode() not in b"\n" + output.read_bytes():
                assert time.monotonic() < deadline, f"it does not come to say {phase}"
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.2))
            os.kill(pid, signal.SIGKILL)
            assert process.stdout.readline() == "ended\n"
            text = output.read_text()
            lines = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
            assert not [line for line in lines if line[0] == "failed"], text[-2000:]
            assert lines[0][0] == "found"
            found = numbers(lines[0][1:])
            assert found.keys() >= acknowledged.keys(), "something acknowledged is lost"
            assert all(found[name] >= number for name, number in acknowledged.items()), "something is as it was before"
            acknowledged |= numbers([line[1] for line in lines if line[0] == "put"])
            moved |= {line[1] for line in lines if line[0] == "moved"}
            renewed += sum(line == ["renewed"] for line in lines)
            killed_while_busy += lines[-1] != ["renewed"]
        process.stdin.close()
    assert moved == {"file", "keyring", "passphrase"}
    assert renewed >= phases.count("renewed")
    assert killed_while_busy > MOMENTS // 2
    assert max(acknowledged.values()) > MOMENTS
