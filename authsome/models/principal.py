"""Who acts and who owns: an identity acts, a principal owns a vault, a claim binds them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An Ed25519 key pair that acts, known by its handle; unclaimed while `principal_id` is None."""

    handle: str
    did: str
    principal_id: str | None
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who acts: a principal by itself, in a browser that is signed in, or a proven, claimed identity of its."""

    identity: Identity | None
    """None: the principal itself."""
    principal: Principal

    @property
    def handle(self) -> str | None:
        """The identity's handle; None for the principal itself."""
        return self.identity.handle if self.identity else None

    @property
    def vault_id(self) -> str:
        """The vault that this caller may use."""
        return self.principal.vault_id
