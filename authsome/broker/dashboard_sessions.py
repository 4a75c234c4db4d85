"""Dashboard sessions: who a browser acts for, for how long, and how that ends.

Rule: a session is worth no more than what it came from. It ends when nobody uses it, after half a day at the latest,
with its principal, and with the identity whose link opened it; and when the clock is set back to before it.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import record, throttle
from authsome.broker.context import Context
from authsome.errors import NotFound
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller, Principal
from authsome.models.visit import Browser, DashboardSession, Note, Way
from authsome.secret import Secret
from authsome.vault import attempts, audit, dashboard_sessions, devices, entry_links, principals, replay
from authsome.vault.database import Reader, Transaction

IDLE: Final = timedelta(hours=1)
LONGEST: Final = timedelta(hours=12)
_MINUTE: Final = timedelta(minutes=1)  # how exactly it is known when a session was last used


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A signed-in browser at one request, and whom it acts for."""

    session: DashboardSession
    caller: Caller
    heard: int
    """The last entry of the log that it may see: whatever comes after it, the answer to this request may not show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A new session: its key is told once, here."""

    session: DashboardSession
    key: Secret[str]


class DashboardSessions:
    """The use cases around sessions."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def open(
        self, tx: Transaction, principal: Principal, way: Way, browser: Browser, *, identity: str | None = None
    ) -> Opened:
        """Sign a browser in; it gets a key that it did not bring."""
        now = self._context.clock()
        key = Secret(secrets.token_urlsafe(32))
        session = DashboardSession(
            id=secrets.token_hex(8),
            principal_id=principal.id,
            identity=identity,
            way=way,
            browser=browser,
            created_at=now,
            seen_at=now,
            expires_at=now + LONGEST,
        )
        dashboard_sessions.create(tx, session, key)
        by = f"by {way}" if identity is None else f"by {way} for {identity}"
        audit.append(tx, self._entry(Event.SIGN_IN, principal, f"{by}, {browser.name} at {browser.address}"))
        return Opened(session=session, key=key)

    def visit(self, key: Secret[str], *, is_used: bool = True) -> Visit | None:
        """Whom a browser with this key acts for, as of now; None when it is not signed in (any more).

        `is_used` says whether somebody is there: what a page asks for by itself keeps no session alive.
        """
        now = self._context.clock()
        with self._context.database.read() as reader:
            visit = self.find(reader, key, now)
        if visit is not None and is_used and abs(now - visit.session.seen_at) >= _MINUTE:
            with self._context.database.transaction(durable=False) as tx:
                dashboard_sessions.touch(tx, visit.session.id, now=now)
        return visit

    def find(self, reader: Reader, key: Secret[str], now: datetime) -> Visit | None:
        """The same as one snapshot has it, without a trace."""
        session = dashboard_sessions.by_key(reader, key, now=now, idle=IDLE)
        if session is None:
            return None
        principal = principals.by_id(reader, session.principal_id)
        if principal is None:
            return None
        caller = Caller(identity=None, principal=principal)
        heard = audit.last_of(reader, None if caller.is_admin else caller.vault_id)
        return Visit(session=session, caller=caller, heard=heard)

    def page(self, caller: Caller, *, limit: int, offset: int = 0) -> tuple[list[DashboardSession], int]:
        """Some of the browsers in which the caller's principal is signed in, and how many there are."""
        now, whose = self._context.clock(), caller.principal.id
        with self._context.database.read() as reader:
            found = dashboard_sessions.page(reader, whose, now=now, idle=IDLE, limit=limit, offset=offset)
            return found, dashboard_sessions.count(reader, whose, now=now, idle=IDLE)

    def end(self, caller: Caller, session_id: str) -> None:
        """Sign one of the principal's browsers out, from its next request on.

        Raises:
            NotFound: there is no such session of this principal's.
        """
        with self._context.database.transaction() as tx:
            if not dashboard_sessions.end(tx, caller.principal.id, session_id):
                raise NotFound("this browser is not signed in any more")
            audit.append(tx, self._entry(Event.SIGN_OUT, caller.principal, f"session {session_id}"))

    def end_others(self, tx: Transaction, caller: Caller, *, but: DashboardSession) -> None:
        """Sign out all other browsers of the principal, and forget that any was ever known."""
        number = dashboard_sessions.end_others(tx, caller.principal.id, but=but.id)
        devices.forget(tx, caller.principal.id)
        if number:
            audit.append(tx, self._entry(Event.SIGN_OUT, caller.principal, f"{number} other sessions"))

    def note(self, session: DashboardSession, text: str, *, is_good: bool) -> Note:
        """Keep what the next page of a session has to say."""
        note = Note(id=secrets.token_hex(4), is_good=is_good, text=text)
        with self._context.database.transaction(durable=False) as tx:
            dashboard_sessions.put_note(tx, session.id, note)
        return note

    def spend_form(self, expires_at: int, token_hash: bytes) -> bool:
        """Note that a form was posted; False when it had been."""
        with self._context.database.transaction(durable=False) as tx:
            return replay.remember(tx, expires_at, token_hash)

    def purge(self, now: datetime) -> None:
        """Forget what has expired: sessions, links, known browsers, failures."""
        with self._context.database.transaction(durable=False) as tx:
            dashboard_sessions.purge(tx, now=now, idle=IDLE)
            entry_links.purge(tx, now=now)
            devices.purge(tx, now=now)
            attempts.purge(tx, before=now - throttle.MEMORY)

    def _entry(self, event: Event, principal: Principal, detail: str) -> Entry:
        return record.by_principal(event, principal, self._context.clock(), detail)
