"""A master key in the keyring of the operating system.

Rule: a keyring that keeps nothing, keeps it in clear, or does not answer is refused, and nothing else takes its place.
"""

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from authsome.crypto import aead
from authsome.errors import AuthsomeError, VaultUnusable
from authsome.secret import Secret
from authsome.vault.key_sources.source import Source, as_text, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyring.backend import KeyringBackend

_SERVICE: Final = "authsome"
_PATIENCE: Final = timedelta(seconds=30)
"""A keyring may ask its user for a password; one whose bus hangs must not hang us."""
_PLAINTEXT_FAMILY: Final = "keyrings.alt"  # back ends that keep values in files, some in clear
_SAFE_PRIORITY: Final = 1  # keyring's own threshold: below it a back end is not recommended
_HINT: Final = 'set up the system\'s keyring, or say "master_key": "file" in config.json before the first start'


class KeyringKey:
    """The keyring of the operating system."""

    kind = Source.KEYRING

    def __init__(self, store_id: str, *, patience: timedelta = _PATIENCE) -> None:
        self._store_id = store_id
        self._patience = patience

    def read(self) -> Secret[bytes] | None:
        """The key under this store's name."""
        text = self.read_text()
        return None if text is None else parse(text.reveal().encode(), what="the key in the keyring")

    def read_text(self) -> Secret[str] | None:
        """The same as it lies there, for a store whose key has another form."""
        text = self._ask(lambda backend: backend.get_password(_SERVICE, self._store_id))
        return None if text is None else Secret(text)

    def create(self) -> Secret[bytes]:
        """Put a new key there, and see that it can be had back."""
        key = aead.new_key()
        self._put(self._store_id, key)
        return key

    def put_next(self, key: Secret[bytes]) -> None:
        """Put a key under the second name."""
        self._put(self._next, key)

    def read_next(self) -> Secret[bytes] | None:
        """The key under the second name."""
        text = self._ask(lambda backend: backend.get_password(_SERVICE, self._next))
        return None if text is None else parse(text.encode(), what="the next key in the keyring")

    def promote(self) -> None:
        """Put it under the first name, and nothing under the second."""
        key = self.read_next()
        if key is not None:
            self._put(self._store_id, key)
            self._remove(self._next)

    def drop(self) -> None:
        """Remove both."""
        for name in (self._next, self._store_id):
            self._remove(name)

    @property
    def _next(self) -> str:
        return f"{self._store_id} next"

    def _put(self, name: str, key: Secret[bytes]) -> None:
        text = as_text(key)
        self._ask(lambda backend: backend.set_password(_SERVICE, name, text))
        if self._ask(lambda backend: backend.get_password(_SERVICE, name)) != text:
            raise VaultUnusable("the keyring does not keep what it is given", hint=_HINT)

    def _remove(self, name: str) -> None:
        def remove(backend: "KeyringBackend") -> str | None:
            if backend.get_password(_SERVICE, name) is not None:
                backend.delete_password(_SERVICE, name)
            return None

        self._ask(remove)

    def _ask(self, question: "Callable[[KeyringBackend], str | None]") -> str | None:
        """Put a question to the keyring, in a thread of its own: one that hangs is left behind."""
        answers: list[str | Exception | None] = []

        def ask() -> None:
            try:
                answers.append(question(_backend()))
            except Exception as error:  # noqa: BLE001  # back ends raise whatever their libraries do
                answers.append(error)

        thread = threading.Thread(target=ask, name="keyring", daemon=True)
        thread.start()
        thread.join(self._patience.total_seconds())
        if not answers:
            raise VaultUnusable(
                f"the keyring did not answer within {self._patience.total_seconds():.0f} seconds",
                hint="unlock it, then try again",
            )
        answer = answers[0]
        if isinstance(answer, AuthsomeError):
            raise answer
        if isinstance(answer, Exception):  # its text may hold what was asked: only its kind is told
            raise VaultUnusable(
                f"the keyring refused ({type(answer).__name__})", hint="unlock it, then try again"
            ) from None
        return answer


def _backend() -> "KeyringBackend":
    """The system's keyring; never one that keeps nothing, or keeps it in clear."""
    import keyring  # noqa: PLC0415  # 64 ms and some MiB, for those who chose it
    from keyring.backends.chainer import ChainerBackend  # noqa: PLC0415

    chosen = keyring.get_keyring()
    candidates = chosen.backends if isinstance(chosen, ChainerBackend) else [chosen]
    for backend in candidates:
        if backend.priority >= _SAFE_PRIORITY and not type(backend).__module__.startswith(_PLAINTEXT_FAMILY):
            return backend
    raise VaultUnusable(f"there is no keyring to trust here (found: {chosen.name})", hint=_HINT)
