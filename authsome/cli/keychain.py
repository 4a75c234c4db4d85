"""Our authority in the login keychain of macOS, where Go programs look for roots, whatever the environment says.

Rule: nothing is put there unless somebody at the terminal was told what it means, and has said yes. Only the
certificate is: the key stays where it is.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from authsome.cli import prompt
from authsome.cli.context import Context
from authsome.cli.grades import Grade, Row
from authsome.home import quoted
from authsome.message import clean_line
from authsome.proxy import bundles

_PROGRAM: Final = "security"
_SECONDS: Final = 120.0  # macOS asks for the user's password
_KEYCHAIN: Final = "Library/Keychains/login.keychain-db"


def check(context: Context, *, fix: bool, platform: str) -> Iterator[Row]:
    """Whether programs that ask the system for roots trust the proxy; with `fix` the user is asked whether they shall.

    Args:
        context: the home, and the way to the user.
        fix: whether to offer it.
        platform: as `sys.platform` names it.
    """
    if platform != "darwin":
        yield Grade.OK, "nothing is needed: programs have the proxy's certificate from a run's environment", None
        return
    certificate = bundles.certificate_path(context.settings.home)
    if not certificate.exists():
        yield Grade.OK, "nothing to be trusted yet; the first run makes the proxy's certificate", None
        return
    undo = f"{_PROGRAM} remove-trusted-cert {quoted(certificate)}"
    if _run(context, "verify-cert", "-c", str(certificate), "-p", "ssl", "-l", "-L", "-q") is None:
        yield Grade.OK, f"trusts the proxy, so Go programs do; undone by: {undo}", None
        return
    found = "does not trust the proxy, so Go programs (gh, terraform) refuse it in a run; others are not affected"
    if not fix:
        yield Grade.OK, f"{found}; `authsome doctor --fix` offers to change that", None
    elif context.output.as_json or context.output.quiet or not prompt.possible():
        yield Grade.WARN, found, "that is asked at a terminal: run `authsome doctor --fix` there"
    elif not _agreed(context, certificate, undo):
        yield Grade.OK, f"{found}; left as it is", None
    elif (failure := _trust(context, certificate)) is not None:
        yield Grade.FAIL, f"the certificate was not taken: {failure}", "try again, or leave it: only Go needs it"
    else:
        yield Grade.OK, f"trusts the proxy from now on; undone by: {undo}", None


def _agreed(context: Context, certificate: Path, undo: str) -> bool:
    """Tell what it means, and ask."""
    for line in (
        "Go programs on macOS take the roots that they trust from the keychain, and not from a run's environment.",
        f"So they refuse the proxy, unless its certificate ({certificate}) is in your login keychain.",
        "There all your programs trust it, outside of runs too: whoever has its key could pose as any site to them.",
        "The key is in a private file of yours, and the certificate is replaced every 30 days; then this is to be done",
        f"again. You can undo it: {undo}",
    ):
        context.output.note(line)
    return prompt.confirm(context.output, "Put it into your login keychain, trusted for TLS?")


def _trust(context: Context, certificate: Path) -> str | None:
    """Have the keychain trust it; what went wrong, or None."""
    keychain = Path(context.environ.get("HOME", "/"), _KEYCHAIN)
    return _run(context, "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-k", str(keychain), str(certificate))


def _run(context: Context, *words: str) -> str | None:
    """Run macOS's program for keychains; what went wrong, or None."""
    program = shutil.which(_PROGRAM, path=context.environ.get("PATH"))
    if program is None:
        return f"there is no program named {_PROGRAM}"
    try:
        done = subprocess.run(  # noqa: S603  # macOS's own, found as a shell finds it
            [program, *words], capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return f"{_PROGRAM} did not end"
    if done.returncode == 0:
        return None
    return clean_line(done.stderr.strip().rpartition("\n")[2] or f"{_PROGRAM} ended with status {done.returncode}", 200)
