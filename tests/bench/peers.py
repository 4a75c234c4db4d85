"""Upstream, from PyPI, on Python 3.13: what ours is compared with.

Each version gets an environment of its own below .cache, once, and for each run a fresh home.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from ours import CACHE
from subject import Identity, Subject

from fakes.ports import free_port

VERSIONS = ("0.3.1", "0.7.2")
_RESOLVE = {"0.3.1": "/credentials/resolve", "0.7.2": "/api/credentials/resolve"}
_CONNECT = Path(__file__).with_name("connect_peer.py")


def find_python() -> str | None:
    """A Python 3.13: of PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which("python3.13"), *map(str, sorted(pyenv.glob("versions/3.13*/bin/python3.13")))]
    for candidate in found:
        if candidate and subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
            return candidate
    return None


def install(python: str, version: str, directory: Path) -> Subject:
    """A version of upstream with a home below `directory`, an identity and an API key."""
    own = _environment(python, version)
    directory.mkdir(parents=True)
    home = directory / ".authsome"
    port = free_port()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "AUTHSOME_HOME": str(home),
        "AUTHSOME_DO_NOT_TRACK": "1",
    }
    done = subprocess.run([own, str(_CONNECT)], env=environment, check=True, capture_output=True, text=True)
    identity = json.loads(done.stdout.splitlines()[-1])
    return Subject(
        name=f"upstream {version}",
        serve=(own, "-m", "authsome.cli.main", "daemon", "serve", "--port", str(port)),
        port=port,
        environment=environment,
        identity=Identity(**identity, audience="authsome-daemon", type="JWT"),
        target=_RESOLVE[version],
        body=json.dumps({"provider": "openai", "connection": "default"}),
    )


def _environment(python: str, version: str) -> str:
    """The Python of the version's environment, made when it is not there."""
    directory = CACHE / f"upstream-{version}"
    own = directory / "bin" / "python"
    stamp = directory / "complete"
    if not stamp.exists():
        subprocess.run([python, "-m", "venv", "--clear", str(directory)], check=True)
        install_it = [str(own), "-m", "pip", "install", "-qq", "--disable-pip-version-check", f"authsome=={version}"]
        subprocess.run(install_it, check=True, stdin=subprocess.DEVNULL)
        stamp.touch()
    return str(own)
