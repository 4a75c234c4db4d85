"""The porter: answers while the vault is locked, because its key is a passphrase that nobody has given yet.

Rules:
1. Who may unlock it is known without the key: identities lie readable in the database, and only what they store is
   sealed. So the passphrase is asked of an admin's identity, proven as everywhere; and while nobody owns the home, of
   whoever can read its bootstrap secret.
2. One attempt at a time: each takes 64 MiB and a tenth of a second. After some that were wrong each makes the next
   wait longer, for the identity that made them; it is counted before the passphrase is looked at.
3. Nothing is written to the log of events here: that needs the key. A failed attempt is a line in the daemon's log.
4. Whoever looks by a browser is shown a page, which goes on by itself once the vault is open.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from authsome.broker import bootstrap, throttle
from authsome.broker.throttle import Bucket
from authsome.clock import Clock
from authsome.daemon import gate
from authsome.daemon.authentication import PROOF_SCHEME, Audiences, credentials, remember
from authsome.daemon.messages import (
    PAGE_POLICY,
    SCRIPTED_PAGE_POLICY,
    Request,
    Response,
    html_response,
    json_response,
    problem,
)
from authsome.errors import AuthenticationFailed, MethodNotAllowed, NotAllowed, PassphraseRefused, VaultLocked
from authsome.home import Settings
from authsome.identity import did, proof
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.vault import identities, vaults
from authsome.vault.database import Database
from authsome.vault.vaults import Sealers

UNLOCK: Final = "/daemon/unlock"
_FREE: Final = 5  # wrong passphrases that cost nothing: people mistype
LOCKED, NEW = "locked", "new"
"""What /health says: that it has a passphrase, or that it is to get one."""

_log: Final = logging.getLogger("authsome.daemon")


class Porter:
    """Answers everything until the passphrase is there."""

    def __init__(  # noqa: PLR0913  # what can be known without the key
        self,
        database: Database,
        settings: Settings,
        *,
        audiences: Audiences,
        build: str,
        clock: Clock,
        step_aside: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        """Take what there is to know, and what has everybody else wait at the gate from now on."""
        self._database = database
        self._settings = settings
        self._audiences = audiences
        self._build = build
        self._clock = clock
        self._step_aside = step_aside
        self._leave = leave
        self._is_new = bootstrap.offer(database, settings.home)
        self._attempt = threading.Lock()
        self._opened: SimpleQueue[Sealers | None] = SimpleQueue()
        self._is_open = False
        self.caller: Caller | None = None
        """Who unlocked it; None for whoever owns the home since."""

    def wait(self, stopping: threading.Event) -> Sealers | None:
        """The unlocked store; None when the daemon is stopped before."""

        def give_up() -> None:
            stopping.wait()
            self._opened.put(None)

        threading.Thread(target=give_up, name="locked", daemon=True).start()
        return self._opened.get()

    def handle(self, request: Request) -> Response:
        """The answer to a request.

        Raises:
            VaultLocked: to all but these two, and what browsers are shown.
            AuthenticationFailed, NotAllowed: whoever asks may not unlock it.
            PassphraseRefused: it is another one.
            TooManyAttempts: it was another one too often.
        """
        if request.path == gate.HEALTH:
            return gate.health_asked(request, self._build, NEW if self._is_new else LOCKED)
        if request.path != UNLOCK:
            return self._turn_away(request)
        if request.method != "POST":
            raise MethodNotAllowed(allowed=("POST",))
        return self._unlock(request)

    def _turn_away(self, request: Request) -> Response:
        from authsome.daemon.dashboard import assets, bridge  # noqa: PLC0415  # for browsers alone

        if request.method in {"GET", "HEAD"} and request.path in assets.PATHS:
            return assets.asset(request.path.removeprefix(assets.PLACE))
        error = VaultLocked()
        if self._is_new:
            error = VaultLocked("this vault has no passphrase yet", hint="give it one: authsome daemon unlock")
        if not request.is_looked_at:
            raise error
        if request.wants_page:
            page, policy = bridge.locked_page(is_new=self._is_new), SCRIPTED_PAGE_POLICY
        else:
            page, policy = bridge.error_page(error.http_status, error.message, error.hint), PAGE_POLICY
        return html_response(page, status=error.http_status, headers=problem(error).headers, policy=policy)

    def _unlock(self, request: Request) -> Response:
        body = request.json()
        passphrase, secret, key = (
            body.secret("passphrase"),
            body.optional_secret("bootstrap"),
            body.optional_text("did"),
        )
        body.done()
        self._step_aside()
        with self._attempt:
            caller = self._admit(request, secret, key)
            if not self._is_open:
                bucket = Bucket.of("unlock", caller.handle or "" if caller else "", free=_FREE)
                with self._database.transaction(durable=False) as tx:
                    throttle.count(tx, (bucket,), self._clock())
                try:
                    sealers = vaults.unlock(self._database, self._settings, clock=self._clock, passphrase=passphrase)
                except PassphraseRefused:
                    _log.warning("a wrong passphrase was given by %s", caller.handle if caller else "the home's owner")
                    raise
                with self._database.transaction(durable=False) as tx:
                    throttle.forgive(tx, bucket, self._clock(), altogether=True)
                self._is_open, self.caller = True, caller
                self._leave()  # before anybody hears that it is open, and asks for something
                self._opened.put(sealers)
        return json_response({"locked": False})

    def _admit(self, request: Request, secret: Secret[str] | None, key: str | None) -> Caller | None:
        """The admin who asks, by a proof that is spent; None: the home's owner to be."""
        claimed = proof.parse(credentials(request, PROOF_SCHEME))
        now = self._clock()
        with self._database.transaction(durable=False) as tx:
            identity, principal = identities.caller(tx, claimed.handle) or (None, None)
            name = identity.did if identity else key if self._is_new else None
            verified = proof.verify(
                claimed,
                public_key=None if name is None else _public_key(name),
                audiences=self._audiences.of(request),
                method=request.method,
                target=request.target,
                body=request.body,
                now=now,
            )
            if not remember(tx, verified):
                raise AuthenticationFailed(reason="replayed")
        if identity is None or principal is None:
            if secret is not None and bootstrap.fits(self._settings.home, secret):
                return None
            raise AuthenticationFailed(reason="unclaimed identity")
        if identity.revoked_at is not None or identity.limits.has_ended(now):
            raise AuthenticationFailed(reason="the identity may no longer act")
        caller = Caller(identity=identity, principal=principal)
        if not caller.is_admin:
            raise NotAllowed("only an admin may unlock the vault")
        return caller


def _public_key(name: str) -> bytes:
    try:
        return did.public_key_from_did(name)
    except ValueError as error:
        raise AuthenticationFailed(reason="malformed did") from error
