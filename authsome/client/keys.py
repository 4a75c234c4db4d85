"""The identity that acts from this machine: its key on disk, or in the environment for CI.

Rule: the private key never leaves this process; the daemon learns the public one.
"""

import base64
import os
import pwd
from pathlib import Path
from typing import NamedTuple

from authsome.errors import UnsafeFile, UsageError
from authsome.home import (
    Home,
    Settings,
    decode_key,
    make_private_directory,
    read_config,
    read_private,
    write_config,
    write_private,
)
from authsome.identity import handle as handles
from authsome.identity.key import IdentityKey, from_seed, generate

SUFFIX = ".key"


class ActiveIdentity(NamedTuple):
    """The identity that signs this machine's calls."""

    handle: str
    key: IdentityKey
    path: Path | None
    """Where the key lies; None when it came from the environment."""


def active(settings: Settings) -> ActiveIdentity | None:
    """The identity to act as: from the environment, else the one that config.json names; None when there is none yet.

    Raises:
        UsageError: the environment or config.json names an identity that cannot be used.
        UnsafeFile: the key file is not private.
    """
    if settings.identity_key is not None:
        if settings.identity is None:
            raise UsageError(
                "AUTHSOME_IDENTITY_KEY is set, but not whose key it is", hint="set AUTHSOME_IDENTITY to its handle"
            )
        return ActiveIdentity(handle=_checked(settings.identity), key=from_seed(settings.identity_key), path=None)
    chosen = settings.identity or read_config(settings.home).get("identity")
    if chosen is None:
        return None
    if not isinstance(chosen, str):
        raise UsageError(f'"identity" in {settings.home.config} is not a handle', hint="mend it or remove it")
    path = key_path(settings.home, _checked(chosen))
    try:
        text = read_private(path)
    except FileNotFoundError:
        raise UsageError(
            f"there is no key for the identity {chosen}",
            hint=f'{path} is missing; choose another with AUTHSOME_IDENTITY, or remove "identity" from config.json',
        ) from None
    try:
        seed = decode_key(text.decode("ascii"), what=str(path))
    except (UnicodeDecodeError, UsageError):
        raise UnsafeFile(f"{path} does not hold an identity key", hint="restore it, or move it away") from None
    return ActiveIdentity(handle=chosen, key=from_seed(seed), path=path)


def create(settings: Settings) -> ActiveIdentity:
    """Make a key pair, named for this user and machine, and make it the active identity.

    Two processes must not do this at once: hold the start lock (`supervisor.start_lock`).

    Raises:
        StorageFailed: it cannot be written.
        UnsafeFile: the home is not ours alone.
    """
    home = settings.home
    make_private_directory(home.root)
    make_private_directory(home.identities)
    key = generate()
    handle = settings.identity or handles.suggest(_user(), os.uname().nodename, key.public_bytes)
    path = key_path(home, _checked(handle))
    write_private(path, base64.b64encode(key.seed.reveal()) + b"\n")
    write_config(home, {**read_config(home), "identity": handle})
    return ActiveIdentity(handle=handle, key=key, path=path)


def key_path(home: Home, handle: str) -> Path:
    """Where the key of this identity lies."""
    return home.identities / (handle + SUFFIX)


def _checked(handle: str) -> str:
    if not handles.HANDLE.fullmatch(handle):
        raise UsageError(
            f"{handle!r} is not an identity's handle", hint="lower-case letters, digits and hyphens, at most 63"
        )
    return handle


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without an entry
        return "user"
