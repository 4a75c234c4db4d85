"""What upstream authsome sealed, to be read once: AES-256-GCM without associated data, which nothing here is."""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authsome.errors import VaultDamaged
from authsome.secret import Secret

_NONCE_BYTES: Final = 12


def open_(key: Secret[bytes], sealed: bytes) -> bytes:
    """The plaintext of a nonce followed by ciphertext and tag.

    Raises:
        VaultDamaged: it was changed, or sealed with another key.
    """
    try:
        return AESGCM(key.reveal()).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as error:  # a ValueError for lengths that can be none of it
        raise VaultDamaged from error
