"""Principals: who owns a vault."""

import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Final

from authsome.errors import NotAllowed
from authsome.models.principal import Principal, Role
from authsome.vault.columns import from_moment, readable
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealers

COLUMNS: Final = "p.id, p.name, p.role, p.vault_id, p.email"

_IN_A_VAULT: Final = ("runs", "logins", "clients", "issuers", "connections")
"""The tables whose rows belong to a vault; what hangs on those rows goes with them."""

Row = tuple[str, str, str, str, str | None]


def create(  # noqa: PLR0913  # what a principal is
    transaction: Transaction, sealers: Sealers, *, now: datetime, name: str, role: Role, email: str | None = None
) -> Principal:
    """Make a principal with a vault of its own.

    Raises:
        NotAllowed: another has this e-mail address.
    """
    if email is not None and by_email(transaction, email) is not None:
        raise NotAllowed(f"there is a principal with the e-mail address {email} already")
    vault_id = sealers.create_vault(transaction, now=now).vault_id
    made = Principal(id=f"principal_{secrets.token_hex(12)}", name=name, role=role, vault_id=vault_id, email=email)
    transaction.execute(
        "INSERT INTO principals (id, name, role, vault_id, email, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (made.id, made.name, made.role.value, made.vault_id, made.email, from_moment(now)),
    )
    return made


def create_owner(transaction: Transaction, sealers: Sealers, *, now: datetime, name: str = "owner") -> Principal:
    """Make the principal who owns this home: an admin."""
    return create(transaction, sealers, now=now, name=name, role=Role.ADMIN)


def owner(reader: Reader) -> Principal | None:
    """The first admin, or None in a new store."""
    return _one(reader, "p.role = ? ORDER BY p.created_at, p.id LIMIT 1", Role.ADMIN.value)


def by_id(reader: Reader, principal_id: str) -> Principal | None:
    """The principal of that id."""
    return _one(reader, "p.id = ?", principal_id)


def by_email(reader: Reader, email: str) -> Principal | None:
    """The principal who signs in with this address, in the spelling of `normal_email`."""
    return _one(reader, "p.email = ?", email)


def of_vault(reader: Reader, vault_id: str) -> Principal | None:
    """The principal who owns that vault."""
    return _one(reader, "p.vault_id = ?", vault_id)


def list_all(reader: Reader) -> list[Principal]:
    """Every principal, oldest first."""
    return [read(row) for row in reader.execute(f"SELECT {COLUMNS} FROM principals p ORDER BY p.created_at, p.id")]


def page(reader: Reader, *, limit: int, offset: int = 0) -> list[Principal]:
    """Some of them, oldest first."""
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM principals p ORDER BY p.created_at, p.id LIMIT ? OFFSET ?", (limit, offset)
    )
    return [read(row) for row in rows]


def of_ids(reader: Reader, ids: Collection[str]) -> list[Principal]:
    """Those of these ids that there are."""
    marks = ", ".join("?" * len(ids))
    rows = reader.execute(f"SELECT {COLUMNS} FROM principals p WHERE p.id IN ({marks})", tuple(ids))
    return [read(row) for row in rows]


def of_programs(reader: Reader, *, limit: int) -> list[Principal]:
    """Some of those as which nobody signs in and who are no admins, oldest first."""
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM principals p WHERE p.email IS NULL AND p.role = ? ORDER BY p.created_at, p.id LIMIT ?",
        (Role.USER.value, limit),
    )
    return [read(row) for row in rows]


def of_program(reader: Reader, wanted: str) -> Principal | None:
    """The one of these that has this id or this name, which none of them shares."""
    return _one(reader, "? IN (p.id, p.name) AND p.email IS NULL AND p.role = 'user'", wanted)


def count(reader: Reader, role: Role | None = None) -> int:
    """How many principals there are, of all roles or of one."""
    if role is None:
        return int(reader.execute("SELECT count(*) FROM principals").fetchone()[0])
    return int(reader.execute("SELECT count(*) FROM principals WHERE role = ?", (role.value,)).fetchone()[0])


def set_role(transaction: Transaction, principal_id: str, role: Role) -> None:
    """Change what a principal may do beyond its own vault."""
    transaction.execute("UPDATE principals SET role = ? WHERE id = ?", (role.value, principal_id))


def set_email(transaction: Transaction, principal_id: str, email: str) -> None:
    """Give a principal the address that it signs in with.

    Raises:
        NotAllowed: another has it.
    """
    known = by_email(transaction, email)
    if known is not None and known.id != principal_id:
        raise NotAllowed(f"there is a principal with the e-mail address {email} already")
    transaction.execute("UPDATE principals SET email = ? WHERE id = ?", (email, principal_id))


def delete(transaction: Transaction, principal: Principal) -> None:
    """Delete a principal and its vault: all that is stored in it, and the key that it was sealed with.

    Its identities have to be let go before (`identities.revoke_all`). What the log says of it stays.
    """
    for table in _IN_A_VAULT:
        transaction.execute(f"DELETE FROM {table} WHERE vault_id = ?", (principal.vault_id,))
    transaction.execute("DELETE FROM principals WHERE id = ?", (principal.id,))
    transaction.execute("DELETE FROM vaults WHERE id = ?", (principal.vault_id,))


def read(row: Row) -> Principal:
    """The principal in a row of `COLUMNS`.

    Raises:
        VaultDamaged: there is none in it.
    """
    with readable("a principal"):
        principal_id, name, role, vault_id, email = row
        return Principal(id=principal_id, name=name, role=Role(role), vault_id=vault_id, email=email)


def _one(reader: Reader, condition: str, value: str) -> Principal | None:
    row = reader.execute(f"SELECT {COLUMNS} FROM principals p WHERE {condition}", (value,)).fetchone()
    return None if row is None else read(row)
