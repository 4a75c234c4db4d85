"""One use of a credential that a proxy kept: the line that it leaves before the credential does.

Rule: a line counts only with the code that its run's key makes of it, and in its place: its number is in it. So what
anybody else adds, changes, takes away or puts in another order shows.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from authsome.secret import Secret

KEY_BYTES: Final = 32
LONGEST: Final = 4096
"""Bytes of a line, its end included; more than the longest parts together make."""
PATH_LIMIT: Final = 600
"""Bytes of a path that are kept: the audit keeps fewer."""
_CODE_BYTES: Final = 16
_CODE: Final = 2 * _CODE_BYTES  # hexadecimal digits
_PARTS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use, as it is read back."""

    number: int
    """Of the run's uses, from 0."""
    at: int
    """Microseconds since 1970, UTC."""
    method: str
    host: str
    path: str
    provider: str
    connection: str


class Codes:
    """Makes the codes of one run's lines."""

    __slots__ = ("_begun",)

    def __init__(self, key: Secret[bytes]) -> None:
        # keyed BLAKE2b (RFC 7693 §2.9), begun once: a third of what an HMAC costs
        self._begun = hashlib.blake2b(key=key.reveal(), digest_size=_CODE_BYTES)

    def of(self, text: bytes) -> bytes:
        """The code of a line without it."""
        code = self._begun.copy()
        code.update(text)
        return code.hexdigest().encode()

    def line(self, number: int, at: int, rest: bytes) -> bytes:
        """A whole line; `rest` is what `rest_of` makes."""
        text = b"%d %d %b " % (number, at, rest)
        return b"%b%b\n" % (text, self.of(text))

    def read(self, line: bytes) -> Use | None:
        """What a line says, its end left off; None when it is not one of this run's proxy."""
        text, code = line[:-_CODE], line[-_CODE:]
        if not hmac.compare_digest(self.of(text), code):
            return None
        parts = text[:-1].decode("latin-1").split(" ")
        if len(parts) != _PARTS:  # ours always have that many
            return None
        number, at, method, host, path, provider, connection = parts
        return Use(
            number=int(number),
            at=int(at),
            method=method,
            host=host,
            path=path,
            provider=provider,
            connection=connection,
        )


def rest_of(method: str, host: str, path: str, provider: str, connection: str) -> bytes | None:
    """What a line says of a request; None for what it cannot say, as it would be read as something else."""
    parts = (method[:32], host, path[:PATH_LIMIT], provider, connection)
    rest = " ".join(parts)
    if rest.count(" ") != len(parts) - 1 or not rest.isprintable() or not all(parts):
        return None
    try:
        return rest.encode("latin-1")
    except UnicodeEncodeError:
        return None
