"""Makes the home of one of upstream's releases, by that release's own library, with secrets that are none.

The homes beside this file were made with it. To make one again, on Python 3.13:

    python3.13 -m venv /tmp/upstream && /tmp/upstream/bin/pip install authsome==0.7.2
    /tmp/upstream/bin/python tests/vault/upstream/make_home.py tests/vault/upstream/home-0.7.2.tar.gz

Both releases take keys and tokens through a browser only; what those pages call is called here.
"""

import asyncio
import os
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"  # a master key in a file, as on a server
os.environ["AUTHSOME_DO_NOT_TRACK"] = "1"
HOME = Path(tempfile.mkdtemp()) / ".authsome"
os.environ["AUTHSOME_HOME"] = str(HOME)

from authsome.auth.models.connection import (  # noqa: E402  # type: ignore[attr-defined]  # upstream's, not ours
    AccountInfo,
    ConnectionRecord,
    ProviderClientRecord,
    ProviderMetadataRecord,
)
from authsome.auth.models.provider import ProviderDefinition  # noqa: E402
from authsome.server import dependencies  # noqa: E402

ACTIVE, OTHER = "brave-quietly-calmly-1234", "calm-boldly-clearly-5678"
LATER, EARLIER = datetime(2099, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)


def key(provider: str, name: str, value: str) -> dict[str, object]:
    """A connection by key."""
    return {"provider": provider, "connection_name": name, "auth_type": "api_key", "api_key": value}


def tokens(provider: str, name: str, **more: object) -> dict[str, object]:
    """A connection by OAuth."""
    held = {"access_token": f"{provider}-{name}-access", "refresh_token": f"{provider}-{name}-refresh"}
    return {"provider": provider, "connection_name": name, "auth_type": "oauth2", "token_type": "Bearer"} | held | more


CONNECTIONS: dict[str, list[dict[str, object]]] = {
    ACTIVE: [
        key("openai", "default", "sk-proj-fixture000000000000000000default"),
        key("openai", "work", "sk-proj-fixture000000000000000000000work"),
        tokens(
            "github",
            "default",
            scopes=["repo", "read:user"],
            expires_at=LATER,
            account=AccountInfo(id="1", label="octocat"),
        ),
        tokens("gitlab", "expired", expires_at=EARLIER, scopes=["api"]),
        tokens("gitlab", "own", base_url="https://gitlab.example.com", expires_at=LATER),
        tokens("slack", "gone", status="revoked"),
        tokens("linear", "finite", refresh_token=None, scopes=None),
        key("acme", "default", "acme-fixture-key"),
        key("nowhere", "default", "nowhere-fixture-key"),
    ],
    OTHER: [
        key("openai", "default", "sk-proj-fixture0000000000000000000other"),
        key("stripe", "default", "sk_test_other"),
    ],
}
DEFAULTS = {"openai": "work"}
CLIENTS: list[dict[str, object]] = [
    {"provider": "github", "client_id": "github-client", "client_secret": "github-client-secret"},
    {"provider": "linear", "client_id": "linear-client"},
]
PROVIDERS: list[dict[str, object]] = [
    {
        "name": "acme",
        "display_name": "Acme",
        "auth_type": "api_key",
        "flow": "api_key",
        "api_url": "api.acme.example",
        "api_key": {"header_name": "X-Acme-Key", "header_prefix": ""},
        "export": {"ACME_API_KEY": "API_TOKEN"},
    },
    {
        "name": "wide",
        "display_name": "Wide",
        "auth_type": "api_key",
        "flow": "api_key",
        "api_url": "regex:.*wide.*",
        "api_key": {},
    },
]


def record(handle: str, fields: dict[str, object]) -> Any:  # upstream's
    """The record that upstream writes at the end of a login."""
    return ConnectionRecord(**{"identity": handle, "status": "connected", **fields})


def metadata(handle: str) -> list[Any]:
    """What upstream keeps of each provider beside its connections."""
    names: dict[str, list[str]] = {}
    for each in CONNECTIONS[handle]:
        names.setdefault(str(each["provider"]), []).append(str(each["connection_name"]))
    return [
        ProviderMetadataRecord(
            identity=handle,
            provider=provider,
            connection_names=all_names,
            default_connection=DEFAULTS.get(provider, all_names[0]) if handle == ACTIVE else all_names[0],
        )
        for provider, all_names in names.items()
    ]


async def make_0_3() -> None:
    """Version 0.3: connections belong to identities."""
    from authsome.identity.keys import create_identity  # noqa: PLC0415
    from authsome.identity.registry import IdentityRegistry  # noqa: PLC0415
    from authsome.utils import build_store_key  # noqa: PLC0415

    registry = IdentityRegistry(dependencies.get_identity_registry_path(HOME))
    for handle in (OTHER, ACTIVE):  # the last one that is made is the active one
        await registry.register(handle=handle, did=create_identity(HOME, handle).did)
    for handle, connections in CONNECTIONS.items():
        service = await dependencies.create_auth_service(HOME, identity=handle)
        for fields in connections:
            await service._save_connection(record(handle, fields))
        for each in metadata(handle):
            where = build_store_key(identity=handle, provider=each.provider, record_type="metadata")
            await service._vault.put(where, each.model_dump_json(), collection=service._coll)
        if handle == ACTIVE:
            for client in CLIENTS:
                await service._save_provider_client_credentials(ProviderClientRecord(**client))
            for definition in PROVIDERS:
                await service.register_provider(ProviderDefinition(**definition))
        await service._vault.close()


async def make_0_7() -> None:
    """Version 0.7: connections belong to the vaults of principals, which claim identities."""
    from authsome.server.credential_repository import CredentialRepository  # noqa: PLC0415

    from authsome.cli.identity import RuntimeIdentity  # noqa: PLC0415

    store = await dependencies.create_store()
    vault = await dependencies.create_vault(HOME)
    resolver = dependencies.create_ownership_resolver(store)
    for handle in (OTHER, ACTIVE):
        identity = RuntimeIdentity.create(HOME, handle)
        await store.identity_registry.register(handle=handle, did=identity.did)
        principal = await store.principals.create_by_email(f"{handle}@example.com")
        owner = await resolver.claim_identity_for_principal(identity=handle, principal_id=principal.principal_id)
        credentials = CredentialRepository(
            vault, identity=handle, principal_id=principal.principal_id, vault_id=owner.vault_id
        )
        for fields in CONNECTIONS[handle]:
            await credentials.save_connection(record(handle, fields))
        for each in metadata(handle):
            await credentials.save_provider_metadata(each)
    for client in CLIENTS:
        await credentials.save_provider_client(ProviderClientRecord(**client))
    for definition in PROVIDERS:
        await store.provider_definitions.save(ProviderDefinition(**definition))
    await vault._kv.key_value.close()
    await store.close()


def main() -> None:
    """Make a home, and pack what belongs to it."""
    asyncio.run(make_0_3() if version("authsome").startswith("0.3.") else make_0_7())
    with tarfile.open(sys.argv[1], "w:gz", compresslevel=9) as archive:
        for path in sorted(HOME.rglob("*")):
            if path.is_file() and path.suffix != ".log" and path.parent.name != "identities":
                archive.add(path, path.relative_to(HOME).as_posix(), filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
