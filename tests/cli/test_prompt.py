"""Secrets are typed unseen, and the terminal is left as it was found, however the question ends."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from authsome.cli import prompt
from authsome.errors import Cancelled
from fakes import terminal
from fakes.terminal import CTRL_BACKSLASH, CTRL_D, CTRL_Z, Terminal

ASK = """
import sys
from authsome.cli import prompt
from authsome.cli.output import Output
from authsome.errors import Cancelled
try:
    print("got", ascii(prompt.{kind}(Output(), "API key: "){reveal}))
except Cancelled as error:
    print("cancelled:", error.message)
    sys.exit(11)
"""
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def asked() -> Callable[[str], AbstractContextManager[Terminal]]:
    """A program on a terminal that asks for a `secret` or a `text`."""

    def start(kind: str) -> AbstractContextManager[Terminal]:
        code = ASK.format(kind=kind, reveal=".reveal()" if kind == "secret" else "")
        return terminal.spawn(
            [sys.executable, "-c", code], environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
        )

    return start


def test_a_secret_is_not_shown(asked):
    # SEC-142
    with asked("secret") as tty:
        tty.expect("API key: ")
        tty.send_line("sk-tést-123")
        tty.expect("got 'sk-t\\\\xe9st-123'")
        assert tty.wait() == 0
        assert "*" * 11 in tty.transcript
        assert tty.transcript.count("sk-t") == 1
        assert tty.echoes()


def test_a_text_is_shown(asked):
    with asked("text") as tty:
        tty.expect("API key: ")
        tty.send_line("my-client")
        tty.expect("my-client")
        tty.expect("got 'my-client'")


def test_a_long_secret_is_whole(asked):
    """The terminal's own line editing cuts a line at 4,095 characters."""
    key = "k" * 9000
    with asked("secret") as tty:
        tty.expect("API key: ")
        for start in range(0, len(key), 500):
            tty.send(key[start : start + 500].encode())
            tty.expect(r"\*{500}")
        tty.send(b"\r")
        assert "k" * 9000 in tty.expect(r"got '(k+)'")[0]


def test_typing_can_be_corrected(asked):
    with asked("secret") as tty:
        tty.expect("API key: ")
        tty.send(b"wrong\x15rigt\x7fht")
        tty.send(b"\r")
        tty.expect("got 'right'")


@pytest.mark.parametrize(
    "key",
    [
        b"\x1b[D",  # an arrow
        b"\x1bOD",  # an arrow, where the terminal is told to send these
        b"\x1b[3~",  # Delete
        b"\x1b[1;5C",  # Ctrl and an arrow
        b"\x1b[15~\x1bOP",  # F5, F1
        b"\x1b",  # Escape alone
        b"\x1b\x1b[A",
    ],
)
def test_other_keys_add_nothing(asked, key):
    """Neither what an arrow sends nor Escape becomes a part of a secret, nor takes one along."""
    with asked("secret") as tty:
        tty.expect("API key: ")
        tty.send(b"be" + key + b"fore")
        tty.expect(r"\*{6}")
        tty.send(b"\r")
        tty.expect("got 'before'")


def test_a_key_that_comes_in_pieces():
    """A slow line cuts a sequence anywhere; Enter, Ctrl-D and what is no ASCII end one that is cut off."""
    keys = prompt._Keys()
    assert "".join(char for byte in "a\x1b[1;5Cb\x1bOAc" for char in keys.typed(byte)) == "abc"
    assert "".join(prompt._Keys().typed("a\x1b[200~pasted\x1b[201~b")) == "apastedb"
    for rest in ("\r", "\x04", "é"):
        assert "".join(prompt._Keys().typed("\x1b[1" + rest)) == rest
        assert "".join(prompt._Keys().typed("\x1b" + rest)) == rest


@pytest.mark.parametrize("kind", ["secret", "text"])
@pytest.mark.parametrize(
    "end", [Terminal.interrupt, lambda tty: tty.send(CTRL_D)], ids=["ctrl-c", "ctrl-d on an empty line"]
)
def test_breaking_off_restores_the_terminal(asked, kind, end):
    with asked(kind) as tty:
        tty.expect("API key: ")
        assert not tty.echoes()
        end(tty)
        tty.expect("cancelled")
        assert tty.wait() == 11
        assert tty.echoes()


@pytest.mark.parametrize(
    "end",
    [
        lambda tty: os.kill(child_of(tty), signal.SIGTERM),
        lambda tty: os.kill(child_of(tty), signal.SIGHUP),
        lambda tty: tty.send(CTRL_BACKSLASH),
    ],
    ids=["SIGTERM", "SIGHUP", "ctrl-backslash"],
)
def test_a_signal_restores_the_terminal(asked, end):
    with asked("secret") as tty:
        tty.expect("API key: ")
        tty.send(b"half")
        tty.expect(r"\*{4}")
        end(tty)
        tty.expect("cancelled: terminated")
        assert tty.wait() == 11
        assert tty.echoes()


def test_input_that_ends_within_a_character_ends_the_question():
    reader, writer = os.pipe()
    os.write(writer, b"\xe2\x82")
    os.close(writer)
    with os.fdopen(reader, "rb"), pytest.raises(Cancelled):
        prompt._read(reader)


def test_ctrl_z_does_not_open_the_secret(asked):
    """A shell that got the terminal back would turn the echo on for the rest of it."""
    with asked("secret") as tty:
        tty.expect("API key: ")
        tty.send(b"a" + CTRL_Z + b"b")
        tty.expect(r"\*{2}")
        assert not tty.echoes()
        tty.send(b"\r")
        tty.expect("got 'ab'")


def child_of(tty: Terminal) -> int:
    """The program itself: `setsid` and `env` replace themselves by it."""
    return tty.process.pid
