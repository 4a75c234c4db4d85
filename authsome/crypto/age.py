"""The age file format, version 1 (age-encryption.org/v1): a file for those who have a key, or know a passphrase.

Rules:
1. What is written here the `age` program opens, and the other way round.
2. The file's key is used once, so the nonces are fixed: zero for the key itself, a counter for the chunks.
3. Nothing of a chunk is given out before it is authenticated, and a file without its last chunk is no file.
"""

import base64
import binascii
import hashlib
import hmac
import io
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authsome.crypto import bech32
from authsome.errors import RequestInvalid, VaultDamaged
from authsome.secret import Secret

CHUNK: Final = 64 * 1024
WORK_FACTOR: Final = 18
"""2^18 rounds of scrypt, as age has it: a second, and 256 MiB."""
_MOST_WORK: Final = 20
_VERSION: Final = b"age-encryption.org/v1"
_X25519_LABEL: Final = b"age-encryption.org/v1/X25519"
_SCRYPT_LABEL: Final = b"age-encryption.org/v1/scrypt"
_TAG: Final = 16
_FILE_KEY: Final = 16
_NO_NONCE: Final = bytes(12)
_LINE: Final = 64
_MOST_HEADER: Final = 64 * 1024
_RECIPIENT: Final = "age"
_IDENTITY: Final = "age-secret-key-"
_STANZA: Final = re.compile(rb"-> [!-~]+(?: [!-~]+)*")
_DAMAGED: Final = "the file is damaged, or was cut off"


def recipient(text: str) -> bytes:
    """The public key of an `age1…`.

    Raises:
        RequestInvalid: it is none.
    """
    try:
        key = bech32.decode(_RECIPIENT, text)
    except ValueError:
        key = b""
    if len(key) != 32:
        # a private key, which opens the file, may be typed here by mistake
        shown = repr(text[:80]) if text.startswith(_RECIPIENT + "1") else "this"
        raise RequestInvalid(f"{shown} is not a recipient of age", hint="age-keygen makes a key, and prints its age1…")
    return key


def identities(text: str) -> list[Secret[bytes]]:
    """The private keys in an identity file of age: a line each, comments and empty lines aside.

    Raises:
        RequestInvalid: there is none, or a line is something else.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            try:
                key = bech32.decode(_IDENTITY, line)
            except ValueError:
                key = b""
            if len(key) != 32:
                raise RequestInvalid("a line of the identity file is no key of age: AGE-SECRET-KEY-1…")
            found.append(Secret(key))
    if not found:
        raise RequestInvalid("there is no key in the identity file")
    return found


class Encryptor(io.RawIOBase):
    """A file to be written to; `close` writes its end, without which it cannot be opened."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        recipients: Sequence[bytes] = (),
        passphrase: Secret[str] | None = None,
        work_factor: int = WORK_FACTOR,
    ) -> None:
        """Write the header.

        Args:
            write: takes what is to be in the file.
            recipients: the public keys of those who can open it.
            passphrase: what opens it, where there are no recipients.
            work_factor: the binary logarithm of what a guess at the passphrase costs.
        """
        file_key, nonce = secrets.token_bytes(_FILE_KEY), secrets.token_bytes(16)
        stanzas = [_for_recipient(file_key, each) for each in recipients]
        if passphrase is not None:
            stanzas = [_for_passphrase(file_key, passphrase, work_factor)]
        header = _VERSION + b"\n" + b"".join(stanzas) + b"---"
        write(header + b" " + _text(_header_mac(file_key, header)) + b"\n" + nonce)
        self._chunks = ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))
        self._write = write
        self._buffer = bytearray()
        self._count = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # bytes are all that is ever given
        """Take more of the content."""
        self._buffer += data
        while len(self._buffer) > CHUNK:  # the last chunk is known for it only at the end
            self._seal(bytes(self._buffer[:CHUNK]), last=False)
            del self._buffer[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Write the last chunk; once is enough."""
        if not self.closed:
            self._seal(bytes(self._buffer), last=True)
            self._buffer.clear()
        super().close()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._write(self._chunks.encrypt(_nonce(self._count, last=last), chunk, None))
        self._count += 1


class Decryptor(io.RawIOBase):
    """A file to be read from."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        keys: Sequence[Secret[bytes]] = (),
        passphrase: Secret[str] | None = None,
    ) -> None:
        """Read the header.

        Args:
            read: gives that many of the file's bytes, fewer only at its end.
            keys: private keys, of which one may open it.
            passphrase: what may open it.

        Raises:
            RequestInvalid: it is no file of age, or none of these opens it.
            VaultDamaged: it was changed.
        """
        header, stanzas, mac = _read_header(read)
        file_key = _unwrapped(stanzas, keys, passphrase)
        if not hmac.compare_digest(_header_mac(file_key, header), mac):
            raise VaultDamaged(_DAMAGED, hint="take another copy of it")
        self._chunks = ChaCha20Poly1305(_hkdf(file_key, read(16), b"payload"))
        self._read = read
        self._ahead = read(CHUNK + _TAG)
        self._plain = b""
        self._count = 0
        self._is_over = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what readers give
        """More of the content; nothing at its end.

        Raises:
            VaultDamaged: it was changed, or cut off.
        """
        if not self._plain and not self._is_over:
            self._plain = self._next()
        taken = self._plain[: len(buffer)]
        buffer[: len(taken)] = taken
        self._plain = self._plain[len(taken) :]
        return len(taken)

    def _next(self) -> bytes:
        chunk, self._ahead = self._ahead, self._read(CHUNK + _TAG) if len(self._ahead) == CHUNK + _TAG else b""
        self._is_over = not self._ahead
        try:
            plain = self._chunks.decrypt(_nonce(self._count, last=self._is_over), chunk, None)
        except InvalidTag as error:
            raise VaultDamaged(_DAMAGED, hint="take another copy of it") from error
        if not plain and self._count:  # only an empty file may end with an empty chunk
            raise VaultDamaged(_DAMAGED, hint="take another copy of it")
        self._count += 1
        return plain


def check_header(read: Callable[[int], bytes]) -> None:
    """See whether this is a file of age, before anybody is asked for what opens it.

    Raises:
        RequestInvalid: it is none.
    """
    _read_header(read)


def _for_recipient(file_key: bytes, key: bytes) -> bytes:
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(key))
    wrapping = _hkdf(shared, share + key, _X25519_LABEL)
    return _stanza([b"X25519", _text(share)], ChaCha20Poly1305(wrapping).encrypt(_NO_NONCE, file_key, None))


def _for_passphrase(file_key: bytes, passphrase: Secret[str], work_factor: int) -> bytes:
    salt = secrets.token_bytes(16)
    wrapping = _scrypt(passphrase, salt, work_factor)
    arguments = [b"scrypt", _text(salt), str(work_factor).encode()]
    return _stanza(arguments, ChaCha20Poly1305(wrapping).encrypt(_NO_NONCE, file_key, None))


def _stanza(arguments: list[bytes], body: bytes) -> bytes:
    text = _text(body)
    lines = [text[index : index + _LINE] for index in range(0, len(text) + 1, _LINE)]
    return b"-> " + b" ".join(arguments) + b"\n" + b"".join(line + b"\n" for line in lines)


def _read_header(read: Callable[[int], bytes]) -> tuple[bytes, list[tuple[list[bytes], bytes]], bytes]:
    """The header up to its MAC, what its stanzas say, and the MAC."""
    taken = bytearray()

    def next_line() -> bytes:
        begins = len(taken)
        while True:
            byte = read(1)
            if not byte or len(taken) > _MOST_HEADER:
                raise RequestInvalid("this is not a file of age")
            taken.extend(byte)
            if byte == b"\n":
                return bytes(taken[begins:-1])

    if next_line() != _VERSION:
        raise RequestInvalid("this is not a file of age, or of a version that is not known here")
    stanzas: list[tuple[list[bytes], bytes]] = []
    while (first := next_line()).startswith(b"->"):
        if not _STANZA.fullmatch(first):
            raise RequestInvalid("the header of the file is malformed")
        text = b""
        while len(piece := next_line()) == _LINE:
            text += piece
        stanzas.append((first[3:].split(b" "), _bytes(text + piece)))
    mark, _, mac = first.partition(b" ")
    if mark != b"---":
        raise RequestInvalid("the header of the file is malformed")
    header = bytes(taken[: -len(first) - 1]) + b"---"
    return header, stanzas, _bytes(mac)


def _unwrapped(
    stanzas: list[tuple[list[bytes], bytes]], keys: Sequence[Secret[bytes]], passphrase: Secret[str] | None
) -> bytes:
    """The file's key, by whichever stanza one of the keys opens."""
    by_passphrase = any(arguments[0] == b"scrypt" for arguments, _ in stanzas)
    if by_passphrase and len(stanzas) != 1:
        raise RequestInvalid("the header of the file is malformed")
    for arguments, body in stanzas:
        for wrapping in _wrapping_keys(arguments, keys, passphrase):
            if len(body) == _FILE_KEY + _TAG:
                try:
                    return ChaCha20Poly1305(wrapping).decrypt(_NO_NONCE, body, None)
                except InvalidTag:
                    continue
    if by_passphrase:
        raise RequestInvalid("this is not the passphrase of this file" if passphrase else "the file has a passphrase")
    raise RequestInvalid("none of the keys opens this file", hint="name the identity file of one of its recipients")


def _wrapping_keys(
    arguments: list[bytes], keys: Sequence[Secret[bytes]], passphrase: Secret[str] | None
) -> list[bytes]:
    match arguments:
        case [b"X25519", share_text]:
            share = _bytes(share_text)
            if len(share) != 32:
                raise RequestInvalid("the header of the file is malformed")
            return [_wrapping_of(each, share) for each in keys]
        case [b"scrypt", salt, factor] if passphrase is not None:
            if not re.fullmatch(rb"[1-9][0-9]?", factor) or int(factor) > _MOST_WORK or len(_bytes(salt)) != 16:
                raise RequestInvalid("the file's passphrase takes more work than is done here")
            return [_scrypt(passphrase, _bytes(salt), int(factor))]
    return []


def _wrapping_of(key: Secret[bytes], share: bytes) -> bytes:
    private = X25519PrivateKey.from_private_bytes(key.reveal())
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError as error:  # a point of small order
        raise RequestInvalid("the header of the file is malformed") from error
    return _hkdf(shared, share + private.public_key().public_bytes_raw(), _X25519_LABEL)


def _scrypt(passphrase: Secret[str], salt: bytes, work_factor: int) -> bytes:
    return hashlib.scrypt(
        passphrase.reveal().encode(),
        salt=_SCRYPT_LABEL + salt,
        n=1 << work_factor,
        r=8,
        p=1,
        maxmem=(128 * 8 << work_factor) + (1 << 20),
        dklen=32,
    )


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=info).derive(secret)


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, b"", b"header"), header, "sha256")


def _nonce(count: int, *, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])


def _text(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise RequestInvalid("the header of the file is malformed") from error
    if _text(data) != text:
        raise RequestInvalid("the header of the file is malformed")
    return data
