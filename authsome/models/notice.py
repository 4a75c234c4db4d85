"""What the user may want to be told of when no command of theirs is there to tell them, and by which command."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from authsome.errors import AuthsomeError, UsageError
from authsome.models.connection import Connection

_SETTING: Final = "notify"
_FORM: Final = f'as in "{_SETTING}": {{"login_needed": ["notify-send", "authsome"]}}'


class Occasion(StrEnum):
    """Why there is a notice."""

    LOGIN_NEEDED = "login_needed"
    """A provider no longer accepts a login, or one that cannot be refreshed has run out."""
    ERROR = "error"
    """A token has ended and cannot be refreshed just now."""
    HONEYTOKEN = "honeytoken"
    """Somebody used a decoy."""
    LOG_DAMAGED = "log_damaged"
    """The log is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened behind the user's back; never a secret."""

    occasion: Occasion
    provider: str | None
    """None: it is about no connection."""
    connection: str | None
    message: str
    hint: str | None

    @classmethod
    def of(cls, connection: Connection, occasion: Occasion, error: AuthsomeError) -> "Notice":
        """What befell a connection, in the words of the error that it is for whoever uses it."""
        return cls(
            occasion=occasion,
            provider=connection.provider,
            connection=connection.name,
            message=error.message,
            hint=error.hint,
        )

    @classmethod
    def of_log(cls, problem: str) -> "Notice":
        """What was found wrong with the log."""
        return cls(
            occasion=Occasion.LOG_DAMAGED,
            provider=None,
            connection=None,
            message=f"the log is not as it was written: {problem}",
            hint="see `authsome log verify`; somebody had the file",
        )


def commands(config: Mapping[str, object]) -> dict[Occasion, tuple[str, ...]]:
    """The command for each occasion that the settings (`config.json`) name one for: a program and its arguments.

    Raises:
        UsageError: the setting is not of that form; names the place.
    """
    setting = config.get(_SETTING, {})
    if not isinstance(setting, dict):
        raise UsageError(f"config.json: {_SETTING} is not an object", hint=_FORM)
    found = {}
    for name, command in setting.items():
        if name not in set(Occasion):
            known = " and ".join(Occasion)
            raise UsageError(f"config.json: {_SETTING}.{name[:64]} is no occasion", hint=f"there are {known}")
        if not isinstance(command, list) or not command or not all(_is_word(word) for word in command):
            raise UsageError(f"config.json: {_SETTING}.{name} is not a list of words", hint=_FORM)
        found[Occasion(name)] = tuple(command)
    return found


def _is_word(word: object) -> bool:
    return isinstance(word, str) and word != "" and "\0" not in word
