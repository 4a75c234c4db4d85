"""The reading of a home that upstream authsome (0.3.1, 0.7.2) made. Nothing in it is changed.

What lies where, as those releases write it: `server/kv_store/cache.db` is a diskcache, a table of JSON documents, of
which 0.3 seals each value by itself under the master key, and 0.7 under a key that is wrapped by one derived from the
master key by Argon2id. `server/authsome.db`, of 0.7 only, knows who owns which vault, and holds custom definitions in
clear; 0.3 keeps those among its sealed values. The master key is `server/master.key` (JSON in 0.3, bare in 0.7), or
lies in the keyring.

Rule: what lies there is somebody's files: regular ones of this user, of bounded size, never unpickled, never trusted.
"""

import base64
import binascii
import json
import os
import re
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from authsome.crypto import kdf, upstream
from authsome.errors import RequestInvalid, UnsafeFile, VaultDamaged
from authsome.home import read_private
from authsome.models import upstream_home
from authsome.models.upstream_home import UpstreamClient, UpstreamConnection, UpstreamHome
from authsome.secret import Secret
from authsome.vault.key_sources.system_keyring import KeyringKey

_ROWS: Final = 10_000  # a home has some dozens
_VALUE_BYTES: Final = 1024 * 1024
_CONFIG_BYTES: Final = 64 * 1024
_RAW, _TEXT_FILE = 1, 3  # diskcache's modes of storage; the others hold bytes or a pickle, which are never written here
_VALUE_FILE: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{1,64}\.val\Z")
_WRAPPED_KEY: Final = ("__vault_meta__", "__dek__")
_KEYRING_NAME: Final = "master_key"
_KEY_BYTES: Final = 32

_WRONG_KEY: Final = "the master key does not fit this home"
_DAMAGED: Final = "restore that home from a backup, or log in again here"
_KEY_HINT: Final = "give the right one: --master-key-file"

_Value = Mapping[str, object]


def read(directory: Path, *, master_key_file: Path | None = None) -> UpstreamHome:
    """Everything in an upstream home that can be taken over.

    Args:
        directory: what AUTHSOME_HOME was for upstream; its daemon may be running.
        master_key_file: where the master key is, when it is not where upstream puts it by itself.

    Raises:
        RequestInvalid: this is no such home, or a damaged one, or its master key is not to be had, or another one.
        UnsafeFile: a file in it is a link, or not this user's, or its key is open to others.
        VaultUnusable: the keyring cannot be asked.
    """
    server = directory / "server"
    stored = _documents(server / "kv_store")
    wrapped = stored.pop(_WRAPPED_KEY, None)
    active = _active_identity(directory)
    if wrapped is None:
        opener: _Opener = _Opener03(_master_key_03(server, master_key_file))
        reading = _Reading(release="0.3", opener=opener, owner=active or "", shares_all=True, definitions={})
    else:
        opener = _Opener07(wrapped, _master_secret_07(server, master_key_file))
        owner, definitions = _relations(server / "authsome.db", active)
        owner = owner or _only_owner(stored)
        reading = _Reading(release="0.7", opener=opener, owner=owner, shares_all=False, definitions=definitions)
    return reading.take_all(stored)


# ---- putting it together ---------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Reading:
    """A home, as far as it has been read: what is to be taken over is opened, and nothing else."""

    release: str
    opener: "_Opener"
    owner: str
    """The identity or the vault whose home it is."""
    shares_all: bool
    """Whether all owners are one person's."""
    definitions: dict[str, str]
    connections: list[UpstreamConnection] = field(default_factory=list)
    clients: list[UpstreamClient] = field(default_factory=list)
    defaults: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    foreign: int = 0

    def take_all(self, stored: Mapping[tuple[str, str], _Value]) -> UpstreamHome:
        """Read every document; the owner's come first, so that they keep their names."""
        mine = f":{self.owner}:"
        for (collection, key), value in sorted(stored.items(), key=lambda each: (mine not in each[0][1], each[0])):
            try:
                self._take(collection, key, value)
            except (VaultDamaged, ValueError) as error:
                reason = "is damaged" if isinstance(error, VaultDamaged) else str(error)
                self.unreadable.append(f"{key}: {reason}")
        if self.unreadable and not (self.connections or self.clients or self.defaults):
            raise RequestInvalid(_WRONG_KEY, hint=_KEY_HINT)
        return UpstreamHome(
            release=self.release,
            connections=tuple(self.connections),
            defaults=self.defaults,
            clients=tuple(self.clients),
            definitions=self.definitions,
            unreadable=tuple(self.unreadable),
            foreign=self.foreign,
        )

    def _take(self, collection: str, key: str, value: _Value) -> None:
        name = upstream_home.read_key(key)
        if collection == "providers" and key != "__index__":
            self.definitions[key] = self.opener.open_(value)
        elif name is None:
            return
        elif name.type == "client" and not name.owner:
            if (client := upstream_home.client_from_json(self.opener.open_(value))) is not None:
                self.clients.append(client)
        elif name.owner != self.owner and not self.shares_all:
            self.foreign += name.type == "connection"
        elif name.type == "connection":
            self.connections.append(upstream_home.connection_from_json(self.opener.open_(value), name.owner))
        elif name.type == "metadata" and name.owner == self.owner:
            self.defaults[name.provider] = upstream_home.default_from_json(self.opener.open_(value))


def _only_owner(stored: Mapping[tuple[str, str], _Value]) -> str:
    """Whose home it is, when it does not say."""
    names = [upstream_home.read_key(key) for _, key in stored]
    owners = sorted({name.owner for name in names if name is not None and name.type == "connection"})
    if len(owners) > 1:
        raise RequestInvalid(
            "this home does not say which of its vaults is yours", hint="restore its client/config.json"
        )
    return owners[0] if owners else ""


# ---- the sealed values -----------------------------------------------------------------------------------------------


class _Opener(Protocol):
    """Opens what one release has sealed."""

    def open_(self, value: _Value) -> str:
        """The text in a document.

        Raises:
            VaultDamaged: it was changed, or sealed under another key.
            ValueError: it is not of the form that was expected.
        """


class _Opener03:
    """Opens the values of 0.3: a nonce and a ciphertext in base64, joined by a dot."""

    def __init__(self, key: Secret[bytes]) -> None:
        self._key = key

    def open_(self, value: _Value) -> str:
        nonce, _, sealed = str(value.get("data")).partition(".")
        return upstream.open_(self._key, _bytes(nonce) + _bytes(sealed)).decode()


class _Opener07:
    """Opens the values of 0.7: JSON in base64, under the key that lies wrapped in the home."""

    def __init__(self, wrapped: _Value, master: Secret[bytes]) -> None:
        derivation, envelope = wrapped.get("kdf"), wrapped.get("wrapped_dek")
        if not isinstance(derivation, dict) or not isinstance(envelope, dict):
            raise RequestInvalid("the key of this home is damaged", hint=_DAMAGED)
        try:
            parameters = kdf.Parameters(
                salt=_bytes(derivation["salt"]),
                time_cost=int(derivation["time_cost"]),
                memory_kib=int(derivation["memory_cost"]),
                lanes=int(derivation["parallelism"]),
            )
            sealed = _bytes(envelope["nonce"]) + _bytes(envelope["ciphertext"])
        except (KeyError, TypeError, ValueError) as error:
            raise RequestInvalid("the key of this home is damaged", hint=_DAMAGED) from error
        try:
            self._key = Secret(upstream.open_(kdf.derive(master, parameters), sealed))
        except VaultDamaged as error:
            raise RequestInvalid(_WRONG_KEY, hint=_KEY_HINT) from error

    def open_(self, value: _Value) -> str:
        document = json.loads(upstream.open_(self._key, _bytes(value.get("__encrypted_data__"))))
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, str):
            raise ValueError("is not of the form that was expected")  # noqa: TRY004  # the caller has one thing to catch
        return data


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None


# ---- the master key --------------------------------------------------------------------------------------------------


def _master_key_03(server: Path, given: Path | None) -> Secret[bytes]:
    """The key itself: in JSON in a file, or bare in the keyring."""
    mode = _json_file(server / "config.json").get("encryption")
    in_keyring = isinstance(mode, dict) and mode.get("mode") == "keyring"
    text = _key_text(given or server / "master.key", in_keyring=in_keyring and given is None)
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["key"])
        except (ValueError, KeyError, TypeError):
            raise RequestInvalid("the master key's file is not one of upstream's", hint=_KEY_HINT) from None
    try:
        key = _bytes(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise RequestInvalid("the master key's file is not one of upstream's", hint=_KEY_HINT)
    return Secret(key)


def _master_secret_07(server: Path, given: Path | None) -> Secret[bytes]:
    """The text that the key is derived from, as it stands: in a file, or else in the keyring."""
    file = given or server / "master.key"
    return Secret(_key_text(file, in_keyring=given is None and not os.path.lexists(file)).encode())


def _key_text(file: Path, *, in_keyring: bool) -> str:
    if in_keyring:
        kept = KeyringKey(_KEYRING_NAME).read_text()
        if kept is None:
            raise RequestInvalid("neither the home nor the keyring holds its master key", hint=_KEY_HINT)
        return kept.reveal().strip()
    try:
        return read_private(file).decode().strip()
    except FileNotFoundError:
        raise RequestInvalid(f"there is no master key at {file}", hint=_KEY_HINT) from None
    except (OSError, UnicodeDecodeError):
        raise RequestInvalid(f"{file} cannot be read as a master key", hint=_KEY_HINT) from None


# ---- files -----------------------------------------------------------------------------------------------------------


def _documents(store: Path) -> dict[tuple[str, str], _Value]:
    """Every document of the store, by collection and key."""
    found: dict[tuple[str, str], _Value] = {}
    with closing(_open(store / "cache.db")) as database:
        try:
            rows = database.execute(
                "SELECT mode, filename, value FROM Cache WHERE expire_time IS NULL LIMIT ?", (_ROWS,)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise RequestInvalid(f"{store} is damaged, or none of upstream's stores", hint=_DAMAGED) from error
    for mode, filename, value in rows:
        document = _parsed(_text(store, mode, filename, value))
        held = document.get("value")
        if isinstance(held, dict):
            found[str(document.get("collection")), str(document.get("key"))] = held
    return found


def _text(store: Path, mode: object, filename: object, value: object) -> str:
    """A document's text, in the row or in a file beside it; empty for anything else."""
    if mode == _RAW and isinstance(value, str) and len(value) <= _VALUE_BYTES:
        return value
    if mode == _TEXT_FILE and isinstance(filename, str) and _VALUE_FILE.match(filename):
        return _own_file(store / filename, _VALUE_BYTES).decode("utf-8", "replace")
    return ""


def _relations(path: Path, active: str | None) -> tuple[str | None, dict[str, str]]:
    """The vault of the active identity, and the custom definitions, of 0.7's other database."""
    if not os.path.lexists(path):
        return None, {}
    with closing(_open(path)) as database:
        try:
            row = database.execute(
                "SELECT b.vault_id FROM identity_claims c JOIN principal_vault_bindings b"
                " ON b.principal_id = c.principal_id WHERE c.identity_handle = ? ORDER BY b.is_default DESC LIMIT 1",
                (active,),
            ).fetchone()
            definitions = database.execute(
                "SELECT name, definition_json FROM custom_provider_definitions LIMIT ?", (_ROWS,)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise RequestInvalid(
                f"{path} is damaged, or not of the release that was expected", hint=_DAMAGED
            ) from error
    return (str(row[0]) if row else None), {str(name): str(text) for name, text in definitions}


def _open(path: Path) -> sqlite3.Connection:
    """Open somebody's database for reading: with what is still in its log, and without making files beside it."""
    if not _is_own(path):
        raise RequestInvalid(
            f"there is no upstream home here: {path} is missing", hint="name what AUTHSOME_HOME was for upstream"
        )
    log = path.with_name(path.name + "-wal")
    is_quiet = not log.exists() or log.stat().st_size == 0
    try:
        return sqlite3.connect(
            f"file:{quote(str(path))}?{'immutable=1' if is_quiet else 'mode=ro'}", uri=True, isolation_level=None
        )
    except sqlite3.Error as error:
        raise RequestInvalid(f"{path} cannot be opened", hint="stop upstream's daemon, then try again") from error


def _active_identity(directory: Path) -> str | None:
    active = _json_file(directory / "client" / "config.json").get("active_identity")
    return active if isinstance(active, str) else None


def _json_file(path: Path) -> dict[str, object]:
    return _parsed(_own_file(path, _CONFIG_BYTES).decode("utf-8", "replace")) if _is_own(path) else {}


def _own_file(path: Path, limit: int) -> bytes:
    """A file's content, empty when it is not there or larger than it can be."""
    if not _is_own(path):
        return b""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else b""


def _is_own(path: Path) -> bool:
    """Whether there is a file; one that is not this user's own is refused."""
    try:
        status = path.lstat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} is not a regular file of yours", hint="copy the home, then import the copy")
    return True


def _parsed(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
