"""`scan` says what lies where and what is stored of it; on request it imports, and takes the plaintext away."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.program import Program, installed

OPENAI = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
OTHER = "sk-proj-9876543210jihgfedcbaJIHGFEDCBA_-z"
ANTHROPIC = "sk-ant-api03-0123456789abcdefghijABCDEFGHIJ"
GITHUB = "gho_0123456789abcdefghijABCDEFGHIJ0123456789"
SID, TOKEN = "ACabcdef0123456789abcdef0123456789", "abcdef0123456789abcdef0123456789"
AWS = "abcdefghij0123456789abcdefghij0123456789"
SECRETS = (OPENAI, OTHER, ANTHROPIC, GITHUB, TOKEN, AWS)


@pytest.fixture(scope="module", name="program")
def fixture_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One installation for all; what a test stores, it forgets."""
    with installed(tmp_path_factory.mktemp("scan") / "user") as program:
        yield program


@pytest.fixture
def project(program: Program, tmp_path: Path) -> Iterator[Path]:
    """A directory to scan, without anything in it; afterwards nothing is connected."""
    yield tmp_path
    for provider in program.json("list", "--connected")["providers"]:
        for connection in provider["connections"]:
            assert program("logout", provider["name"], "--connection", connection["connection"]).returncode == 0


def findings(program: Program, project: Path, *words: str) -> dict[str, dict[str, object]]:
    """What is found, by place; nothing of it in clear."""
    done = program("scan", *words, "--json", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)

    return {f"{each['file']}:{each['line']}": each for each in json.loads(done.stdout)["findings"]}


def states(found: dict[str, dict[str, object]]) -> dict[str, tuple[object, object]]:
    return {place: (each["provider"], each["state"]) for place, each in found.items()}


def test_what_lies_where(program: Program, project: Path):
    """Files, environment and tools, each with its state against the vault; values are masked."""
    # SEC-143, SEC-144
    (project / ".env").write_text(f'OPENAI_API_KEY="{OPENAI}"\nNAME=x\nANY={ANTHROPIC}\nGITHUB_TOKEN=your-token\n')
    (project / "sub").mkdir()
    (project / "sub" / ".env.local").write_text(f"OPENAI_API_KEY={OTHER}\n")
    home = {"HOME": str(project / "home"), "GH_TOKEN": GITHUB}
    (project / "home" / ".aws").mkdir(parents=True)
    aws = project / "home" / ".aws" / "credentials"
    aws.write_text(f"[default]\naws_secret_access_key = {AWS}\n")
    assert program("login", "openai", "--stdin", "--no-verify", input=OPENAI).returncode == 0
    done = program("scan", cwd=project, env=home)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["PROVIDER", "STATE", "WHERE", "VARIABLE", "VALUE"]
    assert ["openai", "same", "as", "default", ".env:1", "OPENAI_API_KEY", "sk-…J_-k"] in rows
    assert ["openai", "differs", "from", "default", "sub/.env.local:1", "OPENAI_API_KEY", "sk-…A_-z"] in rows
    assert ["anthropic", "not", "stored", ".env:3", "ANY", "sk-ant-…GHIJ"] in rows
    assert ["github", "not", "stored", "environment", "GH_TOKEN", "gho…6789"] in rows
    assert ["-", "no", "provider", f"{aws}:2", "AWS_SECRET_ACCESS_KEY", "…"] in rows
    assert len(rows) == 6
    assert "authsome scan --import" in done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
    asked = program.json("log", "--event", "scan", "--provider", "openai")["events"]
    assert [each["detail"] for each in asked] == ["2 compared, 1 the same"]
    log = (program.home / "server" / "daemon.log").read_text()
    assert not any(secret in log for secret in SECRETS)


def test_nothing_to_find(program: Program, project: Path):
    (project / ".env").write_text("DEBUG=1\nOPENAI_API_KEY=\n")
    done = program("scan", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "no keys in 1 .env file, the environment and the files of common tools\n"
    assert program("scan", "nowhere", cwd=project).returncode == 2


def test_a_script_imports_and_replaces(program: Program, project: Path):
    """What is not stored is stored once, and gone from the file; what differs is kept as it is."""
    # SEC-142
    file = project / ".env"
    file.write_text(
        f"A={ANTHROPIC}\r\nexport OPENAI_API_KEY='{OPENAI}' # c\nOPENAI_API_KEY={OTHER}\nOPENAI_API_KEY={OPENAI}\n"
    )
    file.chmod(0o640)
    found = findings(program, project, "--import", "--replace", "--yes", "--no-verify")
    assert states(found) == {
        ".env:1": ("anthropic", "same"),
        ".env:2": ("openai", "same"),
        ".env:3": ("openai", "not_stored"),
        ".env:4": ("openai", "same"),
    }
    assert "another key as default" in str(found[".env:3"]["problem"])
    lines = file.read_bytes().split(b"\n")
    assert lines[0].startswith(b"A=sk-ant-")
    assert lines[0].endswith(b"\r")
    assert lines[1].startswith(b"export OPENAI_API_KEY='sk-")
    assert lines[1].endswith(b"' # c")
    assert lines[2] == f"OPENAI_API_KEY={OTHER}".encode()
    assert ANTHROPIC.encode() not in file.read_bytes()
    assert OPENAI.encode() not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in project.iterdir()] == [".env"]
    assert program("export", "openai").stdout == f"OPENAI_API_KEY={OPENAI}\n"
    assert program("export", "anthropic").stdout == f"ANTHROPIC_API_KEY={ANTHROPIC}\n"
    assert states(findings(program, project)) == {".env:3": ("openai", "differs")}
    beside = findings(program, project, "--import", "--yes", "--no-verify", "--connection", "work")
    assert states(beside) == {".env:3": ("openai", "same")}
    assert program("export", "openai", "--connection", "work").stdout == f"OPENAI_API_KEY={OTHER}\n"


def test_a_key_of_several_fields(program: Program, project: Path):
    """What belongs together is stored together; a part alone is not, and the reason is said."""
    (project / ".env").write_text(f"TWILIO_AUTH_TOKEN={TOKEN}\n")
    found = findings(program, project, "--import", "--yes", "--no-verify")
    assert "asks for account_sid, too" in str(found[".env:1"]["problem"])
    (project / ".env").write_text(f"TWILIO_AUTH_TOKEN={TOKEN}\nTWILIO_ACCOUNT_SID={SID}\n")
    assert states(findings(program, project, "--import", "--yes", "--no-verify")) == {".env:1": ("twilio", "same")}
    assert program.json("get", "twilio")["fields"].keys() == {"account_sid", "auth_token"}


def test_each_step_is_asked_for(program: Program, project: Path):
    """On a terminal every key and every file is a question; a no changes nothing."""
    file = project / ".env"
    before = f"OPENAI_API_KEY={OPENAI}\nANTHROPIC_API_KEY={ANTHROPIC}\n"
    file.write_text(before)
    with program.on_terminal("scan", "--import", "--no-verify", cwd=project) as tty:
        tty.expect(r"store as openai \(default\) sk-…J_-k of .env:1\? \[y/N\] ")
        tty.send_line("y")
        tty.expect("stored .* as openai")
        tty.expect(r"store as anthropic .* \[y/N\] ")
        tty.send_line("")
        tty.expect(r"put placeholders in place of the keys in .env, line 1\? \[y/N\] ")
        tty.send_line("n")
        assert tty.wait() == 0
        assert not any(secret in tty.transcript for secret in SECRETS)
    assert file.read_text() == before
    assert program("get", "anthropic").returncode == 3
    file.write_text(f"OPENAI_API_KEY={OTHER}\n")
    with program.on_terminal("scan", "--import", "--no-verify", cwd=project) as tty:
        tty.expect(r"replace the key of openai \(default\) by sk-…A_-z of .env:1\? \[y/N\] ")
        tty.send_line("y")
        tty.expect("put placeholders")
        tty.send_line("y")
        tty.expect("replaced what was stored by placeholders in .env, line 1")
        assert tty.wait() == 0
    assert program("export", "openai").stdout == f"OPENAI_API_KEY={OTHER}\n"
    assert OTHER not in file.read_text()


@pytest.mark.parametrize("words", [["--import"], ["--replace"], ["--import", "--json"]])
def test_nobody_to_agree(program: Program, project: Path, words: list[str]):
    """Without a terminal agreement has to be given in words."""
    (project / ".env").write_text(f"OPENAI_API_KEY={OPENAI}\n")
    done = program("scan", *words, cwd=project, input="y\n")
    assert done.returncode == 4
    assert "--yes" in done.stdout + done.stderr


def test_a_run_does_not_look_for_keys(program: Program, project: Path):
    """An agent does not learn what lies where, nor try values against the vault."""
    (project / ".env").write_text(f"OPENAI_API_KEY={OPENAI}\n")
    done = program("scan", cwd=project, env={"AUTHSOME_RUN": "r1"})
    assert (done.returncode, done.stdout) == (4, "")


def test_a_link_is_reported_and_left_alone(program: Program, project: Path):
    """A `.env` that is a link elsewhere is read when it is named, and never written."""
    (project / "real").write_text(f"OPENAI_API_KEY={OPENAI}\n")
    (project / ".env").symlink_to(project / "real")
    found = findings(program, project, ".env", "--import", "--replace", "--yes", "--no-verify")
    assert (found[".env:1"]["imported"], found[".env:1"]["replaced"]) == (True, False)
    assert OPENAI in (project / "real").read_text()


def test_a_key_that_may_be_of_two(program: Program, project: Path):
    """A form that two providers share says nothing; what is stored is known even so, and somebody may settle it."""
    shared = {"schema_version": 1, "auth_type": "api_key", "api_key": {"key_pattern": "^shared-[a-z0-9]{20}$"}}
    for name in ("first", "second"):
        path = project / f"{name}.json"
        path.write_text(json.dumps({**shared, "name": name, "api_url": f"api.{name}.test"}))
        assert program("register", str(path), "--yes").returncode == 0
    file = project / ".env"
    file.write_text("ANY=shared-ab1cd2ef3gh4ij5kl6mn\n")
    found = findings(program, project, "--import", "--yes", "--no-verify")[".env:1"]
    assert (found["provider"], found["candidates"], found["imported"]) == (None, ["first", "second"], False)
    assert "first or second" in str(found["problem"])
    told = program("scan", "--import", "--yes", "--no-verify", cwd=project)
    assert ".env:1: not imported: it may be a key of first or second" in told.stderr
    with program.on_terminal("scan", "--import", "--no-verify", cwd=project) as tty:
        tty.expect(r"first/second +not stored")
        tty.expect(r"is shared-…l6mn of .env:1 of first\? \[y/N\] ")
        tty.send_line("n")
        tty.expect(r"of second\? \[y/N\] ")
        tty.send_line("y")
        tty.expect(r"store as second \(default\)")
        tty.send_line("y")
        tty.expect("put placeholders")
        tty.send_line("n")
        assert tty.wait() == 0
    assert states(findings(program, project)) == {".env:1": ("second", "same")}
    for name in ("first", "second"):
        assert program("remove", name, "--yes").returncode == 0
