"""OAuth clients: who we are to a provider (RFC 6749 §2); the client secret and the registration are sealed."""

import json
from datetime import datetime
from typing import Any, Final

from authsome.models.connection import Client, Registration
from authsome.secret import Secret
from authsome.vault.columns import from_moment, from_optional_moment, readable, to_moment, to_optional_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealer, next_revision

_FIELD: Final = "client_secret"
_REGISTRATION: Final = "registration"
_COLUMNS: Final = "server, client_id, client_secret, registration, revision, created_at"
SEALED: Final = (_FIELD, _REGISTRATION)
"""The columns that are sealed, each as the field of its name."""


def get(reader: Reader, sealer: Sealer, provider: str, server: str = "") -> Client | None:
    """The client registered with one of a provider's servers, or None.

    Raises:
        VaultDamaged: its record or its secret was changed.
    """
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM clients WHERE vault_id = ? AND provider = ? AND server = ?",
        (sealer.vault_id, provider, server),
    ).fetchall()
    return _read(sealer, provider, rows[0]) if rows else None


def list_of(reader: Reader, sealer: Sealer, provider: str) -> list[Client]:
    """Every client registered with a provider.

    Raises:
        VaultDamaged: one of them was changed.
    """
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM clients WHERE vault_id = ? AND provider = ? ORDER BY server",
        (sealer.vault_id, provider),
    ).fetchall()
    return [_read(sealer, provider, row) for row in rows]


def vaults_with(reader: Reader, provider: str) -> list[str]:
    """The vaults that hold a client of this provider."""
    rows = reader.execute("SELECT DISTINCT vault_id FROM clients WHERE provider = ? ORDER BY vault_id", (provider,))
    return [str(vault_id) for (vault_id,) in rows]


def put(  # noqa: PLR0913  # a client has these parts
    transaction: Transaction,
    sealer: Sealer,
    *,
    provider: str,
    server: str = "",
    client_id: str,
    client_secret: Secret[str] | None,
    registration: Registration | None = None,
    now: datetime,
) -> Client:
    """Store a client, in place of an earlier one of that server."""
    revision = next_revision(transaction, sealer.vault_id)

    def sealed(field: str, value: Secret[str] | None) -> bytes | None:
        return None if value is None else sealer.seal(provider, place(server), field, revision, value)

    registered = None if registration is None else _registration_to_json(registration)
    transaction.execute(
        "INSERT INTO clients (vault_id, provider, server, client_id, client_secret, registration, revision, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (vault_id, provider, server) DO UPDATE SET client_id = excluded.client_id,"
        " client_secret = excluded.client_secret, registration = excluded.registration,"
        " revision = excluded.revision, created_at = excluded.created_at",
        (
            sealer.vault_id,
            provider,
            server,
            client_id,
            sealed(_FIELD, client_secret),
            sealed(_REGISTRATION, registered),
            revision,
            from_moment(now),
        ),
    )
    return Client(
        vault_id=sealer.vault_id,
        provider=provider,
        server=server,
        client_id=client_id,
        client_secret=client_secret,
        registration=registration,
        created_at=now,
    )


def delete(transaction: Transaction, vault_id: str, provider: str, server: str = "") -> bool:
    """Forget a client; False when there was none."""
    gone = transaction.execute(
        "DELETE FROM clients WHERE vault_id = ? AND provider = ? AND server = ?", (vault_id, provider, server)
    )
    return gone.rowcount == 1


def delete_of_everyone(transaction: Transaction, provider: str) -> int:
    """Forget a provider's clients in every vault; returns how many there were."""
    return transaction.execute("DELETE FROM clients WHERE provider = ?", (provider,)).rowcount


def _read(sealer: Sealer, provider: str, row: tuple[Any, ...]) -> Client:
    server, client_id, sealed, registered, revision, created_at = row

    def opened(field: str, value: bytes | None) -> Secret[str] | None:
        return None if value is None else sealer.open(provider, place(server), field, revision, value)

    secret, text = opened(_FIELD, sealed), opened(_REGISTRATION, registered)
    with readable(f"the OAuth client of {provider}"):
        return Client(
            vault_id=sealer.vault_id,
            provider=provider,
            server=server,
            client_id=client_id,
            client_secret=secret,
            registration=None if text is None else _registration_from_json(text),
            created_at=to_moment(created_at),
        )


def place(server: str) -> str:
    """Where a client's fields are sealed to, in the place of a connection's name, which is neither of these."""
    return f"@{server}" if server else ""


def _registration_to_json(registration: Registration) -> Secret[str]:
    """A registration with its token in clear, for sealing at once."""
    token = registration.access_token
    return Secret(
        json.dumps(
            {
                "endpoint": registration.endpoint,
                "redirect_uri": registration.redirect_uri,
                "method": registration.method,
                "secret_expires_at": from_optional_moment(registration.secret_expires_at),
                "management_uri": registration.management_uri,
                "access_token": None if token is None else token.reveal(),
            }
        )
    )


def _registration_from_json(text: Secret[str]) -> Registration:
    data = json.loads(text.reveal())
    token = data["access_token"]
    return Registration(
        endpoint=data["endpoint"],
        redirect_uri=data["redirect_uri"],
        method=data["method"],
        secret_expires_at=to_optional_moment(data["secret_expires_at"]),
        management_uri=data["management_uri"],
        access_token=None if token is None else Secret(token),
    )
