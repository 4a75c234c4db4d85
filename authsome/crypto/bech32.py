"""Bech32 (BIP 173), as age writes its keys: a name, the digit one, and bytes in an alphabet that is hard to misread."""

from typing import Final

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECK: Final = 6  # characters


def encode(name: str, data: bytes) -> str:
    """The text of these bytes, in small letters."""
    values = _regrouped(data, 8, 5)
    checked = _polymod([*_expanded(name), *values, *([0] * _CHECK)]) ^ 1
    check = [(checked >> 5 * (5 - index)) & 31 for index in range(_CHECK)]
    return name + "1" + "".join(_ALPHABET[value] for value in [*values, *check])


def decode(name: str, text: str) -> bytes:
    """What `encode` was given under this name.

    Raises:
        ValueError: it was mistyped, or is something else.
    """
    if text not in {text.lower(), text.upper()}:
        raise ValueError("mixed case")
    found, separator, rest = text.lower().rpartition("1")
    values = [_ALPHABET.find(char) for char in rest]
    if not separator or found != name or len(values) < _CHECK or min(values) < 0:
        raise ValueError("not of this kind")
    if _polymod([*_expanded(name), *values]) != 1:
        raise ValueError("mistyped")
    bits = 5 * (len(values) - _CHECK)
    number = 0
    for value in values[:-_CHECK]:
        number = number << 5 | value
    if bits % 8 > 4 or number & ((1 << bits % 8) - 1):
        raise ValueError("wrong padding")
    return (number >> bits % 8).to_bytes(bits // 8, "big")


def _regrouped(data: bytes, size: int, into: int) -> list[int]:
    bits = "".join(f"{byte:0{size}b}" for byte in data)
    bits += "0" * (-len(bits) % into)
    return [int(bits[index : index + into], 2) for index in range(0, len(bits), into)]


def _expanded(name: str) -> list[int]:
    return [*(ord(char) >> 5 for char in name), 0, *(ord(char) & 31 for char in name)]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for index, term in enumerate(_GENERATOR):
            check ^= term if top >> index & 1 else 0
    return check
