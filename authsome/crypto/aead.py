"""Authenticated encryption: AES-256-GCM (NIST SP 800-38D), always with associated data.

Rule: what is sealed names, in its associated data, the one place where it may be opened.

A sealed value is a version byte, a nonce of 96 bits, and the ciphertext with its tag of 128 bits. The nonce is drawn
at random for each seal, which is safe for 2^32 seals with one key (SP 800-38D §8.3); `vault.vaults` stops long before.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authsome.errors import VaultDamaged
from authsome.secret import Secret

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD: Final = len(_VERSION) + _NONCE_BYTES
_SHORTEST: Final = _HEAD + _TAG_BYTES


def new_key() -> Secret[bytes]:
    """A fresh random key."""
    return Secret(secrets.token_bytes(KEY_BYTES))


def associate(*parts: str) -> bytes:
    """Associated data that names `parts`; no two different sequences of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def seal(key: Secret[bytes], plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt and authenticate; only the same key and the same associated data open it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key.reveal()).encrypt(nonce, plaintext, _VERSION + associated)


def seal_text(key: Secret[bytes], text: Secret[str], associated: bytes) -> bytes:
    """As `seal`, for a secret text."""
    return seal(key, text.reveal().encode(), associated)


def open_text(key: Secret[bytes], sealed: bytes, associated: bytes) -> Secret[str]:
    """The secret text that `seal_text` sealed.

    Raises:
        VaultDamaged: see `open_`.
    """
    try:
        return Secret(open_(key, sealed, associated).decode())
    except UnicodeDecodeError:
        raise VaultDamaged from None  # the cause would quote the plaintext


def open_(key: Secret[bytes], sealed: bytes, associated: bytes) -> bytes:
    """The plaintext of what `seal` made.

    Raises:
        VaultDamaged: it was changed, belongs elsewhere, was sealed with another key, or is of an unknown version.
    """
    if not isinstance(sealed, bytes) or len(sealed) < _SHORTEST or not sealed.startswith(_VERSION):
        raise VaultDamaged  # a damaged row may hold a number or nothing at all
    try:
        return AESGCM(key.reveal()).decrypt(sealed[1:_HEAD], sealed[_HEAD:], _VERSION + associated)
    except InvalidTag as error:
        raise VaultDamaged from error
