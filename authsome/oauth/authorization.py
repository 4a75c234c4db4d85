"""The authorization request and the callback that answers it (RFC 6749 §4.1.1, §4.1.2, RFC 9207, RFC 9700 §2.1).

Rule: nothing in a callback is believed, shown or used before its `state` has been found equal to the one sent.
"""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from authsome.errors import AuthenticationFailed, EndpointRefused
from authsome.message import clean_line
from authsome.oauth import pkce
from authsome.secret import Secret

_STATE_BYTES: Final = 32  # 256 bits: unguessable (RFC 6749 §10.10 asks for 128)
_MAX_QUERY: Final = 16 * 1024  # the longest codes have 2 KiB
_MAX_PARAMETERS: Final = 50
_MAX_CODE: Final = 8 * 1024
_OURS: Final = frozenset(
    {"response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"}
)
NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})
_AGAIN: Final = "start again with `authsome login`"


def new_state() -> Secret[str]:
    """A fresh `state`."""
    return Secret(secrets.token_urlsafe(_STATE_BYTES))


def authorization_url(  # noqa: PLR0913  # each by name
    *,
    endpoint: str,
    client_id: str,
    redirect_uri: str,
    scopes: Sequence[str],
    scope_separator: str,
    state: Secret[str],
    code_challenge: str | None,
    params: Mapping[str, str],
    names: Mapping[str, str] = NO_NAMES,
) -> str:
    """The URL that the browser is sent to (RFC 6749 §4.1.1, RFC 7636 §4.3).

    The endpoint's own query stays (§3.1). `params`, the provider's extras, add to ours and never replace them: a
    definition cannot choose another `redirect_uri`, nor `plain`. `names` says what the provider calls ours.
    """
    base, _, query = endpoint.partition("#")[0].partition("?")
    extras = {**dict(parse_qsl(query, keep_blank_values=True)), **params}
    ours = {"response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "state": state.reveal()}
    if scopes:
        ours["scope"] = scope_separator.join(scopes)
    if code_challenge is not None:
        ours |= {"code_challenge": code_challenge, "code_challenge_method": pkce.METHOD}
    ours = {names.get(name, name): value for name, value in ours.items()}
    kept = {name: value for name, value in extras.items() if name not in _OURS | ours.keys()}
    return f"{base}?{urlencode({**ours, **kept})}"


def callback_state(query: str) -> str | None:
    """The `state` of a callback, to look its login up by; None when there is none, or no single one."""
    return (_parameters(query) or {}).get("state") or None


def parse_callback(query: str, *, state: Secret[str], issuer: str | None, issuer_required: bool) -> Secret[str]:
    """The authorization code that a callback brings.

    Args:
        query: the callback's raw query.
        state: the one that was sent.
        issuer: the authorization server's issuer, if it is known.
        issuer_required: whether its metadata promises `iss` (RFC 9207 §3).

    Raises:
        AuthenticationFailed: `state` or `iss` is not the expected one, or a parameter comes twice (RFC 6749 §3.1).
        EndpointRefused: the provider says why it gives no code, in one clean line, or gives none without saying so.
    """
    found = _parameters(query)
    if found is None:
        raise _foreign("malformed callback")
    if Secret(found.get("state", "")) != state or not state:
        raise _foreign("wrong state")
    if issuer is not None and (issuer_required or "iss" in found) and found.get("iss") != issuer:
        raise _foreign("wrong iss")
    if "error" in found:
        raise _refusal(found["error"], found.get("error_description", ""))
    code = found.get("code", "")
    if not code or len(code) > _MAX_CODE or not (code.isascii() and code.isprintable()):
        raise EndpointRefused("the provider sent the browser back without a code", hint=_AGAIN)
    return Secret(code)


def callback_value(query: str, name: str) -> str | None:
    """Another parameter of a callback whose state was found right, as it came; None when there is none."""
    return (_parameters(query) or {}).get(name)


def host_of(url: str) -> str:
    """The host of a URL, to name it in a message."""
    return urlsplit(url).hostname or "the provider"


def _parameters(query: str) -> dict[str, str] | None:
    """A query's parameters; None when one comes twice, or it cannot be read in one way only."""
    if len(query) > _MAX_QUERY or not query.isascii():
        return None
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return None
    found = dict(pairs)
    return found if len(found) == len(pairs) else None


def _refusal(error: str, description: str) -> EndpointRefused:
    text = clean_line(error, 60) or "an error without a name"
    if detail := clean_line(description):
        text = f"{text} ({detail})"
    return EndpointRefused(f"the provider ended the login: {text}", hint=_AGAIN)


def _foreign(reason: str) -> AuthenticationFailed:
    return AuthenticationFailed("this callback belongs to no login under way", hint=_AGAIN, reason=reason)
