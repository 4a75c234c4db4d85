"""did:key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.identity.did import did_from_public_key, fingerprint, public_key_from_did

KNOWN = {  # W3C did:key specification, "Ed25519 / X25519" test vectors
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp": (
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
    ),
    "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG": (
        "4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29"
    ),
}
GOOD = next(iter(KNOWN))


@pytest.mark.parametrize(("did", "key"), KNOWN.items())
def test_published_vectors(did, key):
    """Keys and names of the specification's own vectors belong together, both ways."""
    assert did_from_public_key(bytes.fromhex(key)) == did
    assert public_key_from_did(did) == bytes.fromhex(key)


@given(st.binary(min_size=31, max_size=31), st.sampled_from([0x00, 0x01, 0x3F, 0x7E, 0x80, 0xFE]))
def test_round_trip(low, high):
    """Every canonical key comes back from its name."""
    key = low + bytes([high])
    assert public_key_from_did(did_from_public_key(key)) == key


@pytest.mark.parametrize(
    "did",
    [
        "",
        "did:key:",
        "did:key:z",
        GOOD.removeprefix("did:key:"),
        GOOD.removeprefix("did:key:z"),
        GOOD.replace("did:key", "did:web"),
        GOOD.replace("did:key", "DID:KEY"),
        GOOD + "1",
        GOOD[:-1],
        GOOD + "#" + GOOD.rpartition(":")[2],
        GOOD.replace("z6Mk", "z16Mk"),  # a leading zero byte
        GOOD.replace("z6Mk", "z6Ml"),  # past ed25519-pub
        GOOD[:-1] + "0",  # not in base58's alphabet
        GOOD[:-1] + "é",
        GOOD + "\n",
        " " + GOOD,
        "did:key:z" + "z" * 47,  # more than 34 bytes
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",  # an X25519 key
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",  # a secp256k1 key
    ],
)
def test_other_spellings_are_refused(did):
    """A key has one name: whatever else resembles a did:key is refused."""
    with pytest.raises(ValueError, match=r"."):
        public_key_from_did(did)


@pytest.mark.parametrize("value", [2**255 - 19, 2**255 - 1, 2**255 + 2**255 - 1])
def test_unreduced_coordinate_is_refused(value):
    """A key whose coordinate is not below the field's prime is another key's second name (RFC 8032 §5.1.3)."""
    with pytest.raises(ValueError, match="canonical"):
        public_key_from_did(did_from_public_key(value.to_bytes(32, "little")))


def test_wrong_length_is_refused():
    """A name is made of 32 bytes only."""
    with pytest.raises(ValueError, match="32 bytes"):
        did_from_public_key(b"\0" * 31)


def test_a_fingerprint_is_of_the_key():
    """Half of the key's SHA-256 in groups, as it was from the first release on; of nothing else."""
    assert fingerprint(GOOD) == "139e 3940 e64b 5491 7220 88d9 a0d7 4162"
    assert len({fingerprint(each) for each in KNOWN}) == len(KNOWN)
    with pytest.raises(ValueError, match="not the did:key"):
        fingerprint("did:key:zOwner")
