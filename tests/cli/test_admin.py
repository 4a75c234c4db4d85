"""`admin import-upstream`: a home of upstream's becomes ours with one command, and no secret is shown."""

from pathlib import Path

import pytest

from fakes.program import Program
from vault.upstream_homes import RELEASES, unpack


@pytest.mark.parametrize("release", RELEASES)
def test_a_home_is_taken_over(program: Program, tmp_path: Path, release: str):
    """The rehearsal, the import and what can be used afterwards; what is read is said, what is secret is not."""
    # SEC-143, SEC-144
    there = unpack(release, tmp_path)
    said = []
    rehearsed = program("admin", "import-upstream", str(there), "--dry-run")
    assert rehearsed.returncode == 0, rehearsed.stderr
    assert "connection  github default" in rehearsed.stdout
    assert "would be imported" in rehearsed.stdout
    assert program.json("list", "--connected")["providers"] == []
    done = program("admin", "import-upstream", there.name, cwd=tmp_path)  # by a relative name
    assert done.returncode == 0, done.stderr
    assert "definition  wide" in done.stdout
    assert "stop upstream's daemon now" in done.stderr
    assert "stop upstream's daemon now" not in rehearsed.stderr
    answer = program.json("admin", "import-upstream", str(there), "--force")
    assert answer["release"] == release[:3]
    assert {item["outcome"] for item in answer["items"]} == {"kept", "left out"}
    assert program("export", "acme").stdout == "ACME_API_KEY=acme-fixture-key\n"
    assert program("export", "openai").stdout.endswith("work\n")
    assert program.json("get", "github")["account"] == "octocat"
    log = program("daemon", "logs").stdout
    said += [rehearsed.stdout, rehearsed.stderr, done.stdout, done.stderr, str(answer), log, program("log").stdout]
    for secret in ("fixture", "github-default-access", "github-default-refresh", "client-secret"):
        assert secret not in "".join(said)


def test_a_directory_that_is_none(program: Program, tmp_path: Path):
    """Whoever names the wrong directory, or does so inside a run, is told in one line."""
    done = program("admin", "import-upstream", str(tmp_path))
    assert done.returncode == 2
    assert "authsome: error: there is no upstream home here" in done.stderr
    inside = program("admin", "import-upstream", str(tmp_path), env={"AUTHSOME_RUN": "r1"})
    assert inside.returncode == 4


def test_a_home_in_our_own_place(program: Program, tmp_path: Path):
    """Upstream's home lies where ours does: its key is not taken for ours, and the way out is said."""
    unpack("0.3.1", tmp_path).rename(program.home)
    program.home.joinpath("server").chmod(0o700)
    done = program("list")
    assert done.returncode == 9
    assert "is a home of upstream authsome" in done.stderr
    assert "authsome admin import-upstream DIR" in done.stderr
