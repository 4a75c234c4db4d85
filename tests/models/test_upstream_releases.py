"""Every definition that upstream's releases bundle is read, or refused for a reason that stands in the table here."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from authsome.errors import ProviderInvalid
from authsome.models.provider import parse_definition
from authsome.models.upstream import translated, without_comments

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "upstream"
RELEASES: Final = {
    "0.3.1": (
        "authsome-0.3.1-py3-none-any.whl",
        "5ec4e0525c42051814d380652ec94b5b2c16c2a794e4e29e9445091b404f08a8",
        45,
    ),
    "0.7.2": (
        "authsome-0.7.2-py3-none-any.whl",
        "d7f51183a68dfe99685002688cf19c3f8c37bd9590c73865deb3a18e00d2f49d",
        88,
    ),
}
_REGEX: Final = "never by a regular expression"
REFUSED: Final = {
    ("0.3.1", "google"): (_REGEX, "say '*.googleapis.com'"),  # would match googleapis.attacker.example
    ("0.7.2", "google"): (_REGEX, "say '*.googleapis.com'"),
    ("0.7.2", "github"): (_REGEX, "say 'githubusercontent.com'"),  # would match evilgithubusercontent.com
    ("0.7.2", "linkedin-browser"): ("auth_type: cookies of a browser", "an API key"),
    ("0.7.2", "x-browser"): ("auth_type: cookies of a browser", "an API key"),
}
"""What is refused: why, and what is said to do instead."""


@pytest.fixture(scope="module", params=sorted(RELEASES))
def release(request: pytest.FixtureRequest, set_up_environment: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """A release's version, and its definitions as they stand in its wheel, fetched once and checked."""
    version: str = request.param
    file, digest, _ = RELEASES[version]
    wheel = CACHE / file
    if not wheel.exists():
        words = ["download", "-qq", "--no-deps", "--only-binary=:all:", "--python-version=3.13", f"--dest={CACHE}"]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words, f"authsome=={version}"]
        subprocess.run(command, env=dict(set_up_environment), check=True, timeout=600, stdin=subprocess.DEVNULL)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "/bundled_providers/" in name and ".json" in name]
        return version, {Path(name).name.partition(".")[0]: archive.read(name).decode() for name in names}


def test_bundled_definitions(release: tuple[str, Mapping[str, str]]):
    """Unchanged they load, but for those that would send a credential to foreign hosts, or cookies."""
    # SEC-110
    version, definitions = release
    assert len(definitions) == RELEASES[version][2]
    refused: dict[tuple[str, str], tuple[str, str | None]] = {}
    for name, text in definitions.items():
        document = json.loads(without_comments(text))
        try:
            provider = parse_definition(translated(document, source=name), source=name)
        except ProviderInvalid as error:
            refused[version, name] = (error.message, error.hint)
            continue
        assert provider.name == document["name"]
        assert len(provider.export.env) >= 1
    assert refused.keys() == {key for key in REFUSED if key[0] == version}
    for key, (message, hint) in refused.items():
        assert REFUSED[key][0] in message
        assert REFUSED[key][1] in (hint or "")
