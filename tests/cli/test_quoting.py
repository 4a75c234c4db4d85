"""Whatever a value holds, its reader gets that value and runs nothing."""

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsome.cli import quoting
from authsome.errors import UsageError

NASTY = {
    "plain": "sk-proj-Ab_1.2-3",
    "empty": "",
    "blanks": "  two  words\t",
    "quotes": """it's "quoted" `here` \u2018so\u2019 \u201aor\u201b \u201cso\u201d""",
    "expansion": "$HOME ${HOME} $(id) `id` %PATH% !! \\$HOME",
    "backslashes": "\\ \\\\ \\n \\' \\",
    "lines": "-----BEGIN KEY-----\nabc\n\n-----END KEY-----\n",
    "carriage return": "a\r\nb\rc",
    "comment": "a #b; c & d | e > f < g * ? [x] {y} ~",
    "leading": "-n --help =x",
    "unicode": "schlüssel→鍵🔑",
}
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=60)


def evaluated(shell: list[str], script: str) -> str:
    """The value of A after the shell has run the script."""
    done = subprocess.run(
        [*shell, script + "printf '%s.' \"$A\"\n"], capture_output=True, env={"PATH": os.environ["PATH"]}, check=True
    )
    assert done.stderr == b""
    return done.stdout.decode().removesuffix(".")


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("shell", [["sh", "-c"], ["bash", "-c"]], ids=["sh", "bash"])
def test_shells_get_the_value(shell, value):
    assert evaluated(shell, quoting.render({"A": value}, "shell")) == value


@given(TEXT)
@settings(max_examples=25)
def test_any_value_survives_sh(value):
    assert evaluated(["sh", "-c"], quoting.render({"A": value}, "shell")) == value


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
def test_fish_gets_the_value(value):
    r"""Read by fish's own rules for single quotes (fish-doc, `Quotes`): only `\\` and `\'` are escapes."""
    line = quoting.render({"A": value}, "fish")
    assert line.startswith("set -gx A '")
    assert line.endswith("'\n")
    inner, plain, index = line.removeprefix("set -gx A '")[:-2], "", 0
    while index < len(inner):
        assert inner[index] != "'", "the quotes end too early"
        if inner[index] == "\\" and inner[index + 1 : index + 2] in {"\\", "'"}:
            index += 1
        plain += inner[index]
        index += 1
    assert plain == value
    if shutil.which("fish"):
        assert evaluated(["fish", "-c"], line) == value


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
def test_powershell_gets_the_value(value):
    """Read by PowerShell's rules (about_Quoting_Rules): any of its five single quotes ends a string unless doubled."""
    line = quoting.render({"A": value}, "powershell")
    assert line.startswith("$env:A = '")
    inner, plain, index = line.removeprefix("$env:A = '")[:-2], "", 0
    while index < len(inner):
        if inner[index] in "'\u2018\u2019\u201a\u201b":
            assert inner[index + 1] == inner[index], "the quotes end too early"
            index += 1
        plain += inner[index]
        index += 1
    assert plain == value


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
def test_dotenv_gets_the_value(value):
    """Read as python-dotenv, node's dotenv and Compose read quoted values."""
    line = quoting.render({"A": value}, "dotenv").removesuffix("\n")
    assert "\n" not in line
    assert "\r" not in line
    if line.startswith("A='"):
        plain = line.removeprefix("A='").removesuffix("'")
        assert "'" not in plain
    else:
        plain = json.loads(line.removeprefix("A="))
    assert plain == value


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
def test_json_gets_the_value(value):
    assert json.loads(quoting.render({"A": value, "B": "b"}, "json")) == {"A": value, "B": "b"}


def test_env_says_one_line_or_refuses():
    assert quoting.render({"A": "x 'y'", "B": ""}, "env") == "A=x 'y'\nB=\n"
    for value in ("a\nb", "a\rb"):
        with pytest.raises(UsageError, match="more than one line"):
            quoting.render({"A": value}, "env")


@pytest.mark.parametrize("style", quoting.STYLES)
def test_what_no_environment_can_hold_is_refused(style):
    with pytest.raises(UsageError, match="NUL"):
        quoting.render({"A": "a\0b"}, style)
    for name in ("A;id", "A B", "1A", "", "A=B", "$(id)"):
        with pytest.raises(UsageError, match="not a variable's name"):
            quoting.render({name: "x"}, style)
