"""Opening the user's browser, without waiting for it and without its noise."""

import os
import shutil
import sys
from collections.abc import Mapping

_LINUX = ("xdg-open", "x-www-browser", "www-browser", "wslview", "gio open", "firefox", "chromium", "google-chrome")


def available(environ: Mapping[str, str]) -> bool:
    """Whether a browser can come up where the user would see it."""
    if environ.get("BROWSER"):
        return True
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return False
    if sys.platform == "darwin":
        return True
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")) and bool(_commands(environ))


def open_url(url: str, environ: Mapping[str, str]) -> bool:
    """Start the browser with this URL; False when none could be started.

    It comes from a daemon, which may be another machine's: nothing but an address of the web gets to a program's words.
    """
    if not url.startswith(("https://", "http://")) or not url.isprintable():
        return False
    return any(_start(command, url, environ) for command in _commands(environ))


def _commands(environ: Mapping[str, str]) -> list[list[str]]:
    """What to try, best first: $BROWSER (a list parted by colons, `%s` for the URL), then what this system has."""
    chosen = environ.get("BROWSER", "")
    if chosen:
        wanted = [part for part in chosen.split(os.pathsep) if part]
        import shlex  # noqa: PLC0415

        # A path with a blank in it is one command, not a command and its argument.
        try:
            words = [[part] if os.path.exists(part) else shlex.split(part) for part in wanted]  # noqa: PTH110
        except ValueError:  # a quotation that does not end
            return []
    elif sys.platform == "darwin":
        words = [["open"]]
    else:
        words = [part.split() for part in _LINUX]
    return [command for command in words if command and shutil.which(command[0], path=environ.get("PATH"))]


def _start(command: list[str], url: str, environ: Mapping[str, str]) -> bool:
    import subprocess  # noqa: PLC0415  # only when a browser is opened

    argv = [word.replace("%s", url) for word in command]
    if argv == command:
        argv.append(url)
    try:
        subprocess.Popen(  # noqa: S603  # the user's own browser
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
