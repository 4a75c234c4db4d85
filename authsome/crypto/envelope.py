"""The envelope: a key-encryption key (KEK) wraps one random data-encryption key (DEK) per vault.

So a change of master key re-wraps a few bytes and touches no secret, and deleting a wrapped DEK destroys its vault.
"""

import hashlib
import hmac

from authsome.crypto import aead
from authsome.errors import VaultDamaged
from authsome.secret import Secret


def new_dek() -> Secret[bytes]:
    """A fresh data-encryption key."""
    return aead.new_key()


def wrap(kek: Secret[bytes], dek: Secret[bytes], vault_id: str) -> bytes:
    """Seal a vault's DEK under the KEK."""
    return aead.seal(kek, dek.reveal(), aead.associate("dek", vault_id))


def unwrap(kek: Secret[bytes], wrapped: bytes, vault_id: str) -> Secret[bytes]:
    """Open a vault's DEK.

    Raises:
        VaultDamaged: it was changed, or is another vault's.
    """
    dek = aead.open_(kek, wrapped, aead.associate("dek", vault_id))
    if len(dek) != aead.KEY_BYTES:
        raise VaultDamaged("the key of this vault is damaged", hint="restore the vault from a backup")
    return Secret(dek)


def new_check(kek: Secret[bytes]) -> bytes:
    """A value by which the KEK is known again."""
    return aead.seal(kek, b"", aead.associate("check"))


def fits(kek: Secret[bytes], check: bytes) -> bool:
    """Whether `check` was made with this KEK."""
    try:
        return aead.open_(kek, check, aead.associate("check")) == b""
    except VaultDamaged:
        return False


def subkey(kek: Secret[bytes], purpose: str) -> Secret[bytes]:
    """A key of its own for another purpose (form tokens, …), the same after each restart.

    HMAC-SHA-256 as the pseudo-random function of NIST SP 800-108 §4.1, one block.
    """
    return Secret(hmac.new(kek.reveal(), b"\x01authsome " + purpose.encode(), hashlib.sha256).digest())
