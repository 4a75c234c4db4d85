"""The envelope: each vault's key opens under its name and the right KEK only."""

import json
from pathlib import Path

import pytest

from authsome.crypto import aead, envelope
from authsome.errors import VaultDamaged
from authsome.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealed.json").read_text())
KEK = Secret(bytes.fromhex(VECTORS["envelope"]["kek"]))


def test_wrapped_key_opens_under_its_vault_only():  # SEC-113
    dek = envelope.new_dek()
    wrapped = envelope.wrap(KEK, dek, "vault_a")
    assert envelope.unwrap(KEK, wrapped, "vault_a") == dek
    for kek, vault in ((KEK, "vault_b"), (aead.new_key(), "vault_a")):
        with pytest.raises(VaultDamaged):
            envelope.unwrap(kek, wrapped, vault)


def test_what_is_no_key_is_no_dek():
    short = aead.seal(KEK, b"short", aead.associate("dek", "vault_a"))
    with pytest.raises(VaultDamaged):
        envelope.unwrap(KEK, short, "vault_a")


def test_check_value_knows_its_key():
    check = envelope.new_check(KEK)
    assert envelope.fits(KEK, check)
    assert not envelope.fits(aead.new_key(), check)
    assert not envelope.fits(KEK, check[:-1])
    assert not envelope.fits(KEK, b"")


def test_a_check_value_is_no_dek():
    with pytest.raises(VaultDamaged):
        envelope.unwrap(KEK, envelope.new_check(KEK), "vault_a")


def test_released_envelope_opens():
    vector = VECTORS["envelope"]
    dek = envelope.unwrap(KEK, bytes.fromhex(vector["wrapped"]), vector["vault_id"])
    assert dek.reveal().hex() == vector["dek"]
    assert envelope.fits(KEK, bytes.fromhex(vector["check"]))
    assert {purpose: envelope.subkey(KEK, purpose).reveal().hex() for purpose in vector["subkeys"]} == vector["subkeys"]
