"""What a source of the master key is, and how a key lies there: in base64."""

import base64
import binascii
from enum import StrEnum
from typing import Protocol

from authsome.errors import UsageError, VaultUnusable
from authsome.home import decode_key
from authsome.secret import Secret


class Source(StrEnum):
    """Where a master key can lie."""

    ENVIRONMENT = "environment"
    FILE = "file"
    KEYRING = "keyring"
    PASSPHRASE = "passphrase"  # noqa: S105  # the name of a source


class KeySource(Protocol):
    """One place where a master key can lie."""

    kind: Source

    def read(self) -> Secret[bytes] | None:
        """The key that is there, or None.

        Raises:
            VaultUnusable: the place cannot be asked, or holds something that is no key.
        """

    def create(self) -> Secret[bytes]:
        """Put a new key there, durably.

        Raises:
            VaultUnusable: this place does not take keys.
            StorageFailed: it could not be written.
        """


class KeptKey(KeySource, Protocol):
    """A place that we keep keys in ourselves, so that one can take another one's place."""

    def put_next(self, key: Secret[bytes]) -> None:
        """Keep a key under the second name, durably.

        Raises:
            VaultUnusable, StorageFailed: it cannot be kept there.
        """

    def read_next(self) -> Secret[bytes] | None:
        """The key under the second name."""

    def promote(self) -> None:
        """Give the key under the second name the first one."""

    def drop(self) -> None:
        """Keep no key any more, under neither name."""


def as_text(key: Secret[bytes]) -> str:
    """A key as it lies in a file or a keyring: in base64."""
    return base64.b64encode(key.reveal()).decode()


def parse(data: bytes, *, what: str) -> Secret[bytes]:
    """A key as it lies in a file or a keyring.

    Raises:
        VaultUnusable: it is none; `what` says which.
    """
    try:
        return decode_key(data.decode("ascii"), what=what)
    except (UsageError, UnicodeDecodeError, binascii.Error):
        raise VaultUnusable(
            f"{what} is not a master key: 32 bytes of base64", hint="restore it; nothing was changed"
        ) from None
