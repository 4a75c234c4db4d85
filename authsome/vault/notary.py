"""The notary: seals each entry of the log, signs its checkpoints, and keeps its end in a file beside the database.

Rules:
1. A seal is an HMAC over an entry's hash: who may write the table and has no key adds nothing to it unseen.
2. The file (`server/audit.head`) says how far the log had come, under a seal of its own; the table's are of no use for
   it. It is written after each COMMIT, so it may lag behind by a batch, and is never ahead, but for a loss of power.
3. It is not synced: it must outlive this process, not the machine.
"""

import os
from contextlib import suppress
from dataclasses import replace
from typing import Final

from authsome.crypto.signing import ServerKey
from authsome.errors import StorageFailed, VaultDamaged, reason_of
from authsome.home import Home, open_private, read_private
from authsome.models.chain import Checkpoint, Place

_FORM: Final = "authsome-audit-head-1 {:020d} {} {}\n"


class Notary:
    """The server's key at work on one store's log."""

    def __init__(self, key: ServerKey, store: str, home: Home) -> None:
        """Take the key, the store's id, and where the file of the log's end lies."""
        self._key = key
        self._path = home.audit_head
        self._file: int | None = None
        self.store = store
        self.public = key.public
        """The public half of the key, which an export is checked with."""

    def seal(self, entry_hash: bytes) -> bytes:
        """The seal of an entry."""
        return self._key.seal(entry_hash)

    def sign(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with our signature."""
        return replace(checkpoint, signature=self._key.sign(checkpoint.signed()))

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this is our signature of that message."""
        return self._key.has_signed(message, signature)

    def read_end(self) -> Place | None:
        """How far the log had come; None when nobody has written it down.

        Raises:
            VaultDamaged: the file is not as it was written.
            UnsafeFile: it is open to others.
        """
        try:
            data = read_private(self._path)
        except FileNotFoundError:
            return None
        try:
            text = data.decode("ascii")
            _, number, digest, seal = text.split()
            place = Place(int(number), bytes.fromhex(digest))
        except ValueError as error:
            raise VaultDamaged(f"{self._path.name} is damaged") from error
        if text != self._text(place) or bytes.fromhex(seal) != self._seal(place):
            raise VaultDamaged(f"{self._path.name} was changed, or written with another key")
        return place

    def begin(self, place: Place | None) -> None:
        """From now on write the log's end down.

        Args:
            place: where a new log begins; None: the file says where the log ended, which stays until there is more.

        Raises:
            UnsafeFile: the file is open to others.
            StorageFailed: it cannot be made.
        """
        try:
            self._file = open_private(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StorageFailed(f"{self._path} could not be written: {reason_of(error)}") from error
        if place is not None:
            self.note(place)

    def note(self, place: Place) -> None:
        """Write the log's end down; raises nothing, for what it tells of is committed."""
        if self._file is not None:
            with suppress(OSError):
                os.pwrite(self._file, self._text(place).encode(), 0)

    def sync(self) -> None:
        """Have what was written down outlive the machine, too: after a durable commit."""
        if self._file is not None:
            with suppress(OSError):
                os.fsync(self._file)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _text(self, place: Place) -> str:
        return _FORM.format(place.id, place.hash.hex(), self._seal(place).hex())

    def _seal(self, place: Place) -> bytes:
        return self._key.seal_head(place.id.to_bytes(8, "big") + place.hash)
