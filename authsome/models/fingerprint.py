"""A value's likeness under a key of the moment: whether two values are the same can be told from it, and no more."""

import hmac
from typing import Final

from authsome.secret import Secret

KEY_BYTES: Final = 32


def of(key: bytes, value: Secret[str]) -> str:
    """HMAC-SHA256 (RFC 2104) of the value, in hex."""
    return hmac.digest(key, value.reveal().encode("utf-8", "surrogatepass"), "sha256").hex()


def is_same(one: str, other: str) -> bool:
    """Whether two likenesses under one key are of one value, in time that does not tell how near they are."""
    return one.isascii() and hmac.compare_digest(one, other)
