"""The roots that a run's child and its worker trust, as files, and the authority's place on disk.

Rule: a bundle is named by what it was made from. So it is made once, is never changed under a child that has it open,
and two runs with different roots do not disturb each other. The worker's has no authority of ours in it.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from authsome.errors import StorageFailed, UsageError
from authsome.home import Home, make_private_directory, open_private, read_private, write_private
from authsome.proxy.environment import ADDED_ROOTS, REPLACED_ROOTS

_FORMAT: Final = 1
_KEPT: Final = timedelta(days=60)  # twice an authority's life: no child can still use an older bundle
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_LIMIT: Final = 16 * 1024 * 1024  # system bundles have a quarter of a MiB
_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch, NixOS
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, FreeBSD, OpenBSD
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Where the roots lie for one run."""

    child: Path
    """System roots, the user's extra ones, and our authority: for the child's programs."""
    upstream: Path
    """The same without our authority: what the worker verifies servers against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What is known of the authority without opening its key file."""

    renew_at: datetime
    certificates: tuple[str, ...]
    """PEM: the authority's, and its predecessor's, which running workers may still use."""
    key_file: tuple[int, int, int]
    """Inode, time and size of the key file that this tells of."""


def authority_path(home: Home) -> Path:
    """Where the authority's key and certificate lie."""
    return home.proxy / "authority.pem"


def prepare(home: Home, environ: Mapping[str, str], extra: Path | None, now: datetime) -> Trust:
    """The bundles for a run; made, and the authority with them, when there are none for just these roots.

    Args:
        home: where they lie.
        environ: the caller's environment, whose own roots the child keeps.
        extra: `AUTHSOME_CA_BUNDLE`.
        now: the time.

    Raises:
        UsageError: the extra roots are none.
        StorageFailed: the bundles cannot be written.
        UnsafeFile: the authority's file is not private.
    """
    if extra is not None and not extra.is_file():
        raise UsageError(f"AUTHSOME_CA_BUNDLE names {extra}, which is no file")
    make_private_directory(home.proxy)
    record = _record(home)
    if record is None or now >= record.renew_at:
        record = _make_authority(home, now)
    system = _system_bundle(environ, home)
    upstream = [each for each in (system, extra) if each is not None]
    child = [*upstream, *_inherited(environ, home)]
    return Trust(
        child=_bundle(home, child, record.certificates, extra, now), upstream=_bundle(home, upstream, (), extra, now)
    )


def _record(home: Home) -> _Record | None:
    try:
        data = json.loads(read_private(home.proxy / "authority.json"))
        record = _Record(
            renew_at=datetime.fromisoformat(data["renew_at"]),
            certificates=tuple(data["certificates"]),
            key_file=tuple(data["key_file"]),
        )
        is_known = data["format"] == _FORMAT and record.key_file == _identity(authority_path(home))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_known else None


def _make_authority(home: Home, now: datetime) -> _Record:
    """Make or renew the authority, or take stock of one that a killed process left without a record."""
    from authsome.proxy import authority  # noqa: PLC0415  # 55 ms, and needed once in three weeks

    with _lock(home):
        record = _record(home)
        if record is not None and now < record.renew_at:
            return record  # another run was faster
        path = authority_path(home)
        previous = list(record.certificates[:1]) if record is not None else []
        try:
            current = authority.load(read_private(path))
        except (OSError, ValueError):
            current = None
        if current is None or now >= current.renew_at:
            if current is not None:
                previous = [current.certificate_pem().decode()]
            current = authority.create(now)
            write_private(path, current.to_pem())
        record = _Record(
            renew_at=current.renew_at,
            certificates=tuple(dict.fromkeys((current.certificate_pem().decode(), *previous))),
            key_file=_identity(path),
        )
        data = {
            "format": _FORMAT,
            "renew_at": record.renew_at.isoformat(),
            "certificates": record.certificates,
            "key_file": record.key_file,
        }
        write_private(home.proxy / "authority.json", json.dumps(data, indent=2).encode() + b"\n")
        return record


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return (status.st_ino, status.st_mtime_ns, status.st_size)


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    descriptor = open_private(home.proxy / "authority.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _system_bundle(environ: Mapping[str, str], home: Home) -> Path | None:
    """The system's roots: `SSL_CERT_FILE`, which OpenSSL has for just that, the usual places, or certifi's copy."""
    for name in (environ.get("SSL_CERT_FILE", ""), *_SYSTEM_BUNDLES):
        path = Path(name)
        if name and path.is_file() and path.parent != home.proxy:
            return path.absolute()
    try:
        import certifi  # noqa: PLC0415  # only where the system has no bundle
    except ImportError:
        return None
    return Path(certifi.where())


def _inherited(environ: Mapping[str, str], home: Home) -> list[Path]:
    """The roots that the caller's environment names: a company's own, which the child's programs would have used."""
    named = [environ.get(name, "") for name in sorted((REPLACED_ROOTS | ADDED_ROOTS) - {"SSL_CERT_FILE"})]
    paths = [Path(name).absolute() for name in dict.fromkeys(named) if name]
    return [path for path in paths if path.is_file() and path.parent != home.proxy]


def _bundle(home: Home, sources: Iterable[Path], own: tuple[str, ...], extra: Path | None, now: datetime) -> Path:
    paths = list(dict.fromkeys(path.resolve() for path in sources))
    made_from = [_FORMAT, own, [(str(path), *_identity(path)) for path in paths]]
    name = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
    bundle = home.proxy / f"bundle-{name}.pem"
    try:
        os.utime(bundle, (now.timestamp(), now.timestamp()))
    except FileNotFoundError:
        blocks = dict.fromkeys(block for path in paths for block in _certificates(path, is_wanted=path == extra))
        blocks.update(dict.fromkeys(text.encode().strip() for text in own))
        write_private(bundle, b"\n".join(blocks) + b"\n")
        _sweep(home, now)
    except OSError as error:
        raise StorageFailed(f"{bundle} cannot be used: {error.strerror}") from error
    return bundle


def _certificates(path: Path, *, is_wanted: bool) -> list[bytes]:
    """The PEM certificates of a file.

    Raises:
        UsageError: the user named the file for them, and there are none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT)
    except OSError:
        text = b""
    found = []
    for part in text.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        if end:
            found.append(_BEGIN + b"\n" + b"\n".join(body.split()) + b"\n" + _END)
    if is_wanted and not found:
        raise UsageError(f"{path} holds no PEM certificate", hint="check AUTHSOME_CA_BUNDLE")
    return found


def _sweep(home: Home, now: datetime) -> None:
    for bundle in home.proxy.glob("bundle-*.pem"):
        with suppress(OSError):
            if now.timestamp() - bundle.stat().st_mtime > _KEPT.total_seconds():
                bundle.unlink()
