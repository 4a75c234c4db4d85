"""Proof of possession: a JWT that an identity signs for one request and one server.

Rule 1: there is one form. Compact JWS, three canonical base64url segments, a header of exactly `{"alg": "EdDSA",
"typ": "pop+jwt"}`, exactly the claims below with exactly their types. A token of any other form is refused before its
signature is looked at, so no header can choose an algorithm, a key or an encoding.

Rule 2: the key comes from the registry, found by the handle that the token names; nothing in the token is a key.

Rule 3: whoever is refused learns that and no more. The reason is for the audit; an unknown identity costs the same
signature check as a known one.

The claims are DPoP's (RFC 9449 §4.2) with an audience, a lifetime and the body's hash; `htu` is the request's path and
query as sent, because the daemon has many names (`aud` says which one was meant).
"""

import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from authsome.errors import AuthenticationFailed
from authsome.identity.did import did_from_public_key
from authsome.identity.handle import is_handle
from authsome.identity.signing import HEADER, MAX_LIFETIME, encode, mint
from authsome.message import json_object

__all__ = ["MAX_LIFETIME", "Claimed", "Proof", "PublicKey", "is_plain_target", "is_signed", "mint", "parse", "verify"]

MAX_TOKEN_LENGTH: Final = 4096  # ours have about 600 characters; a long target may double that
MAX_SKEW: Final = 30  # seconds that iat may lie off our clock, either way (RFC 9449 §11.1)

_STRING_CLAIMS: Final = ("iss", "sub", "aud", "jti", "htm", "htu", "body_sha256")
_INTEGER_CLAIMS: Final = ("iat", "exp")
_CLAIMS: Final = frozenset(_STRING_CLAIMS + _INTEGER_CLAIMS)
_texts_of: Final = itemgetter(*_STRING_CLAIMS)
_numbers_of: Final = itemgetter(*_INTEGER_CLAIMS)
_JTI: Final = re.compile(r"[!-~]{16,128}")
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_TARGET: Final = re.compile(r"/(?:[!\"$&-\[\]-~]|%[0-9A-Fa-f]{2})*")
"""Printable; no backslash, no fragment, whole triplets."""
_TWO_FACED: Final = re.compile(r"//|/\.{1,2}(?:/|\Z)|%2[ef]|%5c", re.IGNORECASE)
_OUR_HEADER: Final = encode(json.dumps(HEADER, separators=(",", ":")).encode())
"""The header as our own clients spell it, which need not be taken apart."""
_DECOY_KEY: Final = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")  # RFC 8032 §7.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a well-formed token says, none of it proven yet."""

    handle: str
    did: str
    audience: str
    issued_at: int
    expires_at: int
    method: str
    target: str
    body_sha256: str
    jti: str
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A request that is proven to come from this identity; to be accepted once."""

    handle: str
    did: str
    jti_hash: bytes
    """16 bytes that stand for this token in the replay memory, until `expires_at`."""
    expires_at: int
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that is ready to verify; whoever checks many proofs keeps it, as to make it costs a third of a check."""

    did: str
    verifier: Ed25519PublicKey

    @classmethod
    def from_bytes(cls, key: bytes) -> "PublicKey":
        """The key of these 32 bytes.

        Raises:
            ValueError: they are no Ed25519 public key.
        """
        return cls(did_from_public_key(key), Ed25519PublicKey.from_public_bytes(key))


_DECOY: Final = PublicKey.from_bytes(_DECOY_KEY)


def parse(token: str) -> Claimed:
    """Take a token apart, so that the registry can be asked for the handle's key.

    Raises:
        AuthenticationFailed: it is not of the one form.
    """
    segments = token.split(".", 3)
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or len(segments) != 3:
        raise _refused("malformed token")
    try:
        if segments[0] != _OUR_HEADER and json_object(_decode(segments[0])) != HEADER:
            raise _refused("wrong header")
        claims, signature = json_object(_decode(segments[1])), _decode(segments[2])
    except ValueError as error:
        raise _refused("malformed token") from error
    if claims.keys() != _CLAIMS:
        raise _refused("missing or unknown claim")
    texts, numbers = _texts_of(claims), _numbers_of(claims)
    if set(map(type, texts)) != {str} or set(map(type, numbers)) != {int}:  # True is no number
        raise _refused("malformed claim")
    issuer, handle, audience, jti, method, target, body_sha256 = texts
    if not is_handle(handle) or not _JTI.fullmatch(jti):
        raise _refused("malformed claim")
    return Claimed(
        handle=handle,
        did=issuer,
        audience=audience,
        issued_at=numbers[0],
        expires_at=numbers[1],
        method=method,
        target=target,
        body_sha256=body_sha256,
        jti=jti,
        signed=f"{segments[0]}.{segments[1]}".encode(),
        signature=signature,
    )


def verify(  # noqa: PLR0913  # each by name
    token: str | Claimed,
    *,
    public_key: PublicKey | bytes | None,
    audiences: frozenset[str],
    method: str,
    target: str,
    body: bytes,
    now: datetime,
    is_signed: bool | None = None,
) -> Proof:
    """Prove that the identity with this key signed this request, for us, just now (RFC 9449 §4.3).

    Args:
        token: the token, or what `parse` made of it.
        public_key: the key registered for the token's handle; None when the handle is unknown, which takes the same
            work and is refused.
        audiences: every URL of ours.
        method: the request's method as received.
        target: its path and query as received.
        body: its body as received.
        now: the current time.
        is_signed: what `is_signed_with` said of this token and this key, if it was asked before.

    Raises:
        AuthenticationFailed: in every other case, with the same text; `reason` says why.
    """
    claimed = parse(token) if isinstance(token, str) else token
    try:
        key = PublicKey.from_bytes(public_key) if isinstance(public_key, bytes) else public_key
    except ValueError as error:
        raise _refused("wrong signature") from error
    if not (is_signed_with(claimed, key) if is_signed is None else is_signed):
        raise _refused("unknown identity" if key is None else "wrong signature")
    if key is None:  # somebody signed with the decoy's published key
        raise _refused("unknown identity")
    if claimed.did != key.did:
        raise _refused("wrong issuer")
    if claimed.audience not in audiences:
        raise _refused("wrong audience")
    _check_time(claimed, int(now.timestamp()))
    if claimed.method != method or not _METHOD.fullmatch(method):
        raise _refused("wrong method")
    if claimed.target != target or not is_plain_target(target):
        raise _refused("wrong target")
    if claimed.body_sha256 != hashlib.sha256(body).hexdigest():
        raise _refused("wrong body")
    return Proof(
        handle=claimed.handle,
        did=claimed.did,
        jti_hash=hashlib.sha256(f"{claimed.handle} {claimed.jti}".encode()).digest()[:16],
        expires_at=claimed.expires_at,
    )


def is_signed_with(claimed: Claimed, key: PublicKey | None) -> bool:
    """Whether a key has signed a token, whatever that claims; nearly all of what a proof costs.

    Without a key the decoy's is tried, for the same work: `verify` refuses what that has signed.
    """
    try:
        (key or _DECOY).verifier.verify(claimed.signature, claimed.signed)
    except InvalidSignature:
        return False
    return True


def is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the key with these 32 bytes has signed a message (RFC 8032)."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_plain_target(target: str) -> bool:
    """Whether a path and query can be read in one way only.

    Dot segments, empty segments, backslashes, encoded dots and slashes, fragments and broken percent triplets are
    refused, not normalised: then equal strings are equal targets, and no others are.
    """
    return _TARGET.fullmatch(target) is not None and not _TWO_FACED.search(target.partition("?")[0])


def _check_time(claimed: Claimed, now: int) -> None:
    """`exp` is taken at its word; the clocks' difference is allowed for in `iat` alone, so it cannot add up."""
    if not 0 < claimed.expires_at - claimed.issued_at <= MAX_LIFETIME:
        raise _refused("lifetime too long")
    if abs(claimed.issued_at - now) > MAX_SKEW:
        raise _refused("issued too long ago, or in the future")
    if claimed.expires_at <= now:
        raise _refused("expired")


def _decode(segment: str) -> bytes:
    """Base64url without padding; one text for one value (RFC 7515 §2, RFC 4648 §3.5)."""
    # not by `base64`, which takes twice as long for the same
    data = binascii.a2b_base64(segment.replace("-", "+").replace("_", "/") + "=" * (-len(segment) % 4))
    if encode(data) != segment:  # padding kept, other alphabet, white space, stray low bits
        raise ValueError("not canonical base64url")
    return data


def _refused(reason: str) -> AuthenticationFailed:
    return AuthenticationFailed(reason=reason)
