"""Variables in the syntax of whatever is to read them.

Rule: a value is data to the reader, whatever it holds; where a syntax cannot say that, it is refused.
"""

import json
import re
from collections.abc import Callable, Mapping

from authsome.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_IN_SINGLE_QUOTES = re.compile(r"[^'\\\n\r]*")


def render(variables: Mapping[str, str], style: str) -> str:
    """The variables in one of `STYLES`.

    Raises:
        UsageError: a value cannot be said in that syntax; the message names the variable.
    """
    for name, value in variables.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a variable's name")
        if "\0" in value:
            raise UsageError(f"{name} holds a NUL byte, which no environment can")
    if style == "json":
        return json.dumps(dict(variables), indent=2) + "\n"
    return "".join(_STYLES[style](name, value) + "\n" for name, value in variables.items())


def _env(name: str, value: str) -> str:
    if "\n" in value or "\r" in value:
        raise UsageError(f"{name} has more than one line, which this format cannot say", hint="use --format dotenv")
    return f"{name}={value}"


def _shell(name: str, value: str) -> str:
    """POSIX single quotes, which only a single quote ends (XCU §2.2.2)."""
    return "export {}='{}'".format(name, value.replace("'", "'\\''"))


def _fish(name: str, value: str) -> str:
    r"""In fish's single quotes, `\\` and `\'` are the only escapes."""
    return "set -gx {} '{}'".format(name, value.replace("\\", "\\\\").replace("'", "\\'"))


def _powershell(name: str, value: str) -> str:
    """In PowerShell's single quotes, quotes of any kind are doubled (it takes the typographic ones for quotes, too)."""
    return "$env:{} = '{}'".format(name, re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value))


def _dotenv(name: str, value: str) -> str:
    """Single quotes where every dialect agrees on them; else double quotes with escapes."""
    if _PLAIN_IN_SINGLE_QUOTES.fullmatch(value):
        return f"{name}='{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'{name}="{escaped}"'


_STYLES: Mapping[str, Callable[[str, str], str]] = {
    "env": _env,
    "shell": _shell,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
}
STYLES = (*_STYLES, "json")
"""The formats of `export`."""
