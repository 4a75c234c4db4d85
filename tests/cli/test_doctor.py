"""What `doctor` knows of programs that a run's environment cannot lead, and of macOS's keychain."""

import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from authsome.cli import clients
from authsome.cli.grades import Grade
from authsome.home import Home
from authsome.proxy import bundles
from fakes import terminal
from fakes.program import Program

CHECK = Path(__file__).with_name("check_keychain.py")
SECURITY = """#!/bin/sh
# macOS's security, as far as it is used: it remembers what it was told to trust.
printf '%s\\n' "$*" >> "$HOME/security.log"
for last; do :; done
case $1 in
verify-cert) test -e "$HOME/trusted" ;;
add-trusted-cert)
    if test -e "$HOME/refuses"; then echo "SecTrustSettingsSetTrustSettings: denied by the user" >&2; exit 1; fi
    grep -q "BEGIN CERTIFICATE" "$last" && ! grep -q PRIVATE "$last" && touch "$HOME/trusted" ;;
*) exit 2 ;;
esac
"""


@pytest.fixture
def mac(tmp_path: Path) -> dict[str, str]:
    """The environment of a home that has had a run, with such a program."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "security").write_text(SECURITY)
    (programs / "security").chmod(0o755)
    home = tmp_path / "home"
    bundles.prepare(Home(home), {}, None, datetime.now(UTC))
    path = f"{programs}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(tmp_path), "AUTHSOME_HOME": str(home), "LANG": "C.UTF-8"}


def check(environ: dict[str, str], *words: str) -> str:
    """What the check says without a terminal."""
    command = [sys.executable, str(CHECK), *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout


def said_to(environ: dict[str, str]) -> list[str]:
    """How the keychain's program was called."""
    log = Path(environ["HOME"], "security.log")
    return log.read_text().splitlines() if log.exists() else []


def test_linux_needs_nothing(mac: dict[str, str]):
    """Nothing is installed, and no such program called."""
    assert check(mac, "linux", "fix").startswith("ok: nothing is needed")
    assert said_to(mac) == []


def test_nothing_is_put_into_a_keychain_unasked(mac: dict[str, str]):
    """Without `--fix`, and with it where nobody can be asked, it is only looked at."""
    # SEC-175
    assert "ok: does not trust the proxy, so Go programs" in check(mac, "darwin")
    assert "`authsome doctor --fix` offers" in check(mac, "darwin")
    for words in (("darwin", "fix"), ("darwin", "fix", "json")):
        assert check(mac, *words).startswith("warn: does not trust the proxy")
    assert {line.partition(" ")[0] for line in said_to(mac)} == {"verify-cert"}


@pytest.mark.parametrize(("answer", "is_trusted"), [("y", True), ("", False), ("no", False)])
def test_it_is_explained_and_asked(mac: dict[str, str], answer: str, is_trusted: bool):  # noqa: FBT001
    """What it means and how to undo it; then only a yes does it: the certificate, for TLS, in the login keychain."""
    # SEC-175
    certificate = bundles.certificate_path(Home(Path(mac["AUTHSOME_HOME"])))
    with terminal.spawn([sys.executable, str(CHECK), "darwin", "fix"], environment=mac, columns=200) as screen:
        screen.expect("whoever has its key could pose as any site")
        screen.expect("every 30 days")
        screen.expect(re.escape(f"security remove-trusted-cert {shlex.quote(str(certificate))}"))
        screen.expect("Put it into your login keychain")
        screen.send_line(answer)
        screen.expect("ok: trusts the proxy from now on; undone by" if is_trusted else "left as it is")
        assert screen.wait() == 0
    added = [line for line in said_to(mac) if line.startswith("add")]
    keychain = f"{mac['HOME']}/Library/Keychains/login.keychain-db"
    assert added == ([f"add-trusted-cert -r trustRoot -p ssl -k {keychain} {certificate}"] if is_trusted else [])
    after = check(mac, "darwin")
    assert after.startswith("ok: trusts the proxy, so Go programs do; undone by: security remove") is is_trusted


def test_a_refusal_of_the_keychain_is_told(mac: dict[str, str]):
    """Its last words, and that it does not matter to others."""
    Path(mac["HOME"], "refuses").touch()
    with terminal.spawn([sys.executable, str(CHECK), "darwin", "fix"], environment=mac, columns=200) as screen:
        screen.expect("Put it into your login keychain")
        screen.send_line("yes")
        screen.expect("fail: the certificate was not taken: .*denied by the user")
        assert screen.wait() == 0


def test_before_the_first_run_there_is_nothing_to_trust(mac: dict[str, str], tmp_path: Path):
    """Nor with a home whose certificate is gone."""
    bundles.certificate_path(Home(tmp_path / "home")).unlink()
    assert check(mac, "darwin", "fix").startswith("ok: nothing to be trusted yet")


def test_what_may_be_trusted_is_the_certificate_alone(mac: dict[str, str]):
    """The file for the keychain holds the authority's certificate, and nothing of its key."""
    # SEC-176
    home = Home(Path(mac["AUTHSOME_HOME"]))
    text = bundles.certificate_path(home).read_text()
    assert text.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in text
    assert text in bundles.authority_path(home).read_text()


@pytest.mark.parametrize(
    ("wgetrc", "is_named"),
    [
        (None, False),
        ("# ca_certificate = /x\nquiet = on\n", False),
        ("ca_certificate = /x\n", True),
        ("CACertificate=/x", True),
        ("ca-certificate = /x", True),
    ],
)
@pytest.mark.parametrize("has_java", [True, False])
def test_programs_that_go_around_are_named(tmp_path: Path, wgetrc: str | None, is_named, has_java):
    """Those of this machine and user, and no others."""
    # SEC-168
    if has_java:
        (tmp_path / "java").write_text("#!/bin/sh\n")
        (tmp_path / "java").chmod(0o755)
    if wgetrc is not None:
        (tmp_path / ".wgetrc").write_text(wgetrc)
    rows = list(clients.check({"PATH": str(tmp_path), "HOME": str(tmp_path)}))
    assert [grade for grade, message, _ in rows if message.startswith("java ")] == [Grade.OK] * has_java
    assert [grade for grade, message, _ in rows if ".wgetrc" in message] == [Grade.WARN] * is_named
    assert ("none is known" in rows[0][1]) is not (is_named or has_java)


def test_the_help_of_run_names_them(program: Program):
    """Whoever wonders reads there which programs need more, and that the others fail closed."""
    # SEC-168
    text = program("run", "--help").stdout
    for word in ("placeholder", "Java", "trust_env", "stripe", "PySocks", "~/.wgetrc", "Go on macOS", "doctor"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= 120
