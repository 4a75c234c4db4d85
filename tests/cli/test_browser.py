"""The browser gets addresses of the web, whatever a daemon says, and no settings stop a command."""

import subprocess
import sys
from pathlib import Path

import pytest

from authsome.cli import browser
from fakes.patience import wait

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def opener(tmp_path: Path) -> dict[str, str]:
    """An environment whose browser writes down what it is given."""
    program = tmp_path / "my browser"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{tmp_path}/record.new"\nmv "{tmp_path}/record.new" "{tmp_path}/record"\n'
    )
    program.chmod(0o700)
    return {"BROWSER": str(program), "PATH": "/usr/bin:/bin"}


def opens(address: str, environ: dict[str, str]) -> bool:
    """Whether a browser was started: by a process of its own, as a command leaves it running."""
    code = "import os, sys; from authsome.cli import browser; sys.exit(not browser.open_url(sys.argv[1], os.environ))"
    command = [sys.executable, "-c", code, address]
    return subprocess.run(command, env={**environ, "PYTHONPATH": str(CHECKOUT)}, check=False).returncode == 0


def test_an_address_is_opened(opener, tmp_path):
    assert opens("https://example.com/?a=b", opener)
    wait((tmp_path / "record").exists, "the browser to be started")
    assert (tmp_path / "record").read_text() == "https://example.com/?a=b\n"


@pytest.mark.parametrize(
    "address", ["--renderer-cmd-prefix=sh", "file:///etc/passwd", "javascript:alert(1)", "", "-v", "https://a/\x1b[2J"]
)
def test_nothing_else_is(opener, tmp_path, address):
    """A daemon on another machine could say an option of the browser's, which may run a program. # SEC-39, SEC-74"""
    assert not opens(address, opener)
    assert not (tmp_path / "record").exists()


def test_a_setting_that_cannot_be_read_opens_nothing():
    environ = {"BROWSER": "firefox '", "PATH": "/usr/bin:/bin"}
    assert browser.available(environ)
    assert not browser.open_url("https://example.com/", environ)
