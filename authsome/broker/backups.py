"""Backups as an admin asks for them."""

from dataclasses import dataclass
from pathlib import Path

from authsome import __version__
from authsome.broker import record
from authsome.broker.context import Context
from authsome.broker.rekeying import Rekeying
from authsome.home import Home
from authsome.models.audit import Event
from authsome.models.principal import Caller
from authsome.vault import audit, backup
from authsome.vault.backup import Lock, Manifest


@dataclass(frozen=True, slots=True)
class Backups:
    """The use case."""

    context: Context
    home: Home
    rekeying: Rekeying

    def write(self, caller: Caller, path: Path, lock: Lock, *, with_identities: bool, force: bool) -> Manifest:
        """Write a backup into a file on the daemon's machine; see `backup.write`.

        Raises:
            NotAllowed: the caller is no admin.
        """
        caller.require_admin("the file is written with the daemon's rights, so only an admin may have it written")
        now = self.context.clock()

        def note(_manifest: Manifest) -> None:
            detail = f"to {path}, for {len(lock.recipients)} recipients" if lock.recipients else f"to {path}"
            with self.context.database.transaction() as tx:
                audit.append(tx, record.by_caller(Event.BACKUP, caller, now, detail=detail))

        with self.rekeying.change:
            return backup.write(
                self.context.database,
                self.home,
                path,
                lock,
                version=__version__,
                now=now,
                with_identities=with_identities,
                force=force,
                note=note,
            )
