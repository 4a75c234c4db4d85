"""Homes of upstream's releases, made by those releases (`upstream/make_home.py` says how), unpacked for a test."""

import tarfile
from pathlib import Path
from typing import Final

RELEASES: Final = ("0.3.1", "0.7.2")
_HERE: Final = Path(__file__).parent / "upstream"


def unpack(release: str, directory: Path) -> Path:
    """The home of a release, below a directory that is made."""
    home = directory / f"upstream-{release}"
    home.mkdir(parents=True, mode=0o700)
    with tarfile.open(_HERE / f"home-{release}.tar.gz") as archive:
        # Python 3.11 has filters from 3.11.4 on, and 3.12 wants one to be chosen
        archive.extractall(home, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (home / "server" / "master.key").chmod(0o600)
    return home
