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
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token, RFC 9110 §9.1
_ORIGIN: Final = re.compile(rb"/[!\"$-~]*")  # without a fragment
_FRAMING_METHODS: Final = frozenset({b"CONNECT", b"HEAD"})
"""How an answer ends hangs on these."""


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


def check_line(method: bytes, target: bytes) -> None:
    """Check a method and a path that another parser than ours has read, from HTTP/2 perhaps.

    They may be sent on in a line of HTTP/1.1, where an absolute URL would name another host than the one that was
    checked (RFC 9112 §3.2.2), and a space would end the path.

    Raises:
        RequestInvalid: they are not what such a line can hold, or a method that some take for another.
    """
    if not _METHOD.fullmatch(method) or (method not in _FRAMING_METHODS and method.upper() in _FRAMING_METHODS):
        raise RequestInvalid("malformed method")
    if not _ORIGIN.fullmatch(target) and (method, target) != (b"OPTIONS", b"*"):
        raise RequestInvalid("malformed path")


def named(request: Request) -> tuple[bytes, list[str]]:
    """The path of a request inside a tunnel, and everything in it that names its host.

    Raises:
        RequestInvalid: there is no path, no Host beside a URL, or more than one; or it is a CONNECT, whose answer would
            end HTTP there.
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
    if not hosts:  # which the server, too, would have to refuse (RFC 9112 §3.2)
        raise RequestInvalid("no Host header")
    hosts.append(host if scheme == "https" else f"{scheme}://{host}")  # the latter names no host of a tunnel
    return path, hosts
