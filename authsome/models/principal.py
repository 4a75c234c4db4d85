"""Who acts and who owns: an identity acts, a principal owns a vault, a claim binds them."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from authsome.errors import NotAllowed, RequestInvalid
from authsome.models.limits import UNLIMITED, Limits

MOST_NAME: Final = 64  # characters of a principal's name
_EMAIL: Final = re.compile(r"[!-?A-~]{1,64}@[a-z0-9.-]{1,190}")


class Role(StrEnum):
    """What a principal may do beyond its own vault."""

    ADMIN = "admin"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The owner of a vault."""

    id: str
    name: str
    role: Role
    vault_id: str
    email: str | None = None
    """What a person signs in with; None for the local owner until it gives one, and for principals of programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An Ed25519 key pair that acts, known by its handle; unclaimed while `principal_id` is None."""

    handle: str
    did: str
    principal_id: str | None
    created_at: datetime
    revoked_at: datetime | None
    limits: Limits = UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An identity's question to be bound to whoever answers it, as it is stored: of its token only the hash."""

    handle: str
    did: str
    """The key that asked; a claim is worth nothing to another that has the handle since."""
    created_at: datetime
    expires_at: datetime
    was_refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Somebody who may become a principal, as it is stored: of its token only the hash."""

    id: str
    email: str
    role: Role
    invited_by: str
    """The admin's id."""
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who acts: a principal by itself, in a browser that is signed in, or a proven, claimed identity of its."""

    identity: Identity | None
    """None: the principal itself."""
    principal: Principal
    proof: str | None = None
    """The `jti` of the proof that this call came with, for the log; None for a run and for a browser."""

    @property
    def handle(self) -> str | None:
        """The identity's handle; None for the principal itself."""
        return self.identity.handle if self.identity else None

    @property
    def vault_id(self) -> str:
        """The vault that this caller may use."""
        return self.principal.vault_id

    @property
    def limits(self) -> Limits:
        """What the identity may not do although its principal may."""
        return self.identity.limits if self.identity else UNLIMITED

    @property
    def is_admin(self) -> bool:
        """Whether it may do what is an admin's: the principal's role, by an identity without limits."""
        return self.principal.role is Role.ADMIN and self.limits.is_none

    def require_admin(self, why: str = "only an admin may do this") -> None:
        """Raise NotAllowed, with these words, for everybody but an admin; of one by a limited identity that is why."""
        if self.principal.role is Role.ADMIN:
            self.require_unlimited()
        if not self.is_admin:
            raise NotAllowed(why)

    def require_unlimited(self) -> None:
        """Raise NotAllowed for an identity with limits: it administers nothing, or it could shed them."""
        if not self.limits.is_none:
            raise NotAllowed(
                f"the identity {self.handle} is limited, and may not do this",
                hint="do it with another identity of yours, or in the dashboard",
            )

    def require_clear(self) -> None:
        """Raise NotAllowed for an identity that is limited to some methods: who has a secret sends what it likes."""
        if self.limits.methods is not None:
            raise NotAllowed(
                f"the identity {self.handle} is limited to some methods, and so gets no secret in clear",
                hint="its requests carry the credential: authsome run -- COMMAND",
            )

    def require_wide(self) -> None:
        """Raise NotAllowed for an identity that is limited in what it uses: it changes nothing in the vault."""
        if self.limits.is_narrow:
            raise NotAllowed(
                f"the identity {self.handle} may use connections, and not change any",
                hint="do it with another identity of yours, or in the dashboard",
            )


def normal_email(text: str) -> str:
    """An e-mail address in the one spelling that it is stored and looked up in.

    Raises:
        RequestInvalid: it is none.
    """
    lowered = text.strip().lower()
    if not _EMAIL.fullmatch(lowered):
        raise RequestInvalid(f"{text[:64]!r} is not an e-mail address")
    return lowered


def checked_name(text: str) -> str:
    """A principal's name, to be shown to people.

    Raises:
        RequestInvalid: it is empty, too long, or holds what cannot be shown.
    """
    name = text.strip()
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise RequestInvalid(f"a principal's name has 1 to {MOST_NAME} printable characters")
    return name
