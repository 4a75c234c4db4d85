"""Whether a browser's POST comes from a page of ours; form tokens and cookies.

Rule: a browser that says where a request comes from is believed when it says "from here"; one that does not say is
not. A form's token is asked for besides, so that no single header is all that stands in the way.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Literal

from authsome.clock import Clock
from authsome.daemon.messages import Request
from authsome.errors import NotAllowed
from authsome.secret import Secret

FORM_LIFETIME: Final = timedelta(hours=12)  # as long as anybody is signed in

_COOKIE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_COOKIE_VALUE: Final = re.compile(r"[A-Za-z0-9_.~-]*")
_COOKIE_PATH: Final = re.compile(r"/[A-Za-z0-9/_.~-]*")


class Forms:
    """The tokens of forms: each is for one browser and one purpose, and good once.

    Nothing is kept for a form that was only shown: a token is an HMAC-SHA-256 of its purpose, its end and chance.
    """

    def __init__(self, now: Clock, spend: Callable[[int, bytes], bool]) -> None:
        """Take the clock, and what notes a hash until a second since the epoch; False from it: it was noted before."""
        self._now = now
        self._spend = spend

    def token(self, key: Secret[str], purpose: str) -> str:
        """A fresh token for the browser that holds `key`."""
        ends = int((self._now() + FORM_LIFETIME).timestamp())
        return _signed(key, purpose, f"{ends}.{secrets.token_urlsafe(12)}")

    def check(self, request: Request, *, key: Secret[str], purpose: str, token: str | None) -> None:
        """Refuse a form that another site may have sent, or that was not given to this browser for this purpose.

        Args:
            request: the POST.
            key: what the browser has proven to hold.
            purpose: what the form does, as given to `token`.
            token: the form's token as it came; it is good no more.

        Raises:
            NotAllowed: it came from elsewhere, or its token is missing, another's, too old, or was used.
        """
        says_nothing = "sec-fetch-site" not in request.headers and "origin" not in request.headers
        front = (token or "").rpartition(".")[0]
        fits = token is not None and hmac.compare_digest(_signed(key, purpose, front).encode(), token.encode())
        if not fits or not (says_nothing or _from_here(request)):
            raise NotAllowed("this form was not sent from a page of this daemon", hint="open the page again")
        ends = int(front.partition(".")[0])
        if ends <= self._now().timestamp() or not self._spend(ends, hashlib.sha256(front.encode()).digest()):
            raise NotAllowed("this form was sent before, or is too old", hint="open the page again")


def _signed(key: Secret[str], purpose: str, front: str) -> str:
    digest = hmac.digest(key.reveal().encode(), f"authsome form\0{purpose}\0{front}".encode(), "sha256")
    return f"{front}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def set_cookie(  # noqa: PLR0913  # one for each attribute of a cookie
    name: str,
    value: str,
    *,
    path: str,
    same_site: Literal["Strict", "Lax"],
    lifetime: timedelta,
    secure: bool,
) -> tuple[str, str]:
    """The header that sets a cookie for this host and path alone; a lifetime of nothing deletes it.

    Cookies know no ports: another server on this machine's loopback sees those of its path.

    Raises:
        ValueError: name, value or path would need quoting.
    """
    if not (_COOKIE_NAME.fullmatch(name) and _COOKIE_VALUE.fullmatch(value) and _COOKIE_PATH.fullmatch(path)):
        raise ValueError("malformed cookie")
    parts = [f"{name}={value}", f"Path={path}", f"Max-Age={int(lifetime.total_seconds())}", "HttpOnly"]
    parts.append(f"SameSite={same_site}")
    if secure:
        parts.append("Secure")
    return "Set-Cookie", "; ".join(parts)


def cookie(request: Request, name: str) -> str | None:
    """The value of a cookie of ours; None when absent, malformed, or there twice (one may have been planted).

    Cookies that other servers on this host have set come along and are passed over.
    """
    values = []
    for header in request.headers.get("cookie", ()):
        for pair in header.split(";"):
            key, separator, value = pair.strip().partition("=")
            if separator and key == name:
                values.append(value)
    return values[0] if len(values) == 1 and _COOKIE_VALUE.fullmatch(values[0]) else None


def _from_here(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        # Our pages send no referrer, and so browsers say `Origin: null` beside `same-origin`.
        return site in {("same-origin",), ("none",)} and origin in {None, ("null",), (request.received_over,)}
    return origin == (request.received_over,)
