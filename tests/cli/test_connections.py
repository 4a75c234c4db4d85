"""What is stored is listed, shown redacted, exported on request, and forgotten; each as the contract says."""

import json

import pytest

from fakes.program import Program

LIST_HINT = "authsome: hint: `authsome list` shows the providers\n"
KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
OTHER = "sk-proj-9876543210jihgfedcbaJIHGFEDCBA_-k"


def events(program: Program, name: str) -> list[dict[str, object]]:
    return program.json("log", "--event", name)["events"]


def test_the_list_shows_providers_and_what_is_connected(connected: Program):
    lines = connected("list").stdout.splitlines()
    assert lines[0].split() == ["PROVIDER", "CONNECTION", "STATUS", "EXPIRES", "KIND", "SOURCE"]
    assert lines[1].split() == ["openai", "default", "connected", "-", "api_key", "bundled"]
    assert any(line.startswith("github ") for line in lines[2:])
    assert max(len(line) for line in lines) <= 80
    assert len(connected("list", "--connected").stdout.splitlines()) == 2


def test_the_list_as_json_keeps_its_shape(connected: Program):
    providers = connected.json("list")["providers"]
    first = providers[0]
    assert first.keys() == {
        "name",
        "display_name",
        "source",
        "auth_type",
        "flow",
        "flows",
        "problem",
        "connections",
    }
    assert first["connections"][0].keys() >= {"provider", "connection", "kind", "status", "default", "expires_at"}
    assert [provider["name"] for provider in connected.json("list", "--connected")["providers"]] == ["openai"]


def test_an_empty_list_says_how_to_begin(program: Program):
    done = program("list", "--connected")
    assert (done.returncode, done.stdout) == (0, "")
    assert "authsome login PROVIDER" in done.stderr


def test_a_decoy_takes_no_connections_place(connected: Program):
    done = connected("honeytoken", "openai")
    assert (done.returncode, done.stdout) == (6, "")
    assert "--force" not in done.stderr  # `honeytoken` has none
    assert "--connection NAME" in done.stderr


def test_a_broken_definition_is_shown_and_breaks_no_other(connected: Program):
    directory = connected.home / "providers"
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "acme.json").touch(0o600)
    (directory / "acme.json").write_text('{"name": "acme"')
    done = connected("list")
    assert done.returncode == 0
    assert any(line.split()[:3] == ["acme", "-", "broken"] for line in done.stdout.splitlines())
    assert "acme.json" in done.stderr
    assert connected("inspect", "acme").returncode == 7
    assert connected("get", "openai").returncode == 0


def test_get_hides_the_secret(connected: Program):
    # SEC-145
    shown = connected("get", "openai")
    assert shown.returncode == 0
    assert KEY not in shown.stdout
    assert "api_key     …" in shown.stdout
    answer = connected.json("get", "openai")
    assert answer["fields"] == {"api_key": "…"}
    assert (answer["provider"], answer["default"]) == ("openai", True)
    assert connected("get", "openai", "--field", "api_key").stdout == "…\n"
    assert connected("get", "openai", "--field", "status").stdout == "connected\n"
    assert connected.json("get", "openai", "--field", "status") == {"status": "connected"}
    assert events(connected, "show") == []


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["get", "github"], 3),
        (["get", "openai", "--connection", "work"], 3),
        (["get", "openai", "--field", "colour"], 3),
        (["get", "nosuch"], 4),
        (["logout", "github"], 3),
        (["logout", "nosuch"], 4),
        (["set-default", "nosuch", "work"], 4),
        (["set-default", "openai", "work"], 3),
        (["export", "github"], 3),
        (["inspect", "nosuch"], 4),
    ],
)
def test_what_is_not_there(connected: Program, words, status):
    done = connected(*words)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("authsome: error: ")
    assert done.stdout == ""
    if words[1] == "nosuch":
        assert done.stderr == "authsome: error: no provider named nosuch\n" + LIST_HINT


@pytest.mark.parametrize("command", [["get"], ["logout"], ["export"], ["inspect"], ["revoke"]])
def test_a_mistyped_provider_is_told_the_nearest(connected: Program, command):
    """Nobody is sent to log in to what is no provider."""
    for typed in ("opnai", "OPENAI"):
        done = connected(*command, typed)
        assert done.returncode == 4
        assert done.stderr == f"authsome: error: no provider named {typed}\nauthsome: hint: did you mean openai?\n"


def test_a_secret_is_shown_on_a_terminal_after_a_yes_and_that_is_on_record(connected: Program):
    # SEC-145
    with connected.on_terminal("get", "openai", "--show-secret") as tty:
        tty.expect(r"show the secrets of openai \(default\) on this terminal\? \[y/N\] ")
        tty.send_line("n")
        tty.expect("nothing was shown")
        assert tty.wait() == 4
    assert events(connected, "show") == []
    with connected.on_terminal("get", "openai", "--field", "api_key", "--show-secret") as tty:
        tty.expect("y/N")
        tty.send_line("yes")
        tty.expect(KEY)
        assert tty.wait() == 0
    assert len(events(connected, "show")) == 1


@pytest.mark.parametrize(
    "words", [["--show-secret"], ["--show-secret", "--json"], ["--show-secret", "--field", "api_key"]]
)
def test_without_a_terminal_no_secret_is_shown(connected: Program, words):
    done = connected("get", "openai", *words, input="y\n")
    assert done.returncode == 4
    assert KEY not in done.stdout + done.stderr


def test_a_secret_is_not_shown_as_json(connected: Program):
    """A terminal is not enough: JSON is for programs, and those never ask."""
    with connected.on_terminal("get", "openai", "--show-secret", "--json") as tty:
        assert tty.wait() == 4


def test_inspect_shows_the_definition_and_its_source(program: Program):
    done = program("inspect", "openai")
    assert json.loads(done.stdout)["name"] == "openai"
    assert "bundled" in done.stderr
    answer = program.json("inspect", "openai")
    assert answer["source"] == "bundled"
    assert answer["definition"]["api_key"]


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("env", f"OPENAI_API_KEY={KEY}\n"),
        ("shell", f"export OPENAI_API_KEY='{KEY}'\n"),
        ("fish", f"set -gx OPENAI_API_KEY '{KEY}'\n"),
        ("powershell", f"$env:OPENAI_API_KEY = '{KEY}'\n"),
        ("dotenv", f"OPENAI_API_KEY='{KEY}'\n"),
        ("json", json.dumps({"OPENAI_API_KEY": KEY}, indent=2) + "\n"),
    ],
)
def test_export_in_every_format(connected: Program, style, text):
    done = connected("export", "openai", "--format", style)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_export_is_on_record_and_env_by_default(connected: Program):
    assert connected("export").stdout == f"OPENAI_API_KEY={KEY}\n"
    assert connected.json("export") == {"OPENAI_API_KEY": KEY}
    assert [event["provider"] for event in events(connected, "export")] == ["openai", "openai"]


def test_a_runs_child_gets_no_secret_in_clear(connected: Program):
    inside = {"AUTHSOME_RUN": "r1"}
    done = connected("export", "openai", env=inside)
    assert (done.returncode, done.stdout) == (4, "")
    with connected.on_terminal("get", "openai", "--show-secret", env=inside) as tty:
        assert tty.wait() == 4
    assert events(connected, "export") == []


def test_one_connection_of_several_providers_is_exported_one_at_a_time(connected: Program):
    """The hint names those that have it, and can be typed."""
    assert connected("login", "openai", "--connection", "work", "--stdin", input=OTHER).returncode == 0
    unnamed = connected("export", "--connection", "work")
    assert (unnamed.returncode, unnamed.stdout) == (2, "")
    assert "hint: name it: authsome export PROVIDER --connection work; " in unnamed.stderr
    for words in (("openai", "github"), ("openai", "github", "openai")):
        done = connected("export", *words, "--connection", "work", "--format", "dotenv")
        assert (done.returncode, done.stdout) == (2, "")
        hint = done.stderr.splitlines()[-1].partition("one at a time: authsome ")[2]
        mine, _, other = hint.partition("; ")
        assert other == "authsome export github --connection work --format dotenv"
        assert connected(*mine.split()).stdout == f"OPENAI_API_KEY='{OTHER}'\n"
    assert connected("export", "openai", "openai", "--connection", "work").returncode == 0


def test_export_of_nothing_says_so(program: Program):
    done = program("export")
    assert (done.returncode, done.stdout) == (5, "")
    assert "authsome login" in done.stderr


def test_several_connections_and_the_default_among_them(connected: Program):
    assert connected("login", "openai", "--connection", "work", "--stdin", input=OTHER).returncode == 0
    rows = [line.split()[:3] for line in connected("list", "--connected").stdout.splitlines()[1:]]
    assert rows == [["openai", "default", "*"], ["openai", "work", "connected"]]
    assert connected("export", "openai", "--connection", "work").stdout == f"OPENAI_API_KEY={OTHER}\n"
    done = connected("set-default", "openai", "work")
    assert (done.returncode, done.stdout) == (0, "openai uses work unless told otherwise\n")
    assert connected("export", "openai").stdout == f"OPENAI_API_KEY={OTHER}\n"
    assert connected.json("set-default", "openai", "default")["default"] is True


def test_logout_forgets_and_says_what_lives_on(connected: Program):
    # SEC-109
    done = connected("logout", "openai")
    assert (done.returncode, done.stdout) == (0, "forgot openai (default)\n")
    assert "lives on at openai" in done.stderr
    assert connected("get", "openai").returncode == 3
    assert connected("logout", "openai").returncode == 3
    assert len(events(connected, "logout")) == 1
