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
    """The identity to act as: from the environment, else the one that config.json names, else the only one here.

    None when there is none yet.

    Raises:
        UsageError: the environment or config.json names an identity that cannot be used, or there are several here.
        UnsafeFile: the key file or its directory is not private.
    """
    if settings.identity_key is not None:
        if settings.identity is None:
            raise UsageError(
                "AUTHSOME_IDENTITY_KEY is set, but not whose key it is", hint="set AUTHSOME_IDENTITY to its handle"
            )
        return ActiveIdentity(handle=_checked(settings.identity), key=from_seed(settings.identity_key), path=None)
    chosen = settings.identity or read_config(settings.home).get("identity") or _only(settings.home)
    if chosen is None:
        return None
    if not isinstance(chosen, str):
        raise UsageError(f'"identity" in {settings.home.config} is not a handle', hint="mend it or remove it")
    if settings.identity is not None and not key_path(settings.home, _checked(chosen)).exists():
        raise UsageError(
            f"AUTHSOME_IDENTITY names {chosen}, whose key is not here",
            hint="set AUTHSOME_IDENTITY_KEY as well, or unset it",
        )
    return load(settings.home, chosen)


def load(home: Home, handle: str) -> ActiveIdentity:
    """The identity of this handle whose key lies in this home.

    Raises:
        UsageError: there is none.
        UnsafeFile: the key file or its directory is not private, or it holds something else.
    """
    path = key_path(home, _checked(handle))
    if os.path.lexists(home.identities):
        make_private_directory(home.identities)
    try:
        text = read_private(path)
    except FileNotFoundError:
        raise UsageError(
            f"there is no key for the identity {handle}",
            hint=f"{path} is missing; choose another: authsome identity use HANDLE",
        ) from None
    try:
        seed = decode_key(text.decode("ascii"), what=str(path))
    except (UnicodeDecodeError, UsageError):
        raise UnsafeFile(f"{path} does not hold an identity key", hint="restore it, or move it away") from None
    return ActiveIdentity(handle=handle, key=from_seed(seed), path=path)


def here(home: Home) -> list[str]:
    """The handles whose keys lie in this home."""
    try:
        names = os.listdir(home.identities)  # noqa: PTH208  # pathlib's iterdir, without its objects
    except FileNotFoundError:
        return []
    found = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return sorted(name for name in found if handles.is_handle(name))


def _only(home: Home) -> str | None:
    """The handle of the only key in a home whose config.json names none, for instance as somebody wrote it anew."""
    found = here(home)
    if len(found) > 1:
        raise UsageError(
            f"{home.config} does not say which identity acts: {', '.join(found)}",
            hint="choose one: authsome identity use HANDLE",
        )
    return found[0] if found else None


def draw(handle: str | None) -> ActiveIdentity:
    """Make a key pair that lies nowhere, named for this user and machine unless a handle is given.

    Raises:
        UsageError: the handle is malformed.
    """
    key = generate()
    name = handle or handles.suggest(_user(), os.uname().nodename, key.public_bytes)
    return ActiveIdentity(handle=_checked(name), key=key, path=None)


def create(settings: Settings, handle: str | None = None, *, use: bool = True) -> ActiveIdentity:
    """Make a key pair and keep it, as the active identity or beside that.

    Two processes must not do this at once: hold the start lock (`supervisor.start_lock`).

    Args:
        settings: whose home.
        handle: its name; None for one made of this user's and machine's.
        use: whether it becomes the active identity.

    Raises:
        UsageError: the handle is malformed, or its key is here already.
        StorageFailed: it cannot be written.
        UnsafeFile: the home is not ours alone.
    """
    home = settings.home
    make_private_directory(home.root)
    make_private_directory(home.identities)
    drawn = draw(handle or settings.identity)
    path = key_path(home, drawn.handle)
    if os.path.lexists(path):
        raise UsageError(
            f"the identity {drawn.handle} is here already", hint=f"use it: authsome identity use {drawn.handle}"
        )
    write_private(path, encoded(drawn).encode() + b"\n")
    if use:
        choose(home, drawn.handle)
    return drawn._replace(path=path)


def choose(home: Home, handle: str) -> None:
    """Make an identity whose key is here the active one."""
    write_config(home, {**read_config(home), "identity": handle})


def encoded(identity: ActiveIdentity) -> str:
    """The private key in base64, as a key file and AUTHSOME_IDENTITY_KEY hold it: for those two alone."""
    return base64.b64encode(identity.key.seed.reveal()).decode("ascii")


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
