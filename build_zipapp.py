#!/usr/bin/env python3
"""Builds authsome.pyz: one file for this platform and every CPython from 3.11, the same bytes every time.

Rule: the standard library and pip are all it needs, and nothing of the machine that builds (its Python, clock, zlib,
umask, the order of its directories) shows in the bytes. The shape, and why: docs/decisions/0001-one-file-archive.md.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit("build_zipapp: error: Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2])

import argparse
import ast
import fnmatch
import hashlib
import json
import operator
import re
import runpy
import shutil
import struct
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
SHIM = '"""What the boot code needs of the package."""\n\n__version__ = "{version}"\n'
SHEBANG = b"#!/usr/bin/env python3\n"

# Newest C library that a wheel may ask for: that of the oldest distributions still in support (RHEL 8, Alpine 3.13).
GLIBC_MINOR = 28
MUSL_MINOR = 2
MACOS_MAJOR = 15

_NEVER_CALLED = "mitmproxy imports it for what our proxy never calls; a stub stands in (authsome/proxy/stubs.py)"
_INTERFACE = "only mitmproxy's own user interfaces and their web server import it"
_ADDON = "only mitmproxy's addons import it"
EXCLUDED = {
    "aioquic": _NEVER_CALLED,
    "attrs": "only aioquic and service-identity import it",
    "backports-zstd": _NEVER_CALLED,
    "bcrypt": _NEVER_CALLED,
    "brotli": _NEVER_CALLED,
    "mitmproxy-linux": "only mitmproxy-rs imports it",
    "mitmproxy-macos": "only mitmproxy-rs imports it",
    "mitmproxy-rs": _NEVER_CALLED,
    "mitmproxy-windows": "only mitmproxy-rs imports it",
    "msgpack": _NEVER_CALLED,
    "passlib": _NEVER_CALLED,
    "pylsqpack": _NEVER_CALLED,
    "ruamel-yaml": _NEVER_CALLED,
    "ruamel-yaml-clib": "only ruamel-yaml imports it",
    "service-identity": _NEVER_CALLED,
    "zstandard": _NEVER_CALLED,
    "asgiref": _INTERFACE,
    "blinker": _INTERFACE,
    "click": _INTERFACE,
    "flask": _INTERFACE,
    "itsdangerous": _INTERFACE,
    "jinja2": _INTERFACE,
    "markupsafe": _INTERFACE,
    "pyperclip": _INTERFACE,
    "tornado": _INTERFACE,
    "urwid": _INTERFACE,
    "wcwidth": _INTERFACE,
    "werkzeug": _INTERFACE,
    "ldap3": _ADDON,
    "publicsuffix2": _ADDON,
    "pyasn1": _ADDON,
    "pydivert": _ADDON,
    "pyparsing": "only mitmproxy's filter expressions and command line import it",
    "sortedcontainers": _ADDON,
    "pycparser": "cffi compiles with it; our modules are compiled already",
}
PRUNED = (
    "cffi/*",  # the compiler; compiled modules load _cffi_backend alone
    "mitmproxy/addons/*",  # of mitmproxy only the protocol layers are used (authsome/proxy/layers.py)
    "mitmproxy/contentviews/*",
    "mitmproxy/contrib/wbxml/*",
    "mitmproxy/io/*",
    "mitmproxy/script/*",
    "mitmproxy/test/*",
    "mitmproxy/tools/*",
    "mitmproxy/utils/pyinstaller/*",
    "*/tests/*",
    "*.h",
    "*.pyi",
    "*/py.typed",
    "*.dist-info/RECORD",  # true of an installed wheel only
    "*.dist-info/WHEEL",
    "*.dist-info/top_level.txt",
)


class BuildFailed(Exception):
    """The archive cannot be built; the text says why and, where it can, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One line of the lock: what to fetch, when, and the hashes that it may have."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file as it lies in a zip: method 0 (stored) or 8 (deflate), its compressed bytes, size and CRC."""

    method: int
    data: bytes
    size: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel that goes into the archive: its files by path, as (SHA-256 of the content, member)."""

    filename: str
    sha256: str
    metadata: str
    files: tuple[tuple[str, str, Member], ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the archive carries, while it is collected."""

    store: dict[str, Member] = field(default_factory=dict)
    """Each distinct file once, by the SHA-256 of its content."""
    indexes: dict[str, str] = field(default_factory=dict)
    """For each interpreter (`cp311`) lines of `sha256 path`."""
    wheels: dict[str, tuple[Wheel, list[str]]] = field(default_factory=dict)
    """The wheels by file name, with the interpreters they are for."""

    def add(self, digest: str, member: Member) -> str:
        """Keep a file unless its content is there already. Returns the digest."""
        self.store.setdefault(digest, member)
        return digest


def main(arguments: list[str]) -> int:
    """Build as the command line says. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="build_zipapp.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE / "authsome.pyz", help="where to write the file")
    parser.add_argument("--wheelhouse", type=Path, metavar="DIR", help="take the wheels from here, not from a registry")
    options = parser.parse_args(arguments)
    try:
        digest = build(HERE, options.output, wheelhouse=options.wheelhouse)
    except BuildFailed as failure:
        print(f"build_zipapp: error: {failure}", file=sys.stderr)
        return 1
    size = options.output.stat().st_size / 1e6
    print(f"{options.output} ({size:.1f} MB, SHA-256 {digest})")
    return 0


def build(source: Path, output: Path, *, wheelhouse: Path | None = None, pythons: Sequence[str] = PYTHONS) -> str:
    """Build the archive of the tree at `source` into `output` (and `output`.sha256). Returns its SHA-256.

    The tree holds `authsome.py`, `authsome/`, `providers/` and `requirements.lock`. Wheels come from `wheelhouse`, from
    the tree's `.cache`, or by pip from the registry it is set up for. Raises BuildFailed.
    """
    platform = current_platform(source)
    own = dict(own_files(source))
    contents = _collect(source, own, platform, pythons, wheelhouse)
    version = read_version(source)
    members = {
        "__main__.py": (source / "authsome.py").read_bytes(),
        "authsome/__init__.py": SHIM.format(version=version).encode(),
        "authsome/archive/__init__.py": b'"""The boot code."""\n',
        "authsome/archive/boot.py": own["authsome/archive/boot.py"],
        "authsome/archive/unpack.py": own["authsome/archive/unpack.py"],
        "sbom.cdx.json": bill_of_materials(version, contents.wheels.values()),
        **{f"index/{platform}-{tag}": index.encode() for tag, index in contents.indexes.items()},
        "payload.zip": _zipped(sorted(contents.store.items())),
    }
    manifest = {
        "version": version,
        "build": _digest_of(members)[:16],
        "platforms": platform,
        "pythons": " ".join(contents.indexes),
    }
    members = {"manifest": "".join(f"{key} {value}\n" for key, value in manifest.items()).encode()} | members
    return _write(output, SHEBANG + _zipped(((name, stored(data)) for name, data in members.items()), len(SHEBANG)))


def _collect(
    source: Path, own: Mapping[str, bytes], platform: str, pythons: Sequence[str], wheelhouse: Path | None
) -> Contents:
    requirements = parse_lock((source / "requirements.lock").read_text("utf-8"))
    requirements = [requirement for requirement in requirements if requirement.name not in EXCLUDED]
    contents = Contents()
    for python in pythons:
        tag = "cp" + python.replace(".", "")
        index = {path: contents.add(hashlib.sha256(data).hexdigest(), stored(data)) for path, data in own.items()}
        for wheel in fetch(requirements, python, platform, source / ".cache" / "zipapp", wheelhouse):
            contents.wheels.setdefault(wheel.filename, (wheel, []))[1].append(tag)
            for path, digest, member in wheel.files:
                if index.setdefault(path, contents.add(digest, member)) != digest:
                    raise BuildFailed(f"{path} is in two wheels for {tag}, with different content")
        contents.indexes[tag] = "".join(f"{digest} {path}\n" for path, digest in sorted(index.items()))
    return contents


def _digest_of(members: Mapping[str, bytes]) -> str:
    lines = (f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in sorted(members.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _write(output: Path, content: bytes) -> str:
    """Put the file in its place at once, so that who runs the old one keeps it whole."""
    digest = hashlib.sha256(content).hexdigest()
    output = output.absolute()
    try:
        for path, data, mode in (
            (output, content, 0o755),
            (output.with_name(output.name + ".sha256"), f"{digest}  {output.name}\n".encode(), 0o644),
        ):
            new = path.with_name(f".{path.name}.new")
            new.unlink(missing_ok=True)
            with new.open("xb") as file:  # not through a link that somebody put there
                file.write(data)
            new.chmod(mode)
            new.replace(path)
    except OSError as error:
        raise BuildFailed(f"cannot write {error.filename}: {error.strerror}") from error
    return digest


# Our own files


def own_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """The package and, as its data, the provider definitions: (path in the archive, content), sorted."""
    for directory, prefix in ((source / "authsome", "authsome"), (source / "providers", "authsome/providers")):
        for path in sorted(directory.rglob("*")):
            inner = path.relative_to(directory).as_posix()
            if path.is_file() and "__pycache__" not in inner and not re.search(r"(^|/)\.|~$", inner):
                yield f"{prefix}/{inner}", path.read_bytes()


def read_version(source: Path) -> str:
    """`__version__` of the package, without importing it."""
    found = re.search(r'^__version__ = "([^"]+)"$', (source / "authsome/__init__.py").read_text("utf-8"), re.MULTILINE)
    if not found:
        raise BuildFailed('authsome/__init__.py has no line __version__ = "…"')
    return found[1]


def current_platform(source: Path) -> str:
    """What the boot code that will read this archive calls the platform that runs here."""
    return str(runpy.run_path(str(source / "authsome/archive/boot.py"))["platform_name"]())


# The lock


def parse_lock(text: str) -> list[Requirement]:
    """Lines `name==version ; marker --hash=sha256:… --hash=…`, continued by backslashes."""
    found = []
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    for line in lines:
        if not line or line.startswith("#"):
            continue
        pin, *hashes = re.split(r"\s+--hash=", line)
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+?)\s*(?:;\s*(.+))?", pin)
        if not match or not hashes:
            raise BuildFailed(f"requirements.lock: not a pin with hashes: {line[:80]}")
        found.append(Requirement(name=match[1], version=match[2], marker=match[3] or "", hashes=tuple(hashes)))
    return found


def applies(marker: str, python: str, platform: str) -> bool:
    """Evaluate an environment marker (PEP 508) for another Python than the one that runs; pip knows only its own.

    A marker must not tell patch releases of one minor version apart: the archive cannot.
    """
    if not marker:
        return True
    system, machine = platform.split("-")[:2]
    answers = {
        evaluate(
            ast.parse(marker, mode="eval").body,
            {
                "python_version": python,
                "python_full_version": f"{python}.{patch}",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "sys_platform": system,
                "platform_system": system.capitalize(),
                "platform_machine": machine,
                "os_name": "posix",
            },
        )
        for patch in (0, 99)
    }
    if len(answers) > 1:
        raise BuildFailed(f"requirements.lock: {marker!r} depends on the patch release of Python {python}")
    return answers.pop()


def evaluate(node: ast.expr, environment: Mapping[str, str]) -> bool:
    """Evaluate a marker, whose grammar is a part of Python's own."""
    match node:
        case ast.BoolOp(op=ast.And()):
            return all(evaluate(value, environment) for value in node.values)
        case ast.BoolOp(op=ast.Or()):
            return any(evaluate(value, environment) for value in node.values)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            texts = _text(left, environment), _text(right, environment)
            if any(isinstance(name, ast.Name) and name.id.startswith("python_") for name in (left, right)):
                return bool(_ORDER[type(op)](*map(_release, texts)))
            if isinstance(op, ast.Eq | ast.NotEq):
                return bool(_ORDER[type(op)](*texts))
    raise BuildFailed(f"requirements.lock: cannot evaluate the marker {ast.unparse(node)!r}")


_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _text(node: ast.expr, environment: Mapping[str, str]) -> str:
    match node:
        case ast.Name(id=name) if name in environment:
            return environment[name]
        case ast.Constant(value=str(value)):
            return value
    raise BuildFailed(f"requirements.lock: unknown in a marker: {ast.unparse(node)!r}")


def _release(version: str) -> tuple[int, ...]:
    parts = tuple(int(part) for part in version.split("."))
    return parts + (0,) * (3 - len(parts))


# The wheels


def platform_tags(platform: str) -> list[str]:
    """Wheel tags that run on a platform, best first (pip takes the first that a release offers)."""
    system, machine, *libc = platform.split("-")
    if system == "linux" and not libc:
        names = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        tags = []
        for minor in range(GLIBC_MINOR, 4, -1):
            tags += [f"manylinux_2_{minor}", *([names[minor]] if minor in names else [])]
        return [f"{tag}_{machine}" for tag in tags]
    if system == "linux":
        return [f"musllinux_1_{minor}_{machine}" for minor in range(MUSL_MINOR, -1, -1)]
    if system == "darwin":
        return [
            f"macosx_{major}_0_{arch}" for major in range(MACOS_MAJOR, 10, -1) for arch in (machine, "universal2")
        ] + [f"macosx_10_{minor}_{arch}" for minor in range(16, 8, -1) for arch in (machine, "universal2", "intel")]
    raise BuildFailed(f"this platform ({platform}) has no table of wheel tags yet")


def fetch(
    requirements: Iterable[Requirement], python: str, platform: str, cache: Path, wheelhouse: Path | None
) -> list[Wheel]:
    """The wheels that one Python on one platform needs, their hashes checked, sorted by name."""
    wanted = [requirement for requirement in requirements if applies(requirement.marker, python, platform)]
    if not wanted:
        return []
    if wheelhouse:
        with tempfile.TemporaryDirectory(prefix="authsome-wheels-") as name:
            _download(wanted, python, platform, Path(name), wheelhouse)
            return _read_wheels(Path(name), wanted)
    tags = platform_tags(platform)
    key = hashlib.sha256(f"{python} {tags}\n{_lines(wanted)}".encode()).hexdigest()[:16]
    directory = cache / f"{platform}-{python}-{key}"
    if directory.is_dir():
        _say(f"{len(wanted)} wheels for Python {python} on {platform} are in {cache.parent.name}")
    else:
        cache.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
        try:
            _download(wanted, python, platform, new, None)
            new.rename(directory)
        except OSError:
            if not directory.is_dir():  # else another build has fetched the same meanwhile
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return _read_wheels(directory, wanted)


def _read_wheels(directory: Path, wanted: Sequence[Requirement]) -> list[Wheel]:
    files = sorted(directory.glob("*.whl"))
    allowed = {value for requirement in wanted for value in requirement.hashes}
    for file in files:
        if f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" not in allowed:
            raise BuildFailed(f"{file} has not the hash that requirements.lock names: remove {directory}")
    if len(files) != len(wanted):
        raise BuildFailed(f"{directory} holds {len(files)} wheels instead of {len(wanted)}: remove it")
    return [read_wheel(file) for file in files]


def _lines(requirements: Iterable[Requirement]) -> str:
    """Requirements as pip reads them, the markers left out: they are decided."""
    return "".join(
        f"{requirement.name}=={requirement.version} {' '.join('--hash=' + value for value in requirement.hashes)}\n"
        for requirement in requirements
    )


def _download(
    wanted: Sequence[Requirement], python: str, platform: str, directory: Path, wheelhouse: Path | None
) -> None:
    _say(f"fetching {len(wanted)} wheels for Python {python} on {platform}")
    requirements = directory / "requirements.txt"
    requirements.write_text(_lines(wanted), "utf-8")
    tag = "cp" + python.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    command += [f"--abi={abi}" for abi in (tag, "abi3", "none")]
    command += [f"--platform={name}" for name in platform_tags(platform)]
    command += ["--no-index", f"--find-links={wheelhouse}"] if wheelhouse else []
    command += ["--dest", str(directory), "--requirement", str(requirements)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    requirements.unlink()
    if result.returncode != 0:
        sys.stderr.write(result.stderr)
        hint = " (Debian: apt install python3-pip)" if "No module named pip" in result.stderr else ""
        raise BuildFailed(f"pip could not fetch the wheels for Python {python}; what it said is above{hint}")


def read_wheel(file: Path) -> Wheel:
    """Read a wheel's files with their compressed bytes as they are: no zlib of this machine re-makes them."""
    content = file.read_bytes()
    files = []
    metadata = ""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            path = _installed_path(entry.filename)
            if path is None:
                continue
            member = _member(content, entry)
            data = zlib.decompress(member.data, -zlib.MAX_WBITS) if member.method else member.data
            if zlib.crc32(data) != entry.CRC:
                raise BuildFailed(f"{file}: {entry.filename} is damaged")
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", path):
                metadata = data.decode()
            files.append((path, hashlib.sha256(data).hexdigest(), member))
    return Wheel(
        filename=file.name,
        sha256=hashlib.sha256(content).hexdigest(),
        metadata=metadata,
        files=tuple(sorted(files, key=lambda file: file[0])),
    )


def _installed_path(name: str) -> str | None:
    """Where a wheel's file goes (PEP 427), or None for what the archive does without."""
    if name.endswith("/"):
        return None
    if match := re.fullmatch(r"[^/]+\.data/([^/]+)/(.+)", name):
        if match[1] not in {"purelib", "platlib"}:
            return None  # scripts and headers
        name = match[2]
    if name.startswith("/") or ".." in name.split("/") or "\n" in name:
        raise BuildFailed(f"a wheel holds the path {name!r}")
    return None if any(fnmatch.fnmatchcase(name, pattern) for pattern in PRUNED) else name


def _member(content: bytes, entry: zipfile.ZipInfo) -> Member:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BuildFailed(f"{entry.filename} is compressed by method {entry.compress_type}")
    name_length, extra_length = struct.unpack_from("<HH", content, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_length + extra_length
    data = content[start : start + entry.compress_size]
    return Member(method=entry.compress_type, data=data, size=entry.file_size, crc=entry.CRC)


def bill_of_materials(version: str, wheels: Iterable[tuple[Wheel, list[str]]]) -> bytes:
    """A CycloneDX 1.6 document of what the archive carries: our own version and each wheel."""
    components = []
    for wheel, tags in sorted(wheels, key=lambda pair: pair[0].filename):
        metadata = HeaderParser().parsestr(wheel.metadata)
        name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
        components.append(
            {
                "type": "library",
                "bom-ref": wheel.filename,
                "name": name,
                "version": metadata["Version"],
                "purl": f"pkg:pypi/{name}@{metadata['Version']}?file_name={wheel.filename}",
                "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
                "licenses": _licenses(metadata["License-Expression"], metadata["License"]),
                "properties": [{"name": "authsome:pythons", "value": " ".join(tags)}],
            }
        )
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "authsome",
                "name": "authsome",
                "version": version,
                "licenses": _licenses("MIT", None),
            }
        },
        "components": components,
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _licenses(expression: str | None, name: str | None) -> list[dict[str, object]]:
    if expression:
        return [{"expression": expression}]
    return [{"license": {"name": name.partition("\n")[0].strip()}}] if name else []


# The zip


def stored(data: bytes) -> Member:
    """A member without compression: zlib's output differs between its versions, and ours is small."""
    return Member(method=0, data=data, size=len(data), crc=zlib.crc32(data))


def _zipped(members: Iterable[tuple[str, Member]], offset: int = 0) -> bytes:
    """A zip of these members in this order, each dated 1980-01-01, mode 0644. `offset` bytes will stand before it.

    `zipfile` cannot write members that are compressed already.
    """
    body = bytearray()
    directory = bytearray()
    count = 0
    for name, member in members:
        raw = name.encode("ascii")
        sizes = struct.pack("<III", member.crc, len(member.data), member.size)
        common = struct.pack("<HHHHH", 20, 0, member.method, 0, 0x21) + sizes + struct.pack("<HH", len(raw), 0)
        position = offset + len(body)
        body += b"PK\3\4" + common + raw + member.data
        directory += b"PK\1\2" + struct.pack("<H", 0x0314) + common
        directory += struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, position) + raw
        count += 1
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), offset + len(body), 0)
    return bytes(body + directory + b"PK\5\6" + end)


def _say(text: str) -> None:
    print(f"build_zipapp: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
