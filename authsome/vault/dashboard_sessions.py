"""Dashboard sessions: the browsers that are signed in. Of the key in a browser's cookie only the hash is kept."""

import json
from datetime import datetime, timedelta
from typing import Final

from authsome.crypto import token
from authsome.models.visit import Browser, DashboardSession, Note, Way
from authsome.secret import Secret
from authsome.vault.columns import from_moment, latest, readable, to_moment
from authsome.vault.database import Reader, Transaction

_COLUMNS: Final = "id, principal_id, identity, way, browser, address, created_at, seen_at, expires_at, note"
_LIVE: Final = (
    "expires_at > ? AND created_at <= ? AND seen_at > ? AND (identity IS NULL OR EXISTS ("
    "SELECT 1 FROM identities i WHERE i.handle = dashboard_sessions.identity"
    " AND i.principal_id = dashboard_sessions.principal_id AND i.revoked_at IS NULL"
    " AND i.connections IS NULL AND i.methods IS NULL AND i.expires_at IS NULL))"
)
"""A session is worth no more than the identity whose link opened it: it may act, for the same, without any limit.

One from before the clock was set back is over: nobody knows for how long it has been there.
"""

_Row = tuple[str, str, str | None, str, str, str, int, int, int, str | None]


def create(transaction: Transaction, session: DashboardSession, key: Secret[str]) -> None:
    """Store a new one."""
    transaction.execute(
        "INSERT INTO dashboard_sessions (key_hash, id, principal_id, identity, way, browser, address, created_at,"
        " seen_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token.hash_of(key),
            session.id,
            session.principal_id,
            session.identity,
            session.way.value,
            session.browser.name,
            session.browser.address,
            from_moment(session.created_at),
            from_moment(session.seen_at),
            from_moment(session.expires_at),
        ),
    )


def by_key(reader: Reader, key: Secret[str], *, now: datetime, idle: timedelta) -> DashboardSession | None:
    """The session whose browser holds this key; None once it has ended, or was not used for so long."""
    row = reader.execute(
        f"SELECT {_COLUMNS} FROM dashboard_sessions WHERE key_hash = ? AND {_LIVE}",
        (token.hash_of(key), *_bounds(now, idle)),
    ).fetchone()
    return None if row is None else _session(row)


def page(  # noqa: PLR0913  # each by name
    reader: Reader, principal_id: str, *, now: datetime, idle: timedelta, limit: int, offset: int = 0
) -> list[DashboardSession]:
    """Some of a principal's live sessions, the one that was used last first."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM dashboard_sessions WHERE principal_id = ? AND {_LIVE}"
        " ORDER BY seen_at DESC, id LIMIT ? OFFSET ?",
        (principal_id, *_bounds(now, idle), limit, offset),
    )
    return [_session(row) for row in rows]


def count(reader: Reader, principal_id: str, *, now: datetime, idle: timedelta) -> int:
    """How many live sessions a principal has."""
    row = reader.execute(
        f"SELECT count(*) FROM dashboard_sessions WHERE principal_id = ? AND {_LIVE}",
        (principal_id, *_bounds(now, idle)),
    ).fetchone()
    return int(row[0])


def touch(transaction: Transaction, session_id: str, *, now: datetime) -> None:
    """Note that a session was used."""
    transaction.execute("UPDATE dashboard_sessions SET seen_at = ? WHERE id = ?", (from_moment(now), session_id))


def put_note(transaction: Transaction, session_id: str, note: Note) -> None:
    """Keep what the next page has to say."""
    text = json.dumps({"id": note.id, "is_good": note.is_good, "text": note.text})
    transaction.execute("UPDATE dashboard_sessions SET note = ? WHERE id = ?", (text, session_id))


def end(transaction: Transaction, principal_id: str, session_id: str) -> bool:
    """End one of a principal's sessions; False when there is none of that name."""
    gone = transaction.execute(
        "DELETE FROM dashboard_sessions WHERE principal_id = ? AND id = ?", (principal_id, session_id)
    )
    return gone.rowcount == 1


def end_others(transaction: Transaction, principal_id: str, *, but: str | None) -> int:
    """End a principal's sessions except one; how many they were."""
    return transaction.execute(
        "DELETE FROM dashboard_sessions WHERE principal_id = ? AND id <> ?", (principal_id, but or "")
    ).rowcount


def purge(transaction: Transaction, *, now: datetime, idle: timedelta) -> int:
    """Forget those that have expired, or were not used for so long, or lie ahead; how many they were."""
    return transaction.execute(
        "DELETE FROM dashboard_sessions WHERE expires_at <= ? OR created_at > ? OR seen_at <= ?", _bounds(now, idle)
    ).rowcount


def _bounds(now: datetime, idle: timedelta) -> tuple[int, int, int]:
    """Before and after which a session ends, was begun, and was last used, where it is live."""
    return from_moment(now), latest(now), from_moment(now - idle)


def _session(row: _Row) -> DashboardSession:
    with readable("a dashboard session"):
        session_id, principal_id, identity, way, browser, address, created_at, seen_at, expires_at, note = row
        return DashboardSession(
            id=session_id,
            principal_id=principal_id,
            identity=identity,
            way=Way(way),
            browser=Browser(name=browser, address=address),
            created_at=to_moment(created_at),
            seen_at=to_moment(seen_at),
            expires_at=to_moment(expires_at),
            note=Note(**json.loads(note)) if note else None,
        )
