"""What a request says of its own body, once a placeholder in that was replaced: digests are made anew.

Content-Digest and Repr-Digest (RFC 9530 §2, §3; without a content coding, the only kind of body that is looked through,
they are of the same bytes), Digest (RFC 3230) and Content-MD5 (RFC 1864), which these took the place of.

Rule: a digest that was right is right again, and one that was wrong stays as it was. What cannot be made anew, an
algorithm that is unknown here or a signature, refuses the request: its server would refuse it, and not say why.
"""

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

from authsome.errors import RequestInvalid

if TYPE_CHECKING:
    from authsome.proxy.inject import Fields

_ALGORITHMS: Final = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}
_MEMBER: Final = re.compile(rb"[ \t]*([A-Za-z0-9_.*-]+)=(:?)([A-Za-z0-9+/=]+)(:?)[ \t]*")
_LISTED: Final = frozenset({b"content-digest", b"repr-digest", b"digest"})
_MD5: Final = b"content-md5"
_DIGESTS: Final = _LISTED | {_MD5}
_SIGNATURE: Final = re.compile(rb"(?:[a-z0-9-]+-)?signature(?:-input|-?[0-9]+)?\Z|x-amz-content-sha256\Z")
"""RFC 9421, what came before it, and the names that APIs have for a code of theirs over the body."""


def renewed(fields: "Fields", before: bytes, after: bytes) -> "Fields":
    """The fields of a request whose body was changed.

    Raises:
        RequestInvalid: they hold a signature or a digest that cannot be made anew.
    """
    return tuple((name, _renewed(name.lower(), value, before, after)) for name, value in fields)


def without(fields: "Fields") -> "Fields":
    """The fields of a message whose body was changed by us, without digests of what it was before."""
    return tuple(pair for pair in fields if pair[0].lower() not in _DIGESTS)


def _renewed(name: bytes, value: bytes, before: bytes, after: bytes) -> bytes:
    if name in _LISTED:
        return b", ".join([_member(name, each, before, after) for each in value.split(b",")])
    if name == _MD5:
        return _encoded("md5", after) if value.strip() == _encoded("md5", before) else value
    if _SIGNATURE.match(name):
        raise _refused(f"{name.decode('latin-1')} signs the body as it was before a placeholder in it was replaced")
    return value


def _member(name: bytes, member: bytes, before: bytes, after: bytes) -> bytes:
    """One digest of a list: `sha-256=:…:` as RFC 9530 writes it, `SHA-256=…` as RFC 3230 does."""
    found = _MEMBER.fullmatch(member)
    algorithm = _ALGORITHMS.get(found[1].decode("ascii").lower()) if found else None
    if found is None or algorithm is None:
        raise _refused(f"{name.decode('latin-1')} is of the body as it was before a placeholder in it was replaced")
    digest = _encoded(algorithm, after) if found[3] == _encoded(algorithm, before) else found[3]
    return found[1] + b"=" + found[2] + digest + found[4]


def _encoded(algorithm: str, body: bytes) -> bytes:
    return base64.b64encode(hashlib.new(algorithm, body, usedforsecurity=False).digest())


def _refused(problem: str) -> RequestInvalid:
    return RequestInvalid(problem, hint="show the credential in a header, or do not sign the body")
