"""Puts an identity and one API key into an upstream home, by upstream's own library; run by upstream's Python.

Both versions take a key through a browser form only; what that form calls is called here. Prints the identity as JSON.
"""

import asyncio
import json
import os
from importlib.metadata import version
from pathlib import Path

from authsome.auth.models.connection import ConnectionRecord  # type: ignore[attr-defined]  # upstream's, not ours
from authsome.auth.models.enums import AuthType, ConnectionStatus
from authsome.server import dependencies

PROVIDER = "openai"
KEY = "sk-" + "x" * 48
HANDLE = "brave-quietly-calmly-1234"
HOME = Path(os.environ["AUTHSOME_HOME"])


def connection() -> ConnectionRecord:
    """The record that upstream's form writes."""
    return ConnectionRecord(
        provider=PROVIDER,
        identity=HANDLE,
        connection_name="default",
        auth_type=AuthType.API_KEY,
        status=ConnectionStatus.CONNECTED,
        api_key=KEY,
    )


async def connect_0_3() -> dict[str, str]:
    """Version 0.3: an identity needs no claim."""
    from authsome.identity.keys import create_identity, load_private_key, mark_registered  # noqa: PLC0415
    from authsome.identity.registry import IdentityRegistry  # noqa: PLC0415

    identity = create_identity(HOME, HANDLE)
    await IdentityRegistry(dependencies.get_identity_registry_path(HOME)).register(handle=HANDLE, did=identity.did)
    mark_registered(HOME, HANDLE)
    service = await dependencies.create_auth_service(HOME, identity=HANDLE)
    await service._save_connection(connection())
    await service._update_provider_metadata(PROVIDER, "default")
    return {"did": identity.did, "seed": load_private_key(HOME, HANDLE).private_bytes_raw().hex()}


async def connect_0_7() -> dict[str, str]:
    """Version 0.7: a principal claims the identity, and the connection lies in the principal's vault."""
    from authsome.auth.models.connection import ProviderMetadataRecord  # noqa: PLC0415
    from authsome.server.credential_repository import CredentialRepository  # noqa: PLC0415

    from authsome.cli.identity import RuntimeIdentity  # noqa: PLC0415

    identity = RuntimeIdentity.create(HOME, HANDLE)
    store = await dependencies.create_store()
    await store.identity_registry.register(handle=HANDLE, did=identity.did)
    principal = await store.principals.create_by_email("owner@example.com")
    resolver = dependencies.create_ownership_resolver(store)
    owner = await resolver.claim_identity_for_principal(identity=HANDLE, principal_id=principal.principal_id)
    vault = await dependencies.create_vault(HOME)
    credentials = CredentialRepository(
        vault, identity=HANDLE, principal_id=principal.principal_id, vault_id=owner.vault_id
    )
    await credentials.save_connection(connection())
    await credentials.save_provider_metadata(ProviderMetadataRecord(provider=PROVIDER, connection_names=["default"]))
    await store.close()
    return {"did": identity.did, "seed": identity.signer.private_bytes_raw().hex()}


def main() -> None:
    """Connect, and say as whom."""
    connect = connect_0_3 if version("authsome").startswith("0.3.") else connect_0_7
    print(json.dumps({"handle": HANDLE, **asyncio.run(connect())}))


if __name__ == "__main__":
    main()
