"""What a run's environment cannot do for a program, told where somebody wonders: in `run --help` and in `doctor`.

Rule: docs/clients.md has it at length, each program of its table tried by a test.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from authsome.cli.grades import Grade, Row

NOTES: Final = (
    "Most programs use the proxy as they are. One that goes around it, or trusts roots of its own",
    "alone, gets no further than without `run`: all it has to show is a placeholder, which the server",
    "refuses. These need a word:",
    "",
    "Java         heeds neither proxy nor roots of an environment: its own code has to set both",
    "Go on macOS  asks the keychain for roots: see `authsome doctor`",
    "aiohttp      ClientSession(trust_env=True); requests, httpx and their like without trust_env=False",
    'stripe       in Python has roots of its own: stripe.ca_bundle_path = os.environ["SSL_CERT_FILE"]',
    "httplib2     needs PySocks to use any proxy",
    "wget, pip    no ca_certificate in ~/.wgetrc and no proxy in pip.conf: they would win",
    "git          2.31 or later, if http.proxy is in its settings",
    "",
    "`authsome run --explain URL` says what becomes of a request of a program that does use it.",
)

_JAVA: Final = "heeds neither the proxy nor the roots of a run: it goes around, with a placeholder, and is refused"
_WGETRC: Final = "names roots of its own, which win over a run's: wget refuses the proxy"


def check(environ: Mapping[str, str]) -> Iterator[Row]:
    """The programs of this machine and user that a run's environment cannot lead, or not alone."""
    found = False
    if shutil.which("java", path=environ.get("PATH")):
        found = True
        yield Grade.OK, f"java {_JAVA}; docs/clients.md shows what its code can do", None
    path = Path(environ.get("WGETRC") or Path(environ.get("HOME", "/"), ".wgetrc"))
    if _names_roots(path):
        found = True
        yield Grade.WARN, f"{path} {_WGETRC}", f"take ca_certificate out of {path}, or use curl"
    if not found:
        yield Grade.OK, "none is known here that would go around the proxy; see `authsome run --help`", None


def _names_roots(path: Path) -> bool:
    """Whether a file of wget's settings has it trust a file of its own; names are read as wget does."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    names = [line.partition("=")[0].strip().lower().replace("_", "").replace("-", "") for line in lines]
    return "cacertificate" in names
