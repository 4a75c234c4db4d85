"""Results go to standard output, all else to standard error, and nothing that a terminal would obey to either."""

import io
import json

import pytest

from authsome.cli.output import Output, printable
from authsome.errors import ConnectionNotFound, UsageError


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def made(*, terminal: bool = False, **options: bool) -> tuple[Output, io.StringIO, io.StringIO]:
    kind = Terminal if terminal else io.StringIO
    out, err = kind(), kind()
    return Output(stdout=out, stderr=err, **options), out, err


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\rb", "a\x07b", "a\nb", "a\x9b2Jb", "a\u202eb", "a\0b"])
def test_no_control_character_gets_through(text):
    # SEC-74, SEC-97, SEC-185
    for say in ("line", "note", "hint", "progress", "prompt"):
        output, out, err = made(terminal=True, color=False)
        getattr(output, say)(text)
        said = (out.getvalue() + err.getvalue()).removeprefix("\r\x1b[K").removesuffix("\n")
        assert said.isprintable(), say
    output, out, err = made()
    output.table(("A",), [(text,)])
    output.error(ConnectionNotFound(text, hint=text))
    assert all(line.isprintable() for line in (out.getvalue() + err.getvalue()).split("\n"))


@pytest.mark.parametrize("text", ["plain", "ü", "a b", "鍵", "…"])
def test_what_can_be_shown_is_shown(text):
    assert printable(text) == text


@pytest.mark.parametrize("text", ["a\x9b2Jb", "a\u202eb", "a\x7fb", "a\U000e0001b", "a\udcffb"])
def test_json_on_a_terminal_is_as_inert_and_says_the_same(text):
    # SEC-185
    output, out, _ = made(as_json=True)
    output.result({"a": [text], "ü": "鍵"})
    output.record({"a": text})
    assert out.getvalue().replace("\n", "").isprintable()
    *lines, last = out.getvalue().splitlines()
    assert json.loads("\n".join(lines)) == {"a": [text], "ü": "鍵"}
    assert json.loads(last) == {"a": text}


def test_what_has_to_be_exact_is_refused_where_it_cannot_be():
    """An escape in place of a character would be another key."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output = Output(stdout=stream, stderr=io.StringIO())
    output.line("é")
    output.raw("plain\n")
    with pytest.raises(UsageError) as refused:
        output.raw("KEY=é\n")
    assert "ascii" in refused.value.message
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe9\nplain\n"


def test_an_error_is_two_lines_in_lower_case():
    output, out, err = made()
    output.error(ConnectionNotFound("no such thing", hint="look"))
    assert (out.getvalue(), err.getvalue()) == ("", "authsome: error: no such thing\nauthsome: hint: look\n")


def test_under_json_there_is_one_object_and_nothing_else():
    output, out, err = made(as_json=True)
    output.line("text")
    output.hint("next")
    output.error(ConnectionNotFound("no such thing", hint="look"))
    assert json.loads(out.getvalue()) == {"error": "connection_not_found", "message": "no such thing", "hint": "look"}
    assert err.getvalue() == ""


def test_quiet_keeps_results_and_errors():
    output, out, err = made(quiet=True)
    output.line("result")
    output.note("note")
    output.hint("hint")
    output.progress("progress")
    output.error(ConnectionNotFound("gone"))
    assert out.getvalue() == "result\n"
    assert err.getvalue().startswith("authsome: error: gone\n")


def test_colour_only_on_a_terminal_and_only_when_wanted():
    for terminal, color in ((True, False), (False, True), (False, False)):
        output, out, err = made(terminal=terminal, color=color)
        output.table(("A",), [("b",)])
        output.line(good="fine")
        output.error(ConnectionNotFound("gone"))
        assert "\x1b[" not in out.getvalue() + err.getvalue()
    output, out, _ = made(terminal=True, color=True)
    output.line(" then", good="fine")
    output.table(("A",), [("b",)])
    assert out.getvalue() == "\x1b[32mfine\x1b[0m then\n\x1b[2mA\x1b[0m\nb\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_stream_that_cannot_show_all_shows_what_it_can(errors):
    """As in the locale C, where Python has other errors than elsewhere."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors) for _ in range(2))
    output = Output(stdout=out, stderr=err)
    output.line("/home/jürgen")
    output.note("näher …")
    for stream, shown in ((out, b"/home/j\\xfcrgen\n"), (err, b"n\\xe4her \\u2026\n")):
        stream.flush()
        assert stream.buffer.getvalue() == shown


def test_a_table_is_aligned_and_fits_the_terminal():
    output, out, _ = made()
    output.table(("ONE", "TWO"), [("a", "b"), ("long word", "c")])
    assert out.getvalue().splitlines() == ["ONE        TWO", "a          b", "long word  c"]
    output, out, _ = made(terminal=True, color=False)
    output.table(("ONE",), [("x" * 200,)])
    assert max(len(line) for line in out.getvalue().splitlines()) <= 80


def test_a_progress_line_gives_way():
    output, _, err = made(terminal=True, color=False)
    output.progress("waiting … 0:01")
    output.progress("waiting … 0:02")
    output.note("done")
    assert err.getvalue().endswith("\r\x1b[Kdone\n")
    output, _, err = made()
    output.progress("waiting")
    assert err.getvalue() == ""


def test_a_terminal_that_knows_no_sequence_gets_none():
    output, _, err = made(terminal=True, color=False, erases=False)
    output.progress("waiting for long")
    output.progress("waiting")
    output.note("done")
    assert "\x1b" not in err.getvalue()
    shown = ""
    for part in err.getvalue().split("\r"):  # as a carriage does it
        shown = part + shown[len(part) :]
    assert shown.rstrip() == "done"
