"""Proof Key for Code Exchange (RFC 7636). Only S256: `plain` protects nothing (RFC 9700 §2.1.1)."""

import base64
import hashlib
import secrets
from typing import Final

from authsome.secret import Secret

METHOD: Final = "S256"
_VERIFIER_BYTES: Final = 32  # RFC 7636 §4.1: 32 random octets, 43 characters


def new_verifier() -> Secret[str]:
    """A fresh code verifier."""
    return Secret(secrets.token_urlsafe(_VERIFIER_BYTES))


def challenge(verifier: Secret[str]) -> str:
    """The code challenge of a verifier (RFC 7636 §4.2)."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
