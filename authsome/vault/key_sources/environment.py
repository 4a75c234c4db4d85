"""A master key that the environment gives."""

from authsome.errors import VaultUnusable, reason_of
from authsome.home import Settings, read_private
from authsome.secret import Secret
from authsome.vault.key_sources.source import Source, parse


class EnvironmentKey:
    """AUTHSOME_MASTER_KEY, or the file that AUTHSOME_MASTER_KEY_FILE names; the user's to make and keep."""

    kind = Source.ENVIRONMENT

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self) -> Secret[bytes] | None:
        """The key that the environment gives; the variable goes before the file."""
        if self._settings.master_key is not None:
            return self._settings.master_key
        path = self._settings.master_key_file
        if path is None:
            return None
        try:
            return parse(read_private(path), what=str(path))
        except OSError as error:
            raise VaultUnusable(
                f"AUTHSOME_MASTER_KEY_FILE cannot be read: {reason_of(error)}: {path}", hint="put the key there"
            ) from error

    def create(self) -> Secret[bytes]:
        """Not ours to make."""
        raise VaultUnusable(
            "the environment gives no master key", hint="set AUTHSOME_MASTER_KEY or AUTHSOME_MASTER_KEY_FILE"
        )
