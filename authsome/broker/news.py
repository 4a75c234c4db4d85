"""News: which parts of what somebody looks at have changed, and whether they may still look.

Rules:
1. What is told is that something changed, never what: who is told fetches it, and is asked who they are.
2. The log is where it is known from, as each write that matters has its entry: so it does not matter which daemon wrote
   it, nor whether anybody was there to be told. Whoever comes back says what they heard last. Open claims and provider
   definitions are looked at themselves: the ones are in no log, the others may be written by hand.
3. A principal is told of its own vault, and of definitions, which count for everybody; an admin, of others', only that
   the log has grown, who may act, who has a vault here, and how old keys are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from authsome.broker.context import Context
from authsome.broker.dashboard_sessions import DashboardSessions, Visit
from authsome.broker.spools import Spools
from authsome.models.audit import Event
from authsome.models.login import Stage
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.vault import audit, claims, logins
from authsome.vault.database import Reader

_MOST: Final = 1000
"""Entries that are looked through; who has missed more is told that everything changed."""


class Topic(StrEnum):
    """A part of what there is to see."""

    CONNECTIONS = "connections"
    USES = "uses"
    RUNS = "runs"
    IDENTITIES = "identities"
    CLAIMS = "claims"
    SESSIONS = "sessions"
    PRINCIPALS = "principals"
    PROVIDERS = "providers"
    KEYS = "keys"
    LOG = "log"
    LOGIN = "login"


Topics = frozenset[Topic]

_NOTHING: Final[Topics] = frozenset()
EVERYTHING: Final = frozenset(Topic) - {Topic.LOGIN}
_FOREIGN: Final = frozenset({Topic.LOG, Topic.IDENTITIES, Topic.CLAIMS, Topic.PRINCIPALS, Topic.PROVIDERS, Topic.KEYS})
"""What an admin sees of others."""

_ABOUT: Final = MappingProxyType(
    {
        Event.LOGIN: {Topic.CONNECTIONS},
        Event.LOGOUT: {Topic.CONNECTIONS},
        Event.REVOKE: {Topic.CONNECTIONS},
        Event.REFRESH: {Topic.CONNECTIONS},
        Event.REFRESH_FAILED: {Topic.CONNECTIONS},
        Event.SET_DEFAULT: {Topic.CONNECTIONS},
        Event.IMPORT: {Topic.CONNECTIONS},
        Event.REGISTER: {Topic.CONNECTIONS, Topic.PROVIDERS},
        Event.REMOVE: {Topic.CONNECTIONS, Topic.PROVIDERS},
        Event.RESOLVE: {Topic.USES},
        Event.EXPORT: {Topic.USES},
        Event.SHOW: {Topic.USES},
        Event.HONEYTOKEN: {Topic.CONNECTIONS, Topic.USES},
        Event.RUN: {Topic.RUNS},
        Event.RUN_ENDED: {Topic.RUNS},
        Event.CLAIM: {Topic.IDENTITIES, Topic.CLAIMS},
        Event.CLAIM_REFUSED: {Topic.CLAIMS},
        Event.IDENTITY_LIMITED: {Topic.IDENTITIES, Topic.RUNS, Topic.SESSIONS},
        Event.IDENTITY_REVOKED: {Topic.IDENTITIES, Topic.RUNS, Topic.SESSIONS},
        Event.INVITE: {Topic.PRINCIPALS},
        Event.JOIN: {Topic.PRINCIPALS},
        Event.ROLE: {Topic.PRINCIPALS},
        Event.PRINCIPAL_REMOVED: {Topic.PRINCIPALS, Topic.IDENTITIES},
        Event.SIGN_IN: {Topic.SESSIONS},
        Event.SIGN_OUT: {Topic.SESSIONS},
        Event.SET_PASSWORD: {Topic.SESSIONS, Topic.PRINCIPALS},
        Event.REKEY: {Topic.KEYS},
    }
)
"""What else than the log each event changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Onlooker:
    """A signed-in browser that looks at the dashboard."""

    session: str
    vault: str
    key: Secret[str]
    seen: int
    """The log's entry up to which it was looked for."""
    heard: int
    """The last entry that concerned it: where it goes on when it comes back."""
    asked: str
    """How the open claims were then."""
    defined: int
    """Which definitions there were then."""

    @property
    def group(self) -> str:
        """What may have few onlookers."""
        return f"session {self.session}"

    @property
    def owner(self) -> str:
        """Who may have more of them."""
        return f"vault {self.vault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A browser that waits for what becomes of a login."""

    login: str
    vault: str
    stage: Stage

    heard = 0
    """It sees no entry."""

    @property
    def group(self) -> str:
        """As `Onlooker.group`."""
        return f"login {self.login}"

    @property
    def owner(self) -> str:
        """As `Onlooker.owner`."""
        return f"vault {self.vault}"


Watcher = Onlooker | Waiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What there is to tell one of them."""

    topics: Topics
    watcher: Watcher
    """From where on it is to be told the next time."""


class News:
    """The use cases around news."""

    def __init__(self, context: Context, sessions: DashboardSessions, spools: Spools) -> None:
        self._context = context
        self._sessions = sessions
        self._spools = spools

    def begin(self, visit: Visit, key: Secret[str], *, heard: int | None) -> Told:
        """What a signed-in browser has missed, and from where on it is told.

        Args:
            visit: who it is.
            key: the session's.
            heard: the last entry that it knows of; None: it knows as much as this request found.
        """
        heard = visit.heard if heard is None else heard
        with self._context.database.read() as reader:
            seen = audit.last_of(reader, None)
            onlooker = Onlooker(
                session=visit.session.id,
                vault=visit.caller.vault_id,
                key=key,
                seen=heard,
                heard=heard,
                asked=claims.mark(reader),
                defined=self._context.catalog.edition(),
            )
            if heard > seen:  # from before a backup was put back
                return Told(topics=EVERYTHING, watcher=replace(onlooker, seen=seen, heard=seen))
            own = None if visit.caller.is_admin else visit.caller.vault_id
            entries = audit.heads(reader, after=heard, vault_id=own, limit=_MOST)
        topics, last = _topics(entries, visit.caller)
        if visit.caller.is_admin:  # nothing says when these were asked
            topics |= {Topic.CLAIMS}
        return Told(topics=topics, watcher=replace(onlooker, seen=seen, heard=max(heard, last)))

    def look(self, watchers: Sequence[Watcher]) -> list[Told | None]:
        """What there is to tell each, in order; None: it may look no more, or has nothing to wait for.

        Raises:
            AuthsomeError: it cannot be known.
        """
        self._spools.take_all()
        now, edition = self._context.clock(), self._context.catalog.edition()
        with self._context.database.read() as reader:
            return _Look(reader, self._sessions, watchers, now=now, edition=edition).found


class _Look:
    """One look for all of them: what several need is read once."""

    def __init__(
        self,
        reader: Reader,
        sessions: DashboardSessions,
        watchers: Sequence[Watcher],
        *,
        now: datetime,
        edition: int,
    ) -> None:
        self._reader, self._sessions, self._now, self._edition = reader, sessions, now, edition
        onlookers = [each for each in watchers if isinstance(each, Onlooker)]
        self._visits: dict[str, Visit | None] = {}
        self._told: dict[tuple[str, bool, int], tuple[Topics, int]] = {}
        self._asked = claims.mark(reader) if onlookers else ""
        self._entries: list[tuple[int, str | None, Event]] = []
        self._seen = 0
        if onlookers:
            self._seen = audit.last_of(reader, None)
            after = min(each.seen for each in onlookers)
            if after < self._seen:
                self._entries = audit.heads(reader, after=after, vault_id=None, limit=_MOST)
        self.found = [self._onlooker(each) if isinstance(each, Onlooker) else self._waiter(each) for each in watchers]

    def _onlooker(self, onlooker: Onlooker) -> Told | None:
        if onlooker.session not in self._visits:
            self._visits[onlooker.session] = self._sessions.find(self._reader, onlooker.key, self._now)
        visit = self._visits[onlooker.session]
        if visit is None:
            return None
        caller = visit.caller
        which = caller.vault_id, caller.is_admin, onlooker.seen
        if which not in self._told:
            self._told[which] = self._since(onlooker.seen, caller)
        topics, last = self._told[which]
        if caller.is_admin and onlooker.asked != self._asked:
            topics |= {Topic.CLAIMS}
        if onlooker.defined != self._edition:
            topics |= {Topic.PROVIDERS}
        watcher = replace(
            onlooker,
            seen=self._seen,
            heard=max(onlooker.heard, last),
            asked=self._asked,
            defined=self._edition,
        )
        return Told(topics=topics, watcher=watcher)

    def _since(self, seen: int, caller: Caller) -> tuple[Topics, int]:
        if seen > self._seen:
            return EVERYTHING, 0
        if len(self._entries) == _MOST:
            return EVERYTHING, audit.last_of(self._reader, None if caller.is_admin else caller.vault_id)
        return _topics([each for each in self._entries if each[0] > seen], caller)

    def _waiter(self, waiter: Waiter) -> Told | None:
        stage = logins.stage(self._reader, waiter.login)
        if stage is None:
            return None
        return Told(
            topics=frozenset({Topic.LOGIN}) if stage is not waiter.stage else _NOTHING,
            watcher=replace(waiter, stage=stage),
        )


def _topics(entries: Iterable[tuple[int, str | None, Event]], caller: Caller) -> tuple[Topics, int]:
    """What entries change for somebody, and the last of them that does."""
    found: set[Topic] = set()
    last = count = 0
    for number, vault_id, event in entries:
        count += 1
        changes = {Topic.LOG, *_ABOUT.get(event, ())}
        if vault_id != caller.vault_id:
            changes = changes & _FOREIGN if caller.is_admin else set()
        if changes:
            found |= changes
            last = number
    return (EVERYTHING if count == _MOST else frozenset(found)), last
