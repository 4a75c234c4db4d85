"""Sealing: what was changed, moved or made with another key does not open."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from authsome.crypto import aead
from authsome.errors import VaultDamaged
from authsome.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealed.json").read_text())


def test_open_gives_back_what_was_sealed():
    @given(plaintext=st.binary(max_size=200), parts=st.lists(st.text(max_size=20), max_size=5))
    def holds(plaintext, parts):
        key, associated = aead.new_key(), aead.associate(*parts)
        assert aead.open_(key, aead.seal(key, plaintext, associated), associated) == plaintext

    holds()


def test_texts_survive_too():
    @given(text=st.text(max_size=50))
    def holds(text):
        key = aead.new_key()
        assert aead.open_text(key, aead.seal_text(key, Secret(text), b"here"), b"here").reveal() == text

    holds()


def test_any_flipped_bit_is_damage():  # SEC-112
    key = aead.new_key()
    sealed = aead.seal(key, b"a secret", b"here")
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(VaultDamaged):
            aead.open_(key, bytes(changed), b"here")


def test_any_truncation_is_damage():  # SEC-112
    key = aead.new_key()
    sealed = aead.seal(key, b"a secret", b"here")
    for length in range(len(sealed)):
        with pytest.raises(VaultDamaged):
            aead.open_(key, sealed[:length], b"here")


@pytest.mark.parametrize("value", [None, 17, 1.5, "text", memoryview(b"\x01" * 40)])
def test_what_is_no_blob_is_damage(value):
    """SQLite puts any type into any column, so a damaged row may hold one."""
    with pytest.raises(VaultDamaged):
        aead.open_(aead.new_key(), value, b"here")


def test_another_place_or_key_is_damage():  # SEC-113
    key = aead.new_key()
    sealed = aead.seal(key, b"a secret", b"here")
    with pytest.raises(VaultDamaged):
        aead.open_(key, sealed, b"there")
    with pytest.raises(VaultDamaged):
        aead.open_(aead.new_key(), sealed, b"here")


def test_text_that_is_none_is_damage_and_is_not_quoted():
    key = aead.new_key()
    with pytest.raises(VaultDamaged) as caught:
        aead.open_text(key, aead.seal(key, b"canary\xff", b"here"), b"here")
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


def test_no_two_seals_share_a_nonce():  # SEC-115
    key = aead.new_key()
    assert len({aead.seal(key, b"", b"")[1:13] for _ in range(100_000)}) == 100_000


def test_associated_data_is_injective():
    """No two different sequences of parts give the same bytes: no part can swallow its neighbour."""
    words = st.lists(st.text(alphabet="a\0\x01é", max_size=4), max_size=4)

    @given(one=words, other=words)
    def holds(one, other):
        assert (aead.associate(*one) == aead.associate(*other)) == (one == other)

    holds()


@pytest.mark.parametrize("vector", VECTORS["aead"], ids=lambda vector: vector["name"])
def test_released_values_open(vector):
    """What an earlier version sealed opens, by us and by AES-256-GCM put together from its parts."""
    key, sealed = bytes.fromhex(vector["key"]), bytes.fromhex(vector["sealed"])
    associated = aead.associate(*vector["associated"])
    plaintext = bytes.fromhex(vector["plaintext"])
    assert aead.open_(Secret(key), sealed, associated) == plaintext
    assert sealed[0] == 1
    cipher = Cipher(algorithms.AES256(key), modes.GCM(sealed[1:13], sealed[-16:])).decryptor()
    cipher.authenticate_additional_data(b"\x01" + associated)
    assert cipher.update(sealed[13:-16]) + cipher.finalize() == plaintext
