"""The client's half of a proof: signing one request. `proof` has the form's rules, and the daemon's half.

It stands apart because every command signs, and none verifies: what verifying imports would be half of its time.

Rule: it imports only what the interpreter has loaded anyway, and C modules.
"""

import binascii
import os
import sys

try:
    from _json import encode_basestring_ascii as quote
except ImportError:  # an interpreter without the accelerator
    from json.encoder import encode_basestring_ascii as quote

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Final, Protocol

    class Signer(Protocol):
        """A key pair that signs (`IdentityKey`)."""

        @property
        def did(self) -> str:
            """The did:key of the public half."""

        def sign(self, message: bytes) -> bytes:
            """The 64-byte signature of a message."""


HEADER: "Final[Mapping[str, str]]" = {"alg": "EdDSA", "typ": "pop+jwt"}
MAX_LIFETIME: "Final" = 60
"""Seconds from iat to exp: a longer life could be signed ahead and used later (RFC 9449 §11.2)."""

_JTI_BYTES: "Final" = 16
_NOTHING_SHA256: "Final" = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes at all


def mint(  # noqa: PLR0913  # a proof has that many parts, each given by name
    key: "Signer",
    *,
    handle: str,
    audience: str,
    method: str,
    target: str,
    body: bytes,
    now: "datetime | int",
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
        now: the current time, or its seconds since 1970.
        jti: 16 to 128 printable characters; a fresh one unless given (for vectors).
    """
    issued_at = now if isinstance(now, int) else int(now.timestamp())
    claims: dict[str, str | int] = {
        "iss": key.did,
        "sub": handle,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + MAX_LIFETIME,
        "jti": jti or encode(os.urandom(_JTI_BYTES)),
        "htm": method,
        "htu": target,
        "body_sha256": sha256(body) if body else _NOTHING_SHA256,
    }
    signed = f"{_encode_json(HEADER)}.{_encode_json(claims)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_").decode()


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal, by the interpreter's own module where it has one: `hashlib` loads all of OpenSSL."""
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256 as digest  # type: ignore[import-not-found]  # noqa: PLC0415
        else:
            from _sha256 import sha256 as digest  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError:
        from hashlib import sha256 as digest  # noqa: PLC0415
    return str(digest(data).hexdigest())


def _encode_json(value: "Mapping[str, str | int]") -> str:
    members = [f"{quote(name)}:{quote(each) if isinstance(each, str) else each}" for name, each in value.items()]
    return encode(f"{{{','.join(members)}}}".encode())
