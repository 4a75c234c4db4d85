"""The server's own key: signs what others are to check (Ed25519), seals what it alone checks (HMAC-SHA-256).

One secret, and a key derived from it for each purpose, so that no two purposes share one.
"""

import hmac
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authsome.crypto import envelope
from authsome.secret import Secret

SEAL_BYTES: Final = 16
"""As long as it takes that nobody guesses one (NIST SP 800-107 §5.3.3)."""


class ServerKey:
    """Signs and seals for one purpose."""

    __slots__ = ("_checker", "_marks", "_places", "_signer", "public")

    def __init__(self, secret: Secret[bytes], purpose: str) -> None:
        """Take the server's secret, and what the key is for."""
        self._signer = Ed25519PrivateKey.from_private_bytes(envelope.subkey(secret, f"{purpose} signature").reveal())
        self._marks = envelope.subkey(secret, f"{purpose} seal").reveal()
        self._places = envelope.subkey(secret, f"{purpose} head").reveal()
        self._checker = self._signer.public_key()
        self.public: bytes = self._checker.public_bytes_raw()
        """The 32 bytes that check signatures."""

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return self._signer.sign(message)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this is our signature of that message."""
        try:
            self._checker.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def seal(self, message: bytes) -> bytes:
        """What nobody else can put beside a message."""
        return hmac.digest(self._marks, message, "sha256")[:SEAL_BYTES]

    def seal_head(self, message: bytes) -> bytes:
        """As `seal`, for the one place that must not be taken for any other."""
        return hmac.digest(self._places, message, "sha256")[:SEAL_BYTES]
