"""The audit record: who did what, to what, where, when, and how it ended; never a secret, never a query."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Event(StrEnum):
    """What can happen. Each is committed with its act, and before a secret leaves the daemon."""

    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"
    REVOKE = "revoke"
    REVOKE_FAILED = "revoke_failed"
    REFRESH = "refresh"
    REFRESH_FAILED = "refresh_failed"
    RESOLVE = "resolve"
    EXPORT = "export"
    SHOW = "show"
    RUN = "run"
    RUN_ENDED = "run_ended"
    SET_DEFAULT = "set_default"
    IMPORT = "import"
    SCAN = "scan"
    REGISTER = "register"
    REMOVE = "remove"
    CLAIM = "claim"
    CLAIM_REFUSED = "claim_refused"
    IDENTITY_LIMITED = "identity_limited"
    IDENTITY_REVOKED = "identity_revoked"
    INVITE = "invite"
    JOIN = "join"
    ROLE = "role"
    PRINCIPAL_REMOVED = "principal_removed"
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SET_PASSWORD = "set_password"  # noqa: S105  # an event's name
    USES_IN_DOUBT = "uses_in_doubt"
    REKEY = "rekey"
    UNLOCK = "unlock"
    BACKUP = "backup"
    DENIED = "denied"
    HONEYTOKEN = "honeytoken"
    LOG_EXPORTED = "log_exported"
    LOG_PRUNED = "log_pruned"
    LOG_DAMAGED = "log_damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened."""

    event: Event
    at: datetime
    vault_id: str | None = None
    principal: str | None = None
    identity: str | None = None
    proof: str | None = None
    """The `jti` of the caller's proof: spent, so worth nothing, and to be found again in the caller's own log."""
    provider: str | None = None
    connection: str | None = None
    method: str | None = None
    host: str | None = None
    path: str | None = None
    run: str | None = None
    detail: str | None = None
    """One line of cause or result, cleaned of control characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An entry with its place in the log."""

    id: int
    entry: Entry
    hash: bytes | None
    """What the next entry's hash is taken over as well; None where the table holds no bytes."""
