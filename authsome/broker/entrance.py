"""The ways into the dashboard: a one-time link, e-mail and password, the first account, an invitation.

Rule: whoever is refused learns nothing about which accounts there are, neither by words nor by time; a link serves
once; and a password is tried only after the try was counted.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsome.broker import record, throttle
from authsome.broker.context import Context
from authsome.broker.dashboard_sessions import DashboardSessions, Opened
from authsome.broker.identities import Identities
from authsome.broker.principals import Principals
from authsome.broker.throttle import Bucket
from authsome.errors import AuthenticationFailed, DaemonBusy, NotAllowed, NotFound, RequestInvalid
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller, Principal, normal_email
from authsome.models.visit import Browser, DashboardSession, Way
from authsome.secret import Secret
from authsome.vault import audit, devices, entry_links, passwords, principals

LINK_LIFETIME: Final = timedelta(minutes=5)
FRESH: Final = timedelta(minutes=5)
"""For so long a session that a link has opened needs no present password to set another: who got the link could get one
more. Later it may be a browser that somebody has walked away from."""
DEVICE_LIFETIME: Final = timedelta(days=90)
SHORTEST: Final = 15  # characters, as NIST SP 800-63B-4 §3.1.1.2 asks where the password is all there is
LONGEST: Final = 1024  # characters: none is cut, and none is a way to keep the daemon busy
_LEAST_VARIETY: Final = 5  # different characters: what has fewer is a key held down
_WORKERS: Final = 2  # each takes 64 MiB and a processor for a tenth of a second
_PATIENCE: Final = 10.0  # seconds to wait for one of them

_OF_ACCOUNT: Final = 5  # failures that cost nothing
_OF_ADDRESS: Final = 20  # many people may share one


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A new one-time link: its key is told once, here."""

    key: Secret[str]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A browser that was let in by a password, and what it is known by next time."""

    opened: Opened
    device: Secret[str]


class Entrance:
    """The use cases of getting in."""

    def __init__(
        self, context: Context, identities: Identities, principals: Principals, sessions: DashboardSessions
    ) -> None:
        self._context = context
        self._identities = identities
        self._principals = principals
        self._sessions = sessions
        self._workers = threading.BoundedSemaphore(_WORKERS)

    # ---- by link -------------------------------------------------------------------------------------------

    def offer_link(self, caller: Caller) -> Link:
        """A link that signs one browser in as the caller's principal.

        Raises:
            NotAllowed: the caller is limited, and would be less so in the dashboard.
        """
        caller.require_unlimited()
        if caller.handle is None:
            raise NotAllowed("a link is asked for by an identity")
        now = self._context.clock()
        link = Link(key=Secret(secrets.token_urlsafe(32)), expires_at=now + LINK_LIFETIME)
        with self._context.database.transaction() as tx:
            entry_links.create(tx, link.key, identity=caller.handle, now=now, expires_at=link.expires_at)
        return link

    def offered_to(self, key: Secret[str]) -> Principal | None:
        """As whom a link would sign in, for the page that asks to go on; None: it is no good."""
        with self._context.database.read() as reader:
            handle = entry_links.find(reader, key, now=self._context.clock())
            caller = None if handle is None else self._identities.caller(reader, handle)
        return caller.principal if caller is not None and caller.limits.is_none else None

    def enter(self, key: Secret[str], browser: Browser) -> Opened:
        """Open the dashboard by a link, which is good no more.

        Raises:
            NotFound: it was used, is too old, or its identity may no longer act.
        """
        with self._context.database.transaction() as tx:
            handle = entry_links.spend(tx, key, now=self._context.clock())
            caller = None if handle is None else self._identities.caller(tx, handle)
            opened = None
            if caller is not None and caller.limits.is_none:
                opened = self._sessions.open(tx, caller.principal, Way.LINK, browser, identity=handle)
        if opened is None:
            raise NotFound("this link has been used, or is too old", hint="get another: `authsome ui`")
        return opened

    # ---- by password ---------------------------------------------------------------------------------------

    def sign_in(self, email: str, password: Secret[str], browser: Browser, device: Secret[str] | None) -> SignedIn:
        """Open the dashboard by e-mail and password.

        Args:
            email: as it was typed.
            password: as it was typed.
            browser: who asks.
            device: what this browser was told when it last signed in.

        Raises:
            AuthenticationFailed: the same for a wrong address and a wrong password.
            TooManyAttempts: also for the right one.
        """
        name = _as_looked_up(email)
        with self._context.database.read() as reader:
            principal = principals.by_email(reader, name)
            kept = passwords.get(reader, principal.id) if principal else None
            is_known = (
                principal is not None
                and device is not None
                and devices.knows(reader, device, principal_id=principal.id, now=self._context.clock())
            )
        buckets = _buckets(name, browser, device if is_known else None)
        self._count(*buckets)
        with self._work():
            if kept is None:
                passwords.waste(password)
            fits = kept is not None and passwords.fits(password, kept)
            renewed = passwords.prepare(password) if fits and kept is not None and kept.is_outdated else None
        if principal is None or not fits:
            who = principal.id if principal else "nobody known"
            raise AuthenticationFailed("the e-mail address or the password is wrong", reason=f"sign-in as {who}")
        now = self._context.clock()
        known_by = device if is_known and device is not None else Secret(secrets.token_urlsafe(32))
        with self._context.database.transaction() as tx:
            for place, bucket in enumerate(buckets):
                throttle.forgive(tx, bucket, now, altogether=place == 0)
            if passwords.get(tx, principal.id) != kept:
                raise AuthenticationFailed("the password was changed just now", reason="changed meanwhile")
            if renewed is not None:
                passwords.put(tx, principal.id, renewed, now=now)
            devices.put(tx, known_by, principal_id=principal.id, expires_at=now + DEVICE_LIFETIME)
            opened = self._sessions.open(tx, principal, Way.PASSWORD, browser)
        return SignedIn(opened=opened, device=known_by)

    def has_password(self, caller: Caller) -> bool:
        """Whether the caller's principal can sign in with one."""
        with self._context.database.read() as reader:
            return passwords.get(reader, caller.principal.id) is not None

    def is_fresh(self, session: DashboardSession) -> bool:
        """Whether a link has opened a session just now: then an identity of its principal's stands for the password."""
        age = self._context.clock() - session.created_at
        return session.way is Way.LINK and timedelta(0) <= age < FRESH

    def set_password(
        self, caller: Caller, session: DashboardSession, *, email: str, new: Secret[str], present: Secret[str] | None
    ) -> None:
        """Set the principal's e-mail address and password, and sign all its other browsers out.

        Args:
            caller: the principal, in its browser.
            session: that browser's.
            email: what to sign in with.
            new: the password from now on.
            present: the password until now; needed unless the session `is_fresh`.

        Raises:
            AuthenticationFailed: the present password is wrong, or was changed meanwhile.
            TooManyAttempts: it was wrong too often.
            RequestInvalid: the address is none, or the new password is too weak.
            NotAllowed: another principal has the address, or there is no present password and the session is not fresh.
        """
        principal = caller.principal
        address = normal_email(email)
        check_password(new, address)
        with self._context.database.read() as reader:
            kept = passwords.get(reader, principal.id)
        by_link = self.is_fresh(session)
        if kept is None and not by_link:
            raise NotAllowed(
                "a first password is set by who has just come by a link", hint="open the dashboard anew: `authsome ui`"
            )
        if kept is not None and not by_link:
            bucket = Bucket.of("password", principal.id, free=_OF_ACCOUNT)
            self._count(bucket)
            with self._work():
                fits = present is not None and passwords.fits(present, kept)
            if not fits:
                raise AuthenticationFailed("the present password is wrong", reason=f"password of {principal.id}")
            with self._context.database.transaction(durable=False) as tx:
                throttle.forgive(tx, bucket, self._context.clock(), altogether=True)
        with self._work():
            prepared = passwords.prepare(new)
        now = self._context.clock()
        detail = "set" if kept is None else "changed"
        detail += f" by a link for {session.identity}" if by_link else " by the present one"
        with self._context.database.transaction() as tx:
            if passwords.get(tx, principal.id) != kept:
                raise AuthenticationFailed("the password was changed just now", reason="changed meanwhile")
            principals.set_email(tx, principal.id, address)
            passwords.put(tx, principal.id, prepared, now=now)
            audit.append(tx, self._entry(Event.SET_PASSWORD, principal, detail))
            self._sessions.end_others(tx, caller, but=session)

    # ---- by being new --------------------------------------------------------------------------------------

    def awaits_first(self) -> bool:
        """Whether nobody owns this daemon yet."""
        with self._context.database.read() as reader:
            return principals.count(reader) == 0

    def first(self, *, code: Secret[str], email: str, name: str, password: Secret[str], browser: Browser) -> Opened:
        """Make the first account, an admin's: once, and for somebody who can read the daemon's home.

        Raises:
            NotAllowed: the code is not the one in the home, or there is an account.
            RequestInvalid: see `set_password`.
            TooManyAttempts: codes were guessed.
        """
        check_password(password, normal_email(email))
        self._count(Bucket.of_address("first", browser.address, free=_OF_ACCOUNT))
        if not self._identities.is_bootstrap(code):
            raise NotAllowed("this is not the code in the daemon's home", hint="read it there: server/bootstrap.key")
        with self._work():
            prepared = passwords.prepare(password)
        now = self._context.clock()
        with self._context.database.transaction() as tx:
            principal = self._principals.create_first(tx, email=email, name=name)
            passwords.put(tx, principal.id, prepared, now=now)
            opened = self._sessions.open(tx, principal, Way.PASSWORD, browser)
        self._identities.offer_bootstrap()
        return opened

    def join(self, token: Secret[str], *, name: str, password: Secret[str], browser: Browser) -> Opened:
        """Take up an invitation.

        Raises:
            NotFound: there is none, it was used or withdrawn, or it has expired.
            RequestInvalid: see `set_password`.
        """
        with self._context.database.read() as reader:
            invitation = self._principals.invitation(reader, token)
        check_password(password, invitation.email)
        with self._work():
            prepared = passwords.prepare(password)
        now = self._context.clock()
        with self._context.database.transaction() as tx:
            principal = self._principals.accept(tx, token, name=name)
            passwords.put(tx, principal.id, prepared, now=now)
            return self._sessions.open(tx, principal, Way.PASSWORD, browser)

    # ---- inside --------------------------------------------------------------------------------------------

    def _count(self, *buckets: Bucket) -> None:
        with self._context.database.transaction(durable=False) as tx:
            throttle.count(tx, buckets, self._context.clock())

    @contextmanager
    def _work(self) -> Iterator[None]:
        """A turn at Argon2id, which takes memory: strangers can ask for it."""
        if not self._workers.acquire(timeout=_PATIENCE):
            raise DaemonBusy
        try:
            yield
        finally:
            self._workers.release()

    def _entry(self, event: Event, principal: Principal, detail: str) -> Entry:
        return record.by_principal(event, principal, self._context.clock(), detail)


def check_password(password: Secret[str], email: str) -> None:
    """Refuse a password that would be guessed, whatever it is made of.

    Raises:
        RequestInvalid: it is too short, too long, one key held down, or the address.
    """
    text = password.reveal()
    if not SHORTEST <= len(text) <= LONGEST:
        raise RequestInvalid(
            f"a password has {SHORTEST} to {LONGEST} characters", hint="several words in a row do, blanks included"
        )
    if len(set(text)) < _LEAST_VARIETY or text.strip().lower() in {email, email.partition("@")[0]}:
        raise RequestInvalid("this password would be guessed", hint="several words in a row do, blanks included")


def _as_looked_up(email: str) -> str:
    """The spelling that addresses are stored in; of what is none, something that no account has."""
    try:
        return normal_email(email)
    except RequestInvalid:
        return email[:300].strip().lower()


def _buckets(email: str, browser: Browser, device: Secret[str] | None) -> tuple[Bucket, ...]:
    """Where a try is counted; first the one that a success empties.

    A browser that signed in before is counted by itself: nobody else can make it wait.
    """
    if device is not None:
        return (Bucket.of("device", device.reveal(), free=_OF_ACCOUNT),)
    return (
        Bucket.of("account", email, free=_OF_ACCOUNT),
        Bucket.of_address("address", browser.address, free=_OF_ADDRESS),
    )
