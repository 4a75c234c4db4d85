"""How this very authsome was started, and how to start it again: from the archive, a checkout, or an installed package.

Rule: stands alone, and knows these things from the boot code, never from argv, `__file__` of `__main__` or the
environment, which leak into children and can be bent by them.
"""

import os
import sys

from authsome.archive import boot

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 5 ms
if TYPE_CHECKING:
    from pathlib import Path


def launch_command() -> list[str]:
    """The absolute start of a command line that runs this authsome again: same interpreter, same file, isolated (`-I`).

    A command and its arguments follow it. In the archive it stays right when the file has been replaced by a newer one.
    """
    if boot.LAUNCH is not None:
        return [sys.executable, "-I", boot.LAUNCH.archive]
    launcher = os.path.join(os.path.dirname(_package()), "authsome.py")
    if os.path.exists(launcher):
        return [sys.executable, "-I", launcher]
    return [sys.executable, "-I", "-m", "authsome"]


def archive_path() -> "Path | None":
    """The absolute path of the authsome.pyz that this process runs from, or None."""
    from pathlib import Path

    return None if boot.LAUNCH is None else Path(boot.LAUNCH.archive)


def store_descriptor() -> int | None:
    """The descriptor that keeps this build's unpacked files from being swept, if any; a process that stays keeps it."""
    return None if boot.LAUNCH is None else boot.LAUNCH.handle


def build_id() -> str:
    """What names this build: an archive's content hash (16 hexadecimal digits); outside of one `<version>-checkout`."""
    if boot.LAUNCH is not None:
        return boot.LAUNCH.build
    from authsome import __version__

    return f"{__version__}-checkout"


def verify_cache() -> list[str]:
    """Compare every unpacked file with the hash it was written with. Returns a line for each problem.

    A file may be damaged, missing, or not belong there (it would be imported, too). Outside of an archive all is well.
    """
    if boot.LAUNCH is None:
        return []
    from authsome.archive import verify

    return verify.problems(boot.LAUNCH.store)


def discard_cache() -> None:
    """Have the next start unpack the archive anew; what runs already goes on with the files as they are."""
    if boot.LAUNCH is not None:
        try:  # noqa: SIM105  # `contextlib` is what each run would pay for
            os.unlink(f"{boot.LAUNCH.store}/{boot.LISTING}")
        except FileNotFoundError:
            pass


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
