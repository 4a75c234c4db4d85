"""Settings from AUTHSOME_*, every path below AUTHSOME_HOME, and private files.

Rule: a private file has its mode from the first byte, is replaced whole or not at all, and is refused, not read,
when anybody else could have written or read it (symlink, hard link, foreign owner, group or world bits).

Its values are named tuples: every command reads this file, and `dataclasses` (with `inspect`) costs a start 7 ms.
"""

import base64
import binascii
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from authsome.errors import StorageFailed, UnsafeFile, UsageError, reason_of
from authsome.secret import Secret

FOREIGN: Final = "belongs to another user"
"""What is wrong with somebody else's file, in words that follow its path."""
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7998
SECRET_VARIABLES: Final = frozenset({"AUTHSOME_MASTER_KEY", "AUTHSOME_IDENTITY_KEY"})
"""Variables that carry a secret: never handed to a process that we start."""

MASTER_KEY_BYTES: Final = 32
_PORT_DIGITS: Final = 5
LOG_LEVELS: Final = frozenset({"debug", "info", "warning", "error"})
_SOCKET_PATH_LIMIT: Final = 100  # bytes; macOS has 103, Linux 107
_READ_LIMIT: Final = 16 * 1024 * 1024  # far above every file we keep; a larger one is not ours


class Home(NamedTuple):
    """Every path below AUTHSOME_HOME."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings the user may edit."""
        return self.root / "config.json"

    @property
    def identities(self) -> Path:
        """Identity keys, `<handle>.key`."""
        return self.root / "identities"

    @property
    def providers(self) -> Path:
        """Custom provider definitions and overrides, `<name>.json`."""
        return self.root / "providers"

    @property
    def server(self) -> Path:
        """The daemon's own directory."""
        return self.root / "server"

    @property
    def database(self) -> Path:
        """The vault."""
        return self.server / "store.db"

    @property
    def seen_logs(self) -> Path:
        """What this machine has seen of daemons' logs (`client/seen_logs`)."""
        return self.root / "seen_logs.json"

    @property
    def audit_head(self) -> Path:
        """How far the log has come, outside of the database."""
        return self.server / "audit.head"

    @property
    def master_key(self) -> Path:
        """The master key in file mode."""
        return self.server / "master.key"

    @property
    def next_master_key(self) -> Path:
        """The master key that takes the place of that one once the vault knows it."""
        return self.server / "master.key.next"

    @property
    def bootstrap(self) -> Path:
        """The secret that claims the first identity."""
        return self.server / "bootstrap.key"

    @property
    def daemon_lock(self) -> Path:
        """Held exclusively by the daemon that owns this home."""
        return self.server / "daemon.lock"

    @property
    def start_lock(self) -> Path:
        """Held by the client that is starting a daemon."""
        return self.server / "start.lock"

    @property
    def daemon_state(self) -> Path:
        """Where the running daemon listens, and which build it is."""
        return self.server / "daemon.json"

    @property
    def daemon_log(self) -> Path:
        """The daemon's log."""
        return self.server / "daemon.log"

    @property
    def changes(self) -> Path:
        """The socket on which the daemon tells proxies that something has changed."""
        return self.server / "changes.sock"

    @property
    def proxy(self) -> Path:
        """Our certificate authority and the proxy's state."""
        return self.root / "proxy"

    @property
    def spool(self) -> Path:
        """What proxies have used, on its way into the audit log."""
        return self.proxy / "spool"


class Settings(NamedTuple):
    """What the environment says, parsed and checked once."""

    home: Home
    host: str
    port: int
    daemon_url: str | None
    base_url: str | None
    master_key: Secret[bytes] | None
    master_key_file: Path | None
    identity: str | None
    identity_key: Secret[bytes] | None
    ca_bundle: Path | None
    trusted_proxy: str | None
    """Addresses and networks, as they were given; `daemon/forwarding` reads them."""
    log_level: str


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read the AUTHSOME_* settings.

    Raises:
        UsageError: a variable is set to something that cannot be meant; its name is in the message.
    """
    root = environ.get("AUTHSOME_HOME", "")
    if not root:
        home = environ.get("HOME", "")
        with suppress(RuntimeError):  # a container's user without an entry
            home = home or str(Path.home())
        if home in {"", "~"}:
            raise UsageError("there is no home directory", hint="set AUTHSOME_HOME")
        root = str(Path(home) / ".authsome")
    level = environ.get("AUTHSOME_LOG_LEVEL", "info").lower()
    if level not in LOG_LEVELS:
        raise UsageError(f"AUTHSOME_LOG_LEVEL is {level!r}", hint=f"one of {', '.join(sorted(LOG_LEVELS))}")
    return Settings(
        home=Home(Path(root).absolute()),
        host=environ.get("AUTHSOME_HOST") or DEFAULT_HOST,
        port=_port(environ.get("AUTHSOME_PORT") or str(DEFAULT_PORT)),
        daemon_url=_url(environ, "AUTHSOME_DAEMON_URL"),
        base_url=_url(environ, "AUTHSOME_SERVER_BASE_URL"),
        master_key=_key(environ, "AUTHSOME_MASTER_KEY"),
        master_key_file=_path(environ, "AUTHSOME_MASTER_KEY_FILE"),
        identity=environ.get("AUTHSOME_IDENTITY") or None,
        identity_key=_key(environ, "AUTHSOME_IDENTITY_KEY"),
        ca_bundle=_path(environ, "AUTHSOME_CA_BUNDLE"),
        trusted_proxy=environ.get("AUTHSOME_TRUSTED_PROXY", "").strip() or None,
        log_level=level,
    )


def decode_key(text: str, *, what: str) -> Secret[bytes]:
    """Parse 32 bytes of base64 (standard or URL-safe alphabet, padding optional).

    Raises:
        UsageError: it is not that; the message names `what`, never the value.
    """
    compact = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise UsageError(
            f"{what} is not {MASTER_KEY_BYTES} bytes of base64",
            hint='make one with: python3 -c "import base64,os;print(base64.b64encode(os.urandom(32)).decode())"',
        )
    return Secret(key)


def _key(environ: Mapping[str, str], name: str) -> Secret[bytes] | None:
    text = environ.get(name)
    return decode_key(text, what=name) if text else None


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name)
    return Path(text).absolute() if text else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS and 0 < int(text) < 65536):
        raise UsageError(f"AUTHSOME_PORT is {text[:80]!r}", hint="a number from 1 to 65535")
    return int(text)


def _url(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name)
    if not text:
        return None
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in {"http", "https"} or not rest or set(rest) & set("?#@ \\"):
        shown = "has a user in it" if "@" in text else f"is {text!r}"  # with a password, perhaps
        raise UsageError(f"{name} {shown}", hint="an http:// or https:// URL without user, query or fragment")
    return text.rstrip("/")


def make_private_directory(path: Path) -> None:
    """Make the directory (and missing parents) with mode 0700, or check one that is there.

    One of our own that others may read is closed to them; one that others may write, and that holds something
    already, is refused: what lies in it may have been planted.

    Raises:
        UnsafeFile: it is a symlink, no directory, belongs to somebody else, or others could write to it.
        StorageFailed: it cannot be made.
    """
    try:
        if not path.parent.exists():
            make_private_directory(path.parent)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)  # noqa: PTH102  # Path.mkdir(parents=True) would not give parents the mode
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError as error:
        raise StorageFailed(f"{path} cannot be made or opened", hint="check its owner and mode") from error
    except OSError as error:
        if os.path.lexists(path):  # which, unlike Path.exists, answers for a name that is too long
            raise UnsafeFile(f"{path} is not a directory of ours", hint="remove it, or set AUTHSOME_HOME") from error
        raise StorageFailed(f"{path} cannot be made: {reason_of(error)}") from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise UnsafeFile(f"{path} belongs to another user", hint="set AUTHSOME_HOME to a directory of your own")
        mode = stat.S_IMODE(status.st_mode)
        with os.scandir(descriptor) as entries:
            occupied = any(entries)
        if mode & 0o022 and occupied:
            raise UnsafeFile(
                f"{path} can be written by others", hint=f"look through it, then: chmod 700 {quoted(path)}"
            )
        if mode != 0o700:
            with suppress(PermissionError):  # a read-only file system: what is there still serves
                os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def open_private(path: Path, flags: int) -> int:
    """Open a private file and return its descriptor, created with mode 0600 when `flags` has O_CREAT.

    Raises:
        UnsafeFile: symlink, hard link, not a regular file, foreign owner, or group or world bits.
        OSError: as open(2), FileNotFoundError included.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise UnsafeFile(
                f"{path} is a symbolic link", hint=f"replace it by a file, or remove it: {path}"
            ) from error
        raise
    try:
        problem = privacy_problem(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    if problem:
        doubt = ownership_problem(os.fstat(descriptor))
        os.close(descriptor)
        mend = mend_of(doubt) if doubt else f"if you trust its content: chmod 600 {quoted(path)}"
        raise UnsafeFile(f"{path} {problem}", hint=mend)
    return descriptor


def mend_of(doubt: str) -> str:
    """What to do about a file of whose owner or kind there is a doubt: nothing that loses what may be the vault."""
    if doubt == FOREIGN:
        return "if it is yours all the same, give it to yourself with chown; else move it away"
    return "look where it comes from, then move it away"


def quoted(path: Path) -> str:
    """A path as one word of a command line, for hints that are such."""
    import shlex  # noqa: PLC0415  # for what went wrong alone

    return shlex.quote(str(path))


def privacy_problem(status: os.stat_result) -> str | None:
    """What is wrong with a private file's owner, kind or mode, in words that follow its path; None if nothing."""
    if problem := ownership_problem(status):
        return problem
    if stat.S_IMODE(status.st_mode) & 0o077:
        return f"can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def ownership_problem(status: os.stat_result) -> str | None:
    """Why a file may be another one than its path says, or another's, in words that follow its path; None if it is not.

    Of who may read or write it nothing is said.
    """
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid != os.geteuid():
        return FOREIGN
    return "has more than one name (hard link)" if status.st_nlink > 1 else None


def authorship_problem(status: os.stat_result) -> str | None:
    """Why somebody else may have written a file, in words that follow its path; None if nobody can have."""
    if problem := ownership_problem(status):
        return problem
    return "can be written by others" if stat.S_IMODE(status.st_mode) & 0o022 else None


def read_own(path: Path) -> bytes:
    """Read whole what is decided by, and is no secret: others may read it, and must not have written it.

    Raises:
        UnsafeFile: they may have, or it is a symbolic link.
        OSError: as open(2), FileNotFoundError included.
    """
    hint = f"look through it, then copy it anew: {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise UnsafeFile(f"{path} is a symbolic link", hint=hint) from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        if problem := authorship_problem(os.fstat(descriptor)):
            raise UnsafeFile(f"{path} {problem}", hint=hint)
        return file.read(_READ_LIMIT)


def read_private(path: Path) -> bytes:
    """Read a private file whole.

    Raises:
        UnsafeFile: see `open_private`.
        FileNotFoundError: there is none.
    """
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read(_READ_LIMIT)


def write_private(path: Path, data: bytes) -> None:
    """Replace a private file, whole or not at all, durably: mode 0600 from the first byte, whatever the umask.

    Raises:
        StorageFailed: the disk is full or the directory cannot be written; the old file is as it was.
    """
    with replacing_private(path, data):
        pass


@contextmanager
def replacing_private(path: Path, data: bytes) -> Iterator[None]:
    """As `write_private`, with the new file on the disk before the block and in its place after it.

    So what must be on record before the file counts is done in the block; when that fails, nothing has changed.
    """
    import secrets  # noqa: PLC0415  # only writers need it, and most commands only read

    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {reason_of(error)}") from error


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A name for a socket's path that fits into its address: Linux reaches any directory by a descriptor of it.

    Raises:
        OSError: there is none, or no such directory.
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = f"/proc/self/fd/{directory}/{path.name}"
        if not os.path.exists(f"/proc/self/fd/{directory}") or len(name) > _SOCKET_PATH_LIMIT:  # noqa: PTH110  # a link
            raise OSError(errno.ENAMETOOLONG, "the path is too long for a socket")
        yield name
    finally:
        os.close(directory)


def sync_directory(path: Path) -> None:
    """Make a rename or a new name in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_config(home: Home) -> dict[str, object]:
    """The user's settings from config.json; empty when there is none.

    Raises:
        UsageError: it is not a JSON object.
        UnsafeFile: see `open_private`.
    """
    try:
        data = json.loads(read_private(home.config))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{home.config} is not JSON", hint="mend it or remove it") from error
    if not isinstance(data, dict):
        raise UsageError(f"{home.config} is not a JSON object", hint="mend it or remove it")
    return data


def write_config(home: Home, config: Mapping[str, object]) -> None:
    """Replace config.json."""
    write_private(home.config, json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")
