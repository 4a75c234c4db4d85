"""A master key in a file of the home."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authsome.crypto import aead
from authsome.errors import StorageFailed, VaultUnusable, reason_of
from authsome.home import Home, read_private, sync_directory, write_private
from authsome.secret import Secret
from authsome.vault.key_sources.source import Source, as_text, parse


class FileKey:
    """`server/master.key`, in base64."""

    kind = Source.FILE

    def __init__(self, home: Home) -> None:
        self._path = home.master_key
        self._next = home.next_master_key

    def read(self) -> Secret[bytes] | None:
        """The key in the file."""
        try:
            return parse(read_private(self._path), what=str(self._path))
        except VaultUnusable as error:
            if (self._path.parent / "kv_store").is_dir():
                raise VaultUnusable(
                    f"{self._path.parent.parent} is a home of upstream authsome",
                    hint="move it aside, then take it over from there: authsome admin import-upstream DIR",
                ) from error
            raise
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultUnusable(
                f"{self._path} cannot be read: {reason_of(error)}", hint="mend its owner and mode, or restore it"
            ) from error

    def create(self) -> Secret[bytes]:
        """Write a new key."""
        key = aead.new_key()
        write_private(self._path, as_text(key).encode() + b"\n")
        return key

    def put_next(self, key: Secret[bytes]) -> None:
        """Write a key beside the present one."""
        write_private(self._next, as_text(key).encode() + b"\n")

    def read_next(self) -> Secret[bytes] | None:
        """The key beside the present one."""
        try:
            return parse(read_private(self._next), what=str(self._next))
        except FileNotFoundError:
            return None

    def promote(self) -> None:
        """Put it in the present one's place."""
        with _storing(self._next):
            self._next.replace(self._path)
            sync_directory(self._path.parent)

    def drop(self) -> None:
        """Remove both files; on a disk that writes elsewhere than where it wrote before, their bytes may last."""
        with _storing(self._path):
            for path in (self._next, self._path):
                path.unlink(missing_ok=True)
            sync_directory(self._path.parent)


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {reason_of(error)}") from error
