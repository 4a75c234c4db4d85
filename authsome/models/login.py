"""A login: one attempt to get a credential, as a union of what it is waiting for.

A code verifier can exist only in a login that awaits its callback.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from authsome.models.connection import AuthMethod, Connection
from authsome.secret import Secret

if TYPE_CHECKING:  # which imports this for its flows
    from authsome.models.provider import Provider


class Flow(StrEnum):
    """How a credential is got."""

    PKCE = "pkce"
    DCR_PKCE = "dcr_pkce"
    DEVICE_CODE = "device_code"
    CLIENT_CREDENTIALS = "client_credentials"
    API_KEY = "api_key"


class Stage(StrEnum):
    """What a login is waiting for, or how it ended, in a word."""

    INPUT = "input"
    CALLBACK = "callback"
    DEVICE = "device"
    EXCHANGING = "exchanging"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """What the caller asked for."""

    id: str
    vault_id: str
    identity: str | None
    """Who began it; None: the vault's principal itself, in its browser."""
    proof: str | None = None
    """The `jti` of the proof that it was begun with, for the log."""
    provider: str
    connection: str
    flow: Flow
    scopes: tuple[str, ...]
    force: bool
    verify: bool
    """Whether the credential is tried on its provider before it is stored."""
    variables: Mapping[str, str]
    definition: "Provider | None" = None
    """What discovery made of the provider; None: it is as the catalogue has it."""
    is_new_provider: bool = False
    """Whether that definition is to be kept as a custom one once the login has succeeded."""
    begun_by: str | None = None
    """The digest of the catalogue's definition that it was begun by, which alone may finish it; None: of none there."""
    browser_key: Secret[str]
    """Proves that a browser was sent here by the login's owner: first in the link, then as a cookie."""
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingInput:
    """Fields are missing (client id and secret, or the API key); the form or the terminal will give them."""

    stage: ClassVar[Stage] = Stage.INPUT
    request: LoginRequest
    problem: str | None
    """Why the last input was refused, for the form to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingCallback:
    """The browser is at the provider; the callback brings the code (RFC 6749 §4.1.2)."""

    stage: ClassVar[Stage] = Stage.CALLBACK
    request: LoginRequest
    state: Secret[str]
    code_verifier: Secret[str]
    redirect_uri: str
    authorization_url: str
    client_id: str
    client_secret: Secret[str] | None
    client_method: AuthMethod | None = None
    """The OAuth client of this attempt: kept for later logins only once the provider has accepted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingDevice:
    """A code is to be entered at the provider, on whatever device; we ask again and again whether it was (RFC 8628)."""

    stage: ClassVar[Stage] = Stage.DEVICE
    request: LoginRequest
    device_code: Secret[str]
    user_code: str
    verification_uri: str
    """What the provider says, as one line of text; a link only for who has checked that it is one."""
    verification_uri_complete: str | None
    interval: timedelta
    """The least time between two questions, as the provider last asked for."""
    client_id: str
    client_secret: Secret[str] | None
    client_method: AuthMethod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanging:
    """The callback or the key came, once; the code is being exchanged, or the key tried on its provider."""

    stage: ClassVar[Stage] = Stage.EXCHANGING
    request: LoginRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The credential is stored."""

    stage: ClassVar[Stage] = Stage.COMPLETED
    request: LoginRequest
    connection: Connection
    unverified: str | None
    """Why the credential could not be tried on its provider; None when it was, or was not to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The login ended without a credential; nothing that was stored has changed."""

    stage: ClassVar[Stage] = Stage.FAILED
    request: LoginRequest
    code: str
    """The error's code in `authsome.errors`."""
    message: str
    hint: str | None


Login = AwaitingInput | AwaitingCallback | AwaitingDevice | Exchanging | Completed | Failed
Awaiting = AwaitingInput | AwaitingCallback | AwaitingDevice
"""Those that can still be given up: they wait for somebody."""
