"""A master key that is made of what somebody knows."""

import unicodedata
from typing import Final

from authsome.errors import UsageError, VaultLocked
from authsome.secret import Secret
from authsome.vault.key_sources.source import Source

LEAST: Final = 12
"""Characters of a new passphrase: four short words are more."""


class PassphraseKey:
    """What somebody knows; it is kept nowhere."""

    kind = Source.PASSPHRASE

    def __init__(self, given: Secret[str] | None) -> None:
        """Take the passphrase, once somebody has given it."""
        self._given = given

    def read(self) -> Secret[bytes] | None:
        """The passphrase in the one form in which it counts, however it was typed (NFC, as RFC 8265 §4.2)."""
        if self._given is None:
            return None
        return Secret(_normal(self._given).encode())

    def create(self) -> Secret[bytes]:
        """Not ours to make."""
        raise VaultLocked("this vault has no passphrase yet", hint="give it one: authsome daemon unlock")


def check_new(given: Secret[str]) -> None:
    """Refuse a passphrase that anybody could guess by trying.

    Raises:
        UsageError: it is too short.
    """
    if len(_normal(given)) < LEAST:
        raise UsageError(
            f"the passphrase is shorter than {LEAST} characters",
            hint="take four words that nobody would guess",
        )


def _normal(given: Secret[str]) -> str:
    return unicodedata.normalize("NFC", given.reveal())
