"""OAuth clients: who we are to a provider (RFC 6749 §2); the client secret is sealed."""

from datetime import datetime
from typing import Final

from authsome.models.connection import Client
from authsome.secret import Secret
from authsome.vault.columns import from_moment, readable, to_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealer, next_revision

_FIELD: Final = "client_secret"
_NO_CONNECTION: Final = ""  # a client belongs to the provider; no connection has an empty name


def get(reader: Reader, sealer: Sealer, provider: str) -> Client | None:
    """The client registered with a provider, or None.

    Raises:
        VaultDamaged: its record or its secret was changed.
    """
    row = reader.execute(
        "SELECT client_id, client_secret, revision, created_at FROM clients WHERE vault_id = ? AND provider = ?",
        (sealer.vault_id, provider),
    ).fetchone()
    if row is None:
        return None
    client_id, sealed, revision, created_at = row
    secret = None if sealed is None else sealer.open(provider, _NO_CONNECTION, _FIELD, revision, sealed)
    with readable(f"the OAuth client of {provider}"):
        return Client(
            vault_id=sealer.vault_id,
            provider=provider,
            client_id=client_id,
            client_secret=secret,
            created_at=to_moment(created_at),
        )


def put(  # noqa: PLR0913  # a client has these parts
    transaction: Transaction,
    sealer: Sealer,
    *,
    provider: str,
    client_id: str,
    client_secret: Secret[str] | None,
    now: datetime,
) -> Client:
    """Store a client, in place of an earlier one."""
    revision = next_revision(transaction, sealer.vault_id)
    sealed = None if client_secret is None else sealer.seal(provider, _NO_CONNECTION, _FIELD, revision, client_secret)
    transaction.execute(
        "INSERT INTO clients (vault_id, provider, client_id, client_secret, revision, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (vault_id, provider) DO UPDATE SET client_id = excluded.client_id,"
        " client_secret = excluded.client_secret, revision = excluded.revision, created_at = excluded.created_at",
        (sealer.vault_id, provider, client_id, sealed, revision, from_moment(now)),
    )
    return Client(
        vault_id=sealer.vault_id, provider=provider, client_id=client_id, client_secret=client_secret, created_at=now
    )


def delete(transaction: Transaction, vault_id: str, provider: str) -> bool:
    """Forget a client; False when there was none."""
    gone = transaction.execute("DELETE FROM clients WHERE vault_id = ? AND provider = ?", (vault_id, provider))
    return gone.rowcount == 1


def delete_of_everyone(transaction: Transaction, provider: str) -> int:
    """Forget a provider's clients in every vault; returns how many there were."""
    return transaction.execute("DELETE FROM clients WHERE provider = ?", (provider,)).rowcount
