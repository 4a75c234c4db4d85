"""A backup put in the place of a home, by a process that is no daemon and of which there must be none."""

from pathlib import Path

from authsome import clock
from authsome.daemon import hardening
from authsome.home import Settings
from authsome.secret import Secret
from authsome.vault import backup
from authsome.vault.backup import Restored, Unlock


def check_place(settings: Settings, path: Path, *, force: bool) -> None:
    """See `backup.check_place`."""
    backup.check_place(settings, path, force=force)


def restore(
    settings: Settings, path: Path, *, identity_file: Path | None, passphrase: Secret[str] | None, force: bool
) -> Restored:
    """See `backup.restore`."""
    hardening.no_core_dumps()  # the vault is opened here, to see whether it can be
    unlock = Unlock(identity_file=identity_file, passphrase=passphrase)
    return backup.restore(settings, path, unlock, clock=clock.now, now=clock.now(), force=force)
