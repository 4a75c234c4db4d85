"""Making what `proxy/trust.py` finds: the bundles of roots, and the authority on disk.

Rule: whatever is made is whole before it has its name, and of several runs at the same time one makes the authority.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from authsome.errors import StorageFailed, UsageError, reason_of
from authsome.home import Home, make_private_directory, open_private, read_private, write_private
from authsome.proxy import environment, trust
from authsome.proxy.trust import Record, Sources, Trust

_KEPT: Final = timedelta(days=60)  # twice as long as a run lasts: no child can still use an older bundle
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_LIMIT: Final = 16 * 1024 * 1024  # system bundles have a quarter of a MiB


def authority_path(home: Home) -> Path:
    """Where the authority's key and certificate lie."""
    return home.proxy / "authority.pem"


def certificate_path(home: Home) -> Path:
    """Where its certificate alone lies, for who is to trust it."""
    return home.proxy / "authority.crt"


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
    directory, named = str(home.proxy), str(extra or "")
    found = trust.find(directory, environ, named, int(now.timestamp()))
    if found is not None:
        return found
    record = trust.record(directory)
    if record is None or not record.serves(now.timestamp()):
        record = _make_authority(home, now)
    sources = Sources(directory, environ, named)
    return Trust(
        child=_bundle(home, sources.child, record.certificates, named, now),
        upstream=_bundle(home, sources.upstream, (), named, now),
        authority=record.key_file,
    )


def _make_authority(home: Home, now: datetime) -> Record:
    """Make or renew the authority, or take stock of one that a killed process left without a record."""
    from authsome.proxy import authority  # noqa: PLC0415  # 55 ms, and needed once in three weeks

    with _lock(home):
        record = trust.record(str(home.proxy))
        if record is not None and record.serves(now.timestamp()):
            return record  # another run was faster
        path = authority_path(home)
        previous = list(record.certificates[:1]) if record is not None else []
        try:
            current = authority.load(read_private(path))
        except (OSError, ValueError):
            current = None
        if current is None or not current.serves(now):
            if current is not None:
                previous = [current.certificate_pem().decode()]
            current = authority.create(now)
            write_private(path, current.to_pem())
        write_private(certificate_path(home), current.certificate_pem())
        record = Record(
            valid_from=int(current.certificate.not_valid_before_utc.timestamp()),
            renew_at=int(current.renew_at.timestamp()),
            key_file=trust.identity(str(path)),
            certificates=tuple(dict.fromkeys((current.certificate_pem().decode(), *previous))),
        )
        write_private(home.proxy / "authority.record", record.to_text().encode())
        return record


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    descriptor = open_private(home.proxy / "authority.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _bundle(home: Home, sources: Iterable[str], own: tuple[str, ...], extra: str, now: datetime) -> str:
    paths = list(dict.fromkeys(os.path.realpath(path) for path in sources))
    bundle = Path(trust.bundle_path(str(home.proxy), paths, own))
    try:
        os.utime(bundle, (now.timestamp(), now.timestamp()))
    except FileNotFoundError:
        wanted = os.path.realpath(extra) if extra else ""
        blocks = dict.fromkeys(block for path in paths for block in _certificates(Path(path), is_wanted=path == wanted))
        blocks.update(dict.fromkeys(text.encode().strip() for text in own))
        if own:  # a child's
            write_private(Path(environment.wgetrc(str(bundle))), os.fsencode(f"ca_certificate = {bundle}\n"))
        write_private(bundle, b"\n".join(blocks) + b"\n")
        _sweep(home, now)
    except OSError as error:
        raise StorageFailed(f"{bundle} cannot be used: {reason_of(error)}") from error
    return str(bundle)


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
                Path(environment.wgetrc(str(bundle))).unlink(missing_ok=True)
