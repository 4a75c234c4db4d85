"""The first run of a build: unpack its files into a store, beside whatever else is going on at that moment.

Rule: a store is complete and synced before it gets its name, and never changes afterwards. Twenty first runs at once, a
`kill -9`, a full disk leave either the whole store or none; the next run cleans up.
"""

import contextlib
import errno
import hashlib
import io
import os
import py_compile
import secrets
import shutil
import time
import warnings
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from authsome.archive import boot

PAYLOAD = "payload.zip"
INDEX = "index/{platform}-{tag}"
NEW, OLD = ".new-", ".old-"  # being written; being removed
LOCK_PATIENCE = (
    60.0  # seconds: a first run takes one; whoever holds the lock longer is stopped, and we go on without it
)
UNUSED_FOR = 30 * 24 * 3600.0  # seconds after which other builds' stores go
ABANDONED_AFTER = 24 * 3600.0  # seconds, where the file system has no locks to ask


def first_run(archive: str, build: str) -> tuple[str, int]:
    """Make the store of this build in the first place that takes it. Returns what `boot.open_store` returns.

    Raises boot.CannotStart naming each place and its reason.
    """
    name = boot.store_name(build)
    with _open_archive(archive, build) as contents, _private():
        reasons = []
        for label, place in boot.places():
            try:
                return _make(contents, place, name)
            except boot.Refused as refusal:
                reasons.append(f"{label} ({place or 'unknown'}): {refusal}")
            except OSError as error:
                reasons.append(f"{label} ({place}): {_sentence(error)}")
    raise boot.CannotStart(
        "authsome.pyz found no place to unpack itself: "
        + "; ".join(reasons)
        + "\nauthsome: hint: set AUTHSOME_PYZ_CACHE to a directory of yours on a disk with 50 MB free"
    )


class _Archive:
    """The archive as it was when it was opened: a file put in its place meanwhile does not mix in."""

    def __init__(self, outer: zipfile.ZipFile) -> None:
        index = INDEX.format(platform=boot.platform_name(), tag=boot.interpreter_tag())
        lines = outer.read(index).decode().splitlines()
        self.files = [(digest, path) for digest, path in (line.split(" ", 1) for line in lines)]
        self.payload = zipfile.ZipFile(io.BytesIO(outer.read(PAYLOAD)))


@contextlib.contextmanager
def _open_archive(archive: str, build: str) -> Iterator[_Archive]:
    try:
        with zipfile.ZipFile(archive) as outer:
            if boot.parse_manifest(outer.read(boot.MANIFEST))["build"] != build:
                raise boot.CannotStart(
                    f"{archive} was replaced while it started\nauthsome: hint: run the command again"
                )
            contents = _Archive(outer)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise boot.CannotStart(f"{archive} is damaged: {error}\nauthsome: hint: get the file again") from error
    with contents.payload:
        yield contents


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Whatever is made meanwhile is for us alone, also what `py_compile` makes, and under an umask of 0."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


def _make(contents: _Archive, place: str, name: str) -> tuple[str, int]:
    boot.require_trusted_parents(place)
    os.makedirs(place, exist_ok=True)
    root = boot.open_directory(place)
    try:
        boot.require_executable(root)
        _lock(root)
        with contextlib.suppress(OSError, boot.Refused, ValueError):
            return boot.open_store(place, name)  # somebody made it while we waited
        new = f"{place}/{NEW}{secrets.token_hex(8)}"
        being_written = -1
        try:  # from before the directory is there: Ctrl-C may come at any moment
            os.mkdir(new)
            being_written = boot.open_directory(new)
            _lock(being_written)  # tells a sweeper that its writer lives
            _sweep(place, name, now=os.fstat(being_written).st_mtime)
            _write(contents, new, f"{place}/{name}")
            _put_in_place(new, f"{place}/{name}")
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        finally:
            if being_written >= 0:
                os.close(being_written)
        os.fsync(root)
    finally:
        os.close(root)  # and with it the lock
    try:
        return boot.open_store(place, name)
    except ValueError as error:
        raise boot.Refused(str(error)) from error


def _lock(handle: int) -> None:
    """Take the exclusive lock, or go on without it: it saves work, the atomic rename keeps the store whole."""
    import fcntl

    deadline = time.monotonic() + LOCK_PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            return  # a file system without locks
        else:
            return


def _write(contents: _Archive, new: str, store: str) -> None:
    """Write all files under `new`, with the byte code that they will have when it is named `store`, and sync them."""
    lines = []
    for digest, path in contents.files:
        data = contents.payload.read(digest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise boot.CannotStart(f"{path} in authsome.pyz is damaged\nauthsome: hint: get the file again")
        os.makedirs(os.path.dirname(f"{new}/{path}"), exist_ok=True)
        _write_file(f"{new}/{path}", data)
        lines.append(f"{digest} {len(data)} {path}\n")
        if path.endswith(".py") and (compiled := _compile(f"{new}/{path}", f"{store}/{path}")):
            with open(compiled, "rb") as file:
                data = file.read()
            lines.append(f"{hashlib.sha256(data).hexdigest()} {len(data)} {compiled.removeprefix(f'{new}/')}\n")
    _write_file(f"{new}/{boot.LISTING}", ("".join(lines) + boot.LISTING_END + "\n").encode())
    everything = [f"{directory}/{name}" for directory, _, names in os.walk(new) for name in (".", *names)]
    with ThreadPoolExecutor(16) as pool:  # together they share the disk's commits: ten times faster than in turn
        list(pool.map(_sync, everything))


def _write_file(path: str, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _compile(source: str, final: str) -> str | None:
    """Byte-compile, also under PYTHONDONTWRITEBYTECODE, whose wish is about the user's own directories.

    Returns the path of the byte code, or None where the source is not for this Python. It is not bound to the source's
    date (PEP 552): the store never changes, and its files are checked by size and hash.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        try:
            return py_compile.compile(
                source, dfile=final, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
        except py_compile.PyCompileError:
            return None


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(new: str, store: str) -> None:
    """Give the store its name. What has it already is damaged, or `boot.open_store` had taken it."""
    if os.path.lexists(store):
        _remove(store)
    try:
        os.rename(new, store)
    except OSError as error:
        # Without locks another first run may have been faster; its store serves as well.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(new, ignore_errors=True)


def _remove(path: str) -> None:
    """Take the name away at once, then the files: nobody ever finds half a store by its name."""
    old = f"{os.path.dirname(path)}/{OLD}{secrets.token_hex(8)}"
    os.rename(path, old)
    if os.path.islink(old) or not os.path.isdir(old):
        os.unlink(old)
    else:
        shutil.rmtree(old, ignore_errors=True)


def _sweep(place: str, name: str, now: float) -> None:
    """Remove what killed runs left, and the stores of other builds that nobody has used for a month.

    `now` is a fresh file's date: both sides of the comparison come from the file system's clock.
    """
    for entry in os.listdir(place):
        path = f"{place}/{entry}"
        if entry == name or not os.path.isdir(path) or os.path.islink(path):
            continue
        leftover = entry.startswith((NEW, OLD))
        with contextlib.suppress(OSError):  # somebody else sweeps, too
            age = now - os.stat(path).st_mtime
            if (leftover or age > UNUSED_FOR) and _abandoned(path, age):
                _remove(path)


def _abandoned(path: str, age: float) -> bool:
    """Whether no living process holds the directory: a writer exclusively, a user of the store in common."""
    import fcntl

    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return age > ABANDONED_AFTER
    else:
        return True
    finally:
        os.close(handle)


def _sentence(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{reason}: {error.filename}" if error.filename else reason
