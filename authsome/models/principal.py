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
    """A proven, claimed identity and whom it acts for."""

    identity: Identity
    principal: Principal

    @property
    def vault_id(self) -> str:
        """The vault that this caller may use."""
        return self.principal.vault_id
