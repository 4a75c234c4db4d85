"""Passwords: Argon2id (RFC 9106) with the parameters and the salt kept beside each digest.

Rule: a password is taken whole, whatever its length; it is brought to one Unicode form first (NIST SP 800-63B §5.1.1),
so that another keyboard spells the same one.
"""

import hmac
import unicodedata
from dataclasses import dataclass
from typing import Final

from authsome.crypto import kdf
from authsome.crypto.kdf import Parameters
from authsome.secret import Secret

_SHAPE: Final = kdf.new_parameters()
"""What is written now; its salt is only ever used for what is thrown away."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """What is kept of a password."""

    parameters: Parameters
    digest: bytes

    @property
    def is_outdated(self) -> bool:
        """Whether a new password would be given more work."""
        mine, present = self.parameters, _SHAPE
        return mine.time_cost < present.time_cost or mine.memory_kib < present.memory_kib


def hashed(password: Secret[str]) -> Hashed:
    """What is to be kept of a password."""
    parameters = kdf.new_parameters()
    return Hashed(parameters, _digest(password, parameters))


def fits(password: Secret[str], kept: Hashed) -> bool:
    """Whether this is the password that `kept` was made of."""
    return hmac.compare_digest(_digest(password, kept.parameters), kept.digest)


def waste(password: Secret[str]) -> None:
    """Work as long as `fits` would: for who names an account that there is not."""
    _digest(password, _SHAPE)


def _digest(password: Secret[str], parameters: Parameters) -> bytes:
    spelled = unicodedata.normalize("NFC", password.reveal()).encode()
    return kdf.derive(Secret(spelled), parameters).reveal()
