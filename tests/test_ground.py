"""The ground that everything stands on: errors, secrets, the clock, messages, the home and its private files."""

import copy
import errno
import json
import logging
import os
import pickle
import shlex
import stat
import subprocess
import sys
import textwrap
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome import clock, errors, home
from authsome.errors import StorageFailed, UnsafeFile, UsageError
from authsome.home import (
    Home,
    decode_key,
    make_private_directory,
    open_private,
    read_config,
    read_private,
    replacing_private,
    settings_from,
    write_config,
    write_private,
)
from authsome.message import MAX_JSON_DEPTH, HttpRequest, HttpResponse, clean_line, json_object
from authsome.secret import Secret

KEY = bytes(range(32))


# ---- errors ------------------------------------------------------------------------------------------------


def all_errors():
    """Every error class."""
    found, pending = [], [errors.AuthsomeError]
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending += kind.__subclasses__()
    return found


def test_codes_are_unique():
    """A code belongs to one class, or problem details could not be read back."""
    assert len(errors.error_classes()) == len(all_errors())


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_speaks_for_itself(kind):
    """Its text is one line in lower case without a full stop; its statuses are of the contract; it can be rebuilt."""
    error = kind()
    assert error.message == str(error)
    assert error.message
    assert error.message[0].islower()
    assert not error.message.endswith(".")
    assert "\n" not in error.message
    assert kind.exit_status in {*range(1, 12), 126, 127}
    assert 400 <= kind.http_status < 600
    rebuilt = errors.from_code(kind.code, "what", "how")
    assert (type(rebuilt), rebuilt.message, rebuilt.hint) == (kind, "what", "how")


def test_unknown_codes_become_the_root():
    """A newer daemon's error is still an error."""
    assert type(errors.from_code("of_tomorrow", "what", None)) is errors.AuthsomeError


def test_what_only_some_errors_carry():
    """A pause to keep, and a reason that is for the audit alone."""
    assert errors.EndpointUnreachable(retry_after=timedelta(seconds=7)).retry_after == timedelta(seconds=7)
    refused = errors.AuthenticationFailed(reason="wrong signature")
    assert refused.reason == "wrong signature"
    assert "signature" not in f"{refused} {refused.message} {refused.hint}"


# ---- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["canary-7f3a", b"canary-7f3a"])
def test_no_way_out_but_reveal(value, caplog):
    """Printing, formatting, logging, tracebacks, JSON, pickle and copies never hold the value."""  # SEC-143
    secret = Secret(value)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert "canary" not in shown
    logging.getLogger("test").error("value %s %r", secret, secret)
    assert "canary" not in caplog.text
    for serialise in (pickle.dumps, json.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            serialise(secret)
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == value


def test_secrets_compare():
    """Equality is of kind and value; a secret is never a key of a table; an empty one is false."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != Secret(b"a")
    assert Secret("a") != "a"
    assert Secret("é") == Secret("é")
    assert bool(Secret("a"))
    assert not Secret("")
    with pytest.raises(TypeError):
        hash(Secret("a"))


# ---- the clock ---------------------------------------------------------------------------------------------


def test_the_clock_is_aware():
    """The time is UTC and says so."""
    assert clock.now().tzinfo is UTC


# ---- messages ----------------------------------------------------------------------------------------------


def test_headers_are_found_in_any_case():
    """The first of a name wins; none is None."""
    response = HttpResponse(status=200, headers=(("X-A", "1"), ("x-a", "2")))
    assert (response.header("x-A"), response.header("x-b")) == ("1", None)


def test_messages_do_not_show_their_content():
    """URL, headers and bodies may hold secrets."""  # SEC-143, SEC-147
    headers = (("authorization", "canary"),)
    shown = repr(HttpRequest(method="GET", url="https://canary", headers=headers, body=b"canary")) + repr(
        HttpResponse(status=200, headers=headers, body=b"canary")
    )
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # SEC-97
        ("plain", "plain"),
        ("", ""),
        ("  two   words \t\r\n ", "two words"),
        ("a\r\nb\x0bc\x0cd\x85e\u2028f\u2029g", "a b c d e f g"),
        ("a\0b\x7fc\x80d", "a b c d"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1H\x1b[?25lx", "x"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1;2|data\x1b\\x", "x"),
        ("\x1b]0;never ended", "]0;never ended"),
        ("\x1bcx", "cx"),
        ("a\u202eb\u2066c\u200bd\ufeffe\u00adf", "a b c d e f"),
        ("\ud800x", "x"),
        ("é 日本 🔑", "é 日本 🔑"),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_clean_lines(text, line):
    """Foreign text keeps its words and loses what would act on a terminal or a log."""
    assert clean_line(text) == line


@given(st.text(alphabet=st.characters() | st.sampled_from("\x1b\x9b[]\\;m\x07"), max_size=100), st.integers(1, 50))
def test_any_line_is_clean(text, limit):
    """Whatever comes in, one printable line of bounded length comes out, and cleaning it again changes nothing."""
    line = clean_line(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert clean_line(line, limit) == line


def test_long_lines_are_cut():
    """A megabyte becomes a line that says it was cut."""  # SEC-97
    assert clean_line("a" * 1_000_000) == "a" * 199 + "…"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
        max_leaves=50,
    )
)
def test_json_objects_come_through(value):
    """What is a JSON object is read as the standard library reads it."""
    assert json_object(json.dumps({"a": value}).encode()) == {"a": value}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_depth(opening):
    """Objects may nest as deep as the limit and no deeper, wherever the brackets stand."""  # SEC-23, SEC-92
    closing = "]" if opening == "[" else "}"

    def nested(depth):
        return ('{"x":' + opening * (depth - 1) + "1" + closing * (depth - 1) + "}").encode()

    assert json_object(nested(MAX_JSON_DEPTH))
    for depth in (MAX_JSON_DEPTH + 1, 1000, 100_000):
        with pytest.raises(ValueError, match="deep"):
            json_object(nested(depth))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"1", b'{"a": 1, "a": 1}', b'{"a": NaN}', b"\xff", b"{} x", b"\xef\xbb\xbf{}"]
)
def test_json_that_is_refused(data):
    """Not an object, not UTF-8, or not the same for every reader."""  # SEC-21, SEC-92
    with pytest.raises(ValueError, match=r"."):
        json_object(data)


# ---- settings ----------------------------------------------------------------------------------------------


def test_settings_of_an_empty_environment():
    """Only HOME is needed; the rest is as the contract says."""
    settings = settings_from({"HOME": "/home/ada"})
    assert settings.home.root == Path("/home/ada/.authsome")
    assert (settings.host, settings.port) == ("127.0.0.1", 7998)
    assert (settings.daemon_url, settings.base_url, settings.master_key, settings.ca_bundle) == (None,) * 4
    assert settings.log_level == "info"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("AUTHSOME_HOME", "/a b/é", "home", Home(Path("/a b/é"))),  # SEC-121
        ("AUTHSOME_HOST", "::1", "host", "::1"),
        ("AUTHSOME_PORT", "65535", "port", 65535),
        ("AUTHSOME_DAEMON_URL", "https://a.example:1/x/", "daemon_url", "https://a.example:1/x"),
        ("AUTHSOME_SERVER_BASE_URL", "http://a.example", "base_url", "http://a.example"),
        ("AUTHSOME_MASTER_KEY", b64encode(KEY).decode(), "master_key", Secret(KEY)),
        ("AUTHSOME_MASTER_KEY", urlsafe_b64encode(KEY).decode().rstrip("="), "master_key", Secret(KEY)),
        ("AUTHSOME_IDENTITY_KEY", b64encode(KEY).decode() + "\n", "identity_key", Secret(KEY)),
        ("AUTHSOME_MASTER_KEY_FILE", "/run/key", "master_key_file", Path("/run/key")),
        ("AUTHSOME_CA_BUNDLE", "/etc/ca.pem", "ca_bundle", Path("/etc/ca.pem")),
        ("AUTHSOME_IDENTITY", "ci", "identity", "ci"),
        ("AUTHSOME_TRUSTED_PROXY", " 10.0.0.5 ", "trusted_proxy", "10.0.0.5"),
        ("AUTHSOME_TRUSTED_PROXY", " ", "trusted_proxy", None),
        ("AUTHSOME_LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("AUTHSOME_PORT", "", "port", 7998),
        ("AUTHSOME_MASTER_KEY", "", "master_key", None),
    ],
)
def test_settings(variable, value, field, expected):
    """Each variable is read, and an empty one is as none."""
    assert getattr(settings_from({"HOME": "/home/ada", variable: value}), field) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTHSOME_PORT", "0"),
        ("AUTHSOME_PORT", "65536"),
        ("AUTHSOME_PORT", "-1"),
        ("AUTHSOME_PORT", "7_998"),
        ("AUTHSOME_PORT", "\u0667"),
        ("AUTHSOME_PORT", "http"),
        ("AUTHSOME_LOG_LEVEL", "loud"),
        ("AUTHSOME_DAEMON_URL", "localhost:7998"),
        ("AUTHSOME_DAEMON_URL", "ftp://a"),
        ("AUTHSOME_DAEMON_URL", "http://"),
        ("AUTHSOME_DAEMON_URL", "http://user@host"),
        ("AUTHSOME_DAEMON_URL", "https://user:hunter2@host"),
        ("AUTHSOME_PORT", "1" * 5000),
        ("AUTHSOME_SERVER_BASE_URL", "http://a?b"),
        ("AUTHSOME_SERVER_BASE_URL", "http://a#b"),
        ("AUTHSOME_MASTER_KEY", "c2hvcnQ="),
        ("AUTHSOME_MASTER_KEY", "not base64 at all"),
        ("AUTHSOME_IDENTITY_KEY", b64encode(KEY + b"x").decode()),
    ],
)
def test_settings_that_cannot_be_meant(variable, value):
    """A variable that makes no sense is named; a key's value is not shown."""
    with pytest.raises(UsageError, match=variable) as caught:
        settings_from({"HOME": "/home/ada", variable: value})
    if "KEY" in variable or "hunter2" in value:
        assert value not in f"{caught.value.message} {caught.value.hint}"


def test_a_user_without_an_entry_has_no_home(monkeypatch):
    """As in a container that was started with an id of its own."""

    def nobody(_self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(UsageError, match="no home directory") as caught:
        settings_from({})
    assert caught.value.hint == "set AUTHSOME_HOME"


@given(st.binary(min_size=32, max_size=32))
def test_keys_in_every_base64(key):
    """A key is read in either alphabet, with padding or without, with white space around it."""
    for text in (b64encode(key), urlsafe_b64encode(key), b64encode(key).rstrip(b"="), b" " + b64encode(key) + b"\n"):
        assert decode_key(text.decode(), what="it") == Secret(key)


# ---- private files -----------------------------------------------------------------------------------------


@pytest.fixture
def open_umask():
    """The most careless umask there is."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path):
    """A private directory."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


def mode(path):
    """A file's permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_modes_under_an_open_umask(tmp_path):
    """Directories are 0700 and files 0600 though the umask forbids nothing."""  # SEC-118
    place = tmp_path / "a" / "b" / "c"
    make_private_directory(place)
    write_private(place / "file", b"secret")
    os.close(open_private(place / "lock", os.O_RDWR | os.O_CREAT))
    write_config(Home(place), {"identity": "ada"})
    assert {mode(path) for path in (place, place.parent, place.parent.parent)} == {0o700}
    assert {mode(place / name) for name in ("file", "lock", "config.json")} == {0o600}


def run_script(script, place):
    """Run Python in a process of its own, with `home` imported and `place` set; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(script), str(place)],
        cwd=Path(home.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PREAMBLE = """
import os, sys
from pathlib import Path
from authsome import home
place = Path(sys.argv[1])
"""


def test_mode_from_the_first_byte(root):
    """No moment shows a file that others may read: every creation asks for 0600 or 0700 at once."""  # SEC-118
    checked = run_script(
        """
        seen = []
        def watch(event, args):
            if event in {"open", "os.mkdir", "os.rename", "os.chmod"} and "made" in str(args[0]):
                for name, _, files in os.walk(place):
                    for path in [name, *(os.path.join(name, each) for each in files)]:
                        assert not os.lstat(path).st_mode & 0o077, path
                        seen.append(path)
        os.umask(0)
        sys.addaudithook(watch)
        home.make_private_directory(place / "made" / "deep")
        for number in range(3):
            home.write_private(place / "made" / "deep" / "file", b"secret")
        assert not os.lstat(place / "made" / "deep" / "file").st_mode & 0o077
        print(len(seen))
        """,
        root,
    )
    assert int(checked) > 5


def test_whole_or_not_at_all(root):
    """A write replaces the file's content under its name, and leaves nothing beside it."""
    path = root / "file"
    for data in (b"first", b"", b"second" * 100_000):
        write_private(path, data)
        assert read_private(path) == data
    assert [each.name for each in root.iterdir()] == ["file"]


def test_a_failed_write_keeps_the_old_file(root):
    """When the disk takes no more, the old content stands, nothing is left over, and the error names the file."""
    path = root / "file"
    write_private(path, b"old")
    message = run_script(
        """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            home.write_private(place / "file", b"new" * 100)
        except home.StorageFailed as error:
            print(error.message)
        """,
        root,
    )
    assert message == f"{path} could not be written: {os.strerror(errno.EFBIG).lower()}\n"
    assert read_private(path) == b"old"
    assert [each.name for each in root.iterdir()] == ["file"]


def test_a_file_takes_its_place_after_the_block(root):
    """The new file is whole on the disk while the block runs, and nowhere when the block fails."""
    path = root / "file"
    write_private(path, b"old")

    def fail() -> None:
        (beside,) = [each for each in root.iterdir() if each != path]
        assert (beside.read_bytes(), path.read_bytes()) == (b"new", b"old")
        with replacing_private(path, b"newer"):
            raise ValueError("no")

    with replacing_private(path, b"new"), pytest.raises(ValueError, match="no"):
        fail()
    assert [each.read_bytes() for each in root.iterdir()] == [b"new"]


def test_writing_through_a_link_replaces_the_link(root, tmp_path):
    """A planted link is replaced by the file; what it pointed to is not touched."""  # SEC-119
    target = tmp_path / "target"
    target.write_bytes(b"not ours")
    for make in (os.symlink, os.link):
        (root / "file").unlink(missing_ok=True)
        make(target, root / "file")
        write_private(root / "file", b"secret")
        assert target.read_bytes() == b"not ours"
        assert read_private(root / "file") == b"secret"


def test_planted_temporary_names_are_not_followed(root):
    """The temporary name cannot be known beforehand, and one that existed would not be opened."""  # SEC-120
    names = run_script(
        """
        def watch(event, args):
            if event == "open" and "/.file." in str(args[0]):
                wanted = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                assert args[2] & wanted == wanted
                print(args[0])
        sys.addaudithook(watch)
        for _ in range(20):
            home.write_private(place / "file", b"secret")
        """,
        root,
    )
    assert len(set(names.splitlines())) == 20


def spoil_symlink(path):
    """Put a link in the file's place."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def spoil_directory(path):
    """Put a directory in the file's place."""
    path.unlink()
    path.mkdir(mode=0o700)


def spoil_fifo(path):
    """Put a pipe in the file's place: opening it must not wait for a writer."""
    path.unlink()
    os.mkfifo(path, 0o600)


SPOILS = {
    "symlink": spoil_symlink,
    "dangling symlink": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "hard link": lambda path: os.link(path, path.with_name("second")),
    "directory": spoil_directory,
    "fifo": spoil_fifo,
    "group may read": lambda path: path.chmod(0o640),
    "group may write": lambda path: path.chmod(0o620),
    "world may read": lambda path: path.chmod(0o604),
    "world may write": lambda path: path.chmod(0o602),
    "world may execute": lambda path: path.chmod(0o601),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_files_that_are_not_private_are_refused(root, spoil):
    """What others could have written or read is refused, not read, with a message that names it."""  # SEC-119
    path = root / "master.key"
    write_private(path, b"secret")
    spoil(path)
    with pytest.raises((UnsafeFile, IsADirectoryError), match=r"master\.key"):
        os.close(open_private(path, os.O_RDWR | os.O_CREAT))
    with pytest.raises(UnsafeFile, match=r"master\.key") as caught:
        read_private(path)
    # a mode alone mends nothing that is not the file it says it is; and a hint is a command line
    is_mode = path.lstat().st_mode & 0o077 and not path.is_symlink()
    assert (f"chmod 600 {shlex.quote(str(path))}" in caught.value.hint) == bool(is_mode)
    assert "secret" not in caught.value.message


def test_a_hint_that_is_a_command_line_is_one(tmp_path):
    directory = tmp_path / "my own home"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    (directory / "a file").touch(mode=0o644)
    with pytest.raises(UnsafeFile) as refused:
        read_private(directory / "a file")
    assert refused.value.hint.endswith(f"chmod 600 '{directory}/a file'")
    with pytest.raises(UnsafeFile) as refused:
        make_private_directory(directory)
    assert refused.value.hint.endswith(f"chmod 700 '{directory}'")


def test_foreign_files_are_refused(root):
    """A file or directory of another user is refused, whatever its mode."""  # SEC-119
    write_private(root / "file", b"planted")
    ours = (root / "file").stat()
    theirs = os.stat_result((*ours[:4], ours.st_uid + 1, *ours[5:]))
    assert home.privacy_problem(ours) is None
    assert home.privacy_problem(theirs) == "belongs to another user"
    # It may be the vault, copied or made by sudo: nobody is told to remove it.
    assert "chown; else move it away" in home.mend_of("belongs to another user")
    linked = root / "linked"
    os.link(root / "file", linked)
    with pytest.raises(UnsafeFile) as refused:
        read_private(linked)
    assert refused.value.hint == "look where it comes from, then move it away"
    linked.unlink()
    foreign = Path("/usr")
    if os.geteuid() == 0:  # only root can give a directory away, and only to others is /usr foreign
        foreign = root
        os.chown(root, 12345, 12345)
    with pytest.raises(UnsafeFile, match="another user"):
        make_private_directory(foreign)


def test_missing_files_are_missing(root):
    """That there is no file is not a failure of privacy."""
    with pytest.raises(FileNotFoundError):
        read_private(root / "none")


@pytest.mark.parametrize("bits", [0o755, 0o750, 0o711, 0o701])
def test_readable_directories_are_closed(root, bits):
    """A directory of our own that others may look into is closed to them, with what is in it."""  # SEC-118
    write_private(root / "file", b"secret")
    root.chmod(bits)
    make_private_directory(root)
    assert mode(root) == 0o700
    assert read_private(root / "file") == b"secret"


@pytest.mark.parametrize("bits", [0o770, 0o777, 0o720, 0o702])
def test_writable_directories_are_refused_once_they_hold_something(root, bits):
    """What lies in a directory that others may write may be theirs; an empty one can be taken."""  # SEC-119
    root.chmod(bits)
    make_private_directory(root)
    assert mode(root) == 0o700
    (root / "planted").touch()
    root.chmod(bits)
    with pytest.raises(UnsafeFile, match="written by others"):
        make_private_directory(root)
    assert mode(root) == bits


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "file"])
def test_directories_that_are_none_are_refused(root, kind):
    """A link or a file where a directory should be is refused."""  # SEC-119
    place = root / "place"
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(root if kind == "symlink" else root / "nowhere")
    with pytest.raises(UnsafeFile, match="not a directory of ours"):
        make_private_directory(place)


@pytest.mark.parametrize("name", ["with spaces", "unicode é 🔑", "a" * 200])
def test_homes_of_any_name(tmp_path, name):
    """A home may be called anything a file system takes."""  # SEC-121
    place = tmp_path / name
    make_private_directory(place / "server")
    write_private(place / "server" / "master.key", b"secret")
    assert read_private(place / "server" / "master.key") == b"secret"


def test_a_home_that_cannot_be_made():
    """A place where nothing can be made is one line that says where and why."""
    with pytest.raises(StorageFailed, match="/proc/authsome"):
        make_private_directory(Path("/proc/authsome/home"))


def test_a_name_too_long(tmp_path):
    """A name that no file system takes says so."""  # SEC-121
    with pytest.raises((StorageFailed, UnsafeFile)) as caught:
        make_private_directory(tmp_path / ("a" * 300))
    assert os.strerror(errno.ENAMETOOLONG).lower() in caught.value.message


# ---- config.json -------------------------------------------------------------------------------------------


def test_config_comes_back(root):
    """What is written is read; without a file there is nothing set."""
    assert read_config(Home(root)) == {}
    write_config(Home(root), {"identity": "ada", "master_key": "file"})
    assert read_config(Home(root)) == {"identity": "ada", "master_key": "file"}


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b'"text"'])
def test_config_that_is_none(root, data):
    """A file that is no JSON object is named, and not overwritten."""
    write_private(root / "config.json", data)
    with pytest.raises(UsageError, match=r"config\.json"):
        read_config(Home(root))
    assert read_private(root / "config.json") == data
