"""The log: one inert line a record, no secret out of an exception, a private file of bounded size."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from authsome.daemon import log
from authsome.daemon.log import LogFile, OneLine
from authsome.errors import UnsafeFile

ROOT = Path(__file__).resolve().parents[2]


def record(message, *args, exc_info=None):
    """A record of 1 s after the epoch."""
    made = logging.LogRecord("authsome.daemon", logging.WARNING, "file", 1, message, args, exc_info)
    made.created = 1.0
    return made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("a\r\nforged line", "a\\r\\nforged line"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b\u2028\ud800", "\\x9b\\u2028\\ud800"),
    ],
)
def test_a_record_is_one_line(text, shown):
    """Whatever a provider or a client put into it."""  # SEC-185
    assert OneLine().format(record("%s", text)) == f"1970-01-01T00:00:01.000Z warning authsome.daemon: {shown}"


def test_a_record_is_not_endless():
    """A megabyte of name makes a line of some kilobytes."""  # SEC-185
    assert len(OneLine().format(record("a" * 1_000_000))) < 9_000


def test_an_exception_is_told_by_places():
    """Its type, where it was raised and what it followed; not its text, which may be a secret."""
    try:
        try:
            int("sk-secret")
        except ValueError as error:
            raise KeyError("sk-secret") from error
    except KeyError:
        line = OneLine().format(record("failed", exc_info=sys.exc_info()))
    assert "sk-secret" not in line
    assert "KeyError at test_log.py:" in line
    assert "; after ValueError at test_log.py:" in line
    assert "in test_an_exception_is_told_by_places" in line
    assert "\n" not in line
    assert str(ROOT) not in line


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/me/authsome/authsome/vault/database.py", "vault/database.py"),
        ("/home/me/.cache/authsome/pyz/0f-cp311/authsome/home.py", "home.py"),
        ("/usr/lib/python3.11/json/decoder.py", "decoder.py"),
        ("<string>", "<string>"),
    ],
)
def test_places_do_not_tell_the_machine(path, shown):
    """A module is named, its user and directories are not."""
    assert log._place(path) == shown


def test_the_file_is_private_and_bounded(tmp_path):
    """Mode 0600 whatever the umask; a full file becomes `.1`, and no line is torn or lost in between."""  # SEC-118
    path = tmp_path / "daemon.log"
    before = os.umask(0)
    try:
        handler = LogFile(path, size_limit=2000)
        for number in range(40):
            handler.emit(record("line %d", number))
        handler.close()
    finally:
        os.umask(before)
    older = tmp_path / "daemon.log.1"
    assert sorted(tmp_path.iterdir()) == [path, older]
    for file in (path, older):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.stat().st_size <= 2000
    lines = (older.read_text() + path.read_text()).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [str(number) for number in range(40)][-len(lines) :]


def test_a_planted_file_is_refused(tmp_path):
    """A symlink would have us write elsewhere."""  # SEC-119
    (tmp_path / "daemon.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile):
        LogFile(tmp_path / "daemon.log")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    """A vanished directory or a full disk costs lines, not requests."""
    handler = LogFile(tmp_path / "daemon.log", size_limit=10)
    (tmp_path / "daemon.log").unlink()
    handler.emit(record("not lost"))
    handler.close()
    handler.emit(record("after the end"))


BACKGROUND = """
import logging, os, sys
from pathlib import Path
from authsome.daemon import log
log.start("info", path=Path(sys.argv[1]))
print("stray", flush=True)
os.write(2, b"stray too\\n")
logging.getLogger("authsome.vault").info("%s", "told")
logging.getLogger("authsome.vault").debug("not told")
"""


def test_a_daemon_in_the_background_takes_its_streams_along(tmp_path):
    """Standard output and error are the log as well, below the level nothing is written."""
    path = tmp_path / "daemon.log"
    command = [sys.executable, "-c", BACKGROUND, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert [line[-9:] for line in path.read_text().splitlines()] == ["stray", "stray too", "ult: told"]


def test_in_the_foreground_the_log_is_standard_error(capsys):
    """As one line."""
    logger = logging.getLogger(log.NAME)
    before = (logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions)
    logger.handlers.clear()
    try:
        log.start("warning", path=None)
        logging.getLogger("authsome.daemon").warning("a\nb")
        logging.getLogger("authsome.daemon").info("not told")
    finally:
        logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions = before
        logging.Logger.manager._clear_cache()
    assert capsys.readouterr().err.endswith("Z warning authsome.daemon: a\\nb\n")
