"""Connections: stored credentials, and their secrets, each field sealed by itself.

Rules:
1. Whatever writes secrets writes all fields of the connection anew, under one new revision.
2. A late answer (a refresh that was under way) is written only onto the revision it started from, so it never brings
   back what was logged out or replaced meanwhile.
3. A provider's only connection is its default; among several, only the user chooses.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from authsome.errors import ConnectionNotFound, VaultDamaged
from authsome.models.audit import Event
from authsome.models.connection import CLIENT_SECRET, HONEYTOKEN, REFRESH_TOKEN, Connection, Kind, Secrets, Status
from authsome.vault.columns import (
    from_moment,
    from_names,
    from_optional_moment,
    from_words,
    readable,
    to_moment,
    to_names,
    to_optional_moment,
    to_words,
)
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealer, next_revision

_COLUMNS: Final = (
    "vault_id, provider, name, kind, status, is_default, scopes, account, expires_at, has_refresh_token, variables,"
    " revision, created_at, updated_at, problem, flow"
)
_KEY: Final = "vault_id = ? AND provider = ? AND name = ?"
_ENDED: Final = (
    "(status <> 'connected' OR problem IS NOT NULL OR (has_refresh_token = 0 AND coalesce(expires_at, ?) <= ?))"
)
"""Nobody can use it, or nobody before long; the values are a moment later than the last that is soon, and that."""
_IS_DECOY: Final = f"coalesce(flow, '') = '{HONEYTOKEN}'"
_WAS_USED: Final = (
    f"EXISTS (SELECT 1 FROM audit a WHERE a.event = '{Event.HONEYTOKEN}' AND a.event <> 'resolve'"
    " AND (a.vault_id || '') = connections.vault_id AND (a.provider || '') = connections.provider"
    " AND a.connection = connections.name AND a.at >= connections.created_at)"
)
"""As a honeytoken, since it was planted."""

_Row = tuple[str, str, str, str, str, int, str, str | None, int | None, int, str, int, int, int, str | None, str | None]


def get(reader: Reader, vault_id: str, provider: str, name: str) -> Connection | None:
    """One connection, or None."""
    row = reader.execute(f"SELECT {_COLUMNS} FROM connections WHERE {_KEY}", (vault_id, provider, name)).fetchone()
    return None if row is None else _connection(row)


def default_name(reader: Reader, vault_id: str, provider: str) -> str | None:
    """The name of a provider's default connection; None when there is no connection, or no choice among several."""
    row = reader.execute(
        "SELECT name FROM connections WHERE vault_id = ? AND provider = ? AND is_default = 1", (vault_id, provider)
    ).fetchone()
    return None if row is None else str(row[0])


def require(reader: Reader, vault_id: str, provider: str, name: str | None) -> Connection:
    """One connection; without a name the provider's default one.

    Raises:
        ConnectionNotFound: there is none, or none of that name, or several and no default among them.
    """
    return one_of(list_of(reader, vault_id, provider), provider, name)


def one_of(stored: Sequence[Connection], provider: str, name: str | None) -> Connection:
    """The same among connections of a provider that are at hand.

    Raises:
        ConnectionNotFound: see `require`.
    """
    names = ", ".join(connection.name for connection in stored)
    if not stored:
        raise ConnectionNotFound(f"{provider} is not connected", hint=f"log in first: authsome login {provider}")
    for connection in stored:
        if connection.is_default if name is None else connection.name == name:
            return connection
    if name is None:
        raise ConnectionNotFound(
            f"{provider} has no default connection", hint=f"choose: authsome set-default {provider} NAME, of: {names}"
        )
    raise ConnectionNotFound(f"{provider} has no connection named {name}", hint=f"it has: {names}")


def list_of(reader: Reader, vault_id: str, provider: str) -> list[Connection]:
    """A provider's connections by name."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM connections WHERE vault_id = ? AND provider = ? ORDER BY name", (vault_id, provider)
    )
    return [_connection(row) for row in rows]


def list_of_any(reader: Reader, vault_id: str, providers: Collection[str]) -> dict[str, list[Connection]]:
    """The connections of some providers, by provider, for those that have any."""
    marks = ", ".join("?" * len(providers))
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM connections WHERE vault_id = ? AND provider IN ({marks}) ORDER BY provider, name",
        (vault_id, *providers),
    )
    found: dict[str, list[Connection]] = {}
    for row in rows:
        connection = _connection(row)
        found.setdefault(connection.provider, []).append(connection)
    return found


def list_all(reader: Reader, vault_id: str) -> list[Connection]:
    """A vault's connections by provider and name."""
    rows = reader.execute(f"SELECT {_COLUMNS} FROM connections WHERE vault_id = ? ORDER BY provider, name", (vault_id,))
    return [_connection(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which of a vault's connections are wanted."""

    words: str = ""
    """In the provider's name, the connection's or the account's; or the provider is one of `providers`."""
    provider: str | None = None
    """Of this one alone."""
    providers: Collection[str] = ()
    wanting: bool | None = None
    """Whether somebody should do something about them, as about a decoy that was used; False: they work; None: all."""
    decoys: bool | None = None
    """Whether they are honeytokens; None: all."""
    soon: datetime
    """What ends by then, and nothing renews, wants somebody."""


def search(reader: Reader, vault_id: str, wanted: Search, *, limit: int, offset: int = 0) -> list[Connection]:
    """Some of those that fit, by provider and name; where somebody is wanted, used decoys come before all others."""
    where, values = _fitting(vault_id, wanted)
    order = f"{_IS_DECOY} DESC, provider, name" if wanted.wanting else "provider, name"
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM connections WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
        (*values, limit, offset),
    )
    return [_connection(row) for row in rows]


def count(reader: Reader, vault_id: str, wanted: Search) -> int:
    """How many fit."""
    where, values = _fitting(vault_id, wanted)
    return int(reader.execute(f"SELECT count(*) FROM connections WHERE {where}", values).fetchone()[0])


def names_of(reader: Reader, vault_id: str, provider: str) -> frozenset[str]:
    """What a provider's connections are called."""
    rows = reader.execute("SELECT name FROM connections WHERE vault_id = ? AND provider = ?", (vault_id, provider))
    return frozenset(str(name) for (name,) in rows)


def count_by_provider(reader: Reader, vault_id: str) -> dict[str, int]:
    """How many connections each provider has that has any; nothing is connected by a decoy."""
    rows = reader.execute(
        f"SELECT provider, count(*) FROM connections WHERE vault_id = ? AND NOT {_IS_DECOY} GROUP BY provider",
        (vault_id,),
    )
    return {str(provider): int(number) for provider, number in rows}


def list_recent(reader: Reader, vault_id: str, *, limit: int) -> list[Connection]:
    """Those that were used last, as far as it is counted (vault/usage.py); then those that were stored last."""
    columns = ", ".join(f"c.{column.strip()}" for column in _COLUMNS.split(","))
    rows = reader.execute(
        f"SELECT {columns} FROM connections c LEFT JOIN last_uses u"
        " ON u.vault_id = c.vault_id AND u.provider = c.provider AND u.connection = c.name"
        " WHERE c.vault_id = ? ORDER BY coalesce(u.at, 0) DESC, c.updated_at DESC, c.provider, c.name LIMIT ?",
        (vault_id, limit),
    )
    return [_connection(row) for row in rows]


def list_of_everyone(reader: Reader, provider: str) -> list[Connection]:
    """A provider's connections in every vault, by vault and name: for what concerns the provider itself."""
    rows = reader.execute(f"SELECT {_COLUMNS} FROM connections WHERE provider = ? ORDER BY vault_id, name", (provider,))
    return [_connection(row) for row in rows]


def put(  # noqa: PLR0913  # a credential has these parts
    transaction: Transaction,
    sealer: Sealer,
    *,
    provider: str,
    name: str,
    kind: Kind,
    secrets: Secrets,
    now: datetime,
    scopes: tuple[str, ...] = (),
    account: str | None = None,
    expires_at: datetime | None = None,
    variables: Mapping[str, str] | None = None,
    flow: str | None = None,
) -> Connection:
    """Store a connection, new or in place of the one of that name; the first of a provider becomes its default."""
    before = get(transaction, sealer.vault_id, provider, name)
    connection = Connection(
        vault_id=sealer.vault_id,
        provider=provider,
        name=name,
        kind=kind,
        status=Status.CONNECTED,
        is_default=before.is_default if before else not list_of(transaction, sealer.vault_id, provider),
        scopes=scopes,
        account=account,
        expires_at=expires_at,
        has_refresh_token=REFRESH_TOKEN in secrets or CLIENT_SECRET in secrets,
        variables=dict(variables or {}),
        revision=next_revision(transaction, sealer.vault_id),
        created_at=now if before is None else before.created_at,
        updated_at=now,
        flow=flow,
    )
    _write(transaction, sealer, connection, secrets)
    return connection


def update_tokens(  # noqa: PLR0913  # a credential has these parts
    transaction: Transaction,
    sealer: Sealer,
    connection: Connection,
    secrets: Secrets,
    *,
    scopes: tuple[str, ...],
    expires_at: datetime | None,
    now: datetime,
) -> Connection | None:
    """Store refreshed secrets on the very revision that `connection` is; None when it changed or went meanwhile.

    `secrets` are all fields, those that stay the same too.
    """
    present = get(transaction, sealer.vault_id, connection.provider, connection.name)
    if present is None or present.revision != connection.revision:
        return None
    updated = replace(
        present,
        status=Status.CONNECTED,
        scopes=scopes,
        expires_at=expires_at,
        has_refresh_token=REFRESH_TOKEN in secrets or CLIENT_SECRET in secrets,
        revision=next_revision(transaction, sealer.vault_id),
        updated_at=now,
        problem=None,
    )
    _write(transaction, sealer, updated, secrets)
    return updated


def mark_invalid(transaction: Transaction, connection: Connection, *, problem: str, now: datetime) -> bool:
    """Note that the provider no longer accepts this revision, and why; False when it changed or went meanwhile."""
    changed = transaction.execute(
        f"UPDATE connections SET status = ?, problem = ?, updated_at = ? WHERE {_KEY} AND revision = ?",
        (Status.INVALID.value, problem, from_moment(now), *_key(connection), connection.revision),
    )
    return changed.rowcount == 1


def note_problem(transaction: Transaction, connection: Connection, problem: str) -> None:
    """Note what this revision's refresh failed with, until one succeeds."""
    transaction.execute(
        f"UPDATE connections SET problem = ? WHERE {_KEY} AND revision = ?",
        (problem, *_key(connection), connection.revision),
    )


def set_default(transaction: Transaction, connection: Connection) -> Connection:
    """Make a connection its provider's default.

    Raises:
        ConnectionNotFound: it is gone.
    """
    transaction.execute(
        "UPDATE connections SET is_default = 0 WHERE vault_id = ? AND provider = ? AND is_default = 1",
        (connection.vault_id, connection.provider),
    )
    transaction.execute(f"UPDATE connections SET is_default = 1 WHERE {_KEY}", _key(connection))
    return require(transaction, *_key(connection))


def delete(transaction: Transaction, connection: Connection) -> bool:
    """Forget a connection and its secrets; False when it is gone. One that remains alone becomes the default."""
    gone = transaction.execute(f"DELETE FROM connections WHERE {_KEY}", _key(connection))
    remaining = list_of(transaction, connection.vault_id, connection.provider)
    if len(remaining) == 1:
        transaction.execute(f"UPDATE connections SET is_default = 1 WHERE {_KEY}", _key(remaining[0]))
    return gone.rowcount == 1


def secrets(
    reader: Reader, sealer: Sealer, connection: Connection, *, fields: Collection[str] | None = None
) -> Secrets:
    """The secrets of a connection, opened: all of them, or only `fields`, so that no more is in clear than is used.

    Raises:
        VaultDamaged: one was changed, moved here from elsewhere, or is of another revision; or none is left.
    """
    key = _key(connection)
    rows = reader.recall(("sealed", *key), lambda: _sealed(reader, key)) or ()
    found = {
        field: sealer.open(connection.provider, connection.name, field, connection.revision, sealed)
        for field, sealed in rows
        if fields is None or field in fields
    }
    if not rows:
        raise VaultDamaged(
            f"the secrets of {connection.provider}/{connection.name} are gone",
            hint=f"log in again: authsome login {connection.provider} --force",
        )
    return found


def fields(reader: Reader, connection: Connection) -> tuple[str, ...]:
    """The names of a connection's secret fields, in order."""
    query = "SELECT field FROM secrets WHERE vault_id = ? AND provider = ? AND connection = ? ORDER BY field"
    return tuple(str(field) for (field,) in reader.execute(query, _key(connection)))


def _fitting(vault_id: str, wanted: Search) -> tuple[str, tuple[str | int, ...]]:
    """The condition of a search, and its values."""
    conditions, values = ["vault_id = ?"], [vault_id]
    if wanted.provider is not None:
        conditions.append("provider = ?")
        values.append(wanted.provider)
    if wanted.words:
        # instr and not LIKE, in which two characters mean something else
        marks = ", ".join("?" * len(wanted.providers))
        columns = " OR ".join(
            f"instr(lower({column}), ?) > 0" for column in ("provider", "name", "coalesce(account, '')")
        )
        conditions.append(f"({columns} OR provider IN ({marks}))")
        values += [wanted.words.lower()] * 3 + list(wanted.providers)
    if wanted.decoys is not None:
        conditions.append(_IS_DECOY if wanted.decoys else f"NOT {_IS_DECOY}")
    if wanted.wanting is None:
        return " AND ".join(conditions), tuple(values)
    conditions.append(f"({_ENDED} OR {_IS_DECOY} AND {_WAS_USED})" if wanted.wanting else f"NOT {_ENDED}")
    soon = from_moment(wanted.soon)
    return " AND ".join(conditions), (*values, soon + 1, soon)


def _sealed(reader: Reader, key: tuple[str, str, str]) -> list[tuple[str, bytes]] | None:
    """A connection's sealed fields; None when there are none."""
    query = "SELECT field, sealed FROM secrets WHERE vault_id = ? AND provider = ? AND connection = ?"
    return reader.execute(query, key).fetchall() or None


def _write(transaction: Transaction, sealer: Sealer, connection: Connection, fields: Secrets) -> None:
    key = _key(connection)
    transaction.execute("DELETE FROM secrets WHERE vault_id = ? AND provider = ? AND connection = ?", key)
    transaction.execute(
        f"INSERT INTO connections ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (vault_id, provider, name) DO UPDATE SET kind = excluded.kind, status = excluded.status,"
        " is_default = excluded.is_default, scopes = excluded.scopes, account = excluded.account,"
        " expires_at = excluded.expires_at, has_refresh_token = excluded.has_refresh_token,"
        " variables = excluded.variables, revision = excluded.revision, updated_at = excluded.updated_at,"
        " problem = excluded.problem, flow = excluded.flow",
        (
            *key,
            connection.kind.value,
            connection.status.value,
            int(connection.is_default),
            from_words(connection.scopes),
            connection.account,
            from_optional_moment(connection.expires_at),
            int(connection.has_refresh_token),
            from_names(connection.variables),
            connection.revision,
            from_moment(connection.created_at),
            from_moment(connection.updated_at),
            connection.problem,
            connection.flow,
        ),
    )
    for field, value in fields.items():
        sealed = sealer.seal(connection.provider, connection.name, field, connection.revision, value)
        transaction.execute(
            "INSERT INTO secrets (vault_id, provider, connection, field, sealed) VALUES (?, ?, ?, ?, ?)",
            (*key, field, sealed),
        )


def _key(connection: Connection) -> tuple[str, str, str]:
    return (connection.vault_id, connection.provider, connection.name)


def _connection(row: _Row) -> Connection:
    with readable(f"the connection {row[1]}/{row[2]}"):
        (
            vault_id, provider, name, kind, status, is_default, scopes, account, expires_at, has_refresh_token,
            variables, revision, created_at, updated_at, problem, flow,
        ) = row  # fmt: skip
        return Connection(
            vault_id=vault_id,
            provider=provider,
            name=name,
            kind=Kind(kind),
            status=Status(status),
            is_default=bool(is_default),
            scopes=to_words(scopes),
            account=account,
            expires_at=to_optional_moment(expires_at),
            has_refresh_token=bool(has_refresh_token),
            variables=to_names(variables),
            revision=revision,
            created_at=to_moment(created_at),
            updated_at=to_moment(updated_at),
            problem=problem,
            flow=flow,
        )
