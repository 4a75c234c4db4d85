"""`admin backup` and `admin restore`: what was there is there again, or nothing has changed."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import keyring
import pytest

from authsome.crypto import age
from authsome.errors import AuthsomeError, MasterKeyMismatch, NotAllowed, RequestInvalid, StorageFailed, VaultLocked
from authsome.home import Home, settings_from, write_config
from authsome.models.audit import Entry, Event
from authsome.models.connection import Kind
from authsome.secret import Secret
from authsome.vault import audit, backup, connections, principals, vaults
from authsome.vault.backup import Lock, Unlock
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from cli.conftest import OPENAI_KEY
from fakes import definitions
from fakes.ports import free_port
from security import adversary
from vault.test_master_key import Keeping

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "correct horse battery staple"
SECRET = Secret(PASSPHRASE)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A key of age: its recipient, and its file."""
    path = tmp_path_factory.mktemp("age") / "key.txt"
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    return path.read_text().split("# public key: ")[1].splitlines()[0], path


def exported(program, env=None):
    done = program("export", "openai", "--format", "json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["OPENAI_API_KEY"]


def elsewhere(program, name="another machine"):
    """The environment of a home that nothing has made yet."""
    return {"AUTHSOME_HOME": str(program.home.parent / name / "home"), "AUTHSOME_PORT": str(free_port())}


def state(path):
    """Every file below a directory, but those that only the kernel and SQLite use."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file() and each.suffix not in {".lock", ".db-shm"} and not each.is_socket()
    }


# ---- through the whole program -----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["recipient", "passphrase"])
def test_a_home_on_another_machine(connected, pair, by):
    """The same logins, the same log, the same identity; and the file is one that `age` opens."""
    recipient, key_file = pair
    file = connected.directory / "backup.age"
    lock = ["--recipient", recipient] if by == "recipient" else ["--stdin"]
    done = connected("admin", "backup", str(file), *lock, input=PASSPHRASE)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    there = elsewhere(connected)
    unlock = ["--identity", str(key_file)] if by == "recipient" else ["--stdin"]
    done = connected("admin", "restore", str(file), *unlock, input=PASSPHRASE, env=there)
    assert done.returncode == 0, done.stderr
    try:
        assert exported(connected, there) == OPENAI_KEY
        assert connected("log", "verify", env=there).returncode == 0
        assert connected.json("whoami", env=there)["identity"] == connected.json("whoami")["identity"]
        modes = {path.stat().st_mode & 0o077 for path in (connected.home.parent / "another machine").rglob("*")}
        assert modes == {0}
    finally:
        connected("daemon", "stop", env=there)
    assert connected.json("log", "--event", "backup")["events"]
    if by == "recipient":
        listed = subprocess.run(["age", "-d", "-i", key_file, file], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(listed)) as archive:
            assert "server/store.db" in archive.getnames()


@pytest.mark.parametrize(("mode", "problem"), [(0o644, None), (0o666, "can be written by others")])
def test_a_definition_that_the_catalogue_takes_is_saved(connected, mode, problem):
    """One that was put there by hand is readable to others, most often; what they may have written is not taken on."""
    (connected.home / "providers").mkdir(mode=0o700, exist_ok=True)
    path = connected.home / "providers" / "acme.json"
    path.write_text(json.dumps(definitions.keyed("https://api.acme.example") | {"name": "acme"}))
    path.chmod(mode)
    done = connected("admin", "backup", str(connected.directory / "backup.age"), "--stdin", input=PASSPHRASE)
    assert (done.returncode == 0) is (problem is None), done.stderr
    assert problem is None or f"{path} {problem}" in done.stderr


def test_a_vault_that_is_there_is_kept_unless_forced(connected):
    file = connected.directory / "backup.age"
    assert connected("admin", "backup", str(file), "--stdin", input=PASSPHRASE).returncode == 0
    done = connected("admin", "restore", str(file), "--stdin", input=PASSPHRASE)
    assert done.returncode == 9, "its daemon runs"
    assert connected("logout", "openai").returncode == 0
    assert connected("daemon", "stop").returncode == 0
    done = connected("admin", "restore", str(file), "--stdin", input=PASSPHRASE)
    assert done.returncode == 4
    assert "--force" in done.stderr
    done = connected("admin", "restore", str(file), "--stdin", "--force", "--json", input=PASSPHRASE)
    assert done.returncode == 0, done.stderr
    aside = json.loads(done.stdout)["set_aside"]
    assert (Path(aside) / "server" / "store.db").exists()
    assert exported(connected) == OPENAI_KEY


def test_what_a_backup_would_run_is_said(connected, pair):
    """Whoever knows a recipient can make a file whose settings run a command: that is told before anything runs."""
    recipient, key_file = pair
    config = connected.home / "config.json"
    before = json.loads(config.read_text()) if config.exists() else {}
    file = connected.directory / "backup.age"
    restore = ["admin", "restore", str(file), "--identity", str(key_file)]
    for powers in ({}, {"notify": {"login_needed": ["touch", "/x"]}, "users": [0]}):
        write_config(Home(connected.home), {**before, **powers})
        assert connected("admin", "backup", str(file), "--recipient", recipient, "--force").returncode == 0
        said = connected(*restore, env=elsewhere(connected, f"said {len(powers)}"))
        assert said.returncode == 0, said.stderr
        assert ("notify and users" in said.stderr) is bool(powers)
        told = connected(*restore, "--json", env=elsewhere(connected, f"told {len(powers)}"))
        assert json.loads(told.stdout)["settings"] == list(powers)


def test_nobody_is_asked_for_what_will_not_serve(connected):
    """A file that is not there or is no backup, and a vault in the way: said before a passphrase is asked for."""
    there = elsewhere(connected)
    missing, other, kept = (connected.directory / name for name in ("missing.age", "other.age", "kept.age"))
    other.write_text("something else\n")
    assert connected("admin", "backup", str(kept), "--stdin", input=PASSPHRASE).returncode == 0
    for file, env, status, words in (
        (missing, there, 2, f"{missing} cannot be read: no such file or directory"),
        (connected.directory, there, 2, "cannot be read: is a directory"),
        (other, there, 2, "this is not a file of age"),
        (kept, None, 9, "is in use by process"),
    ):
        done = connected("admin", "restore", str(file), env=env)
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert connected("daemon", "stop").returncode == 0
    done = connected("admin", "restore", str(kept))
    assert (done.returncode, "there is a vault in" in done.stderr) == (4, True), done.stderr
    asked = connected("admin", "restore", str(kept), env=there)
    assert "nobody can be asked for the passphrase" in asked.stderr


def test_without_the_identities_nobody_acts_from_there(connected):
    file = connected.directory / "backup.age"
    assert connected("admin", "backup", str(file), "--stdin", "--server-only", input=PASSPHRASE).returncode == 0
    there = elsewhere(connected)
    assert connected("admin", "restore", str(file), "--stdin", input=PASSPHRASE, env=there).returncode == 0
    try:
        assert connected("list", env=there).returncode == 10
    finally:
        connected("daemon", "stop", env=there)


def test_a_vault_with_a_passphrase_takes_both(connected):
    """Its passphrase is not in the backup; whoever restores it unlocks it as before."""
    inner = "the passphrase of the vault"
    assert connected("admin", "rekey", "--to", "passphrase", "--stdin", input=inner).returncode == 0
    file = connected.directory / "backup.age"
    done = connected("admin", "backup", str(file), "--stdin", input=PASSPHRASE)
    assert "is not in it" in done.stderr
    there = elsewhere(connected)
    done = connected("admin", "restore", str(file), "--stdin", input=PASSPHRASE, env=there)
    assert "is not in the backup" in done.stderr
    try:
        assert connected("list", env=there).returncode == 9
        assert connected("daemon", "unlock", "--stdin", input=inner, env=there).returncode == 0
        assert exported(connected, there) == OPENAI_KEY
    finally:
        connected("daemon", "stop", env=there)


@pytest.mark.parametrize(
    ("args", "given", "words"),
    [
        ((), PASSPHRASE, "nobody can be asked"),
        (("--stdin",), "short", "shorter than 12"),
        (("--recipient", "age1qqq"), None, "not a recipient"),
        (("--recipient", "ssh-ed25519"), None, "not a recipient"),
    ],
)
def test_a_backup_that_nobody_could_open_is_not_written(connected, args, given, words):
    file = connected.directory / "backup.age"
    done = connected("admin", "backup", str(file), *args, input=given)
    assert done.returncode == 2, done
    assert words in done.stderr
    assert list(connected.directory.glob("*.age*")) == []
    assert list((connected.home / "server").glob("backup-*")) == []


def test_a_file_that_is_there_is_kept_unless_forced(connected, pair):
    file = connected.directory / "backup.age"
    file.write_text("mine")
    assert connected("admin", "backup", str(file), "--recipient", pair[0]).returncode == 2
    assert file.read_text() == "mine"
    assert connected("admin", "backup", str(file), "--recipient", pair[0], "--force").returncode == 0
    assert file.read_bytes().startswith(b"age-encryption.org/v1")


def test_without_its_key_a_copy_of_the_home_says_no_secret_and_serves_nobody(connected):
    """Neither copied by hand without the master key, nor as a backup whose key one does not have. # SEC-210"""
    file = connected.directory / "backup.age"
    assert connected("admin", "backup", str(file), "--stdin", input=PASSPHRASE).returncode == 0
    assert connected("daemon", "stop").returncode == 0
    copy = connected.home.parent / "copy"
    shutil.copytree(connected.home, copy)
    (copy / "server" / "master.key").unlink()
    found = [path for path in [file, *copy.rglob("*")] if path.is_file() and OPENAI_KEY.encode() in path.read_bytes()]
    assert found == []
    assert b"openai" not in file.read_bytes()
    there = {"AUTHSOME_HOME": str(copy), "AUTHSOME_PORT": str(free_port())}
    for command in (("list",), ("export", "openai"), ("daemon", "start")):
        done = connected(*command, env=there)
        assert done.returncode == 9
        assert "master key" in done.stderr
    assert not (copy / "server" / "master.key").exists(), "none is made anew"


# ---- the archive -------------------------------------------------------------------------------------------


class House:
    """A home and its open vault."""

    def __init__(self, root, *, passphrase=None):
        self.settings = settings_from({"AUTHSOME_HOME": str(root)})
        self.lock = HomeLock.acquire(self.settings.home)
        self.database = Database.open(self.lock, clock=adversary.now)
        self.sealers = vaults.unlock(self.database, self.settings, clock=adversary.now, passphrase=passphrase)
        with self.database.transaction() as tx:
            self.owner = principals.owner(tx) or principals.create_owner(tx, self.sealers, now=adversary.now())

    def put(self, name):
        with self.database.transaction() as tx:
            sealer = self.sealers.for_vault(self.owner.vault_id)
            connections.put(
                tx,
                sealer,
                provider="acme",
                name=name,
                kind=Kind.API_KEY,
                secrets={"api_key": Secret(f"key of {name}")},
                now=adversary.now(),
            )
            audit.append(tx, Entry(event=Event.LOGIN, at=adversary.now(), connection=name))

    def write(self, path, **how):
        lock = Lock(passphrase=SECRET)
        options = {"version": "1", "now": adversary.now(), "with_identities": True, "force": False, **how}
        options.setdefault("note", lambda _manifest: None)
        return backup.write(self.database, self.settings.home, path, lock, **options)

    def opened(self):
        with self.database.read() as reader:
            sealer = self.sealers.for_vault(self.owner.vault_id)
            stored = connections.list_all(reader, self.owner.vault_id)
            for each in stored:
                assert connections.secrets(reader, sealer, each)["api_key"].reveal() == f"key of {each.name}"
            logged = [name for (name,) in reader.execute("SELECT connection FROM audit")]
        assert sorted(logged) == sorted(each.name for each in stored)
        return {each.name for each in stored}

    def close(self):
        self.database.close()
        self.lock.release()


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch):
    """A second for each derivation is for attackers; the journeys above run in processes of their own."""
    monkeypatch.setitem(age.Encryptor.__init__.__kwdefaults__, "work_factor", 10)


def restored(path, root, *, force=False, **unlock):
    settings = settings_from({"AUTHSOME_HOME": str(root)})
    how = Unlock(**(unlock or {"passphrase": SECRET}))
    return backup.restore(settings, path, how, clock=adversary.now, now=adversary.now(), force=force)


@pytest.fixture
def file(tmp_path):
    house = House(tmp_path / "first")
    house.put("one")
    house.write(tmp_path / "backup.age")
    house.close()
    return tmp_path / "backup.age"


def test_it_is_consistent_while_work_goes_on(tmp_path):  # SEC-125
    """Every act in it has its entry in the log, and every secret opens, however much is written meanwhile."""
    house, ended = House(tmp_path / "first"), threading.Event()

    def write():
        number = 0
        while not ended.is_set():
            house.put(f"n{number}")
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    adversary.wait(house.opened, "the first")
    before = house.opened()
    house.write(tmp_path / "backup.age")
    ended.set()
    thread.join()
    house.close()
    restored(tmp_path / "backup.age", tmp_path / "second")
    again = House(tmp_path / "second")
    assert before <= again.opened()
    again.close()


def test_a_key_in_the_keyring_is_in_a_file_afterwards(tmp_path):
    """The keyring is another machine's, or holds another key by now."""
    before = keyring.get_keyring()
    keyring.set_keyring(Keeping())
    try:
        settings_from({"AUTHSOME_HOME": str(tmp_path / "first")}).home.root.mkdir(mode=0o700)
        write_config(settings_from({"AUTHSOME_HOME": str(tmp_path / "first")}).home, {"master_key": "keyring"})
        house = House(tmp_path / "first")
        house.put("one")
        assert house.write(tmp_path / "backup.age").has_key
        house.close()
        kept = dict(keyring.get_keyring().kept)
        keyring.set_keyring(Keeping())
        restored(tmp_path / "backup.age", tmp_path / "second")
        again = House(tmp_path / "second")
        assert again.opened() == {"one"}
        again.close()
        assert kept
        assert keyring.get_keyring().kept == {}
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize("unlock", [{"passphrase": Secret("another passphrase")}, {}])
def test_what_does_not_open_it_changes_nothing(tmp_path, file, unlock, pair):
    house = House(tmp_path / "second")
    house.put("mine")
    house.close()
    before = state(tmp_path / "second")
    with pytest.raises(RequestInvalid):
        restored(file, tmp_path / "second", force=True, **(unlock or {"identity_file": pair[1]}))
    assert state(tmp_path / "second") == before
    with pytest.raises(NotAllowed):
        restored(file, tmp_path / "second")
    assert state(tmp_path / "second") == before
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_was_cut_or_changed_changes_nothing(tmp_path, file):
    data = file.read_bytes()
    for spoiled in (data[:-1], data[: len(data) // 2], data[:-40] + bytes(40), data + b"x", b"", b"PK\3\4"):
        file.write_bytes(spoiled)
        with pytest.raises(AuthsomeError):
            restored(file, tmp_path / "second")
        assert not (tmp_path / "second" / "server" / "store.db").exists()
    file.write_bytes(data)
    restored(file, tmp_path / "second")


def packed(tmp_path, entries):
    """A file that anybody who knows how could have made."""
    path = tmp_path / "made.age"
    with path.open("wb") as out:
        sealed = age.Encryptor(out.write, passphrase=SECRET)
        with tarfile.open(mode="w|", fileobj=sealed) as archive:
            for entry, data in entries:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        sealed.close()
    return path


def named(name, kind=tarfile.REGTYPE, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        named("../outside"),
        named("/tmp/outside"),
        named("server/../../outside"),
        named("proxy/ca.pem"),
        named("server/daemon.json"),
        named("server/store.db", tarfile.SYMTYPE, "/etc/passwd"),
        named("server/store.db", tarfile.LNKTYPE, "config.json"),
        named("server", tarfile.DIRTYPE),
        named("server/store.db", tarfile.GNUTYPE_SPARSE),
        named("providers/../x.json"),
        named("identities/.key"),
    ],
    ids=lambda entry: entry.name,
)
def test_nothing_but_what_a_backup_has_is_taken_out_of_one(tmp_path, entry):
    path = packed(tmp_path, [(named("config.json"), b"{}"), (entry, b"x" if entry.isreg() else b"")])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RequestInvalid, match="something that no backup has"):
        restored(path, tmp_path / "second" / "home")
    assert sorted(each for each in tmp_path.iterdir() if each.name != "second") == before
    assert not (tmp_path / "second" / "home" / "server" / "store.db").exists()


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [(named("manifest.json"), b"{}"), (named("server/store.db"), b"x")],
        [(named("manifest.json"), b"{"), (named("server/store.db"), b"x")],
        [(named("manifest.json"), b'{"format": "authsome-backup-2"}'), (named("server/store.db"), b"x")],
        [(named("config.json"), b"{}"), (named("config.json"), b"{}")],
    ],
)
def test_what_is_no_backup(tmp_path, entries):
    with pytest.raises(RequestInvalid):
        restored(packed(tmp_path, entries), tmp_path / "second")


def test_a_backup_with_another_key_is_refused(tmp_path, file):
    """A mix of two backups, as nobody makes one by accident."""
    other = House(tmp_path / "other")
    other.close()
    with tarfile.open(fileobj=io.BytesIO(opened(file))) as archive:
        entries = [(each, archive.extractfile(each).read()) for each in archive.getmembers()]
    key = (tmp_path / "other" / "server" / "master.key").read_bytes()
    mixed = [(entry, key if entry.name == "server/master.key" else data) for entry, data in entries]
    with pytest.raises(MasterKeyMismatch):
        restored(packed(tmp_path, mixed), tmp_path / "second")


def opened(path):
    return io.BufferedReader(age.Decryptor(io.BytesIO(path.read_bytes()).read, passphrase=SECRET)).read()


RESTORE = """
import sys
from pathlib import Path
from authsome.daemon.restoring import restore
from authsome.home import settings_from
from authsome.secret import Secret
settings = settings_from({"AUTHSOME_HOME": sys.argv[2]})
restore(settings, Path(sys.argv[1]), identity_file=None, passphrase=Secret(sys.argv[3]), force=True)
"""


@pytest.mark.parametrize(
    "fault", ["renameat2:signal=KILL:when=1", "rename:signal=KILL:when=1", "fsync:signal=KILL:when=1",
              "fsync:signal=KILL:when=4", "renameat2:error=EINVAL:when=1", "fsync:error=ENOSPC:when=2"]
)  # fmt: skip
def test_a_restore_that_is_cut_off_leaves_one_home_or_the_other(tmp_path, file, fault):
    """Killed at any step, or on storage that cannot exchange two names; and it can be done again."""
    house = House(tmp_path / "second")
    house.put("mine")
    house.close()
    call = fault.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", tmp_path / "trace", "-e", f"trace={call}", "-e", f"inject={fault}"]
    arguments = [sys.executable, "-c", RESTORE, str(file), str(tmp_path / "second"), PASSPHRASE]
    subprocess.run([*command, *arguments], check=False, capture_output=True, cwd=ROOT, timeout=120)
    assert held(tmp_path / "second") in ({"mine"}, {"one"})
    restored(file, tmp_path / "second", force=True)
    assert held(tmp_path / "second") == {"one"}


def held(root):
    """What the vault in a home holds."""
    house = House(root)
    names = house.opened()
    house.close()
    return names


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_the_vault_before_is_there_wherever_a_restore_was_cut_off(tmp_path, file, call):
    """Killed at the last of its steps, and done again, it has still thrown nothing away but what it made itself."""
    count = 0
    for fault in ("", "signal=KILL:when={count}"):
        root = tmp_path / f"home{count}" / "second"
        root.parent.mkdir()
        house = House(root)
        house.put("mine")
        house.close()
        trace = tmp_path / f"trace{count}"
        inject = ["-e", f"inject={call}:{fault.format(count=count)}"] if fault else []
        command = ["strace", "-f", "-qq", "-o", trace, "-e", f"trace={call}", *inject]
        arguments = [sys.executable, "-c", RESTORE, str(file), str(root), PASSPHRASE]
        subprocess.run([*command, *arguments], check=False, capture_output=True, cwd=ROOT, timeout=120)
        count = trace.read_text().count(f"{call}(")
        restored(file, root, force=True)
        assert held(root) == {"one"}
        aside = [each for each in root.parent.iterdir() if each.name.startswith("second.before-restore-")]
        assert {"mine"} in [held(each) for each in aside]


def test_what_is_set_aside_takes_no_name_that_is_taken(tmp_path, file):
    """Two restores within one second; and a vault is never lost for want of a name."""
    now = adversary.now()
    for name in ("mine", "later"):
        house = House(tmp_path / "second")
        house.put(name)
        house.close()
        settings = settings_from({"AUTHSOME_HOME": str(tmp_path / "second")})
        how = Unlock(passphrase=SECRET)
        aside = backup.restore(settings, file, how, clock=adversary.now, now=now, force=True).set_aside
        assert name in held(aside)
    assert held(tmp_path / "second") == {"one"}
    assert len(list(tmp_path.glob("second.before-restore-*"))) == 2


def test_definitions_of_ones_own_are_set_aside_too(tmp_path, file):
    """A home without a vault may hold what somebody wrote; it is not removed for there being no vault."""
    root = tmp_path / "second"
    (root / "providers").mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    (root / "providers" / "mine.json").write_text("{}")
    (root / "providers" / "mine.json").chmod(0o600)
    aside = restored(file, root).set_aside
    assert (aside / "providers" / "mine.json").read_text() == "{}"


def test_an_entry_that_could_not_be_written_keeps_the_file_back(tmp_path):
    """A backup that nobody can see in the log is none. # SEC-182"""
    house = House(tmp_path / "first")

    def note(_manifest):
        raise StorageFailed("the disk is full")

    with pytest.raises(StorageFailed, match="the disk is full"):
        house.write(tmp_path / "backup.age", note=note)
    assert [each.name for each in tmp_path.iterdir()] == ["first"]
    house.close()


def test_a_locked_vault_is_restored_locked(tmp_path):
    first = tmp_path / "first"
    first.mkdir(mode=0o700)
    write_config(settings_from({"AUTHSOME_HOME": str(first)}).home, {"master_key": "passphrase"})
    house = House(first, passphrase=Secret("another passphrase"))
    house.put("one")
    assert not house.write(tmp_path / "backup.age").has_key
    house.close()
    restored(tmp_path / "backup.age", tmp_path / "second")
    with pytest.raises(VaultLocked):
        House(tmp_path / "second")
