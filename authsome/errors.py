"""Every error a user can meet, in one tree.

A class carries its `code` (stable, in `--json` and problem details), the command line's exit status, the HTTP
status, and a default hint; its docstring is the user's text when none is given. The daemon answers RFC 9457
problem details; the client rebuilds the class from `code`.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import timedelta  # 4 ms that most commands have no use for


def reason_of(error: OSError) -> str:
    """What the system says of an error, to stand in the middle of a sentence."""
    return (error.strerror or str(error)).lower()


class AuthsomeError(Exception):
    """something unexpected went wrong."""

    code: ClassVar[str] = "unexpected"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str | None] = "run `authsome daemon logs` and `authsome doctor` to see more"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").rstrip(".")
        self.hint = hint or type(self).default_hint
        super().__init__(self.message)

    def to_json(self) -> dict[str, str | None]:
        """Everything that `from_code` rebuilds it from, as `--json` tells it."""
        return {"error": self.code, "message": self.message, "hint": self.hint}


class UsageError(AuthsomeError):
    """the command was not understood."""

    code = "usage"
    exit_status = 2
    http_status = 400
    default_hint = "see `authsome --help`"


class RequestInvalid(AuthsomeError):
    """the request is not of the form this daemon takes."""

    code = "request_invalid"
    exit_status = 2
    http_status = 400
    default_hint = None


class RequestTooLarge(RequestInvalid):
    """the request is larger than this daemon takes."""

    code = "request_too_large"
    http_status = 413


class NotFound(AuthsomeError):
    """there is nothing at this address."""

    code = "not_found"
    exit_status = 1
    http_status = 404
    default_hint = None


class MethodNotAllowed(AuthsomeError):
    """this address does not take that method."""

    code = "method_not_allowed"
    exit_status = 1
    http_status = 405
    default_hint = None

    def __init__(self, message: str | None = None, *, hint: str | None = None, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.allowed = allowed


class ConnectionNotFound(AuthsomeError):
    """there is no such connection."""

    code = "connection_not_found"
    exit_status = 3
    http_status = 404
    default_hint = "`authsome list --connected` shows what there is"


class LoginNotFound(AuthsomeError):
    """there is no such login, or it has ended."""

    code = "login_not_found"
    exit_status = 3
    http_status = 404
    default_hint = "start again with `authsome login`"


class ProviderNotFound(AuthsomeError):
    """there is no such provider."""

    code = "provider_not_found"
    exit_status = 4
    http_status = 404
    default_hint = "`authsome list` shows the providers"


class NotAllowed(AuthsomeError):
    """this is not allowed."""

    code = "not_allowed"
    exit_status = 4
    http_status = 403
    default_hint: ClassVar[str | None] = None


class RouteAmbiguous(NotAllowed):
    """more than one connection claims this request equally."""

    code = "route_ambiguous"
    http_status = 409
    default_hint = "choose one with `authsome run --only PROVIDER`; `authsome run --explain URL` says more"


class RequestMisdirected(NotAllowed):
    """the request's host is not the one that the connection was opened for."""

    code = "request_misdirected"
    http_status = 421  # RFC 9110 §15.5.20
    default_hint = "a credential goes only where CONNECT, TLS and the Host header agree"


class CredentialUnavailable(AuthsomeError):
    """the credential is missing, expired, or could not be refreshed."""

    code = "credential_unavailable"
    exit_status = 5
    http_status = 424
    default_hint: ClassVar[str | None] = None


class LoginRequired(CredentialUnavailable):
    """the provider no longer accepts this login."""

    code = "login_required"
    default_hint = "log in again with `authsome login`"


class RefreshFailed(CredentialUnavailable):
    """the credential has expired and could not be refreshed just now."""

    code = "refresh_failed"
    http_status = 503
    default_hint = "the login is kept; try again in a moment"


class KeyRejected(CredentialUnavailable):
    """the key does not look like one of this provider's."""

    code = "key_rejected"
    http_status = 422


class LimitsChanged(AuthsomeError):
    """the limits of this identity were changed meanwhile, and nothing was set."""

    code = "limits_changed"
    http_status = 409
    default_hint = "look at them as they are now, then set them again"


class ConnectionExists(AuthsomeError):
    """this connection exists already."""

    code = "connection_exists"
    exit_status = 6
    http_status = 409
    default_hint = "use --force to log in again, or --connection NAME for another one"


class ProviderInvalid(AuthsomeError):
    """the provider definition is not valid."""

    code = "provider_invalid"
    exit_status = 7
    http_status = 422
    default_hint = None

    def __init__(self, message: str | None = None, *, hint: str | None = None, field: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field
        """Where in the definition, as in `oauth.token_url`; empty where it is not about one of its fields."""


class ProviderExists(AuthsomeError):
    """a provider of this name exists already."""

    code = "provider_exists"
    exit_status = 7
    http_status = 409
    default_hint = "use --force to replace its definition"


class EndpointUnreachable(AuthsomeError):
    """the provider could not be reached."""

    code = "endpoint_unreachable"
    exit_status = 8
    http_status = 502
    default_hint = "check the network and try again"

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        retry_after: "timedelta | None" = None,
        unanswered: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """How long the provider asked to be left alone (RFC 9110 §10.2.3), if it did."""
        self.unanswered = unanswered
        """Whether the request went out, so that the provider may have acted on it, and no whole answer came."""


class EndpointRefused(AuthsomeError):
    """the provider refused, or gave an answer that makes no sense."""

    code = "endpoint_refused"
    exit_status = 5
    http_status = 502
    default_hint = "that is the provider's word: try again, or see its definition with `authsome inspect`"


class ClientRefused(EndpointRefused):
    """the provider does not know our OAuth client, or takes it no more."""

    code = "client_refused"
    default_hint = "check the client id and secret with `authsome login --force`"


class RevocationUnsupported(EndpointRefused):
    """this provider offers no way to revoke a credential from here."""

    code = "revocation_unsupported"
    http_status = 422


class AddressRefused(EndpointUnreachable):
    """the host resolves to an address that must not be dialled."""

    code = "address_refused"
    http_status = 403
    default_hint = "a custom definition may say `allow_private_addresses: true`"


class DaemonUnavailable(AuthsomeError):
    """the daemon could not be reached."""

    code = "daemon_unavailable"
    exit_status = 9
    http_status = 503
    default_hint = "see `authsome daemon status` and `authsome daemon logs`"


class DaemonBusy(DaemonUnavailable):
    """the daemon has too much to do just now."""

    code = "daemon_busy"
    default_hint = "try again in a moment"


class StorageFailed(DaemonUnavailable):
    """the vault could not be written."""

    code = "storage_failed"
    http_status = 507
    default_hint = "see that the disk has room and can be written to, then try again; nothing that was stored is lost"


class VaultUnusable(DaemonUnavailable):
    """the vault cannot be used."""

    code = "vault_unusable"
    default_hint = "run `authsome doctor`"


class VaultDamaged(VaultUnusable):
    """a stored secret is damaged."""

    code = "vault_damaged"
    http_status = 500
    default_hint = "log in again to replace it"


class LogDamaged(AuthsomeError):
    """the log is not as it was written."""

    code = "log_damaged"
    exit_status = 1
    http_status = 500
    default_hint = "run `authsome log verify`"


class MasterKeyMismatch(VaultUnusable):
    """the master key does not fit this vault."""

    code = "master_key_mismatch"
    default_hint = "give the key that the vault was made with; nothing was changed"


class PassphraseRefused(MasterKeyMismatch):
    """this is not the passphrase of this vault."""

    code = "passphrase_refused"
    http_status = 403
    default_hint = "try again: `authsome daemon unlock`; nothing was changed"


class VaultLocked(VaultUnusable):
    """the vault is locked."""

    code = "vault_locked"
    default_hint = "open it with its passphrase: authsome daemon unlock"


class UnsafeFile(VaultUnusable):
    """a file or directory is not private to its owner."""

    code = "unsafe_file"
    default_hint = "run `authsome doctor`"


class AuthenticationFailed(AuthsomeError):
    """the caller could not be authenticated."""

    code = "authentication_failed"
    exit_status = 10
    http_status = 401
    default_hint = "run `authsome whoami` and `authsome doctor`"

    def __init__(self, message: str | None = None, *, hint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        """For the audit and the log only: whoever is refused is told the same text whatever the reason."""


class TooManyAttempts(AuthenticationFailed):
    """this was tried too often."""

    code = "too_many_attempts"
    http_status = 429
    default_hint = "wait, then try again"

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, retry_after: "timedelta | None" = None
    ) -> None:
        self.retry_after = retry_after
        """How long to wait."""
        if hint is None and retry_after is not None:
            hint = f"wait {self.seconds} s, then try again"
        super().__init__(message, hint=hint, reason="tried too often")

    @property
    def seconds(self) -> int:
        """How long to wait, in whole seconds, at least one."""
        if self.retry_after is None:
            return 1
        return max(1, -int(-self.retry_after.total_seconds() // 1))  # rounded up


class IdentityUnclaimed(AuthenticationFailed):
    """this identity belongs to no principal yet."""

    code = "identity_unclaimed"
    default_hint = "ask for it, and confirm it in a browser: authsome identity claim"


class Cancelled(AuthsomeError):
    """cancelled."""

    code = "cancelled"
    exit_status = 11
    http_status = 409
    default_hint: ClassVar[str | None] = None


class TimedOut(Cancelled):
    """this took too long and was given up."""

    code = "timed_out"
    http_status = 504
    default_hint = "start again"


class CommandNotStarted(AuthsomeError):
    """the command of a run was not found."""

    code = "command_not_started"
    exit_status = 127  # `run` speaks as a shell does
    http_status = 400
    default_hint = None


class CommandNotExecutable(CommandNotStarted):
    """the command of a run is not executable."""

    code = "command_not_executable"
    exit_status = 126


def error_classes() -> dict[str, type[AuthsomeError]]:
    """Every class of the tree by its code."""
    found: dict[str, type[AuthsomeError]] = {}
    pending: list[type[AuthsomeError]] = [AuthsomeError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found


def from_code(code: str, message: str, hint: str | None) -> AuthsomeError:
    """Rebuild the error that a daemon answered with; an unknown code becomes the root class."""
    return error_classes().get(code, AuthsomeError)(message, hint=hint)
