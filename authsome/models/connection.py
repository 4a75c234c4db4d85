"""A connection: one stored credential of one provider, and its secrets, which live apart from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from authsome.errors import RequestInvalid
from authsome.secret import Secret

DEFAULT_CONNECTION = "default"

ACCESS_TOKEN = "access_token"  # noqa: S105  # a field's name
REFRESH_TOKEN = "refresh_token"  # noqa: S105  # a field's name
CLIENT_ID = "client_id"
CLIENT_SECRET = "client_secret"  # noqa: S105  # a field's name

HONEYTOKEN = "honeytoken"
"""The flow of a connection that holds a decoy: nobody has logged in."""

AuthMethod = Literal["client_secret_basic", "client_secret_post", "none"]
"""How a client authenticates at the token endpoint (RFC 6749 §2.3)."""

Secrets = Mapping[str, Secret[str]]
"""A connection's secret fields by name: `access_token`, with `refresh_token` or with the `client_id` and
`client_secret` that it was granted to (RFC 6749 §4.4); or the fields of an API key."""


class Kind(StrEnum):
    """How the credential was got, and so how it is kept fresh."""

    OAUTH2 = "oauth2"
    API_KEY = "api_key"


class Status(StrEnum):
    """What is known of a stored credential; `EXPIRED` is derived from the time and never stored."""

    CONNECTED = "connected"
    EXPIRED = "expired"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What is known of a stored credential, without its secrets."""

    vault_id: str
    provider: str
    name: str
    kind: Kind
    status: Status
    is_default: bool
    scopes: tuple[str, ...]
    account: str | None
    expires_at: datetime | None
    has_refresh_token: bool
    """Whether a new access token can be had without anybody: by a refresh token, or by a client that is the account."""
    variables: Mapping[str, str]
    """Values of the provider's variables (`base_url`, …) that this connection was made with."""
    revision: int
    """Grows with each write of the secrets, and is part of what they are sealed with."""
    created_at: datetime
    updated_at: datetime
    problem: str | None = None
    """Why it is invalid, or what the last attempt to refresh it failed with; one line, for people."""
    flow: str | None = None
    """By which flow somebody logged in, as in `login --flow`; None: nobody knows."""

    @property
    def is_honeytoken(self) -> bool:
        """Whether its secret is a decoy, whose use is an alarm."""
        return self.flow == HONEYTOKEN

    def status_at(self, now: datetime) -> Status:
        """The status as of `now`: past its expiry, and not refreshed by the last attempt or at all, is `EXPIRED`."""
        if self.status is Status.CONNECTED and self.expires_at is not None and self.expires_at <= now:
            return Status.CONNECTED if self.has_refresh_token and self.problem is None else Status.EXPIRED
        return self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How a client was registered dynamically (RFC 7591), and what ends that (RFC 7592)."""

    endpoint: str
    """Where: at another server this client is nobody."""
    redirect_uri: str
    method: AuthMethod
    """How it authenticates at the token endpoint."""
    secret_expires_at: datetime | None
    management_uri: str | None
    access_token: Secret[str] | None
    """The registration access token, for `management_uri` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An OAuth client registered with a provider, by hand or dynamically (RFC 6749 §2)."""

    vault_id: str
    provider: str
    server: str = ""
    """Which of the provider's authorization servers knows it (`OAuth.server`); empty where there is only one."""
    client_id: str
    client_secret: Secret[str] | None
    registration: Registration | None = None
    """None: by hand."""
    created_at: datetime


def checked_name(name: str) -> str:
    """The name, where a connection can have it.

    Raises:
        RequestInvalid: it cannot.
    """
    allowed = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not allowed or len(name) > 64 or not name[0].isalnum():
        raise RequestInvalid(
            f"{name[:64]!r} is not a connection name", hint="letters, digits, `-`, `_` and `.`, 64 at most"
        )
    return name
