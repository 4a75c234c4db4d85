"""The worker of this checkout, or with `--full-engine` its other process.

With `--open-tunnels` its tunnels may reach loopback, where the tests' servers are. `--without=NAME,…` has it find those
libraries missing, as they are in the built archive; `--archive=FILE` has it take itself for one that runs from there;
`--no-pidfd` stands for a kernel without pidfd_open(2).
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[2]))

from authsome.address import AddressPolicy
from authsome.archive import boot
from authsome.proxy import apart, worker
from authsome.proxy.tenancy import TUNNEL_POLICY


class Without(MetaPathFinder):
    """Stands for the usual finder, and does not find these."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the usual finder finds, or nothing."""
        hidden = fullname.partition(".")[0] in self._names
        return None if hidden else PathFinder.find_spec(fullname, path, target)


def unimplemented(_pid: int) -> int:
    """What such a kernel says."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


if __name__ == "__main__":
    for option in sys.argv[1:]:
        if option.startswith("--without="):
            usual = sys.meta_path.index(PathFinder)
            sys.meta_path[usual] = Without(option.partition("=")[2].split(","))
        if option.startswith("--archive="):
            file = option.partition("=")[2]
            boot.LAUNCH = boot.Launch(file, "0" * 16, str(Path(__file__).parent), os.open("/", os.O_RDONLY))
        if option == "--no-pidfd":
            os.pidfd_open = unimplemented
    if "--full-engine" in sys.argv:
        apart.main()
    full = [sys.executable, "-I", __file__, "--full-engine", *sys.argv[1:]] if len(sys.argv) > 2 else ()
    policy = AddressPolicy(allow_private=True) if "--open-tunnels" in sys.argv else TUNNEL_POLICY
    sys.exit(worker.main(tunnel_policy=policy, full_command=full))
