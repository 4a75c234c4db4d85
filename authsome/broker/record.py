"""Entries of the audit log as the use cases write them."""

from datetime import datetime

from authsome.models.audit import Entry, Event
from authsome.models.connection import Connection
from authsome.models.principal import Caller


def about(event: Event, caller: Caller, connection: Connection, now: datetime, detail: str | None = None) -> Entry:
    """Something that a caller did to a connection."""
    return Entry(
        event=event,
        at=now,
        vault_id=connection.vault_id,
        principal=caller.principal.id,
        identity=caller.identity.handle,
        provider=connection.provider,
        connection=connection.name,
        detail=detail,
    )
