"""Key derivation: Argon2id as RFC 9106 defines it, never weaker than the least, and its memory given back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from authsome.crypto import kdf
from authsome.errors import VaultUnusable
from authsome.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealed.json").read_text())
SALT = bytes(range(16))


@pytest.mark.parametrize("vector", VECTORS["kdf"], ids=lambda vector: vector["name"])
def test_released_keys_are_derived_again(vector):
    """The same master key and parameters give the same key for good, as OpenSSL's Argon2id does."""
    master, salt = bytes.fromhex(vector["master"]), bytes.fromhex(vector["salt"])
    costs = {"time_cost": vector["time_cost"], "memory_kib": vector["memory_kib"], "lanes": vector["lanes"]}
    derived = kdf.derive(Secret(master), kdf.Parameters(salt=salt, **costs)).reveal()
    assert derived == bytes.fromhex(vector["kek"])
    openssl = Argon2id(
        salt=salt, length=32, iterations=costs["time_cost"], lanes=costs["lanes"], memory_cost=costs["memory_kib"]
    )
    assert derived == openssl.derive(master)


def test_present_choice():  # SEC-116
    """RFC 9106 §4's second recommendation, with a salt of its own each time."""
    parameters = kdf.new_parameters()
    assert (parameters.time_cost, parameters.memory_kib, parameters.lanes) == (3, 65536, 4)
    assert len(parameters.salt) == 16
    assert parameters.salt != kdf.new_parameters().salt


@pytest.mark.parametrize(
    "change",
    [
        {"time_cost": 1},
        {"time_cost": 0},
        {"time_cost": -3},
        {"time_cost": 10**6},
        {"memory_kib": 19 * 1024 - 1},
        {"memory_kib": 8},
        {"memory_kib": 2**40},
        {"lanes": 0},
        {"lanes": 10**6},
        {"salt": b""},
        {"salt": SALT[:15]},
        {"salt": SALT + b"x"},
    ],
)
def test_weaker_or_absurd_parameters_are_refused(change):  # SEC-116
    with pytest.raises(VaultUnusable):
        kdf.Parameters(**{"salt": SALT, **change})


def test_least_parameters_are_accepted():
    assert kdf.Parameters(salt=SALT, time_cost=2, memory_kib=19 * 1024, lanes=1).lanes == 1


MEMORY = """
import sys
from authsome.crypto import kdf
from authsome.secret import Secret
assert "argon2" not in sys.modules
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
before = resident()
for _ in range(3):
    kdf.derive(Secret(bytes(32)), kdf.new_parameters())
print((resident() - before) // 1024 // 1024)
"""


def test_argon2_is_imported_late_and_its_memory_given_back():
    """64 MiB are used for a moment only: what stays, the library itself, is a few."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, cwd=root)
    assert int(done.stdout) < 16
