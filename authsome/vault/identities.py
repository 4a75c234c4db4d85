"""Identities: which keys may act, for whom, and within which limits."""

from datetime import datetime, timedelta
from typing import Final

from authsome.errors import AuthenticationFailed, NotAllowed
from authsome.models.limits import UNLIMITED, Limits
from authsome.models.principal import Identity, Principal
from authsome.vault import principals
from authsome.vault.columns import (
    from_moment,
    from_optional_moment,
    from_words,
    latest,
    readable,
    to_moment,
    to_optional_moment,
    to_words,
)
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = "i.handle, i.did, i.principal_id, i.created_at, i.revoked_at, i.connections, i.methods, i.expires_at"
_WIDTH: Final = 8

_Row = tuple[str, str, str | None, int, int | None, str | None, str | None, int | None]


def add(transaction: Transaction, *, handle: str, did: str, now: datetime) -> Identity:
    """Register an identity, unclaimed; to register the same once more changes nothing.

    Raises:
        NotAllowed: the handle belongs to another key, or the key has another handle; the first binding stays.
    """
    transaction.execute(
        "INSERT INTO identities (handle, did, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (handle, did, from_moment(now)),
    )
    identity = by_handle(transaction, handle)
    if identity is None:
        raise NotAllowed("this key is registered under another handle", hint="use that handle, or make a new key")
    if identity.did != did:
        raise NotAllowed(f"the handle {handle} belongs to another key", hint="choose another handle")
    return identity


def claim(transaction: Transaction, *, handle: str, principal_id: str) -> None:
    """Bind an identity to a principal, once.

    Raises:
        AuthenticationFailed: there is no such identity, or it was revoked.
        NotAllowed: it belongs to another principal.
    """
    identity = by_handle(transaction, handle)
    if identity is None or identity.revoked_at is not None:
        raise AuthenticationFailed
    if identity.principal_id not in {None, principal_id}:
        raise NotAllowed(f"the identity {handle} belongs to somebody else")
    transaction.execute("UPDATE identities SET principal_id = ? WHERE handle = ?", (principal_id, handle))


def limit(transaction: Transaction, *, handle: str, limits: Limits) -> None:
    """Put these limits in the place of those that an identity has, from the next request on."""
    connections = None if limits.connections is None else from_words(limits.connections)
    methods = None if limits.methods is None else from_words(tuple(sorted(limits.methods)))
    transaction.execute(
        "UPDATE identities SET connections = ?, methods = ?, expires_at = ? WHERE handle = ?",
        (connections, methods, from_optional_moment(limits.expires_at), handle),
    )


def revoke(transaction: Transaction, *, handle: str, now: datetime) -> bool:
    """Revoke an identity, from the next request on; False when there is none that was valid."""
    changed = transaction.execute(
        "UPDATE identities SET revoked_at = ? WHERE handle = ? AND revoked_at IS NULL", (from_moment(now), handle)
    )
    return changed.rowcount == 1


def revoke_all(transaction: Transaction, principal_id: str, *, now: datetime) -> int:
    """Revoke a principal's identities and let go of them: how many still were valid. Their handles stay taken."""
    changed = transaction.execute(
        "UPDATE identities SET revoked_at = ? WHERE principal_id = ? AND revoked_at IS NULL",
        (from_moment(now), principal_id),
    )
    transaction.execute("UPDATE identities SET principal_id = NULL WHERE principal_id = ?", (principal_id,))
    return changed.rowcount


def count_unclaimed(reader: Reader) -> int:
    """How many identities wait to be claimed."""
    query = "SELECT count(*) FROM identities WHERE principal_id IS NULL AND revoked_at IS NULL"
    return int(reader.execute(query).fetchone()[0])


def purge_unclaimed(transaction: Transaction, *, now: datetime, lifetime: timedelta) -> int:
    """Forget the identities that have waited for so long to be claimed; how many they were.

    Also those from before the clock was set back, which would wait until their time has come.
    """
    return transaction.execute(
        "DELETE FROM identities WHERE principal_id IS NULL AND revoked_at IS NULL"
        " AND (created_at < ? OR created_at > ?)",
        (from_moment(now - lifetime), latest(now)),
    ).rowcount


def by_handle(reader: Reader, handle: str) -> Identity | None:
    """The identity of that handle, revoked ones too."""
    row = reader.execute(f"SELECT {_COLUMNS} FROM identities i WHERE i.handle = ?", (handle,)).fetchone()
    return None if row is None else _identity(row)


def of_principal(reader: Reader, principal_id: str) -> list[Identity]:
    """A principal's identities, oldest first, revoked ones too."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM identities i WHERE i.principal_id = ? ORDER BY i.created_at, i.handle",
        (principal_id,),
    )
    return [_identity(row) for row in rows]


def page(
    reader: Reader, principal_id: str | None, *, now: datetime, limit: int, offset: int = 0
) -> list[tuple[Identity, Principal, datetime | None]]:
    """Some of a principal's identities, or everybody's, each with its last use: those that may act first.

    Of these, and of the others, the ones that were used last come first.
    """
    whose, values = ("", ()) if principal_id is None else (" WHERE i.principal_id = ?", (principal_id,))
    moment = from_moment(now)
    rows = reader.execute(
        f"SELECT {_COLUMNS}, {principals.COLUMNS}, u.at FROM identities i"
        f" JOIN principals p ON p.id = i.principal_id LEFT JOIN uses u ON u.handle = i.handle{whose}"
        " ORDER BY (i.revoked_at IS NOT NULL OR coalesce(i.expires_at, ?) <= ?), coalesce(u.at, i.created_at) DESC,"
        " i.handle LIMIT ? OFFSET ?",
        (*values, moment + 1, moment, limit, offset),
    )
    with readable("an identity's last use"):
        return [(_identity(row[:_WIDTH]), principals.read(row[_WIDTH:-1]), to_optional_moment(row[-1])) for row in rows]


def count(reader: Reader, principal_id: str | None) -> int:
    """How many identities a principal has, or all of them, revoked ones too."""
    query = "SELECT count(*) FROM identities WHERE principal_id IS NOT NULL"
    if principal_id is None:
        return int(reader.execute(query).fetchone()[0])
    return int(reader.execute(f"{query} AND principal_id = ?", (principal_id,)).fetchone()[0])


def caller(reader: Reader, handle: str) -> tuple[Identity, Principal | None] | None:
    """The identity of that handle and the principal it acts for, in one query; None when it is not registered."""
    row = reader.execute(
        f"SELECT {_COLUMNS}, {principals.COLUMNS} FROM identities i LEFT JOIN principals p ON p.id = i.principal_id"
        " WHERE i.handle = ?",
        (handle,),
    ).fetchone()
    if row is None:
        return None
    return _identity(row[:_WIDTH]), None if row[_WIDTH] is None else principals.read(row[_WIDTH:])


def note_use(transaction: Transaction, handle: str, *, now: datetime) -> None:
    """Note that an identity has just acted."""
    transaction.execute(
        "INSERT INTO uses (handle, at) VALUES (?, ?) ON CONFLICT (handle) DO UPDATE SET at = excluded.at",
        (handle, from_moment(now)),
    )


def last_uses(reader: Reader, principal_id: str) -> dict[str, datetime]:
    """When a principal's identities last acted, by handle; those that never did are not there."""
    rows = reader.execute(
        "SELECT u.handle, u.at FROM uses u JOIN identities i ON i.handle = u.handle WHERE i.principal_id = ?",
        (principal_id,),
    )
    with readable("an identity's last use"):
        return {str(handle): to_moment(at) for handle, at in rows}


def _identity(row: _Row) -> Identity:
    with readable("an identity"):
        handle, did, principal_id, created_at, revoked_at, connections, methods, expires_at = row
        limits = UNLIMITED
        if connections is not None or methods is not None or expires_at is not None:
            limits = Limits(
                connections=None if connections is None else to_words(connections),
                methods=None if methods is None else frozenset(to_words(methods)),
                expires_at=to_optional_moment(expires_at),
            )
        return Identity(
            handle=handle,
            did=did,
            principal_id=principal_id,
            created_at=to_moment(created_at),
            revoked_at=to_optional_moment(revoked_at),
            limits=limits,
        )
