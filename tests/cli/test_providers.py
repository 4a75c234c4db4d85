"""`register` shows what a definition may do and has it agreed to; `remove` says what goes with it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authsome.cli import providers
from fakes.program import Program, installed

KEY = "acme-0123456789abcdefghij"


@pytest.fixture(scope="module", name="program")
def fixture_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One installation for all: each test has a provider of its own."""
    with installed(tmp_path_factory.mktemp("providers") / "user") as program:
        yield program


@pytest.fixture
def write(program: Program) -> Callable[..., Path]:
    """Put a definition where a user would have it."""

    def put(name: str = "acme", **more: object) -> Path:
        path = program.directory / f"{name}.json"
        written = {
            "schema_version": 1,
            "name": name,
            "display_name": "Acme Inc.",
            "api_url": [f"api.{name}.test", f"*.{name}.example"],
            "auth_type": "api_key",
            "api_key": {"env_var": "ACME_API_KEY"},
            "export": {"env": {"ACME_API_KEY": "{token}"}},
        }
        path.write_text(json.dumps(written | more))
        return path

    return put


def test_a_script_registers_and_uses_a_provider(program: Program, write: Callable[..., Path]):
    """With --yes nothing is asked; the provider is there, and so is what it may do."""
    done = program("register", str(write()), "--yes")
    assert (done.returncode, done.stdout) == (0, "registered acme\n"), done.stderr
    assert "sends the credential to       api.acme.test\n" in done.stderr
    assert "                                *.acme.example\n" in done.stderr
    assert "sets for a run's child        ACME_API_KEY\n" in done.stderr
    assert program("login", "acme", "--stdin", input=KEY).returncode == 0
    assert program("export", "acme").stdout == f"ACME_API_KEY={KEY}\n"
    assert program.json("inspect", "acme")["source"] == "custom"
    assert program.json("log", "--event", "register")["events"][0]["provider"] == "acme"


def test_nobody_to_agree(program: Program, write: Callable[..., Path]):
    """Without a terminal, and as JSON, agreement has to be given in words."""
    for words in ([], ["--json"]):
        done = program("register", str(write("lonely")), *words, input="y\n")
        assert done.returncode == 4
        assert "--yes" in done.stdout + done.stderr
    with program.on_terminal("register", str(write("lonely")), "--quiet") as tty:  # which shows nothing to agree to
        tty.expect("nobody is there to agree")
        assert tty.wait() == 4
    assert program("inspect", "lonely").returncode == 4


def test_agreeing_on_a_terminal(program: Program, write: Callable[..., Path]):
    """What the definition may do is read before the question; private addresses are a question of their own."""
    # SEC-103
    path = str(write("near", allow_private_addresses=True))
    for answers in (["n"], ["y", "n"], ["y", ""]):
        with program.on_terminal("register", path) as tty:
            tty.expect(r"may reach +this machine, and addresses of private networks")
            tty.expect(r"register near\? \[y/N\] ")
            for number, answer in enumerate(answers):
                if number:
                    tty.expect(r"private network\? \[y/N\] ")
                tty.send_line(answer)
            tty.expect("nothing was registered")
            assert tty.wait() == 4
    assert program("inspect", "near").returncode == 4
    with program.on_terminal("register", path) as tty:
        for _ in range(2):
            tty.expect(r"\[y/N\] ")
            tty.send_line("y")
        tty.expect("registered near")
        assert tty.wait() == 0


def test_whoever_registers_is_told_that_others_credentials_follow():
    """By their number, below the names of those that are one's own. # SEC-111"""
    review = {"provider": "acme", "display_name": "Acme", "connections": ["work"], "connections_of_others": 2}
    assert list(providers._told(review))[-2:] == [
        "  takes over what is connected  work",
        f"  {'':<28}  2 of other principals",
    ]


def test_a_name_that_exists(program: Program, write: Callable[..., Path]):
    """An existing provider is replaced by --force only, and then it is said what that changes."""
    # SEC-110, SEC-111
    assert program("register", str(write("twice")), "--yes").returncode == 0
    again = program("register", str(write("twice")), "--yes")
    assert (again.returncode, again.stdout) == (7, "")
    assert "authsome: hint: use --force" in again.stderr
    assert program("login", "twice", "--stdin", input=KEY).returncode == 0
    changed = program("register", str(write("twice", api_url=["api.twice.test", "new.twice.test"])), "--yes", "--force")
    assert changed.returncode == 0
    assert "takes the place of            the one that you registered before\n" in changed.stderr
    assert "where that sent nothing       new.twice.test\n" in changed.stderr
    assert "takes over what is connected  default\n" in changed.stderr


def test_an_override_ends_with_remove(program: Program, write: Callable[..., Path]):
    """A bundled provider is what it was once the override is gone."""
    path = str(write("github", api_url="api.github.com"))
    assert program("register", path, "--yes").returncode == 7
    told = program("register", path, "--yes", "--force")
    assert (told.returncode, told.stdout) == (0, "registered github\n")
    assert "takes the place of            authsome's own definition\n" in told.stderr
    assert program("remove", "github").returncode == 0
    answer = program.json("register", path, "--yes", "--force")
    assert (answer["source"], answer["replaced"], answer["registered"]) == ("override", "bundled", True)
    assert program.json("inspect", "github")["source"] == "override"
    answer = program.json("remove", "github")
    assert (answer["provider"], answer["restored"], answer["forgotten"]) == ("github", True, [])
    assert program.json("inspect", "github")["source"] == "bundled"


def test_a_wrong_definition(program: Program):
    """The file, the field and the fix are named in one line, with the contract's exit status."""
    # SEC-110
    path = program.directory / "wrong.json"
    for content, error in {
        '{"name": "wrong"': "wrong.json: is not JSON at line 1",
        '{"schema_version": 1, "name": "wrong", "api_key": {}}': "wrong.json: api_url: is missing",
        "\x1b]0;title\x07": "wrong.json: is not JSON",
        "": "wrong.json: is empty",
        " " * 10_000_000: "wrong.json: is larger than 256 KiB",
    }.items():
        path.write_text(content)
        done = program("register", str(path), "--yes")
        assert (done.returncode, done.stdout) == (7, "")
        assert [line for line in done.stderr.splitlines() if line.startswith(f"authsome: error: {error}")], done.stderr


@pytest.mark.parametrize("words", [["register", "nowhere.json"], ["register", "."], ["remove", "../acme"]])
def test_words_that_name_nothing(program: Program, words: list[str]):
    done = program(*words, "--yes")
    assert done.returncode == 2
    assert done.stderr.startswith("authsome: error: ")


def test_what_is_connected_goes_with_its_provider(program: Program, write: Callable[..., Path]):
    """Credentials are forgotten only when somebody agrees to that."""
    assert program("register", str(write("gone")), "--yes").returncode == 0
    assert program("login", "gone", "--stdin", input=KEY).returncode == 0
    refused = program("remove", "gone")
    assert refused.returncode == 6
    assert "authsome: error: gone is connected as default\n" in refused.stderr
    assert "authsome remove gone --yes" in refused.stderr
    with program.on_terminal("remove", "gone") as tty:
        tty.expect(r"gone is connected as default; forget that, too\? \[y/N\] ")
        tty.send_line("n")
        tty.expect("nothing was removed")
        assert tty.wait() == 4
    assert program("get", "gone").returncode == 0
    done = program("remove", "gone", "--yes")
    assert (done.returncode, done.stdout) == (0, "removed the definition of gone\nforgot gone (default)\n")
    assert program("get", "gone").returncode == 4
    assert program("remove", "gone").returncode == 4
    assert program("remove", "openai").returncode == 4


@pytest.mark.parametrize("command", ["register", "remove"])
def test_a_run_changes_no_definition(program: Program, write: Callable[..., Path], command: str):
    """An agent does not choose where credentials go."""
    # SEC-111
    done = program(command, str(write()) if command == "register" else "acme", "--yes", env={"AUTHSOME_RUN": "r1"})
    assert done.returncode == 4
    assert "a run's child does not change where credentials go" in done.stderr
