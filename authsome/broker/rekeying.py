"""Rekeying as an admin asks for it: the master key at once, the vaults' keys in the background.

Rule: while keys are renewed everything is served. A daemon that ends in between goes on when it starts again.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from authsome.broker import record
from authsome.broker.context import Context
from authsome.errors import AuthsomeError, NotAllowed, StorageFailed, VaultDamaged, VaultUnusable
from authsome.home import Home
from authsome.models.audit import Entry, Event
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.vault import audit, master_key, rekeying
from authsome.vault.database import Transaction
from authsome.vault.key_sources.source import Source
from authsome.vault.master_key import Record
from authsome.vault.rekeying import Progress, Target

_log: Final = logging.getLogger("authsome.daemon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """The master key, and how old the keys are."""

    source: Source
    master_key_at: datetime
    vault_key_at: datetime | None
    """When the oldest of the vaults' keys was made; None without a vault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far the last rekey has come."""

    is_running: bool
    progress: Progress
    problem: str | None = None
    """Why it did not end well."""


_AT_REST: Final = State(is_running=False, progress=Progress(total=0))


class Rekeying:
    """The use case; one rekey at a time."""

    def __init__(self, context: Context, home: Home) -> None:
        self._context = context
        self._home = home
        self._guard = threading.Lock()
        self.change = threading.Lock()
        """Held while the master key is changed, and by whoever needs that it is not."""
        self._state = _AT_REST

    def age(self) -> Age:
        """Where the master key lies, and how old the keys are."""
        with self._context.database.read() as reader:
            found = master_key.read_record(reader)
            oldest = rekeying.oldest_key(reader)
        if found is None:
            raise VaultUnusable("the vault's record of its master key is missing", hint="restore it from a backup")
        return Age(source=found.source, master_key_at=found.created_at, vault_key_at=oldest)

    def state(self, caller: Caller) -> State:
        """How far it has come.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin()
        return self._state

    def begin(
        self,
        caller: Caller,
        *,
        source: Source | None,
        key: Secret[bytes] | None,
        passphrase: Secret[str] | None,
        master_only: bool,
    ) -> State:
        """Change the master key, and begin to renew what it protects.

        Args:
            caller: an admin.
            source: where the new key is to lie; None: where the present one does.
            key: the new key, for the environment.
            passphrase: the new passphrase.
            master_only: leave the vaults' keys as they are, and only wrap them anew.

        Raises:
            NotAllowed: the caller is no admin, or a rekey is under way.
            UsageError, VaultUnusable, StorageFailed: it was not begun, and the present key is still the one, unless
                the hint says otherwise (see `rekeying.change_master_key`).
        """
        caller.require_admin()
        self._claim()
        try:
            target = Target(source=source or self.age().source, key=key, passphrase=passphrase)

            def note(tx: Transaction, made: Record) -> None:
                audit.append(tx, self._entry(caller, f"master key: {made.source}"))

            now = self._context.clock()
            with self.change:
                rekeying.change_master_key(
                    self._context.database, self._context.sealers, self._home, target, now=now, note=note
                )
        except BaseException:
            self._state = _AT_REST
            raise
        if master_only:
            self._state = _AT_REST
        else:
            self._work(lambda: self._renew(caller))
        try:
            self._context.database.forget_copies()
        except StorageFailed as error:  # the key is changed all the same
            _log.warning("rekey: %s", error.message)
        return self._state

    def resume(self) -> None:
        """Go on with a rekey that was cut off."""
        with self._context.database.read() as reader:
            cut_off = rekeying.unfinished(reader)
        if cut_off:
            self._claim()
            self._work(lambda: self._finish(cut_off))

    def _claim(self) -> None:
        with self._guard:
            if self._state.is_running:
                raise NotAllowed("a rekey is under way", hint="wait for its end: `authsome admin rekey --status`")
            with self._context.database.read() as reader:
                self._state = State(is_running=True, progress=rekeying.measure(reader))

    def _work(self, renew: Callable[[], None]) -> None:
        try:
            threading.Thread(target=self._guarded, args=(renew,), name="rekeying", daemon=True).start()
        except RuntimeError as error:  # the system has none to give
            _log.warning("rekey: %s", error)
            problem = "the vaults' keys were not renewed, as the system gives no thread to do it; rekey once more"
            self._state = replace(self._state, is_running=False, problem=problem)

    def _guarded(self, renew: Callable[[], None]) -> None:
        try:
            renew()
        except AuthsomeError as error:
            _log.warning("rekey: %s", error.message)
            self._state = replace(self._state, is_running=False, problem=error.message)
        except Exception:  # noqa: BLE001  # the thread's last line: whoever asks for the state is told
            _log.exception("rekey")
            self._state = replace(self._state, is_running=False, problem="it ended unexpectedly; see the daemon's log")
        else:
            self._state = replace(self._state, is_running=False)

    def _renew(self, caller: Caller) -> None:
        database, sealers = self._context.database, self._context.sealers
        with database.read() as reader:
            vaults = rekeying.vaults_of(reader)
        left = []
        for vault_id in vaults:
            try:
                rekeying.renew_vault(database, sealers, vault_id, now=self._context.clock(), tell=self._tell)
            except VaultDamaged:  # its own key was changed: nothing in it can be opened, or lost any more
                left.append(vault_id)
        done = self._state.progress
        with database.transaction() as tx:
            audit.append(tx, self._entry(caller, f"vaults: {len(vaults) - len(left)}, damaged values: {done.damaged}"))
        if left:
            raise VaultDamaged(f"the key of {len(left)} vaults is damaged: {', '.join(left)}")

    def _finish(self, vaults: list[str]) -> None:
        for vault_id in vaults:
            rekeying.finish_vault(self._context.database, self._context.sealers, vault_id, tell=self._tell)

    def _tell(self, done: int, damaged: int) -> None:
        before = self._state.progress
        progress = replace(before, done=before.done + done, damaged=before.damaged + damaged)
        self._state = replace(self._state, progress=progress)

    def _entry(self, caller: Caller, detail: str) -> Entry:
        return record.by_caller(Event.REKEY, caller, self._context.clock(), detail=detail)
