"""The bootstrap secret: who can read it owns the home, for it is the owner's alone to read.

It is there from the home's making to its first claim, and shows who may claim the first identity.
"""

import secrets
from contextlib import suppress

from authsome.home import Home, read_private, write_private
from authsome.secret import Secret
from authsome.vault import principals
from authsome.vault.database import Database


def offer(database: Database, home: Home) -> bool:
    """Write the secret while nobody owns this home, and remove it otherwise; whether it counts."""
    with database.read() as reader:
        owned = principals.count(reader) > 0
    if owned:
        with suppress(OSError):  # a read-only disk: it is worth nothing any more
            home.bootstrap.unlink(missing_ok=True)
    elif not home.bootstrap.exists():
        write_private(home.bootstrap, secrets.token_urlsafe(32).encode())
    return not owned


def fits(home: Home, given: Secret[str]) -> bool:
    """Whether this is the secret; there is none once the home has an owner."""
    try:
        return Secret(read_private(home.bootstrap).decode("ascii", "replace").strip()) == given
    except FileNotFoundError:
        return False
