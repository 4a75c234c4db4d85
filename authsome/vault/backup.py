"""Backups: the whole server side of a home in one encrypted file, taken while everything goes on.

It is a tar archive in the age format: the database as it was at one moment, the master key where it lies in a place
that does not outlive the machine (the file, the keyring), the end of the log, `config.json`, the definitions of the
user's own, and, unless they are left out, the keys of the identities that act from here.

Rules:
1. Where the master key is a passphrase, or is given by the environment, it is not in the file: it takes both.
2. A file is whole or not there. What is restored is laid out beside the home, looked through, and exchanged for it in
   one step; so a home is what it was, or what the file holds.
3. Anybody who knows a recipient can make a file for it: only names that a backup has are taken out of one.
"""

import ctypes
import io
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, cast

from authsome.clock import Clock
from authsome.crypto import age
from authsome.errors import NotAllowed, RequestInvalid, StorageFailed, VaultDamaged, reason_of
from authsome.home import (
    Home,
    Settings,
    make_private_directory,
    read_config,
    read_own,
    read_private,
    sync_directory,
    write_config,
    write_private,
)
from authsome.secret import Secret
from authsome.vault import key_sources, master_key, vaults
from authsome.vault.database import Database
from authsome.vault.key_sources import passphrase
from authsome.vault.key_sources.source import Source, as_text
from authsome.vault.lock import HomeLock

FORMAT: Final = "authsome-backup-1"
_MANIFEST: Final = "manifest.json"
_DATABASE: Final = "server/store.db"
_KEY: Final = "server/master.key"
_HEAD: Final = "server/audit.head"
_CONFIG: Final = "config.json"
_NAMES: Final = re.compile(
    r"manifest\.json|server/store\.db|server/master\.key|server/audit\.head|config\.json"
    r"|providers/[a-z0-9][a-z0-9._-]{0,100}\.json|identities/[a-z0-9][a-z0-9-]{0,62}\.key"
)
_PIECE: Final = 1024 * 1024
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2  # renameat2(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Who can open a backup: the holders of keys, or who knows a passphrase."""

    recipients: tuple[str, ...] = ()
    passphrase: Secret[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock:
    """What opens a backup: an identity file of age, or a passphrase."""

    identity_file: Path | None = None
    passphrase: Secret[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself."""

    created_at: str
    version: str
    master_key: Source
    has_key: bool
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of a home."""

    manifest: Manifest
    set_aside: Path | None
    """Where the home before it lies now."""


def write(  # noqa: PLR0913  # what a backup is of
    database: Database,
    home: Home,
    path: Path,
    lock: Lock,
    *,
    version: str,
    now: datetime,
    with_identities: bool,
    force: bool,
    note: Callable[[Manifest], None],
) -> Manifest:
    """Write a backup.

    Args:
        database: the store's; everybody goes on using it.
        home: where the rest of it is; its master key must not be changed meanwhile.
        path: the file.
        lock: who can open it.
        version: of this program.
        now: when this is.
        with_identities: whether the keys of this machine's identities go in.
        force: replace a file that is there.
        note: writes down that there is one, when all of it is written and nobody can find it yet.

    Raises:
        RequestInvalid: nobody could open it, or a recipient is none, or the file is there.
        StorageFailed: it cannot be written; there is no half of it.
    """
    if bool(lock.recipients) is (lock.passphrase is not None):
        raise RequestInvalid("a backup has recipients or a passphrase, one of the two")
    if lock.passphrase is not None:
        passphrase.check_new(lock.passphrase)
    recipients = [age.recipient(each) for each in lock.recipients]
    if path.exists() and not force:
        raise RequestInvalid(f"{path} is there already", hint="take another name, or --force")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with closing(age.Encryptor(file.write, recipients=recipients, passphrase=lock.passphrase)) as sealed:
                    manifest = _fill(sealed, database, home, version, now, with_identities=with_identities)
                file.flush()
                os.fsync(file.fileno())
            note(manifest)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {reason_of(error)}") from error
    return manifest


def _fill(  # noqa: PLR0913  # as above
    sealed: age.Encryptor, database: Database, home: Home, version: str, now: datetime, *, with_identities: bool
) -> Manifest:
    files: dict[str, bytes] = {}
    with suppress(FileNotFoundError):  # before the database is copied: the log's end is never ahead of the log
        files[_HEAD] = read_private(home.audit_head)
    copy = home.server / f"backup-{secrets.token_hex(8)}.db"
    for leftover in home.server.glob("backup-*.db"):  # of a daemon that was killed at it
        leftover.unlink(missing_ok=True)
    try:
        database.copy_to(copy)
        with database.read() as reader:
            record = master_key.read_record(reader)
            store = master_key.store_id(reader)
        if record is None:
            raise RequestInvalid("there is nothing to be saved yet")
        kept = key_sources.keeper(record.source, home, store)
        key = kept.read() if kept is not None else None
        if key is not None:
            files[_KEY] = as_text(key).encode() + b"\n"
        with suppress(FileNotFoundError):
            files[_CONFIG] = read_private(home.config)
        files |= _directory(home.providers, "providers", ".json", read_own)  # as the catalogue reads them
        identities = _directory(home.identities, "identities", ".key", read_private) if with_identities else {}
        manifest = Manifest(
            created_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            version=version,
            master_key=record.source,
            has_key=key is not None,
            identities=tuple(name.removeprefix("identities/").removesuffix(".key") for name in identities),
        )
        with tarfile.open(mode="w|", fileobj=cast("io.BytesIO", sealed), bufsize=_PIECE) as archive:
            _add(archive, _MANIFEST, _to_json(manifest), now)
            with copy.open("rb") as file:
                entry = _entry(_DATABASE, os.fstat(file.fileno()).st_size, now)
                archive.addfile(entry, file)
            for name, data in {**files, **identities}.items():
                _add(archive, name, data, now)
    finally:
        copy.unlink(missing_ok=True)
    return manifest


def _directory(path: Path, name: str, suffix: str, read: Callable[[Path], bytes]) -> dict[str, bytes]:
    found = sorted(path.glob(f"*{suffix}")) if path.is_dir() else []
    return {f"{name}/{each.name}": read(each) for each in found if _NAMES.fullmatch(f"{name}/{each.name}")}


def _entry(name: str, size: int, now: datetime) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(now.timestamp())
    return entry


def _add(archive: tarfile.TarFile, name: str, data: bytes, now: datetime) -> None:
    archive.addfile(_entry(name, len(data), now), io.BytesIO(data))


def check_place(settings: Settings, path: Path, *, force: bool) -> None:
    """Look for what `restore` would refuse whatever opens the file, before anybody is asked for a passphrase.

    Raises:
        NotAllowed: there is a vault.
        RequestInvalid: the file cannot be read, or is none of age.
        DaemonUnavailable: a daemon holds the home.
    """
    with HomeLock.acquire(settings.home):
        _check_vault(settings.home, force=force)
    try:
        with path.open("rb") as file:
            age.check_header(file.read)
    except OSError as error:
        raise _unreadable(error, path) from error


def restore(  # noqa: PLR0913  # what a restore needs
    settings: Settings, path: Path, unlock: Unlock, *, clock: Clock, now: datetime, force: bool
) -> Restored:
    """Put what a backup holds in the place of a home that no daemon holds.

    Args:
        settings: which home; a master key that the environment gives is tried on it.
        path: the backup.
        unlock: what opens it.
        clock: for the log of migrations.
        now: names what is set aside.
        force: set a vault that is there aside.

    Raises:
        NotAllowed: there is a vault.
        RequestInvalid: it is no backup, or nothing here opens it.
        VaultDamaged, MasterKeyMismatch, VaultUnusable: what it holds is damaged, or its key another one.
        DaemonUnavailable: a daemon holds the home.
        StorageFailed: it cannot be written; the home is as it was.
    """
    home = settings.home
    with HomeLock.acquire(home):
        had_vault = _check_vault(home, force=force)
        draft = Home(home.root.with_name(f".{home.root.name}.restoring"))
        shutil.rmtree(draft.root, ignore_errors=True)  # of one that was killed
        try:
            make_private_directory(draft.root)
            manifest = _lay_out(draft, path, unlock)
            _keep_identities(home, draft)
            _look_through(settings._replace(home=draft), manifest, clock)
            return Restored(manifest=manifest, set_aside=_exchange(home, draft, had_vault=had_vault, now=now))
        except OSError as error:
            raise StorageFailed(f"the backup could not be laid out: {reason_of(error)}") from error
        finally:
            shutil.rmtree(draft.root, ignore_errors=True)


def _check_vault(home: Home, *, force: bool) -> bool:
    """Whether there is a vault."""
    had_vault = home.database.exists()
    if had_vault and not force:
        raise NotAllowed(f"there is a vault in {home.root}", hint="--force sets it aside, and puts the backup there")
    return had_vault


def _unreadable(error: OSError, path: Path) -> RequestInvalid:
    return RequestInvalid(f"{error.filename or path} cannot be read: {reason_of(error)}")


def _lay_out(draft: Home, path: Path, unlock: Unlock) -> Manifest:
    try:
        with path.open("rb") as file:
            keys: Sequence[Secret[bytes]] = ()
            if unlock.identity_file is not None:
                keys = age.identities(unlock.identity_file.read_text("utf-8"))
            opened = age.Decryptor(file.read, keys=keys, passphrase=unlock.passphrase)
            reader = io.BufferedReader(opened)
            with tarfile.open(mode="r|", fileobj=cast("io.BytesIO", reader)) as archive:
                names = set(_taken_out(archive, draft.root))
            while reader.read(_PIECE):  # to the file's own end, which shows that nothing is missing
                pass
    except tarfile.TarError as error:
        raise RequestInvalid("the file holds no backup of authsome") from error
    except UnicodeDecodeError as error:
        raise RequestInvalid("the identity file is not text") from error
    except OSError as error:
        raise _unreadable(error, path) from error
    if not {_MANIFEST, _DATABASE} <= names:
        raise RequestInvalid("the file holds no backup of authsome")
    manifest = _from_json((draft.root / _MANIFEST).read_bytes())
    (draft.root / _MANIFEST).unlink()
    return manifest


def _taken_out(archive: tarfile.TarFile, root: Path) -> Iterator[str]:
    for entry in archive:
        is_plain = entry.isreg() and not entry.issparse()  # of a few bytes, holes could make a file that fills the disk
        content = archive.extractfile(entry) if is_plain and _NAMES.fullmatch(entry.name) else None
        if content is None or (root / entry.name).exists():
            raise RequestInvalid("the file holds something that no backup has")
        target = root / entry.name
        make_private_directory(target.parent)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(content, file, _PIECE)
            file.flush()
            os.fsync(file.fileno())
        yield entry.name


def _keep_identities(home: Home, draft: Home) -> None:
    """Who acts from here goes on to: the identities of the home stay, beside those of the backup."""
    if home.identities.is_dir():
        make_private_directory(draft.identities)
        for path in home.identities.glob("*.key"):
            if not (draft.identities / path.name).exists():
                write_private(draft.identities / path.name, read_private(path))
    config, before = read_config(draft), read_config(home).get("identity")
    chosen = before if before is not None else config.get("identity")
    if isinstance(chosen, str) and (draft.identities / f"{chosen}.key").exists():
        config["identity"] = chosen
    else:
        config.pop("identity", None)
    write_config(draft, config)


def _look_through(settings: Settings, manifest: Manifest, clock: Clock) -> None:
    """Open the vault that was laid out: it is whole, and its key, where there is one, fits."""
    with HomeLock.acquire(settings.home) as lock, closing(Database.open(lock, clock=clock)) as database:
        if damage := database.check():
            raise VaultDamaged(f"the backup's database is damaged: {damage[0]}", hint="take another backup")
        if manifest.has_key and manifest.master_key is not Source.FILE:
            with database.transaction() as tx:  # the keyring is another machine's, or has another key by now
                tx.execute("UPDATE master_key SET source = ?, former = NULL", (Source.FILE.value,))
        given = settings.master_key is not None or settings.master_key_file is not None
        if manifest.has_key or given:
            sealers = vaults.unlock(database, settings, clock=clock)
            with database.read() as reader:
                vault_ids = [str(row[0]) for row in reader.execute("SELECT id FROM vaults")]
            for vault_id in vault_ids:
                sealers.for_vault(vault_id)
    for name in ("daemon.lock", "store.db-wal", "store.db-shm"):
        (settings.home.server / name).unlink(missing_ok=True)
    for directory in (settings.home.server, settings.home.root):
        sync_directory(directory)


def _exchange(home: Home, draft: Home, *, had_vault: bool, now: datetime) -> Path | None:
    """Put the draft in the home's place, in one step where the system has one; where the old one lies now.

    What was the home never has the draft's name, which the next restore takes for its own to remove.
    """
    aside = _aside(home, now)
    is_worth_keeping = had_vault or any(home.providers.glob("*"))  # its identities are in the new one
    draft.root.rename(aside)
    if not _swap(aside, home.root):
        aside.rename(draft.root)
        home.root.rename(aside)
        try:
            draft.root.rename(home.root)
        except OSError:
            aside.rename(home.root)
            raise
    sync_directory(home.root.parent)
    if is_worth_keeping:
        return aside
    shutil.rmtree(aside, ignore_errors=True)
    return None


def _aside(home: Home, now: datetime) -> Path:
    """A name that is free, by the time."""
    while (path := home.root.with_name(f"{home.root.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")).exists():
        now += timedelta(seconds=1)
    return path


def _swap(first: Path, second: Path) -> bool:
    """Exchange two names at once; False where the system or its storage cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    done = renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(done == 0)


def _to_json(manifest: Manifest) -> bytes:
    return json.dumps(
        {
            "format": FORMAT,
            "created_at": manifest.created_at,
            "version": manifest.version,
            "master_key": manifest.master_key,
            "has_key": manifest.has_key,
            "identities": manifest.identities,
        }
    ).encode()


def _from_json(data: bytes) -> Manifest:
    try:
        value: Mapping[str, object] = json.loads(data)
        if value["format"] != FORMAT:
            raise RequestInvalid("the backup is of a form that is not known here", hint="use the version that made it")
        names = value["identities"]
        return Manifest(
            created_at=str(value["created_at"]),
            version=str(value["version"]),
            master_key=Source(str(value["master_key"])),
            has_key=value["has_key"] is True,
            identities=tuple(map(str, names)) if isinstance(names, list) else (),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise RequestInvalid("the file holds no backup of authsome") from error
