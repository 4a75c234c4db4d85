"""The homes that upstream's own releases made are read whole, whatever else lies there, and left as they were."""

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import keyring
import pytest
from keyring import backend

from authsome.errors import AuthsomeError, RequestInvalid, UnsafeFile, VaultUnusable
from authsome.models.connection import Kind
from authsome.models.upstream_home import UpstreamHome
from authsome.vault import upstream
from vault.upstream_homes import RELEASES, unpack


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def there(release: str, tmp_path: Path) -> Path:
    return unpack(release, tmp_path)


def held(home: UpstreamHome) -> dict[str, dict[str, str]]:
    return {
        f"{each.provider}/{each.name}": {name: value.reveal() for name, value in each.secrets.items()}
        for each in reversed(home.connections)  # the owner's are first, and so win
    }


def store(there: Path) -> sqlite3.Connection:
    return sqlite3.connect(there / "server" / "kv_store" / "cache.db", isolation_level=None)


def fingerprint(there: Path) -> dict[str, str]:
    return {
        path.relative_to(there).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(there.rglob("*"))
        if path.is_file()
    }


def test_everything_is_read(release: str, there: Path):
    """Keys, tokens, clients, defaults and definitions; of other principals only the number."""
    home = upstream.read(there)
    assert home.release == release[:3]
    assert home.unreadable == ()
    found = held(home)
    assert found["openai/default"] == {"api_key": "sk-proj-fixture000000000000000000default"}
    assert found["openai/work"] == {"api_key": "sk-proj-fixture000000000000000000000work"}
    assert found["github/default"] == {
        "access_token": "github-default-access",
        "refresh_token": "github-default-refresh",
    }
    assert found["linear/finite"] == {"access_token": "linear-finite-access"}
    assert found["acme/default"] == {"api_key": "acme-fixture-key"}
    by_name = {f"{each.provider}/{each.name}": each for each in reversed(home.connections)}
    github = by_name["github/default"]
    assert (github.kind, github.scopes, github.account) == (Kind.OAUTH2, ("repo", "read:user"), "octocat")
    assert github.expires_at == datetime(2099, 1, 1, tzinfo=UTC)
    assert by_name["gitlab/own"].base_url == "https://gitlab.example.com"
    assert by_name["slack/gone"].unusable == "revoked"
    assert home.defaults["openai"] == "work"
    clients = {each.provider: (each.client_id, each.client_secret) for each in home.clients}
    assert clients["linear"] == ("linear-client", None)
    assert clients["github"][1] is not None
    assert clients["github"][1].reveal() == "github-client-secret"
    assert json.loads(home.definitions["acme"])["api_url"] == "api.acme.example"
    assert set(home.definitions) == {"acme", "wide"}


def test_whose_connections_are_read(release: str, there: Path):
    """In 0.3 all identities are one person's; in 0.7 a principal's vault is its own."""
    home = upstream.read(there)
    owners = list(dict.fromkeys(each.owner for each in home.connections))
    if release == "0.3.1":
        assert owners == ["brave-quietly-calmly-1234", "calm-boldly-clearly-5678"]
        assert home.foreign == 0
    else:
        assert len(owners) == 1
        assert home.foreign == 2


def test_nothing_is_changed(there: Path):
    """Not even a file beside a database is made."""
    before = fingerprint(there)
    upstream.read(there)
    assert fingerprint(there) == before


def test_what_is_in_the_log_only_is_read(there: Path):
    """The home may be in use: what its daemon has just written is there, too."""
    with closing(store(there)) as running:
        running.execute("DELETE FROM Cache WHERE key LIKE '%openai%work%'")
        assert "openai/work" not in held(upstream.read(there))


def test_a_long_value_lies_in_a_file(there: Path):
    """A document that upstream puts beside its table is read from there."""
    with closing(store(there)) as database:
        (text,) = database.execute("SELECT value FROM Cache WHERE key LIKE '%acme:connection%'").fetchone()
        place = there / "server" / "kv_store" / "0a" / "1b"
        place.mkdir(parents=True)
        (place / "2c3d.val").write_text(text)
        database.execute(
            "UPDATE Cache SET mode = 3, filename = '0a/1b/2c3d.val', value = NULL WHERE key LIKE '%acme:connection%'"
        )
    assert held(upstream.read(there))["acme/default"] == {"api_key": "acme-fixture-key"}


@pytest.mark.parametrize("filename", ["../../secret.val", "/etc/passwd", "0a/1b/../x.val"])
def test_no_file_elsewhere_is_read(there: Path, filename: str):
    """A row leads nowhere but below the store."""
    with closing(store(there)) as database:
        database.execute("UPDATE Cache SET mode = 3, filename = ?, value = NULL WHERE key LIKE '%acme%'", (filename,))
    assert "acme/default" not in held(upstream.read(there))


def test_nothing_is_unpickled(there: Path):
    """A row that says it is a pickle is nobody's."""
    with closing(store(there)) as database:
        database.execute("UPDATE Cache SET mode = 4, value = x'80049540' WHERE key LIKE '%acme:connection%'")
    assert "acme/default" not in held(upstream.read(there))


def test_a_damaged_record_is_named_and_the_others_are_read(there: Path):
    """One flipped character costs one record."""
    with closing(store(there)) as database:
        rows = database.execute("SELECT rowid, value FROM Cache WHERE key LIKE '%acme:connection%'").fetchall()
        ((row, text),) = rows
        document = json.loads(text)
        field = "data" if "data" in document["value"] else "__encrypted_data__"
        sealed = document["value"][field]
        document["value"][field] = sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:]
        database.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (json.dumps(document), row))
    home = upstream.read(there)
    assert len(home.unreadable) == 1
    assert home.unreadable[0].endswith("acme:connection:default: is damaged")
    assert "openai/default" in held(home)


@pytest.mark.parametrize("content", ['{"key": "%s"}', "%s"])
def test_another_master_key_opens_nothing(there: Path, content: str):
    """A key of the right form that is not this home's is told apart from damage."""
    (there / "server" / "master.key").write_text(content % ("A" * 43 + "="))
    with pytest.raises(RequestInvalid, match="does not fit this home"):
        upstream.read(there)


@pytest.mark.parametrize("content", ["", "not a key", '{"no": "key"}', '{"key": 1}', "\x00"])
def test_a_file_that_holds_no_key(there: Path, content: str):
    """Whatever it is, it is an error of one line that does not repeat it."""
    (there / "server" / "master.key").write_text(content)
    with pytest.raises(RequestInvalid) as caught:
        upstream.read(there)
    assert "\n" not in caught.value.message
    assert not content or content not in caught.value.message


def test_a_key_that_others_could_read(there: Path):
    """A key that is open to others is refused, as our own would be."""
    (there / "server" / "master.key").chmod(0o644)
    with pytest.raises(UnsafeFile, match=r"master\.key"):
        upstream.read(there)


def test_a_key_that_lies_elsewhere(there: Path, tmp_path: Path):
    """Whoever gave upstream its key in another place names that place."""
    moved = tmp_path / "key"
    (there / "server" / "master.key").rename(moved)
    assert "openai/work" in held(upstream.read(there, master_key_file=moved))
    with pytest.raises(RequestInvalid, match="no master key"):
        upstream.read(there, master_key_file=tmp_path / "nowhere")


class Keeping(backend.KeyringBackend):
    """A keyring in memory that knows one key."""

    priority = 5

    def __init__(self, key: str | None) -> None:
        super().__init__()
        self.key = key

    def get_password(self, service: str, username: str) -> str | None:
        return self.key if (service, username) == ("authsome", "master_key") else None

    def set_password(self, service: str, username: str, password: str) -> None:  # noqa: ARG002  # keyring's shape
        raise AssertionError("nothing is to be kept")


def test_a_key_in_the_keyring(release: str, there: Path):
    """Where upstream kept its key in the keyring, it is taken from there."""
    file = there / "server" / "master.key"
    text = file.read_text()
    file.unlink()
    if release == "0.3.1":
        (there / "server" / "config.json").write_text('{"encryption": {"mode": "keyring"}}')
        text = json.loads(text)["key"]
    before = keyring.get_keyring()
    try:
        keyring.set_keyring(Keeping(text))
        assert "openai/work" in held(upstream.read(there))
        keyring.set_keyring(Keeping(None))
        with pytest.raises(RequestInvalid, match="neither the home nor the keyring"):
            upstream.read(there)
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize("name", ["server/kv_store/cache.db", "server/master.key"])
def test_links_are_not_followed(there: Path, tmp_path: Path, name: str):
    """A file that is a link is somebody else's doing."""
    path = there / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile):
        upstream.read(there)


def test_no_such_home(tmp_path: Path, there: Path):
    """A directory that upstream did not make is told so, and so is one whose store is something else."""
    with pytest.raises(RequestInvalid, match="no upstream home here"):
        upstream.read(tmp_path / "nowhere")
    (there / "server" / "kv_store" / "cache.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RequestInvalid, match="is damaged, or none of upstream's stores"):
        upstream.read(there)


def test_a_home_that_does_not_say_whose_it_is(release: str, there: Path):
    """Without the active identity the vault of somebody else could be taken for one's own."""
    shutil.rmtree(there / "client")
    if release == "0.3.1":
        assert "openai/work" in held(upstream.read(there))
    else:
        with pytest.raises(RequestInvalid, match="which of its vaults is yours"):
            upstream.read(there)


def test_a_weak_key_derivation_is_refused(tmp_path: Path):
    """A planted record cannot make the daemon eat the machine, nor make guessing cheap."""
    there = unpack("0.7.2", tmp_path)
    with closing(store(there)) as database:
        (text,) = database.execute("SELECT value FROM Cache WHERE key LIKE '%dek%'").fetchone()
        for change in ({"memory_cost": 2**40}, {"memory_cost": 8}, {"salt": "!"}, {"time_cost": "x"}):
            document = json.loads(text)
            document["value"]["kdf"] |= change
            database.execute("UPDATE Cache SET value = ? WHERE key LIKE '%dek%'", (json.dumps(document),))
            with pytest.raises(AuthsomeError) as caught:
                upstream.read(there)
            assert isinstance(caught.value, RequestInvalid | VaultUnusable)
