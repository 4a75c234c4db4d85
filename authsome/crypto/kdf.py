"""Key derivation: Argon2id (RFC 9106) turns the master key into the key-encryption key.

A random master key would not need it; it is done for every source alike, so that a passphrase, which does, can
replace any of them without another format.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from authsome.crypto.aead import KEY_BYTES
from authsome.errors import VaultUnusable
from authsome.secret import Secret

SALT_BYTES: Final = 16  # RFC 9106 §3.1
_VERSION: Final = 0x13  # RFC 9106 §3.1, the only version it defines

# OWASP Password Storage Cheat Sheet, the weakest set it allows
_LEAST_TIME_COST: Final = 2
_LEAST_MEMORY_KIB: Final = 19 * 1024
# a damaged or planted record must not make the daemon eat the machine
_MOST_TIME_COST: Final = 64
_MOST_MEMORY_KIB: Final = 4 * 1024 * 1024
_MOST_LANES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How a key is derived: passes, memory in KiB, lanes, salt; RFC 9106 §4's second choice unless said otherwise.

    Raises:
        VaultUnusable: weaker than is ever written, so the record was tampered with; or absurd.
    """

    salt: bytes
    time_cost: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 4

    def __post_init__(self) -> None:
        if not (
            len(self.salt) == SALT_BYTES
            and _LEAST_TIME_COST <= self.time_cost <= _MOST_TIME_COST
            and _LEAST_MEMORY_KIB <= self.memory_kib <= _MOST_MEMORY_KIB
            and 1 <= self.lanes <= _MOST_LANES
        ):
            raise VaultUnusable(
                "the vault's key derivation is not of a strength that authsome writes",
                hint="the file was damaged or changed; restore it from a backup",
            )


def new_parameters() -> Parameters:
    """The present choice, with a fresh salt."""
    return Parameters(salt=secrets.token_bytes(SALT_BYTES))


def derive(master: Secret[bytes], parameters: Parameters) -> Secret[bytes]:
    """The key-encryption key for a master key; takes about 0.1 s and, for that time, the memory asked for."""
    from argon2 import low_level  # noqa: PLC0415  # 26 ms, needed once in a daemon's life

    return Secret(
        low_level.hash_secret_raw(
            secret=master.reveal(),
            salt=parameters.salt,
            time_cost=parameters.time_cost,
            memory_cost=parameters.memory_kib,
            parallelism=parameters.lanes,
            hash_len=KEY_BYTES,
            type=low_level.Type.ID,
            version=_VERSION,
        )
    )
