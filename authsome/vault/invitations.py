"""Invitations: who may become a principal, by a link that is good once; of its token only the hash is kept."""

from datetime import datetime
from typing import Final

from authsome.models.principal import Invitation, Role
from authsome.secret import Secret
from authsome.vault.claims import hash_of
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = "id, email, role, invited_by, created_at, expires_at"

_Row = tuple[str, str, str, str, int, int]


def put(transaction: Transaction, invitation: Invitation, token: Secret[str]) -> None:
    """Store an invitation in place of the one that this address had."""
    transaction.execute("DELETE FROM invitations WHERE email = ?", (invitation.email,))
    transaction.execute(
        f"INSERT INTO invitations ({_COLUMNS}, token_hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            invitation.id,
            invitation.email,
            invitation.role.value,
            invitation.invited_by,
            from_moment(invitation.created_at),
            from_moment(invitation.expires_at),
            hash_of(token),
        ),
    )


def by_token(reader: Reader, token: Secret[str]) -> Invitation | None:
    """The invitation that this token belongs to, expired ones too until they are purged."""
    row = reader.execute(f"SELECT {_COLUMNS} FROM invitations WHERE token_hash = ?", (hash_of(token),)).fetchone()
    return None if row is None else _invitation(row)


def list_all(reader: Reader) -> list[Invitation]:
    """Every invitation that was not taken up yet, oldest first."""
    rows = reader.execute(f"SELECT {_COLUMNS} FROM invitations ORDER BY created_at, id")
    return [_invitation(row) for row in rows]


def page(reader: Reader, *, now: datetime, limit: int) -> list[Invitation]:
    """Some of those that are still good, oldest first."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM invitations WHERE expires_at > ? ORDER BY created_at, id LIMIT ?",
        (from_moment(now), limit),
    )
    return [_invitation(row) for row in rows]


def count(reader: Reader, *, now: datetime) -> int:
    """How many are still good."""
    query = "SELECT count(*) FROM invitations WHERE expires_at > ?"
    return int(reader.execute(query, (from_moment(now),)).fetchone()[0])


def delete(transaction: Transaction, invitation_id: str) -> bool:
    """Withdraw or use up an invitation; False when there is none."""
    return transaction.execute("DELETE FROM invitations WHERE id = ?", (invitation_id,)).rowcount == 1


def purge(transaction: Transaction, now: datetime) -> int:
    """Forget the invitations that have expired; how many they were."""
    return transaction.execute("DELETE FROM invitations WHERE expires_at <= ?", (from_moment(now),)).rowcount


def _invitation(row: _Row) -> Invitation:
    with readable("an invitation"):
        invitation_id, email, role, invited_by, created_at, expires_at = row
        return Invitation(
            id=invitation_id,
            email=email,
            role=Role(role),
            invited_by=invited_by,
            created_at=to_moment(created_at),
            expires_at=to_moment(expires_at),
        )
