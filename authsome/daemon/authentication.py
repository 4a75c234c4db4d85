"""Who is calling: an identity by its proof, a run by its secret.

Rule: whoever is refused is told so in one sentence, the same for every cause; the cause goes to the audit. A proof is
spent in the same transaction as the act that it proves.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from authsome.broker.context import Context
from authsome.broker.identities import Identities
from authsome.broker.runs import Runs
from authsome.daemon.messages import Request
from authsome.errors import AuthenticationFailed
from authsome.identity import did, proof
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller, Identity
from authsome.models.run import Run
from authsome.secret import Secret
from authsome.vault import audit, identities, replay
from authsome.vault.database import Transaction

PROOF_SCHEME: Final = "PoP "
RUN_SCHEME: Final = "Run "
KEPT_KEYS: Final = 256  # identities; to make a key ready costs a third of a proof's check
USE_NOTED_EVERY: Final = 60.0  # seconds
DENIED_BURST: Final = 100  # entries about refused callers; a flood of them must not fill the disk
DENIED_PER_SECOND: Final = 0.2  # 17,000 a day at most: any page or user of this machine can be refused


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller that has shown who it is."""

    caller: Caller
    run: Run | None


@dataclass(frozen=True, slots=True)
class Audiences:
    """Whom a proof may be meant for (`aud`)."""

    everyone: frozenset[str]
    """All URLs of this daemon."""
    public: str | None
    """The one that it advertises, if it is none of its listener's."""

    def of(self, request: Request) -> frozenset[str]:
        """Those that count for a request.

        Every machine has its `http://127.0.0.1:7998`: what comes by the public URL has to be meant for that, or a proof
        for one daemon were good at another (RFC 9449 §11.1).
        """
        return self.everyone if request.received_over != self.public else frozenset({self.public})


Admit = Callable[[Transaction], Admitted]
"""Looks the caller up, checks what it has shown, and spends it: all in one transaction, the act's own where it matters.

Raises AuthenticationFailed for every other caller; `reason` says why.
"""


@dataclass(slots=True)
class _Bucket:
    """How many entries about refused callers may still be written."""

    level: float = DENIED_BURST
    filled_at: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        now = time.monotonic()
        self.level = min(DENIED_BURST, self.level + (now - self.filled_at) * DENIED_PER_SECOND)
        self.filled_at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


class Proven:
    """The identity behind a proof: checked outside the transaction, and settled in it."""

    __slots__ = ("_authentication", "_checked", "_claimed", "_is_signed", "_key", "_request")

    def __init__(
        self, authentication: "Authentication", request: Request, claimed: proof.Claimed, key: proof.PublicKey | None
    ) -> None:
        self._authentication = authentication
        self._request = request
        self._claimed = claimed
        self._key = key
        self._is_signed: bool | None = None
        self._checked: proof.Proof | AuthenticationFailed | None = None

    def check_signature(self) -> None:
        """Do what takes longest, and needs neither the database nor the interpreter."""
        self._is_signed = proof.is_signed_with(self._claimed, self._key)

    def check(self) -> None:
        """Do what does not need the database."""
        self._checked = self._authentication.check(self._request, self._claimed, self._key, is_signed=self._is_signed)

    def __call__(self, tx: Transaction) -> Admitted:
        """Spend the proof.

        Raises:
            AuthenticationFailed: it proves nothing, or was spent, or its identity may not act.
        """
        if self._checked is None:
            self.check()
        assert self._checked is not None
        return self._authentication.settle(tx, self._request, self._claimed, self._key, self._checked)

    def again(self, tx: Transaction) -> Admitted:
        """The same later on, when the proof is spent: whether its identity may still act.

        Raises:
            AuthenticationFailed: it may not.
        """
        return self._authentication.still(tx, self._claimed)


class Authentication:
    """Checks the Authorization header of a request."""

    def __init__(self, context: Context, identities: Identities, runs: Runs, audiences: Audiences) -> None:
        self._context = context
        self._identities = identities
        self._runs = runs
        self._audiences = audiences
        self._denied = _Bucket()
        self._noted: dict[str, float] = {}  # when an identity's use was last noted, on the steady clock
        self._keys: dict[str, proof.PublicKey] = {}  # by handle; checked against the registry each time

    def identity(self, request: Request) -> Proven:
        """The identity behind a proof, yet to be checked.

        Raises:
            AuthenticationFailed: there is no proof of the one form.
        """
        claimed = proof.parse(credentials(request, PROOF_SCHEME))
        return Proven(self, request, claimed, self._key(claimed.handle))

    def settle(
        self,
        tx: Transaction,
        request: Request,
        claimed: proof.Claimed,
        key: proof.PublicKey | None,
        verified: proof.Proof | AuthenticationFailed,
    ) -> Admitted:
        """Who it is that has proven to be somebody, as the registry says now; see `Proven`."""
        caller = self._identities.caller(tx, claimed.handle)
        known = caller.identity if caller else identities.by_handle(tx, claimed.handle)
        verified = self._by_registry(request, claimed, key, verified, known)
        if caller is None:
            raise AuthenticationFailed(reason=self._cause(known))
        if not remember(tx, verified):
            raise AuthenticationFailed(reason="replayed")
        self._note_use(tx, claimed.handle)
        return _admitted(caller, claimed)

    def registered(self, request: Request) -> Identity:
        """The identity behind a proof, which is spent, whether it is claimed or not.

        Raises:
            AuthenticationFailed: it proves nothing, or was spent, or its identity is not registered or revoked.
        """
        claimed = proof.parse(credentials(request, PROOF_SCHEME))
        key = self._key(claimed.handle)
        checked = self.check(request, claimed, key)
        with self._context.database.transaction(durable=False) as tx:
            known = identities.by_handle(tx, claimed.handle)
            verified = self._by_registry(request, claimed, key, checked, known)
            if known is None or known.revoked_at is not None:
                raise AuthenticationFailed(reason=self._cause(known))
            if not remember(tx, verified):
                raise AuthenticationFailed(reason="replayed")
        return known

    def _by_registry(
        self,
        request: Request,
        claimed: proof.Claimed,
        key: proof.PublicKey | None,
        verified: proof.Proof | AuthenticationFailed,
        known: Identity | None,
    ) -> proof.Proof:
        """The proof, checked once more should its handle have been registered, or forgotten, meanwhile."""
        if (known.did if known else None) != (key.did if key else None):
            self._keys.pop(claimed.handle, None)
            verified = self.check(request, claimed, _public_key(known.did) if known else None)
        if isinstance(verified, AuthenticationFailed):
            raise verified
        return verified

    def _cause(self, known: Identity | None) -> str:
        """Why an identity whose proof is right may not act, for the audit."""
        if known is None:
            return "unknown identity"
        if known.revoked_at is not None:
            return "revoked identity"
        return "expired identity" if known.limits.has_ended(self._context.clock()) else "unclaimed identity"

    def still(self, tx: Transaction, claimed: proof.Claimed) -> Admitted:
        """An identity that has shown who it is before; see `Proven.again`."""
        caller = self._identities.caller(tx, claimed.handle)
        if caller is None:
            raise AuthenticationFailed(reason="the identity may no longer act")
        return _admitted(caller, claimed)

    def check(
        self,
        request: Request,
        claimed: proof.Claimed,
        key: proof.PublicKey | None,
        *,
        is_signed: bool | None = None,
    ) -> proof.Proof | AuthenticationFailed:
        """What a proof proves; an error is returned, for the registry has the last word on whose key it is."""
        try:
            return proof.verify(
                claimed,
                public_key=key,
                audiences=self._audiences.of(request),
                method=request.method,
                target=request.target,
                body=request.body,
                now=self._context.clock(),
                is_signed=is_signed,
            )
        except AuthenticationFailed as error:
            return error

    def _key(self, handle: str) -> proof.PublicKey | None:
        """The key that a handle is registered with, as far as is known before the transaction asks again.

        So that a signature is checked before anybody waits for it, and on another processor than the transactions.
        """
        key = self._keys.get(handle)
        if key is None:
            with self._context.database.read() as reader:
                known = identities.by_handle(reader, handle)
            if known is None:
                return None
            if len(self._keys) >= KEPT_KEYS:
                self._keys.clear()
            key = self._keys[handle] = _public_key(known.did)
        return key

    def run(self, request: Request) -> Admit:
        """The run behind a secret.

        Raises:
            AuthenticationFailed: there is no secret of the one form.
        """
        run_id, separator, secret = credentials(request, RUN_SCHEME).partition(":")
        if not separator or len(run_id) > 64 or len(secret) > 128:
            raise AuthenticationFailed(reason="malformed run credentials")

        def admit(tx: Transaction) -> Admitted:
            run, caller = self._runs.prove(tx, run_id, Secret(secret))
            self._note_use(tx, run.identity)
            return Admitted(caller, run)

        return admit

    def _note_use(self, tx: Transaction, handle: str) -> None:
        """Note that an identity acts, once in a while: thousands of requests a second must not each write that."""
        now = time.monotonic()
        if now - self._noted.get(handle, -USE_NOTED_EVERY) < USE_NOTED_EVERY:
            return
        if len(self._noted) >= KEPT_KEYS:
            self._noted.clear()
        self._noted[handle] = now
        identities.note_use(tx, handle, now=self._context.clock())

    def either(self, request: Request) -> Admit:
        """An identity or a run, by the scheme that was used."""
        if request.headers.get("authorization", ("",))[0].startswith(RUN_SCHEME):
            return self.run(request)
        return self.identity(request)

    def new_identity(self, request: Request, *, handle: str, key: str) -> str:
        """Check that the caller holds the very key that it wants to register; returns the proof's `jti`, for the log.

        Raises:
            AuthenticationFailed: it has not proven that.
        """
        claimed = proof.parse(credentials(request, PROOF_SCHEME))
        try:
            public_key = did.public_key_from_did(key)
        except ValueError as error:
            raise AuthenticationFailed(reason="malformed did") from error
        if claimed.handle != handle:
            raise AuthenticationFailed(reason="another handle")
        verified = proof.verify(
            claimed,
            public_key=public_key,
            audiences=self._audiences.of(request),
            method=request.method,
            target=request.target,
            body=request.body,
            now=self._context.clock(),
        )
        with self._context.database.transaction(durable=False) as tx:
            if not remember(tx, verified):
                raise AuthenticationFailed(reason="replayed")
        return claimed.jti

    def record(self, request: Request, error: AuthenticationFailed) -> None:
        """Write down that a caller was refused, and why; in a flood, only some of them."""
        if not self._denied.take():
            return
        entry = Entry(
            event=Event.DENIED,
            at=self._context.clock(),
            method=request.method,
            path=request.path[:200],
            detail=error.reason,
        )
        self._context.database.combined(lambda tx: audit.append(tx, entry))


def _admitted(caller: Caller, claimed: proof.Claimed) -> Admitted:
    """The caller, with what tells this proof from all others, for the log."""
    return Admitted(Caller(identity=caller.identity, principal=caller.principal, proof=claimed.jti), None)


def _public_key(name: str) -> proof.PublicKey:
    return proof.PublicKey.from_bytes(did.public_key_from_did(name))


def remember(tx: Transaction, spent: proof.Proof) -> bool:
    """Note a proof as used; False when it was. What expired longer ago than a proof can live makes room for it."""
    forgotten = spent.expires_at - 3 * proof.MAX_LIFETIME
    return replay.remember(tx, spent.expires_at, spent.jti_hash, forget_before=forgotten)


def credentials(request: Request, scheme: str) -> str:
    """What follows the scheme in the one Authorization header.

    Raises:
        AuthenticationFailed: there is none of that scheme, or there are several.
    """
    values = request.headers.get("authorization", ())
    if len(values) != 1 or not values[0].startswith(scheme):
        raise AuthenticationFailed(reason="no credentials of the wanted scheme, or several")
    return values[0][len(scheme) :]
