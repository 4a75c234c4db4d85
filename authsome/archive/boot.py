"""The first code of authsome.pyz: find this build's unpacked files, check them, and import from there and nowhere else.

Rule: it imports only what the interpreter has loaded before its first line anyway (os, stat, sys), and stays short:
modules in a zip are compiled anew at each start. What only a first run needs is in `unpack`.
"""

import os
import stat
import sys

MANIFEST = "manifest"
LISTING = ".listing"
LISTING_END = "end"


class Launch:
    """What the boot code knows of the running archive; never changed once made.

    A plain class, because `dataclasses` would cost each start 5 ms.
    """

    __slots__ = ("archive", "build", "handle", "store")

    def __init__(self, archive: str, build: str, store: str, handle: int) -> None:
        self.archive = archive  # absolute path of authsome.pyz
        self.build = build  # content hash of the archive, 16 hexadecimal digits
        self.store = store  # directory with its unpacked files
        self.handle = handle  # open descriptor of the store, holding the shared lock that keeps it from being swept


LAUNCH: Launch | None = None  # set once, by `run`, in the copy of this module that was imported from the store


class CannotStart(Exception):  # said to the user as it is
    """Nothing of authsome can be imported; the text says why, and may go on with a line `authsome: hint: …`."""


class Refused(Exception):  # an answer, not a fault: the next place is tried
    """A directory that must not be imported from; the text says why."""


def run() -> int:
    """Import from where it is right to, run the command line, and return its exit status."""
    loader = sys.modules[__name__].__loader__  # zipimport's own knows its archive: no argv, no environment is asked
    archive, read = getattr(loader, "archive", None), getattr(loader, "get_data", None)
    if archive and read:
        try:
            _enter(os.path.abspath(archive), parse_manifest(read(MANIFEST)))
        except CannotStart as reason:
            sys.stderr.write(f"authsome: error: {reason}\n")
            return 1
        except KeyboardInterrupt:
            sys.stderr.write("authsome: error: cancelled while unpacking\n")
            return 11
    from authsome.cli.main import program  # the path is set only now

    return program()


def _enter(archive: str, manifest: dict[str, str]) -> None:
    isolate()
    sys.pycache_prefix = None  # the byte code lies beside the sources, whatever PYTHONPYCACHEPREFIX says
    tag = interpreter_tag()
    if platform_name() not in manifest["platforms"].split() or tag not in manifest["pythons"].split():
        raise CannotStart(
            f"this file was built for {manifest['platforms']} with {manifest['pythons']}, "
            f"this is {platform_name()} with {tag}\n"
            "authsome: hint: build one here from the source: python3 build_zipapp.py"
        )
    build = manifest["build"]
    name = store_name(build)
    for _, place in places():
        try:
            store, handle = open_store(place, name)
            break
        except (OSError, Refused, ValueError):
            continue
    else:
        from authsome.archive import unpack  # not compiled when the files are there

        store, handle = unpack.first_run(archive, build)
    sys.path.insert(0, store)
    sys.dont_write_bytecode = True  # the store never changes after it is made
    forget_foreign_modules()  # this module's own copy from the archive goes, too
    from authsome.archive import boot  # noqa: PLW0406 (no: the copy in the store, which stays)

    boot.LAUNCH = boot.Launch(archive, build, store, handle)


def parse_manifest(data: bytes) -> dict[str, str]:
    """Lines of `key value` (not JSON: that module alone costs 6 ms)."""
    return dict(line.split(" ", 1) for line in data.decode().splitlines())


def platform_name() -> str:
    """Which native modules fit this machine, e.g. `linux-x86_64`, `linux-x86_64-musl`, `darwin-arm64`."""
    if os.name != "posix":
        return sys.platform
    libc = "-musl" if sys.platform == "linux" and "CS_GNU_LIBC_VERSION" not in os.confstr_names else ""
    return f"{sys.platform}-{os.uname().machine}{libc}"


def interpreter_tag() -> str:
    """Which native modules fit this interpreter, e.g. `cp311`; `cp313t` for the free-threaded build."""
    name = "cp" if sys.implementation.name == "cpython" else sys.implementation.name
    return f"{name}{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}"


def store_name(build: str) -> str:
    """Name of the directory with the unpacked files. Optimised byte code (`-O`) is kept apart."""
    optimised = f"-O{sys.flags.optimize}" if sys.flags.optimize else ""
    return f"{build}-{interpreter_tag()}{optimised}"


def places() -> list[tuple[str, str]]:
    """Directories that may hold stores, best first, as (what to call it, path); a path may be empty or relative."""
    environ = os.environ
    found = []
    if chosen := environ.get("AUTHSOME_PYZ_CACHE"):
        found.append(("AUTHSOME_PYZ_CACHE", chosen))
    cache = environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        home = environ.get("HOME") or _home_of_user()
        cache = home and home + ("/Library/Caches" if sys.platform == "darwin" else "/.cache")
    found.append(("cache home", cache and cache + "/authsome/pyz"))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        found.append(("XDG_RUNTIME_DIR", runtime + "/authsome-pyz"))
    temporary = environ.get("TMPDIR") or "/tmp"  # noqa: S108 (owner, mode and parents are checked)
    found.append(("temporary directory", f"{temporary}/authsome-pyz-{os.geteuid()}"))
    return found


def _home_of_user() -> str:
    import pwd  # rarely needed

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def open_store(place: str, name: str) -> tuple[str, int]:
    """Check a store and hold it open. Returns (path, descriptor with a shared lock).

    Raises Refused with the reason, OSError when it is not there or unreadable, ValueError when its listing is damaged.
    """
    require_trusted_parents(place)
    os.close(open_directory(place))
    store = f"{place}/{name}"
    handle = open_directory(store)
    try:
        _hold(handle)
        os.close(open_directory(store, expected=handle))  # not swept between open and lock
        require_executable(handle)
        _check_sizes(store, handle)
        os.utime(handle)  # "in use": what nobody used for a month is swept
    except BaseException:
        os.close(handle)
        raise
    return store, handle


def open_directory(path: str, *, expected: int | None = None) -> int:
    """Open a directory that is ours alone (and the `expected` one); what was checked is what is open."""
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise Refused(f"{path} is a symbolic link")
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    state = os.fstat(handle)
    reason = ""
    if state.st_uid != os.geteuid():
        reason = f"{path} belongs to another user (id {state.st_uid})"
    elif state.st_mode & 0o022:
        reason = f"{path} can be written by others"
    elif expected is not None and not os.path.samestat(state, os.fstat(expected)):
        reason = f"{path} is being replaced"
    if reason:
        os.close(handle)
        raise Refused(reason)
    return handle


def require_trusted_parents(place: str) -> None:
    """Refuse a place that somebody else could exchange between our check and our import.

    Whoever owns a directory above may rename what is below, so each must belong to us or to the owner of `/` (root, or
    whoever stands for it inside a container), and may be open to all only with the sticky bit.
    """
    if not place.startswith("/"):
        raise Refused("it is not an absolute path" if place else "there is no home directory")
    trusted = (0, os.geteuid(), os.stat("/").st_uid)
    parent = os.path.realpath(os.path.dirname(place))
    while parent != "/":
        try:
            state = os.stat(parent)
        except FileNotFoundError:
            pass  # will be made by us
        else:
            if state.st_uid not in trusted:
                raise Refused(f"{parent} belongs to another user (id {state.st_uid})")
            if state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
                raise Refused(f"{parent} can be written by everybody")
        parent = os.path.dirname(parent)


def require_executable(handle: int) -> None:
    """Refuse a file system from which native modules cannot be loaded."""
    if os.fstatvfs(handle).f_flag & getattr(os, "ST_NOEXEC", 0):
        raise Refused("it is mounted noexec, and native modules could not be loaded from it")


def _hold(handle: int) -> None:
    """Take a shared lock for as long as this process lives, so that no other process sweeps the store."""
    import fcntl  # POSIX only

    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused("it is being removed") from None
    except OSError:
        pass  # a file system without locks: the month of the sweep must do


def _check_sizes(store: str, handle: int) -> None:
    """A lost or cut file is noticed here, at 2 µs each; changed content by `verify`."""
    size_of = os.stat
    for line in read_listing(store):
        _, size, path = line.split(" ", 2)
        if size_of(path, dir_fd=handle, follow_symlinks=False).st_size != int(size):
            raise Refused(f"{store}/{path} has another size than it was written with")


def read_listing(store: str) -> list[str]:
    """Lines of `sha256 size path`, one for each file of a store. Raises OSError, ValueError when it is cut short."""
    with open(f"{store}/{LISTING}", encoding="utf-8") as file:
        lines = file.read().split("\n")
    if lines[-2:] != [LISTING_END, ""]:
        raise ValueError(f"{store}/{LISTING} is cut short")
    return lines[:-2]


def open_standard_streams() -> None:
    """Let a standard stream that the caller closed lead nowhere: else the next file opened would have its number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)  # noqa: FBT003  # it has no name for it
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115  # stays for as long as we do


def isolate() -> None:
    """Leave the standard library as the only place to import from.

    The working directory, PYTHONPATH, site-packages, and import hooks that their .pth files installed are not ours.
    """
    library = _library()
    archive = f"{os.path.dirname(library)}/python{sys.version_info[0]}{sys.version_info[1]}.zip"
    native = f"{sys.base_exec_prefix}/{sys.platlibdir}/{os.path.basename(library)}/lib-dynload"
    ours = (library, library + "/lib-dynload", native, archive)
    sys.path[:] = [entry for entry in sys.path if entry in ours] or [library, native]
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if getattr(finder, "__module__", "").startswith("_frozen_importlib")
    ]


def forget_foreign_modules() -> None:
    """Drop every module that came neither with the interpreter nor from its standard library."""
    library = _library() + "/"
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if name == "__main__" or origin is None:
            continue
        if not origin.startswith(library) or "-packages/" in origin.removeprefix(library):
            del sys.modules[name]


def _library() -> str:
    return os.path.dirname(os.__file__)  # `os` is frozen into the interpreter: its path cannot be forged
