"""The age format: the program `age` opens what we write, and we what it writes."""

import io
import os
import subprocess
from pathlib import Path

import pytest

from authsome.crypto import age, bech32
from authsome.errors import RequestInvalid, VaultDamaged
from authsome.secret import Secret
from fakes import terminal

PASSPHRASE = Secret("correct horse battery staple")
SIZES = [0, 1, age.CHUNK - 1, age.CHUNK, age.CHUNK + 1, 3 * age.CHUNK, 3 * age.CHUNK + 7]


def sealed(content, pieces=1, **how):
    file = io.BytesIO()
    writer = age.Encryptor(file.write, **how)
    step = max(1, len(content) // pieces)
    for index in range(0, len(content), step):
        writer.write(content[index : index + step])
    writer.close()
    writer.close()
    return file.getvalue()


def opened(data, **how):
    return io.BufferedReader(age.Decryptor(io.BytesIO(data).read, **how)).read()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A key as `age-keygen` makes it: its recipient, and its identity file."""
    path = tmp_path_factory.mktemp("age") / "key.txt"
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    line = next(line for line in path.read_text().splitlines() if line.startswith("# public key: "))
    return line.removeprefix("# public key: "), path


def content(size):
    return bytes(index * 7 % 256 for index in range(size))


@pytest.mark.parametrize("size", SIZES)
def test_age_opens_what_we_write(pair, tmp_path, size):
    recipient, path = pair
    file = tmp_path / "file.age"
    file.write_bytes(sealed(content(size), pieces=9, recipients=[age.recipient(recipient)]))
    done = subprocess.run(["age", "-d", "-i", path, file], check=True, capture_output=True)
    assert done.stdout == content(size)


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_age_writes(pair, size):
    recipient, path = pair
    done = subprocess.run(["age", "-r", recipient], input=content(size), check=True, capture_output=True)
    assert opened(done.stdout, keys=age.identities(path.read_text())) == content(size)


def test_one_of_several_recipients_is_enough(pair, tmp_path):
    """Also for age, and beside a stanza of a kind that is not known here (an SSH key's)."""
    recipient, path = pair
    other = tmp_path / "other.txt"
    subprocess.run(["age-keygen", "-o", other], check=True, capture_output=True)
    theirs = other.read_text().split("# public key: ")[1].splitlines()[0]
    data = sealed(b"both", recipients=[age.recipient(theirs), age.recipient(recipient)])
    for each in (path, other):
        assert opened(data, keys=age.identities(each.read_text())) == b"both"
        done = subprocess.run(["age", "-d", "-i", each], input=data, check=True, capture_output=True)
        assert done.stdout == b"both"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ssh"], check=True)
    command = ["age", "-R", tmp_path / "ssh.pub", "-r", recipient]
    mixed = subprocess.run(command, input=b"mixed", check=True, capture_output=True).stdout
    assert opened(mixed, keys=age.identities(path.read_text())) == b"mixed"


def test_a_passphrase_both_ways(tmp_path):
    """`age` asks on a terminal only, which `script` gives it."""
    file = tmp_path / "file.age"
    file.write_bytes(sealed(b"ours", passphrase=PASSPHRASE, work_factor=12))
    assert typed(f"age -d -o '{tmp_path}/plain' '{file}'", 1) == 0
    assert (tmp_path / "plain").read_bytes() == b"ours"
    (tmp_path / "theirs").write_bytes(b"theirs")
    assert typed(f"age -p -o '{tmp_path}/theirs.age' '{tmp_path}/theirs'", 2) == 0
    data = (tmp_path / "theirs.age").read_bytes()
    assert opened(data, passphrase=PASSPHRASE) == b"theirs"
    with pytest.raises(RequestInvalid, match="not the passphrase"):
        opened(data, passphrase=Secret("another one"))
    with pytest.raises(RequestInvalid, match="has a passphrase"):
        opened(data)


def typed(command, times):
    """The status of a command on a terminal that asks for the passphrase so often."""
    with terminal.spawn(["sh", "-c", command], environment=dict(os.environ), directory=Path("/tmp")) as tty:
        for _ in range(times):
            tty.expect("passphrase")
            tty.send_line(PASSPHRASE.reveal())
        return tty.wait(timeout=60)


def test_any_change_is_found(pair):
    recipient, path = pair
    keys = age.identities(path.read_text())
    data = sealed(content(2 * age.CHUNK + 9), recipients=[age.recipient(recipient)])
    for place in [*range(0, 200, 7), 300, age.CHUNK + 300, len(data) - 1]:
        spoiled = bytearray(data)
        spoiled[place] ^= 1
        with pytest.raises((RequestInvalid, VaultDamaged)):
            opened(bytes(spoiled), keys=keys)
    head = data.index(b"--- ") + 4 + 43 + 1 + 16
    size = age.CHUNK + 16
    chunks = [data[index : index + size] for index in range(head, len(data), size)]
    assert opened(data[:head] + b"".join(chunks), keys=keys)
    for wrong in (
        data[:head],
        data[:-1],
        data[: head + size],
        data[: head + 2 * size],
        data[:head] + chunks[1] + chunks[0] + chunks[2],
        data + b"\0",
    ):
        with pytest.raises((RequestInvalid, VaultDamaged)):
            opened(wrong, keys=keys)


def test_an_end_of_nothing_after_whole_chunks_is_none(pair):
    """The last chunk of a file with content is never empty."""
    recipient, path = pair
    file = io.BytesIO()
    writer = age.Encryptor(file.write, recipients=[age.recipient(recipient)])
    writer._seal(content(age.CHUNK), last=False)
    writer.close()
    with pytest.raises(VaultDamaged):
        opened(file.getvalue(), keys=age.identities(path.read_text()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\3\4",
        b"age-encryption.org/v2\n",
        b"age-encryption.org/v1\n",
        b"age-encryption.org/v1\n-> \n\n--- AA\n",
        b"age-encryption.org/v1\n-> X25519 AAAA\n\n--- AAAA\n",
        b"age-encryption.org/v1\n-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n--- " + b"A" * 43 + b"\n",
        b"age-encryption.org/v1\n-> scrypt " + b"A" * 22 + b" 30\n" + b"A" * 43 + b"\n--- " + b"A" * 43 + b"\n",
        b"age-encryption.org/v1\n-> scrypt AA 1\n\n-> scrypt AA 1\n\n--- AA\n",
        b"age-encryption.org/v1\n" + b"x" * 100_000,
    ],
)
def test_what_is_no_file_of_age(pair, data):
    with pytest.raises(RequestInvalid):
        opened(data, keys=age.identities(pair[1].read_text()), passphrase=PASSPHRASE)


@pytest.mark.parametrize("text", ["", "age1", "age1qqqq", "AGE-SECRET-KEY-1", "ssh-ed25519 AAAA", "age1" + "q" * 58])
def test_what_is_no_recipient(text):
    with pytest.raises(RequestInvalid):
        age.recipient(text)


def test_a_private_key_in_a_recipients_place_is_not_repeated():
    """Nor in capitals, as age-keygen writes it, nor in small letters. # SEC-143"""
    private = bech32.encode("age-secret-key-", bytes(range(32)))
    for text in (private.upper(), private):
        with pytest.raises(RequestInvalid) as refused:
            age.recipient(text)
        assert text not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("text", ["", "# a comment\n", "age1qqqq", "AGE-SECRET-KEY-1QQQQ"])
def test_what_is_no_identity_file(text):
    with pytest.raises(RequestInvalid):
        age.identities(text)


LONG = "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio"


@pytest.mark.parametrize(("name", "text"), [("a", "A12UEL5L"), (LONG, f"{LONG}1tt5tgs")])
def test_bech32_of_the_standard(name, text):
    """Vectors of BIP 173."""
    assert bech32.decode(name, text) == b""
    assert bech32.encode(name, b"") == text.lower()


@pytest.mark.parametrize(
    "text", ["pzry9x0s0muk", "1pzry9x0s0muk", "x1b4n0q5v", "li1dgmt3", "A1G7SGD8", "10a06t8", "a12UEL5L"]
)
def test_what_is_no_bech32(text):
    """Those that BIP 173 lists, too."""
    for name in ("a", "x", "li"):
        with pytest.raises(ValueError, match=r"kind|mistyped|case|padding"):
            bech32.decode(name, text)
