"""What issuers say of themselves (RFC 8414), for a while: a refresh is not to wait for it, nor to fail without it.

Rule: it is sealed like a secret. It is none, but it says where refresh tokens and client secrets go.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from authsome.errors import VaultDamaged
from authsome.secret import Secret
from authsome.vault.columns import from_moment, to_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealer

LIFETIME: Final = timedelta(days=1)
"""An issuer that moves an endpoint serves the old one for longer; one that does not is asked again at the failure."""


def put(transaction: Transaction, sealer: Sealer, issuer: str, document: str, *, now: datetime) -> None:
    """Keep what an issuer has just said, in place of what it said before."""
    fetched_at = from_moment(now)
    transaction.execute(
        "INSERT INTO issuers (vault_id, issuer, sealed, fetched_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (vault_id, issuer) DO UPDATE SET sealed = excluded.sealed, fetched_at = excluded.fetched_at",
        (sealer.vault_id, issuer, sealer.seal_issuer(issuer, fetched_at, Secret(document)), fetched_at),
    )


def get(reader: Reader, sealer: Sealer, issuer: str, *, now: datetime) -> str | None:
    """What an issuer said; None when that is too long ago, from the future, damaged, or nothing."""
    row = reader.execute(
        "SELECT sealed, fetched_at FROM issuers WHERE vault_id = ? AND issuer = ?", (sealer.vault_id, issuer)
    ).fetchone()
    if row is None or not timedelta(0) <= now - to_moment(row[1]) < LIFETIME:
        return None
    with suppress(VaultDamaged):  # it can be had again
        return sealer.open_issuer(issuer, row[1], row[0]).reveal()
    return None


def delete(transaction: Transaction, vault_id: str, issuer: str) -> None:
    """Forget what an issuer said."""
    transaction.execute("DELETE FROM issuers WHERE vault_id = ? AND issuer = ?", (vault_id, issuer))
