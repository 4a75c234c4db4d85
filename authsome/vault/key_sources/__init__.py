"""Where a master key can lie: a file, the system's keyring, the environment, or in somebody's head."""

from typing import Final

from authsome.errors import UsageError
from authsome.home import Home, Settings, read_config
from authsome.secret import Secret
from authsome.vault.key_sources.environment import EnvironmentKey
from authsome.vault.key_sources.file import FileKey
from authsome.vault.key_sources.passphrase import PassphraseKey
from authsome.vault.key_sources.source import KeptKey, KeySource, Source
from authsome.vault.key_sources.system_keyring import KeyringKey


def source_of(kind: Source, settings: Settings, store_id: str, passphrase: Secret[str] | None = None) -> KeySource:
    """The source of that kind."""
    if kind is Source.ENVIRONMENT:
        return EnvironmentKey(settings)
    return keeper(kind, settings.home, store_id) or PassphraseKey(passphrase)


def keeper(kind: Source, home: Home, store_id: str) -> KeptKey | None:
    """The place of that kind, where it is one that we keep keys in."""
    if kind is Source.FILE:
        return FileKey(home)
    return KeyringKey(store_id) if kind is Source.KEYRING else None


def choose(settings: Settings) -> Source:
    """Where a new vault's key is to lie: the environment when it gives one, else what config.json says, else a file.

    Raises:
        UsageError: config.json names no such source.
    """
    if settings.master_key is not None or settings.master_key_file is not None:
        return Source.ENVIRONMENT
    wish = read_config(settings.home).get("master_key", Source.FILE.value)
    if wish not in _WISHES:  # a tuple: it may be unhashable
        words = ", ".join(f'"{each}"' for each in _WISHES)
        raise UsageError(f"{settings.home.config}: master_key is {wish!r}", hint=f"one of {words}")
    return Source(wish)


_WISHES: Final = (Source.FILE.value, Source.KEYRING.value, Source.PASSPHRASE.value)
