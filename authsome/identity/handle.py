"""Handles: the readable names of identities."""

import re
from typing import Final

MAX_LENGTH: Final = 63  # as a DNS label, so that a handle may become one
HANDLE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FOREIGN: Final = re.compile(r"[^a-z0-9]+")
_SUFFIX_DIGITS: Final = 6  # 24 bits of the key: two machines of one name get two handles


def is_handle(text: str) -> bool:
    """Whether this is a well-formed handle."""
    return HANDLE.fullmatch(text) is not None


def suggest(user: str, host: str, public_key: bytes) -> str:
    """A handle for a new identity: who, where, and a few digits of its key, so that it is free almost surely."""
    import hashlib  # noqa: PLC0415  # loads all of OpenSSL, which those who have their handle have no use for

    suffix = hashlib.sha256(public_key).hexdigest()[:_SUFFIX_DIGITS]
    words = _FOREIGN.sub("-", f"{user}-{host.partition('.')[0]}".lower()).strip("-") or "identity"
    return f"{words[: MAX_LENGTH - _SUFFIX_DIGITS - 1].rstrip('-')}-{suffix}"
