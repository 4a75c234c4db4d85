"""The roots that a run's child and its worker trust, as files that are there already.

Rule 1: a bundle is named by what it was made from. So it is made once (`proxy/bundles.py`), is never changed under a
child that has it open, and two runs with different roots do not disturb each other. The worker's has no authority of
ours in it.

Rule 2: it is on the short road of `run`, and imports next to nothing.
"""

import os
import stat

from authsome.identity import signing
from authsome.proxy import plain
from authsome.proxy.environment import ADDED_ROOTS, REPLACED_ROOTS

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

FORMAT: "Final" = "3"
SYSTEM_BUNDLES: "Final" = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch, NixOS
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, FreeBSD, OpenBSD
)


class Trust:
    """Where the roots lie for one run. A plain class, because `dataclasses` would cost each run 12 ms."""

    __slots__ = ("authority", "child", "upstream")

    def __init__(self, *, child: str, upstream: str, authority: str) -> None:
        self.child = child
        """System roots, the user's extra ones, and our authority: for the child's programs."""
        self.upstream = upstream
        """The same without our authority: what the worker verifies servers against."""
        self.authority = authority
        """What names the key that our authority has now."""


class Record:
    """What is known of the authority without opening its key file."""

    __slots__ = ("certificates", "key_file", "renew_at", "valid_from")

    def __init__(self, *, valid_from: int, renew_at: int, key_file: str, certificates: "tuple[str, ...]") -> None:
        self.valid_from = valid_from
        self.renew_at = renew_at
        """Seconds since 1970, both."""
        self.key_file = key_file
        """Inode, time and size of the key file that this tells of."""
        self.certificates = certificates
        """PEM: the authority's, and its predecessor's, which running workers may still use."""

    def serves(self, now: float) -> bool:
        """Whether new runs are to have it."""
        return self.valid_from <= now < self.renew_at

    def to_text(self) -> str:
        """As it is stored: two lines, then the certificates."""
        return f"{FORMAT} {self.valid_from} {self.renew_at}\n{self.key_file}\n" + "\n".join(self.certificates)


class Sources:
    """The files that a run's bundles are made from."""

    __slots__ = ("child", "upstream")

    def __init__(self, directory: str, environ: "Mapping[str, str]", extra: str) -> None:
        """Look for them.

        Args:
            directory: where our own bundles lie, which are nobody's roots.
            environ: the caller's environment, whose own roots the child keeps.
            extra: `AUTHSOME_CA_BUNDLE`; empty for none.
        """
        system = _system_bundle(environ, directory)
        self.upstream = [each for each in (system, extra) if each]
        self.child = [*self.upstream, *_inherited(environ, directory)]


def find(directory: str, environ: "Mapping[str, str]", extra: str, now: int) -> Trust | None:
    """The bundles for a run, if they have been made; None if there is anything to be made or told.

    Args:
        directory: where they lie.
        environ: the caller's environment.
        extra: `AUTHSOME_CA_BUNDLE`; empty for none.
        now: seconds since 1970.
    """
    known = record(directory)
    if known is None or not known.serves(now) or (extra and not _is_file(extra)):
        return None
    sources = Sources(directory, environ, extra)
    child = bundle_path(directory, sources.child, known.certificates)
    upstream = bundle_path(directory, sources.upstream, ())
    try:
        for bundle in (child, upstream):
            os.utime(bundle, (now, now))  # it is still used
    except OSError:
        return None
    return Trust(child=child, upstream=upstream, authority=known.key_file)


def record(directory: str) -> Record | None:
    """What is known of the authority, if it is that of the key file that is there."""
    try:
        text = plain.read_private(f"{directory}/authority.record").decode()
        first, key_file, certificates = text.split("\n", 2)
        version, valid_from, renew_at = first.split(" ")
        if version != FORMAT or key_file != identity(f"{directory}/authority.pem"):
            return None
        end = "-----END CERTIFICATE-----\n"
        pems = tuple(part + end for part in certificates.split(end) if part.strip())
        return Record(
            valid_from=int(valid_from),
            renew_at=int(renew_at),
            key_file=key_file,
            certificates=tuple(pem.lstrip() for pem in pems),
        )
    except (OSError, ValueError, plain.Unusual):
        return None


def bundle_path(directory: str, sources: "Iterable[str]", own: "Iterable[str]") -> str:
    """Where the bundle of these files, as they are now, and of these certificates of our own lies."""
    paths = dict.fromkeys(os.path.realpath(path) for path in sources)
    made_from = [FORMAT, *own, *(f"{path} {identity(path)}" for path in paths)]
    return f"{directory}/bundle-{signing.sha256(chr(0).join(made_from).encode('utf-8', 'surrogateescape'))[:16]}.pem"


def identity(path: str) -> str:
    """What changes when a file does: inode, time and size."""
    status = os.lstat(path)
    return f"{status.st_ino} {status.st_mtime_ns} {status.st_size}"


def _system_bundle(environ: "Mapping[str, str]", directory: str) -> str:
    """The system's roots: `SSL_CERT_FILE`, which OpenSSL has for just that, the usual places, or certifi's copy."""
    for name in (environ.get("SSL_CERT_FILE", ""), *SYSTEM_BUNDLES):
        if name and os.path.dirname(path := os.path.abspath(name)) != directory and _is_file(path):
            return path
    try:
        import certifi  # noqa: PLC0415  # only where the system has no bundle
    except ImportError:
        return ""
    return os.path.abspath(certifi.where())


def _inherited(environ: "Mapping[str, str]", directory: str) -> list[str]:
    """The roots that the caller's environment names: a company's own, which the child's programs would have used."""
    named = [environ.get(name, "") for name in sorted((REPLACED_ROOTS | ADDED_ROOTS) - {"SSL_CERT_FILE"})]
    paths = [os.path.abspath(name) for name in dict.fromkeys(named) if name]
    return [path for path in paths if _is_file(path) and os.path.dirname(path) != directory]


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
