"""How long the log is kept, as `config.json` says it: `"log": {"days": 90, "entries": 1000000}`, either or both."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from authsome.errors import UsageError

_SETTING = "log"
_FORM = f'as in "{_SETTING}": {{"days": 90, "entries": 1000000}}'
_MOST = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept; None: whatever there is."""

    age: timedelta | None = None
    entries: int | None = None


def retention(config: Mapping[str, object]) -> Retention:
    """What the settings say.

    Raises:
        UsageError: the setting is not of that form; names the place.
    """
    setting = config.get(_SETTING, {})
    if not isinstance(setting, dict):
        raise UsageError(f"config.json: {_SETTING} is not an object", hint=_FORM)
    if unknown := sorted(setting.keys() - {"days", "entries"}):
        raise UsageError(f"config.json: {_SETTING}.{unknown[0][:64]} is no setting", hint=_FORM)
    for name, value in setting.items():
        if type(value) is not int or not 0 < value < _MOST:
            raise UsageError(f"config.json: {_SETTING}.{name} is not a number from 1 on", hint=_FORM)
    days = setting.get("days")
    # an age that no date reaches back to is none
    age = timedelta(days=days) if days is not None and days <= 365_000 else None
    return Retention(age=age, entries=setting.get("entries"))
