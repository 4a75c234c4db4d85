"""The client's half of a proof: signing one request. `proof` has the form's rules, and the daemon's half.

It stands apart because every command signs, and none verifies: what verifying imports would be half of its time.
"""

import base64
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from authsome.identity.key import IdentityKey

HEADER: Final[Mapping[str, str]] = {"alg": "EdDSA", "typ": "pop+jwt"}
MAX_LIFETIME: Final = 60  # seconds from iat to exp: a longer one could be signed ahead and used later (RFC 9449 §11.2)

_JTI_BYTES: Final = 16
_NOTHING_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes at all


def mint(  # noqa: PLR0913  # a proof has that many parts, each given by name
    key: IdentityKey,
    *,
    handle: str,
    audience: str,
    method: str,
    target: str,
    body: bytes,
    now: datetime,
    jti: str | None = None,
) -> str:
    """Sign one request.

    Its life is the longest allowed, because `iat` bounds it anyway: so a clock that is 30 s slow still works.

    Args:
        key: the identity's key pair.
        handle: its registered handle.
        audience: the daemon's URL as the caller knows it.
        method: upper case.
        target: the request's path and query, exactly as it will be sent.
        body: the request's body, exactly as it will be sent.
        now: the current time.
        jti: 16 to 128 printable characters; a fresh one unless given (for vectors).
    """
    issued_at = int(now.timestamp())
    claims = {
        "iss": key.did,
        "sub": handle,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + MAX_LIFETIME,
        "jti": jti or encode(os.urandom(_JTI_BYTES)),
        "htm": method,
        "htu": target,
        "body_sha256": _sha256(body),
    }
    signed = f"{_encode_json(HEADER)}.{_encode_json(claims)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encode_json(value: Mapping[str, object]) -> str:
    return encode(json.dumps(value, separators=(",", ":")).encode())


def _sha256(body: bytes) -> str:
    if not body:
        return _NOTHING_SHA256
    import hashlib  # noqa: PLC0415  # loads all of OpenSSL, which a GET has no use for

    return hashlib.sha256(body).hexdigest()
