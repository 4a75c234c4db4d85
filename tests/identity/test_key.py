"""Identity keys."""

import pytest

from authsome.identity import key
from authsome.identity.did import public_key_from_did
from authsome.secret import Secret

SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")  # RFC 8032 §7.1, test 2


def test_known_key():
    """A seed gives the key pair and the signature that RFC 8032 §7.1 prints."""
    pair = key.from_seed(Secret(SEED))
    assert pair.public_bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert pair.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert public_key_from_did(pair.did) == pair.public_bytes


def test_generated_keys_differ_and_come_back_from_their_seed():
    """A generated key is fresh, and whole in its seed."""
    first, second = key.generate(), key.generate()
    assert first.public_bytes != second.public_bytes
    assert key.from_seed(first.seed).public_bytes == first.public_bytes


def test_seed_does_not_show():
    """Neither repr nor str of a key pair holds its seed."""  # SEC-26, SEC-143
    pair = key.from_seed(Secret(SEED))
    shown = f"{pair!r} {pair} {pair.seed!r} {pair.seed}"
    assert SEED.hex() not in shown
    assert repr(SEED) not in shown


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_wrong_length_is_refused(size):
    with pytest.raises(ValueError, match="32"):
        key.from_seed(Secret(b"\1" * size))
