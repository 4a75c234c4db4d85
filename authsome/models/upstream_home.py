"""What a home of upstream authsome (0.3.1, 0.7.2) holds, as plain values: the reading of its records, without I/O.

Rule: a record that is not of the form that those releases write is not guessed at; it is named, and left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Kind, Secrets
from authsome.secret import Secret

API_KEY: Final = "api_key"
_UNUSABLE: Final = frozenset({"not_connected", "revoked", "invalid"})
_LONGEST: Final = 16 * 1024  # characters, as for a login
_KEY_PARTS: Final = 5  # owner's kind, owner, provider, "connection", name


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConnection:
    """A stored credential."""

    owner: str
    """The identity (0.3) or the vault (0.7) that it belongs to."""
    provider: str
    name: str
    kind: Kind
    base_url: str | None
    scopes: tuple[str, ...]
    account: str | None
    expires_at: datetime | None
    secrets: Secrets
    """`api_key`, or the tokens."""
    unusable: str | None
    """What upstream says of a credential that no longer serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamClient:
    """An OAuth client."""

    provider: str
    client_id: str
    client_secret: Secret[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamHome:
    """All that is to be taken over."""

    release: str
    """`0.3` or `0.7`."""
    connections: tuple[UpstreamConnection, ...]
    """Those of the active identity first."""
    defaults: Mapping[str, str]
    """By provider, the connection that is used when none is named."""
    clients: tuple[UpstreamClient, ...]
    definitions: Mapping[str, str]
    """Custom definitions by name, as they were written."""
    unreadable: tuple[str, ...]
    """Records that are damaged, or not of the form that was expected, by name."""
    foreign: int
    """How many connections belong to other principals."""


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The name of a record, taken apart."""

    type: str
    """`connection`, `metadata`, `client`, or something that is not taken over."""
    provider: str
    owner: str = ""


def read_key(key: str) -> RecordKey | None:
    """Take a record's name apart; None for one of which nothing is known."""
    parts = key.split(":", _KEY_PARTS - 1)
    if parts[:2] == ["server", "provider"] and len(parts) == 4 and parts[3] == "client":
        return RecordKey("client", parts[2])
    if parts[0] in {"identity", "vault"} and len(parts) >= 4:
        return RecordKey(parts[3], parts[2], parts[1])
    return None


def connection_from_json(text: str, owner: str) -> UpstreamConnection:
    """Read a connection's record.

    Raises:
        ValueError: it is none; the message names what is wrong, and no value.
    """
    record = _object(text)
    kind = _text(record, "auth_type")
    if kind not in tuple(Kind):
        raise ValueError("is no key and no token" if kind != "browser" else "holds cookies of a browser")
    fields = (ACCESS_TOKEN, REFRESH_TOKEN) if kind == Kind.OAUTH2 else (API_KEY,)
    held = {name: value for name in fields if (value := _text(record, name))}
    if fields[0] not in held:
        raise ValueError("holds no credential")
    if any(len(value) > _LONGEST for value in held.values()):
        raise ValueError("is longer than any credential")
    status = _text(record, "status")
    account = record.get("account")
    label = (_text(account, "label") or _text(account, "id")) if isinstance(account, dict) else None
    scopes = record.get("scopes")
    return UpstreamConnection(
        owner=owner,
        provider=_required(record, "provider"),
        name=_required(record, "connection_name"),
        kind=Kind(kind),
        base_url=_text(record, "base_url"),
        scopes=tuple(str(each) for each in scopes if each) if isinstance(scopes, list) else (),
        account=label,
        expires_at=_moment(record, "expires_at"),
        secrets={name: Secret(value) for name, value in held.items()},
        unusable=status.replace("_", " ") if status in _UNUSABLE else None,
    )


def client_from_json(text: str) -> UpstreamClient | None:
    """Read an OAuth client's record; None for one that holds only settings.

    Raises:
        ValueError: it is none; the message names what is wrong, and no value.
    """
    record = _object(text)
    client_id, client_secret = _text(record, "client_id"), _text(record, "client_secret")
    if client_id is None:
        return None
    return UpstreamClient(
        provider=_required(record, "provider"),
        client_id=client_id,
        client_secret=Secret(client_secret) if client_secret else None,
    )


def default_from_json(text: str) -> str:
    """The default connection that a provider's metadata names.

    Raises:
        ValueError: it is no such record.
    """
    return _required(_object(text), "default_connection")


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("is not an object")  # noqa: TRY004  # the caller has one thing to catch
    return value


def _text(record: Mapping[str, object], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value or None


def _required(record: Mapping[str, object], name: str) -> str:
    value = _text(record, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def _moment(record: Mapping[str, object], name: str) -> datetime | None:
    written = _text(record, name)
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is no time") from None
