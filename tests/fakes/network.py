"""A machine of the tests' own beside this one: a network namespace that reaches it by one cable, and by real names.

with network.beside(["vault.example.test"]) as cable:
    subprocess.run(cable.command("curl", "https://vault.example.test"))     # comes from cable.there
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HOSTS: Final = Path("/etc/netns")  # what lies below a namespace's name there takes the place of /etc for its programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """Two machines, and the addresses that they have for each other."""

    namespace: str
    here: str
    """This machine's address, which the names lead to."""
    there: str
    """The other machine's."""
    elsewhere: str
    """A second address of the other machine's, for somebody else there."""

    def command(self, *words: str) -> tuple[str, ...]:
        """A command line that runs on the other machine."""
        return ("ip", "netns", "exec", self.namespace, *words)


@contextmanager
def beside(names: Sequence[str]) -> Iterator[Cable]:
    """Make the other machine, on which `names` lead to this one; all of it is gone after the block."""
    number = os.getpid()
    subnet = f"10.{64 + (number >> 8) % 128}.{number % 256}"
    cable = Cable(namespace=f"authsome-{number}", here=f"{subnet}.1", there=f"{subnet}.2", elsewhere=f"{subnet}.3")
    ends = f"as{number}a", f"as{number}b"
    try:
        _ip("netns", "add", cable.namespace)
        directory = _HOSTS / cable.namespace
        directory.mkdir(parents=True)
        (directory / "hosts").write_text(f"127.0.0.1 localhost\n{cable.here} {' '.join(names)}\n")
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", cable.namespace)
        _ip("address", "add", f"{cable.here}/29", "dev", ends[0])
        _ip("link", "set", ends[0], "up")
        for address in (cable.there, cable.elsewhere):
            _ip("-n", cable.namespace, "address", "add", f"{address}/29", "dev", ends[1])
        for device in (ends[1], "lo"):
            _ip("-n", cable.namespace, "link", "set", device, "up")
        yield cable
    finally:
        subprocess.run([_program(), "netns", "delete", cable.namespace], check=False, stderr=subprocess.DEVNULL)
        subprocess.run([_program(), "link", "delete", ends[0]], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(_HOSTS / cable.namespace, ignore_errors=True)


def _ip(*words: str) -> None:
    subprocess.run([_program(), *words], check=True)


def _program() -> str:
    found = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin")
    assert found, "iproute2 is not installed"
    return found
