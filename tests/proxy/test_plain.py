"""What `run` does without the libraries is what the libraries do: JSON, and the rule about private files."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import UnsafeFile
from authsome.home import read_private
from authsome.proxy import plain
from authsome.proxy.plain import Unusual

VALUES = st.recursive(
    st.none() | st.integers(min_value=-(2**53), max_value=2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_json_is_what_the_library_writes_and_reads(value):
    """Every object that we write is read alike by both, and every one that the library writes is read by us."""
    assert json.loads(plain.to_json(value)) == value
    assert plain.from_json(plain.to_json(value).encode()) == value
    assert plain.from_json(json.dumps(value, indent=2).encode() + b"\n") == value


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b'"x"', b"{", b"{} {}", b'{"a": }', b"{'a': 1}", b"\xff", b"nul"])
def test_what_is_no_object_is_an_error(text):
    """One kind of error, which sends `run` the long way."""
    with pytest.raises(ValueError):  # noqa: PT011  # of whatever text: nobody reads it
        plain.from_json(text)


@pytest.mark.parametrize("damage", ["mode", "symlink", "hard link", "directory", "fifo"])
def test_what_is_not_private_is_not_read(tmp_path: Path, damage):
    """The rule is that of `home.open_private`, case by case."""
    # SEC-119
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"content")
    other.chmod(0o600)
    if damage == "mode":
        path.write_bytes(b"content")
        path.chmod(0o640)
    elif damage == "symlink":
        path.symlink_to(other)
    elif damage == "hard link":
        path.hardlink_to(other)
    elif damage == "directory":
        path.mkdir(mode=0o700)
    else:
        os.mkfifo(path, 0o600)
    with pytest.raises((Unusual, OSError)):
        plain.read_private(str(path))
    with pytest.raises((UnsafeFile, OSError)):
        read_private(path)
    if damage != "hard link":
        assert plain.read_private(str(other)) == read_private(other) == b"content"
