"""did:key for Ed25519 (W3C did:key v0.7 §3.1): an identity's public key, written as a name.

Rule: a key has exactly one spelling; any other that would decode to it is refused.
"""

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from typing import Final

_PREFIX: "Final" = "did:key:z"  # z: multibase for base58btc
_MULTICODEC: "Final" = b"\xed\x01"  # ed25519-pub (0xed) as a varint
_ALPHABET: "Final" = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: "Final" = 47  # of 34 bytes that begin with 0xed01, always
_KEY_BYTES: "Final" = 32
_FINGERPRINT_DIGITS: "Final" = 32
_FIELD_PRIME: "Final" = 2**255 - 19


def did_from_public_key(public_key: bytes) -> str:
    """The did:key of a raw Ed25519 public key.

    Raises:
        ValueError: it is not 32 bytes.
    """
    if len(public_key) != _KEY_BYTES:
        raise ValueError("an Ed25519 public key has 32 bytes")
    number = int.from_bytes(_MULTICODEC + public_key)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return _PREFIX + "".join(reversed(digits))


def fingerprint(did: str) -> str:
    """What people compare to tell whether two screens speak of one key: 128 bits of its SHA-256, in groups.

    Raises:
        ValueError: it is no did:key of an Ed25519 key.
    """
    import hashlib  # noqa: PLC0415  # loads all of OpenSSL, which those who only sign have no use for

    digits = hashlib.sha256(public_key_from_did(did)).hexdigest()[:_FINGERPRINT_DIGITS]
    return " ".join(digits[place : place + 4] for place in range(0, _FINGERPRINT_DIGITS, 4))


def public_key_from_did(did: str) -> bytes:
    """The raw Ed25519 public key that a did:key names.

    Raises:
        ValueError: it is no did:key of an Ed25519 key in its one canonical spelling, or the point's coordinate is not
            reduced (RFC 8032 §5.1.3), which would give one key two names.
    """
    encoded = did.removeprefix(_PREFIX)
    if len(encoded) != _DIGITS or encoded == did:
        raise ValueError("not the did:key of an Ed25519 key")
    number = 0
    for char in encoded:
        number = number * 58 + _ALPHABET.index(char)  # ValueError for a character outside the alphabet
    data = number.to_bytes(len(_MULTICODEC) + _KEY_BYTES + 1)  # one more: 47 digits can say more than 34 bytes
    key = data[-_KEY_BYTES:]
    if data != b"\0" + _MULTICODEC + key:
        raise ValueError("not the did:key of an Ed25519 key")
    if int.from_bytes(key, "little") & (2**255 - 1) >= _FIELD_PRIME:
        raise ValueError("not a canonical Ed25519 key")
    return key
