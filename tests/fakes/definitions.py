"""Provider definitions that several tests lead to a server of their own."""

from collections.abc import Callable, Mapping

Define = Callable[[Mapping[str, object]], None]
"""Puts a definition where a user would (the fixture `define`)."""


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
