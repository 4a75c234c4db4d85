"""An identity's Ed25519 key pair (RFC 8032)."""

from authsome.identity import ed25519
from authsome.identity.did import did_from_public_key
from authsome.secret import Secret


class IdentityKey:
    """A key pair that signs; what identifies it may be shown, its seed may not."""

    __slots__ = ("_private_key", "public_bytes", "seed")

    def __init__(self, seed: Secret[bytes]) -> None:
        """Take the 32-byte seed (RFC 8032 §5.1.5); ValueError for any other length."""
        self._private_key = ed25519.private_key(seed.reveal())
        self.seed = seed
        self.public_bytes = self._private_key.public_key().public_bytes_raw()

    @property
    def did(self) -> str:
        """The did:key of the public half."""
        return did_from_public_key(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return self._private_key.sign(message)

    def __repr__(self) -> str:
        return f"IdentityKey({self.did})"


def generate() -> IdentityKey:
    """A new key pair."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  # see `ed25519`

    return IdentityKey(Secret(Ed25519PrivateKey.generate().private_bytes_raw()))


def from_seed(seed: Secret[bytes]) -> IdentityKey:
    """The key pair of a seed that was kept.

    Raises:
        ValueError: it is not 32 bytes.
    """
    return IdentityKey(seed)
