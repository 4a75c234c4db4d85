"""Principals and identities: who owns a vault, and which keys may act for it."""

import secrets
from datetime import datetime
from typing import Final

from authsome.errors import AuthenticationFailed, NotAllowed
from authsome.models.principal import Identity, Principal, Role
from authsome.vault.columns import from_moment, readable, to_moment, to_optional_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealers

_IDENTITY: Final = "i.handle, i.did, i.principal_id, i.created_at, i.revoked_at"
_PRINCIPAL: Final = "p.id, p.name, p.role, p.vault_id"

_IdentityRow = tuple[str, str, str | None, int, int | None]
_PrincipalRow = tuple[str, str, str, str]


def create_owner(transaction: Transaction, sealers: Sealers, *, now: datetime, name: str = "owner") -> Principal:
    """Make the principal who owns this home: an admin, with a vault of its own."""
    vault_id = sealers.create_vault(transaction, now=now).vault_id
    owner = Principal(id=f"principal_{secrets.token_hex(12)}", name=name, role=Role.ADMIN, vault_id=vault_id)
    transaction.execute(
        "INSERT INTO principals (id, name, role, vault_id, created_at) VALUES (?, ?, ?, ?, ?)",
        (owner.id, owner.name, owner.role.value, owner.vault_id, from_moment(now)),
    )
    return owner


def owner(reader: Reader) -> Principal | None:
    """The first admin, or None in a new store."""
    row = reader.execute(
        f"SELECT {_PRINCIPAL} FROM principals p WHERE p.role = ? ORDER BY p.created_at, p.id LIMIT 1",
        (Role.ADMIN.value,),
    ).fetchone()
    return None if row is None else _principal(row)


def principal_by_id(reader: Reader, principal_id: str) -> Principal | None:
    """The principal of that id."""
    row = reader.execute(f"SELECT {_PRINCIPAL} FROM principals p WHERE p.id = ?", (principal_id,)).fetchone()
    return None if row is None else _principal(row)


def principal_of_vault(reader: Reader, vault_id: str) -> Principal | None:
    """The principal who owns that vault."""
    row = reader.execute(f"SELECT {_PRINCIPAL} FROM principals p WHERE p.vault_id = ?", (vault_id,)).fetchone()
    return None if row is None else _principal(row)


def count(reader: Reader) -> int:
    """How many principals there are."""
    return int(reader.execute("SELECT count(*) FROM principals").fetchone()[0])


def add_identity(transaction: Transaction, *, handle: str, did: str, now: datetime) -> Identity:
    """Register an identity, unclaimed; to register the same once more changes nothing.

    Raises:
        NotAllowed: the handle belongs to another key, or the key has another handle; the first binding stays.
    """
    transaction.execute(
        "INSERT INTO identities (handle, did, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (handle, did, from_moment(now)),
    )
    identity = identity_by_handle(transaction, handle)
    if identity is None:
        raise NotAllowed("this key is registered under another handle", hint="use that handle, or make a new key")
    if identity.did != did:
        raise NotAllowed(f"the handle {handle} belongs to another key", hint="choose another handle")
    return identity


def claim_identity(transaction: Transaction, *, handle: str, principal_id: str) -> None:
    """Bind an identity to a principal, once.

    Raises:
        AuthenticationFailed: there is no such identity, or it was revoked.
        NotAllowed: it belongs to another principal.
    """
    identity = identity_by_handle(transaction, handle)
    if identity is None or identity.revoked_at is not None:
        raise AuthenticationFailed
    if identity.principal_id not in {None, principal_id}:
        raise NotAllowed(f"the identity {handle} belongs to somebody else")
    transaction.execute("UPDATE identities SET principal_id = ? WHERE handle = ?", (principal_id, handle))


def count_unclaimed(reader: Reader) -> int:
    """How many identities wait to be claimed."""
    query = "SELECT count(*) FROM identities WHERE principal_id IS NULL AND revoked_at IS NULL"
    return int(reader.execute(query).fetchone()[0])


def purge_unclaimed(transaction: Transaction, *, before: datetime) -> int:
    """Forget the identities that were registered before a moment and never claimed; how many they were."""
    return transaction.execute(
        "DELETE FROM identities WHERE principal_id IS NULL AND created_at < ?", (from_moment(before),)
    ).rowcount


def revoke_identity(transaction: Transaction, *, handle: str, now: datetime) -> bool:
    """Revoke an identity, from the next request on; False when there is none that was valid."""
    changed = transaction.execute(
        "UPDATE identities SET revoked_at = ? WHERE handle = ? AND revoked_at IS NULL", (from_moment(now), handle)
    )
    return changed.rowcount == 1


def identity_by_handle(reader: Reader, handle: str) -> Identity | None:
    """The identity of that handle, revoked ones too."""
    row = reader.execute(f"SELECT {_IDENTITY} FROM identities i WHERE i.handle = ?", (handle,)).fetchone()
    return None if row is None else _identity(row)


def identities(reader: Reader, principal_id: str) -> list[Identity]:
    """A principal's identities, oldest first, revoked ones too."""
    rows = reader.execute(
        f"SELECT {_IDENTITY} FROM identities i WHERE i.principal_id = ? ORDER BY i.created_at, i.handle",
        (principal_id,),
    )
    return [_identity(row) for row in rows]


def caller(reader: Reader, handle: str) -> tuple[Identity, Principal | None] | None:
    """The identity of that handle and the principal it acts for, in one query; None when it is not registered."""
    row = reader.execute(
        f"SELECT {_IDENTITY}, {_PRINCIPAL} FROM identities i LEFT JOIN principals p ON p.id = i.principal_id"
        " WHERE i.handle = ?",
        (handle,),
    ).fetchone()
    if row is None:
        return None
    return _identity(row[:5]), None if row[5] is None else _principal(row[5:])


def _identity(row: _IdentityRow) -> Identity:
    with readable("an identity"):
        handle, did, principal_id, created_at, revoked_at = row
        return Identity(
            handle=handle,
            did=did,
            principal_id=principal_id,
            created_at=to_moment(created_at),
            revoked_at=to_optional_moment(revoked_at),
        )


def _principal(row: _PrincipalRow) -> Principal:
    with readable("a principal"):
        principal_id, name, role, vault_id = row
        return Principal(id=principal_id, name=name, role=Role(role), vault_id=vault_id)
