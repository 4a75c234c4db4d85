"""The parser takes what a command declares, anywhere, and repeats no value that it did not understand."""

import itertools

import pytest

from authsome.cli.arguments import Found, Parser
from authsome.errors import UsageError

UNSET = "a variable of the shell may be unset; to have it the usual way, leave it away"


@pytest.fixture
def parser() -> Parser:
    parser = Parser("login", "log in")
    parser.argument("provider", "whom")
    parser.argument("more", "others", required=False, many=True)
    parser.option("-c", "--connection", metavar="NAME", help="which")
    parser.option("--format", metavar="F", help="how", choices=("env", "json"))
    parser.option("--pin", metavar="P=N", help="many", many=True)
    parser.flag("--force", help="do")
    return parser


@pytest.mark.parametrize(
    "words",
    [
        ["github", "--connection", "work", "--force", "--json"],
        ["--json", "--force", "--connection=work", "github"],
        ["-c", "work", "--force", "--json", "--", "github"],
        ["--force", "github", "-cwork", "--json"],
    ],
)
def test_options_stand_anywhere(parser, words):
    args, flags = parser.parse(words)
    assert (args.text("provider"), args.optional("connection"), args.flag("force")) == ("github", "work", True)
    assert flags == {"json"}


def test_what_was_not_given(parser):
    args, flags = parser.parse(["github"])
    assert (args.optional("connection"), args.flag("force"), args.many("pin"), args.many("more")) == (
        None,
        False,
        (),
        (),
    )
    assert flags == set()


def test_many(parser):
    args, _ = parser.parse(["a", "b", "c", "--pin", "x=1", "--pin", "y=2"])
    assert (args.text("provider"), args.many("more"), args.many("pin")) == ("a", ("b", "c"), ("x=1", "y=2"))


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "login needs a provider", "see `authsome login --help`"),
        (["github", "--conection", "x"], "login has no option --conection", "did you mean --connection?"),
        (["github", "--connection"], "--connection takes a value: --connection NAME", None),
        (["github", "--connection", "--force"], "--connection takes a value: --connection NAME", None),
        (["github", "--force=yes"], "--force takes no value", None),
        (["github", "--format", "jsn"], "--format does not know that value", "did you mean json?"),
        (["github", "--format", "qqq"], "--format does not know that value", "one of env, json"),
        (["github", "-c", "a", "-c", "b"], "-c is given twice", None),
        ([""], "the provider is empty", "a variable of the shell may be unset"),
        (["a", "b", ""], "the more is empty", UNSET),
        (["github", "--connection", ""], "what follows --connection is empty", UNSET),
        (["github", "--connection="], "what follows --connection is empty", None),
        (["github", "--con", "x"], "login has no option --con", "did you mean --connection?"),
    ],
)
def test_what_is_wrong_is_said(parser, words, message, hint):
    with pytest.raises(UsageError) as caught:
        parser.parse(words)
    assert caught.value.message == message
    if hint:
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    "words",
    [
        ["openai", "sk-proj-SECRET"],
        ["openai", "--api-key", "sk-proj-SECRET"],
        ["openai", "--api-key=sk-proj-SECRET"],
        ["openai", "--force=sk-proj-SECRET"],
        ["openai", "--flow", "sk-proj-SECRET"],
        ["openai", "-sk-proj-SECRET"],
        ["openai", "--sk-proj-SECRET-which-is-so-long-that-it-is-a-key"],
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(words):
    """Errors land in logs and on screens that are shared."""
    # SEC-142
    parser = Parser("login", "log in")
    parser.argument("provider", "whom")
    parser.option("--flow", metavar="F", help="how", choices=("pkce",))
    parser.flag("--force", help="do")
    with pytest.raises(UsageError) as caught:
        parser.parse(words)
    assert "SECRET" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("words", "command", "flags"),
    [
        (["--", "curl", "-s", "--json"], ("curl", "-s", "--json"), set()),
        (["curl", "-s", "--json", "--", "x"], ("curl", "-s", "--json", "--", "x"), set()),
        (["--json", "--only", "a", "--", "--help"], ("--help",), {"json"}),
        (["--only=a", "-q", "true"], ("true",), {"quiet"}),
    ],
)
def test_the_rest_is_taken_as_it_is(words, command, flags):
    parser = Parser("run", "run")
    parser.option("--only", metavar="P", help="which")
    parser.rest("command", "what")
    args, found = parser.parse(words)
    assert (args.many("command"), found) == (command, flags)


def test_values_do_not_show():
    parser = Parser("x", "x")
    parser.argument("word", "any")
    assert "hidden" not in repr(parser.parse(["hidden"])[0])


def test_words_without_options_are_sorted_as_argparse_would(parser):
    """Plain words and global flags, in any order, need no argparse: it would sort them no other way."""
    pieces = ("github", "-", "", "a b", "--json", "--quiet", "--help")
    for length in range(5):
        for words in itertools.product(pieces, repeat=length):
            here, there = Found(), Found()
            unknown = parser._sort(list(words), here)
            assert parser._take_apart(list(words), there) == unknown
            assert (here.placed, here.flags, here.options) == (there.placed, there.flags, there.options)
