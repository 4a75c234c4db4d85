"""What every command is handed: the settings, the way to the user, and the way to the daemon."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from authsome.cli.output import Output
from authsome.errors import NotAllowed
from authsome.home import SECRET_VARIABLES, Settings, settings_from

if TYPE_CHECKING:
    from authsome.client.api import Daemon
    from authsome.secret import Secret


class Context:
    """One command's surroundings."""

    def __init__(self, environ: Mapping[str, str], output: Output) -> None:
        self.environ = {name: value for name, value in environ.items() if name not in SECRET_VARIABLES}
        """The environment without the variables that carry a secret."""
        self.output = output
        self.settings: Settings = settings_from(environ)
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> "Daemon":
        """The daemon; the first call finds it, or starts it."""
        if self._daemon is None:
            from authsome.client.api import Daemon  # noqa: PLC0415  # not every command needs it

            self._daemon = Daemon(
                self.settings,
                environ=self.environ,
                notice=self.waiting,
                detail=self.output.detail,
                passphrase=self._passphrase,
            )
        return self._daemon

    def _passphrase(self, is_new: bool) -> "Secret[str] | None":  # noqa: FBT001  # the shape of a question
        """Ask for the passphrase of a locked vault, where somebody can be asked."""
        from authsome.cli import passphrase  # noqa: PLC0415  # few vaults have one

        if self.output.as_json or self.inside_run or not passphrase.possible():
            return None
        return passphrase.ask(self.output, is_new=is_new)

    @property
    def inside_run(self) -> bool:
        """Whether this is the child of a run, which gets no secret in clear."""
        return bool(self.environ.get("AUTHSOME_RUN"))

    def refuse_inside_run(self, what: str) -> None:
        """Raise NotAllowed where this is the child of a run: it does not do such things."""
        if self.inside_run:
            raise NotAllowed(f"a run's child does not {what}", hint="do it in a terminal of your own")

    def waiting(self, what: str) -> None:
        """Tell the user what takes longer than a moment."""
        self.output.note(f"{what} …")
