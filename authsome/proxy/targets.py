"""What a request to a proxy says about where it goes: CONNECT's authority, absolute URLs, and the names in a tunnel.

Rule: one spelling each. What is no plain host and port is refused, not repaired.
"""

import re
from typing import Final

from authsome.errors import RequestInvalid
from authsome.proxy import rules
from authsome.proxy.http1 import Request
from authsome.proxy.rules import Target

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s]+):([0-9]{1,5})")
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#\s]*)(/[^#\s]*|\?[^#\s]*)?", re.IGNORECASE)
_PORT: Final = re.compile(r":[0-9]*\Z")


def is_without_body(request: Request) -> bool:
    """Whether a CONNECT has no body, which would be mistaken for the tunnel's first bytes."""
    return not request.values(b"transfer-encoding") and request.values(b"content-length") in ([], [b"0"])


def authority(text: bytes | str, *, default_port: int | None = None) -> Target:
    """The target that an authority names.

    Raises:
        RequestInvalid: it is none.
    """
    written = text.decode("latin-1") if isinstance(text, bytes) else text
    if default_port is not None and not _PORT.search(written.rpartition("]")[2]):
        written = f"{written}:{default_port}"
    match = _AUTHORITY.fullmatch(written)
    if match is None or not 0 < int(match[2]) < 65536:
        raise RequestInvalid("malformed authority")
    return rules.target_of(match[1].strip("[]"), int(match[2]))


def absolute(request: Request) -> tuple[str, str, bytes]:
    """Scheme, authority and origin form of an absolute URL.

    Raises:
        RequestInvalid: it is none.
    """
    match = _ABSOLUTE.fullmatch(request.target.decode("latin-1"))
    if match is None:
        raise RequestInvalid("a proxy is asked with CONNECT or an absolute URL")
    path = match[3] or ""
    if not path.startswith("/"):
        path = "/" + path
    return match[1].lower(), match[2], path.encode("latin-1")


def named(request: Request) -> tuple[bytes, list[str]]:
    """The path of a request inside a tunnel, and everything in it that names its host.

    Raises:
        RequestInvalid: there is no path, or more than one Host; or it is a CONNECT, whose answer would end HTTP there.
    """
    if request.method == b"CONNECT":
        raise RequestInvalid("a CONNECT inside a connection that CONNECT has opened")
    hosts = [value.decode("latin-1") for value in request.values(b"host")]
    if len(hosts) > 1:
        raise RequestInvalid("more than one Host header")
    if request.target.startswith(b"/") and b"#" not in request.target:
        return request.target, hosts
    if request.target == b"*" and request.method == b"OPTIONS":
        return request.target, hosts
    scheme, host, path = absolute(request)
    hosts.append(host if scheme == "https" else f"{scheme}://{host}")  # the latter names no host of a tunnel
    return path, hosts
