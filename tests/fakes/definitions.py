"""Provider definitions that several tests lead to a server of their own."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

Define = Callable[[Mapping[str, object]], None]
"""Puts a definition where a user would (the fixture `define`)."""


def put(home: Path, definition: Mapping[str, object]) -> None:
    """Put a definition where a user would."""
    for directory in (home, home / "providers"):
        directory.mkdir(mode=0o700, exist_ok=True)
    path = home / "providers" / f"{definition['name']}.json"
    path.write_text(json.dumps(definition))
    path.chmod(0o600)


def issuer_only(issuer: str, **oauth: object) -> dict[str, object]:
    """An OAuth provider named acme that names its issuer, and leaves the rest to be found there."""
    return {
        "schema_version": 1,
        "name": "acme",
        "auth_type": "oauth2",
        "api_url": "https://acme.example.localhost",
        "allow_private_addresses": True,
        "oauth": {"issuer": issuer, **oauth},
    }


def keyed(api_url: str, **changes: object) -> dict[str, object]:
    """A provider named keyed that takes an API key."""
    return {
        "schema_version": 1,
        "name": "keyed",
        "auth_type": "api_key",
        "api_url": api_url,
        "allow_private_addresses": True,
        "api_key": {"key_pattern": "^kk-[a-z0-9]{20,}$", "key_pattern_hint": "a key begins with kk-"},
        "inject": {"header": "Authorization", "template": "Bearer {api_key}"},
        "export": {"env": {"KEYED_API_KEY": {"value": "{api_key}", "placeholder": "kk-placeholder00000000000000"}}},
        **changes,
    }
