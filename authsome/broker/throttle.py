"""How often something may be tried in vain: after a few failures each makes the next wait longer.

Rules:
1. A try is counted before it is looked at, so that many at once are no way around; and what strangers do against a name
   never keeps out those who have been let in from the same browser before.
2. A failure that lies ahead is from before the clock was set back: it counts, and nobody waits for its time to come.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.errors import TooManyAttempts
from authsome.vault import attempts
from authsome.vault.columns import ASTRAY
from authsome.vault.database import Reader, Transaction

LONGEST: Final = timedelta(minutes=15)
MEMORY: Final = timedelta(hours=1)  # after so long without a failure all is forgotten
_OF_ONE_HOLDER: Final = 64
"""Bits of an IPv6 address that one network is known by: whoever has it draws the rest at will (RFC 4291 §2.5.1)."""
_DOUBLINGS: Final = 10  # 2^10 s are more than LONGEST


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where failures are counted together."""

    name: bytes
    free: int
    """So many cost nothing: people mistype."""

    @classmethod
    def of(cls, kind: str, value: str, *, free: int) -> "Bucket":
        """The one for a value; only a hash of it is kept."""
        return cls(hashlib.sha256(f"{kind}\0{value}".encode()).digest(), free)

    @classmethod
    def of_address(cls, kind: str, address: str, *, free: int) -> "Bucket":
        """The one for whoever asks from an address: of IPv6 for the whole network, or its holder never waits."""
        return cls.of(kind, _holder(address), free=free)


def count(tx: Transaction, buckets: Sequence[Bucket], now: datetime) -> None:
    """Count a try in each bucket, as if it had failed.

    Raises:
        TooManyAttempts: not before the wait is over; this one is not counted.
    """
    failures = [_failures(tx, bucket, now) for bucket in buckets]
    for bucket, (number, last_at) in zip(buckets, failures, strict=True):
        over_at = last_at + wait_after(number - bucket.free)
        if now < over_at:
            raise TooManyAttempts(retry_after=over_at - now)
    for bucket, (number, _) in zip(buckets, failures, strict=True):
        attempts.put(tx, bucket.name, number + 1, now=now)


def forgive(tx: Transaction, bucket: Bucket, now: datetime, *, altogether: bool) -> None:
    """Take back the try that was counted, as it was none in vain; or all that came before it, too."""
    number, _ = _failures(tx, bucket, now)
    attempts.put(tx, bucket.name, 0 if altogether else number - 1, now=now)


def wait_after(surplus: int) -> timedelta:
    """How long to wait after so many failures beyond the free ones."""
    if surplus < 0:
        return timedelta(0)
    return min(timedelta(seconds=2 ** min(surplus, _DOUBLINGS)), LONGEST)


def _holder(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4 or found.is_loopback:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _OF_ONE_HOLDER), strict=False))


def _failures(reader: Reader, bucket: Bucket, now: datetime) -> tuple[int, datetime]:
    found = attempts.count(reader, bucket.name)
    if found is None or found[1] <= now - MEMORY:
        return 0, now - MEMORY
    number, last_at = found
    return number, now - MEMORY if last_at > now + ASTRAY else last_at
