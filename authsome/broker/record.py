"""Entries of the audit log as the use cases write them."""

from datetime import datetime

from authsome.models.audit import Entry, Event
from authsome.models.connection import Connection
from authsome.models.principal import Caller, Principal


def about(
    event: Event, caller: Caller | None, connection: Connection, now: datetime, detail: str | None = None
) -> Entry:
    """Something that a caller, or without one the daemon itself, did to a connection."""
    return Entry(
        event=event,
        at=now,
        vault_id=connection.vault_id,
        principal=caller.principal.id if caller else None,
        identity=caller.handle if caller else None,
        proof=caller.proof if caller else None,
        provider=connection.provider,
        connection=connection.name,
        detail=detail,
    )


def about_provider(event: Event, caller: Caller, provider: str, now: datetime, detail: str) -> Entry:
    """Something that a caller did that concerns a provider as a whole."""
    return by_caller(event, caller, now, provider=provider, detail=detail)


def by_principal(event: Event, principal: Principal, now: datetime, detail: str) -> Entry:
    """Something that a principal did, or that befell it, without an identity."""
    return Entry(event=event, at=now, vault_id=principal.vault_id, principal=principal.id, detail=detail)


def by_caller(  # noqa: PLR0913  # one line of the log
    event: Event,
    caller: Caller,
    now: datetime,
    *,
    provider: str | None = None,
    connection: str | None = None,
    method: str | None = None,
    host: str | None = None,
    path: str | None = None,
    run: str | None = None,
    detail: str | None = None,
) -> Entry:
    """Something that a caller did."""
    return Entry(
        event=event,
        at=now,
        vault_id=caller.vault_id,
        principal=caller.principal.id,
        identity=caller.handle,
        proof=caller.proof,
        provider=provider,
        connection=connection,
        method=method,
        host=host,
        path=path,
        run=run,
        detail=detail,
    )
