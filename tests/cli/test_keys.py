"""`admin rekey`, `daemon unlock`, `daemon lock`, as their user meets them."""

import base64
import json
import os
import sqlite3
from contextlib import closing

import pytest

from authsome.errors import TooManyAttempts
from authsome.home import Home, settings_from
from authsome.vault import rekeying, vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from cli.conftest import OPENAI_KEY
from security import adversary
from security.adversary import ask

PASSPHRASE = "correct horse battery staple"
HINT = "authsome daemon unlock"


def exported(program):
    """The key that is stored, in clear."""
    done = program("export", "openai", "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["OPENAI_API_KEY"]


def master_key(program):
    return program.home / "server" / "master.key"


@pytest.fixture
def locked(connected):
    """A home whose vault waits for its passphrase."""
    done = connected("admin", "rekey", "--to", "passphrase", "--stdin", input=PASSPHRASE)
    assert done.returncode == 0, done.stderr
    assert connected("daemon", "lock").returncode == 0
    return connected


# ---- rekey -------------------------------------------------------------------------------------------------


def test_rekey_renews_everything_and_the_key_before_opens_nothing(connected):  # SEC-117
    old = master_key(connected).read_bytes()
    database = (connected.home / "server" / "store.db").read_bytes()
    state = connected.json("admin", "rekey")
    assert state == {"running": False, "total": 2, "done": 2, "damaged": 0, "problem": None, "source": "file"}
    assert master_key(connected).read_bytes() != old
    assert exported(connected) == OPENAI_KEY
    assert connected("daemon", "restart").returncode == 0
    assert exported(connected) == OPENAI_KEY
    assert connected("daemon", "stop").returncode == 0
    assert (connected.home / "server" / "store.db").read_bytes() != database
    master_key(connected).write_bytes(old)
    done = connected("list")
    assert done.returncode == 9
    assert "does not fit" in done.stderr


def test_nothing_of_what_was_lies_anywhere_after_a_rekey(connected):  # SEC-117 # SEC-126
    """No old key, wrapped or plain, and nothing sealed with one: not in the log, nor in free pages, nor in copies."""

    def sealed() -> set[bytes]:
        with closing(sqlite3.connect(connected.home / "server" / "store.db", timeout=60)) as store:
            columns = (("secrets", "sealed"), ("vaults", "wrapped_key"), ("server_key", "sealed"), ("logins", "sealed"))
            found = {row[0] for table, column in columns for row in store.execute(f"SELECT {column} FROM {table}")}
            found |= {row[0] for row in store.execute("SELECT check_value FROM master_key")}
        return found - {None}

    for number in range(8):
        done = connected("login", "openai", "--connection", f"c{number}", "--stdin", input=OPENAI_KEY)
        assert done.returncode == 0, done.stderr
    before = {master_key(connected).read_bytes().strip(), *sealed()}
    assert len(before) > 16
    copy = connected.home / "server" / "store.db.before-3"
    copy.write_bytes((connected.home / "server" / "store.db").read_bytes())
    copy.chmod(0o600)
    connected.json("admin", "rekey")
    assert not copy.exists()
    assert before & sealed() == set()
    for path in [path for path in connected.home.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        assert [each for each in before if each in data] == [], path


def test_master_only_leaves_what_is_sealed(connected):  # SEC-117
    old = master_key(connected).read_bytes()
    state = connected.json("admin", "rekey", "--master-only")
    assert (state["done"], state["running"]) == (0, False)
    assert master_key(connected).read_bytes() != old
    assert exported(connected) == OPENAI_KEY


def test_rekey_is_on_record_and_says_how_far_it_came(connected):
    connected.json("admin", "rekey")
    events = connected.json("log", "--event", "rekey")["events"]
    assert [each["detail"] for each in events] == ["master key: file", "vaults: 1, damaged values: 0"]
    assert connected.json("admin", "rekey", "--status")["done"] == 2
    done = connected("admin", "rekey", "--status")
    assert "2 values were sealed anew" in done.stdout


def test_rekey_to_the_environment_and_back(connected):
    key = base64.b64encode(os.urandom(32)).decode()
    done = connected("admin", "rekey", "--to", "environment", "--stdin", input=key)
    assert "AUTHSOME_MASTER_KEY" in done.stderr
    assert not master_key(connected).exists()
    assert connected("daemon", "stop").returncode == 0
    assert connected("list").returncode == 9
    with_key = {"AUTHSOME_MASTER_KEY": key}
    assert connected("get", "openai", env=with_key).returncode == 0
    done = connected("admin", "rekey", "--to", "file", env=with_key)
    assert "unset AUTHSOME_MASTER_KEY" in done.stderr
    assert connected("daemon", "stop").returncode == 0
    assert connected("get", "openai", env=with_key).returncode == 9
    assert exported(connected) == OPENAI_KEY


@pytest.mark.parametrize(
    ("args", "given", "words"),
    [
        (("--to", "passphrase", "--stdin"), "short", "shorter than 12"),
        (("--to", "passphrase", "--stdin"), "", "not one line"),
        (("--to", "passphrase", "--stdin"), "one line of words\nanother line", "not one line"),
        (("--to", "passphrase"), PASSPHRASE, "nobody can be asked"),
        (("--to", "environment", "--stdin"), "not a key", "32 bytes"),
        (("--to", "file", "--stdin"), "x", "made, not given"),
        (("--to", "keyring"), None, "keyring"),
        (("--to", "the moon"), None, "--to"),
    ],
)
def test_a_rekey_that_cannot_be_meant_changes_nothing(connected, args, given, words):
    before = master_key(connected).read_bytes()
    done = connected("admin", "rekey", *args, input=given)
    assert done.returncode in {2, 9}, done
    assert words in done.stderr
    assert "hint" in done.stderr
    assert master_key(connected).read_bytes() == before
    assert exported(connected) == OPENAI_KEY


def test_only_an_admin_renews_keys(connected):
    """Neither the child of a run, nor an identity that nobody has claimed."""
    child = connected("run", "--", *connected.command, "admin", "rekey")
    assert "a run's child" in child.stderr
    assert connected("identity", "create", "unclaimed").returncode == 0
    before = master_key(connected).read_bytes()
    done = connected("admin", "rekey", env={"AUTHSOME_IDENTITY": "unclaimed"})
    assert done.returncode == 10
    assert master_key(connected).read_bytes() == before


def test_a_daemon_goes_on_with_a_rekey_that_was_cut_off(connected):
    """As one finds it whose predecessor was killed while it sealed anew."""
    assert connected("daemon", "stop").returncode == 0
    settings = settings_from({"AUTHSOME_HOME": str(connected.home)})
    with HomeLock.acquire(settings.home) as lock:
        database = Database.open(lock, clock=adversary.now)
        sealers = vaults.unlock(database, settings, clock=adversary.now)
        with database.read() as reader:
            (vault_id,) = rekeying.vaults_of(reader)
        with database.transaction() as tx:
            sealers.renew_vault(tx, vault_id, now=adversary.now())
        database.close()
    assert connected("daemon", "start").returncode == 0
    adversary.wait(lambda: not connected.json("admin", "rekey", "--status")["running"], "the rekey's end")
    assert connected.json("admin", "rekey", "--status")["done"] == 2
    assert exported(connected) == OPENAI_KEY
    assert connected("daemon", "stop").returncode == 0
    with HomeLock.acquire(settings.home) as lock:
        database = Database.open(lock, clock=adversary.now)
        with database.read() as reader:
            assert rekeying.unfinished(reader) == []
        database.close()


def test_doctor_advises_a_rekey_of_old_keys(connected):
    """After a year; and says nothing of it once that is done."""
    assert "days old" not in connected("doctor").stdout
    assert connected("daemon", "stop").returncode == 0
    settings = settings_from({"AUTHSOME_HOME": str(connected.home)})
    with HomeLock.acquire(settings.home) as lock:
        database = Database.open(lock, clock=adversary.now)
        with database.transaction() as tx:
            tx.execute("UPDATE vaults SET created_at = created_at - 400 * 86400000000")
        database.close()
    assert connected("daemon", "start").returncode == 0
    done = connected("doctor")
    assert "its oldest key is 400 days old" in done.stdout
    assert "authsome admin rekey" in done.stdout
    assert done.returncode == 0, "advice, and no failure"
    connected.json("admin", "rekey")
    assert "days old" not in connected("doctor").stdout


# ---- the passphrase ----------------------------------------------------------------------------------------


def test_a_locked_daemon_lives_and_gives_nothing(locked):
    health = ask(locked.port, "GET", "/health").json()
    assert health["status"] == "locked"
    assert locked.json("daemon", "status")["vault"] == "locked"
    assert "its vault is locked" in locked("daemon", "status").stdout
    for command in (("list",), ("export", "openai"), ("login", "openai", "--stdin"), ("run", "--", "true"), ("log",)):
        done = locked(*command, input=OPENAI_KEY)
        assert done.returncode == (125 if command[0] == "run" else 9), done
        assert "locked" in done.stderr
        assert HINT in done.stderr
    done = locked("list", "--json")
    assert json.loads(done.stdout)["error"] == "vault_locked"
    assert ask(locked.port, "GET", "/ui").status == 503
    assert ask(locked.port, "DELETE", "/health").status == 405
    assert ask(locked.port, "GET", "/daemon/unlock").status == 405


def test_the_passphrase_opens_it_until_it_is_locked_again(locked):  # SEC-117
    done = locked("daemon", "unlock", "--stdin", input="another passphrase altogether")
    assert done.returncode == 9
    assert "not the passphrase" in done.stderr
    assert locked("list").returncode == 9
    assert locked("daemon", "unlock", "--stdin", input=PASSPHRASE + "\n").returncode == 0
    assert exported(locked) == OPENAI_KEY
    assert locked.json("log", "--event", "unlock")["events"]
    assert locked("daemon", "unlock", "--stdin", input="whatever it is").returncode == 0, "it is open"
    assert locked("daemon", "lock").returncode == 0
    assert locked("list").returncode == 9
    assert locked("daemon", "stop").returncode == 0, "a locked one stops, too"
    assert locked("daemon", "status").returncode == 9


def test_it_is_asked_for_on_a_terminal(locked):
    """Whatever was asked for goes on once it is open; what is typed is not shown."""
    with locked.on_terminal("get", "openai") as shown:
        shown.expect("passphrase of this vault: ")
        shown.send_line(PASSPHRASE)
        shown.expect("connected")
        assert shown.wait() == 0
        assert PASSPHRASE not in shown.transcript


def test_a_new_one_is_asked_for_twice(connected):
    with connected.on_terminal("admin", "rekey", "--to", "passphrase") as shown:
        shown.expect("new passphrase of this vault: ")
        shown.send_line(PASSPHRASE)
        shown.expect("once more: ")
        shown.send_line(PASSPHRASE + "s")
        shown.expect("not the same")
        assert shown.wait() == 2
    assert master_key(connected).exists()


def test_a_vault_that_has_a_passphrase_from_the_first(program):
    """Said in config.json: the first command asks; nothing of a key is ever in a file."""
    program.home.mkdir(mode=0o700, parents=True)
    (program.home / "config.json").write_text(json.dumps({"master_key": "passphrase"}))
    (program.home / "config.json").chmod(0o600)
    done = program("init")
    assert done.returncode == 9
    assert "no passphrase yet" in done.stderr
    assert ask(program.port, "GET", "/health").json()["status"] == "new"
    stranger = adversary.newcomer(program, "stranger")
    for body in ({"passphrase": PASSPHRASE}, {"passphrase": PASSPHRASE, "bootstrap": "x", "did": stranger.pair.did}):
        answer = stranger.ask("POST", "/daemon/unlock", body)
        assert (answer.status, answer.code) == (401, "authentication_failed")
    assert program("daemon", "unlock", "--stdin", input="short").returncode == 2
    with program.on_terminal("init") as shown:
        shown.expect("new passphrase of this vault: ")
        shown.send_line(PASSPHRASE)
        shown.expect("once more: ")
        shown.send_line(PASSPHRASE)
        assert shown.wait() == 0
    assert program("login", "openai", "--stdin", input=OPENAI_KEY).returncode == 0
    assert not master_key(program).exists()
    assert program("daemon", "restart").returncode == 0
    assert program("list").returncode == 9
    assert program("daemon", "unlock", "--stdin", input=PASSPHRASE).returncode == 0
    assert exported(program) == OPENAI_KEY


def test_who_may_unlock(locked):
    """An admin's identity, by a proof that is good once; nobody else learns whether a passphrase is right."""
    mine = adversary.owner(locked)
    body = {"passphrase": PASSPHRASE}
    data = json.dumps(body).encode()
    kind = ("Content-Type", "application/json")
    for headers in ((), (("Authorization", "PoP x.y.z"),), (("Authorization", "Bearer x"),)):
        assert ask(locked.port, "POST", "/daemon/unlock", *headers, kind, body=data).status == 401
    assert adversary.newcomer(locked, "somebody").ask("POST", "/daemon/unlock", body).status == 401
    forged = adversary.Caller(port=locked.port, handle=mine.handle, pair=adversary.newcomer(locked, "x").pair)
    assert forged.ask("POST", "/daemon/unlock", body).status == 401
    wrong = json.dumps({"passphrase": "another passphrase altogether"}).encode()
    token = mine.token("POST", "/daemon/unlock", wrong)
    assert mine.send(token, "POST", "/daemon/unlock", wrong).code == "passphrase_refused"
    assert mine.send(token, "POST", "/daemon/unlock", wrong).status == 401, "it was spent"
    assert mine.send(mine.token("POST", "/daemon/unlock", wrong), "POST", "/daemon/unlock", data).status == 401
    assert ask(locked.port, "GET", "/health").json()["status"] == "locked"
    assert mine.ask("POST", "/daemon/unlock", body).json() == {"locked": False}
    assert mine.ask("GET", "/whoami").status == 200


def test_guessing_the_passphrase_gets_slow(locked):  # SEC-117
    """After five wrong ones each doubles the wait, for the right one too, and also over a restart."""
    mine = adversary.owner(locked)
    answers = [mine.ask("POST", "/daemon/unlock", {"passphrase": f"guess number {number}"}) for number in range(5)]
    assert [each.code for each in answers] == ["passphrase_refused"] * 5
    with closing(sqlite3.connect(locked.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute("UPDATE attempts SET failures = failures + 10")  # a wait that no slow machine outlasts
    answer = mine.ask("POST", "/daemon/unlock", {"passphrase": PASSPHRASE})
    assert (answer.status, answer.code) == (429, "too_many_attempts")
    assert int(answer.headers["retry-after"]) > 60
    assert locked("daemon", "restart").returncode == 0
    done = locked("daemon", "unlock", "--stdin", input=PASSPHRASE)
    assert (done.returncode, "try again" in done.stderr) == (TooManyAttempts.exit_status, True), done.stderr
    with closing(sqlite3.connect(locked.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute("UPDATE attempts SET last_at = last_at - 900000000")
    assert locked("daemon", "unlock", "--stdin", input=PASSPHRASE).returncode == 0
    with closing(sqlite3.connect(locked.home / "server" / "store.db", timeout=60)) as store:
        assert store.execute("SELECT count(*) FROM attempts WHERE failures > 0").fetchone() == (0,)


def test_the_passphrase_is_nowhere(locked):
    """In no file, no argument, no environment. # SEC-117"""
    assert locked("daemon", "unlock", "--stdin", input=PASSPHRASE).returncode == 0
    assert [path for path, data in locked.files().items() if PASSPHRASE.encode() in data] == []
    for pid in locked.processes():
        for part in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{part}", "rb") as file:  # noqa: PTH123  # of /proc
                assert PASSPHRASE.encode() not in file.read()


def test_a_vault_whose_key_is_at_hand_is_not_locked(connected):
    done = connected("daemon", "lock")
    assert done.returncode == 2
    assert "rekey --to passphrase" in done.stderr
    assert connected("daemon", "unlock", "--stdin", input="x").stdout == "the vault was open\n"
    assert connected("daemon", "stop").returncode == 0
    assert connected("daemon", "lock").returncode == 9


def test_a_passphrase_is_sent_to_ones_own_daemon_alone(locked, program, free_port):
    """Not to whoever listens at a URL."""
    del program
    with adversary.stranger(free_port) as listener:
        url = f"http://127.0.0.1:{free_port}"
        done = locked("daemon", "unlock", "--stdin", input=PASSPHRASE, env={"AUTHSOME_DAEMON_URL": url})
    assert done.returncode != 0
    assert not any(PASSPHRASE.encode() in data for data in listener.received)
    assert Home(locked.home).daemon_state.exists()
