"""The proxy's own answers to a child: errors as problem details (RFC 9457), the same from every engine."""

import json
from dataclasses import dataclass
from typing import Final

from authsome.errors import (
    AddressRefused,
    AuthenticationFailed,
    AuthsomeError,
    CredentialUnavailable,
    DaemonUnavailable,
    NotAllowed,
    RequestInvalid,
)
from authsome.message import clean_line
from authsome.proxy.rules import Target

_JSON: Final = b"application/problem+json"
_LONGEST_REASON: Final = 300  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response."""

    status: int
    reason: bytes
    """What went wrong, where HTTP/1.1 has a place for it: all that most programs show of an answer to CONNECT."""
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


def problem(  # noqa: PLR0913  # each another thing
    error: AuthsomeError,
    *,
    target: Target | None = None,
    provider: str | None = None,
    status: int | None = None,
    was_sent: bool = False,
    is_closing: bool = False,
) -> Answer:
    """The answer that tells a child's program, and whoever reads its output, what went wrong and what to do.

    Args:
        error: what went wrong.
        target: where the child wanted to go.
        provider: the provider whose route it took.
        status: the status, where it is not the error's own.
        was_sent: the request may have arrived, all of it or a part.
        is_closing: the connection ends after this.
    """
    status = status or _status(error)
    detail: dict[str, object] = {
        "type": "about:blank",
        "title": "authsome has no answer to this request" if was_sent else "authsome did not send this request",
        "status": status,
        "detail": error.message,
        "code": error.code,
    }
    hint = _hint(error, provider)
    if hint:
        detail["hint"] = hint
    if target is not None:
        detail["host"] = target.authority
    if provider is not None:
        detail["provider"] = provider
    body = json.dumps(detail, ensure_ascii=False).encode() + b"\n"
    fields = [
        (b"Content-Type", _JSON),
        (b"Content-Length", str(len(body)).encode()),
        (b"Cache-Control", b"no-store"),
    ]
    if status == 407:
        fields.append((b"Proxy-Authenticate", b'Basic realm="authsome run"'))
    if is_closing:
        fields.append((b"Connection", b"close"))
    return Answer(status=status, reason=_reason(error.message, hint), fields=tuple(fields), body=body)


def _reason(message: str, hint: str | None) -> bytes:
    """Both as a status line has them (RFC 9112 §4): a program that shows no body shows that."""
    line = clean_line(f"{message} ({hint})" if hint else message, _LONGEST_REASON)
    return line.encode("ascii", "replace")


def _hint(error: AuthsomeError, provider: str | None) -> str | None:
    """What to do: where a request had a route, with the command that mends it or says more, if there is one."""
    is_childs_own = isinstance(error, RequestInvalid)  # which the child alone can mend
    if provider is None or is_childs_own or (error.hint is not None and "authsome " in error.hint):
        return error.hint
    if isinstance(error, CredentialUnavailable):
        command = f"authsome login {provider}"
        return command if error.hint is None else f"{error.hint}: {command}"
    is_rule = isinstance(error, NotAllowed | AddressRefused)
    more = f"`{'authsome run --explain URL' if is_rule else 'authsome doctor'}` says more"
    return more if error.hint is None else f"{error.hint}; {more}"


def _status(error: AuthsomeError) -> int:
    if isinstance(error, AuthenticationFailed):
        return 407  # only the proxy's own check gets here; the daemon's is told as `NotAllowed`
    if isinstance(error, DaemonUnavailable):
        return 502  # RFC 9110 §15.6.3; 503 would have programs try again at once
    return error.http_status
