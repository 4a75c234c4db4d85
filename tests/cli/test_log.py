"""`log`: pages, checks online and of an export, and what is sent to a collector."""

import json
import re
import sqlite3
import stat
import time
from contextlib import closing

import pytest

from authsome.cli import log_export
from fakes import collector as collectors
from fakes import patience
from fakes.program import Program

KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"


@pytest.fixture
def logged(daemon: Program) -> Program:
    """A daemon that has something to tell."""
    assert daemon("login", "openai", "--no-verify", "--stdin", input=KEY).returncode == 0
    for _ in range(3):
        assert daemon("export", "openai").returncode == 0
    return daemon


def bend(program: Program, *statements: str) -> None:
    """Change the log as somebody does who has its file."""
    with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60)) as store:
        for trigger in ("audit_stays", "audit_remains"):
            store.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            store.execute(statement)
        store.commit()


def test_moments_are_in_one_form(logged: Program):
    """As everywhere: in UTC, and that by a Z."""
    (entry,) = logged.json("log", "-n", "1")["events"]  # type: ignore[misc]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["at"])


def test_a_log_is_whole_and_says_who_signs_it(logged: Program):
    """Also after the daemon was stopped, or killed. # SEC-183"""
    first = logged.json("log", "verify")
    assert first["whole"] is True
    assert first["entries"] == first["last"] == 5
    assert str(first["key"]).startswith("did:key:z6Mk")
    assert first["known"] is False
    done = logged("log", "verify")
    assert done.stdout.splitlines() == ["the log is whole: 5 entries, 1 to 5", f"signed by {first['key']}, as before"]
    assert logged("daemon", "restart").returncode == 0
    assert logged.json("log", "verify", "--key", str(first["key"]))["whole"] is True
    mode = stat.S_IMODE((logged.home / "server" / "audit.head").stat().st_mode)
    assert mode == 0o600


def test_a_history_that_was_written_anew_is_not_the_one_that_was_seen(logged: Program):  # SEC-183
    """Whole in itself, and signed, by another key: who has looked before is told, until he says that it is right."""
    before = logged.json("log", "verify")
    assert (before["known"], before["before_chain"]) == (False, 0)
    assert logged("daemon", "stop").returncode == 0
    bend(
        logged,
        "DROP TRIGGER audit_checkpoints_stay",
        "DROP TRIGGER audit_checkpoints_remain",
        "DELETE FROM server_key",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit SET hash = NULL, seal = NULL, detail = 'another history'",
        "UPDATE migrations SET applied_at = 1 + (SELECT max(at) FROM audit)",
    )
    (logged.home / "server" / "audit.head").unlink()
    done = logged("log", "verify")
    assert (done.returncode, f"has signed with {before['key']}" in done.stderr) == (1, True), done.stderr
    assert "--anew" in done.stderr
    assert "has signed with" in logged("doctor").stdout
    stranger = {"AUTHSOME_HOME": str(logged.directory / "elsewhere"), "AUTHSOME_DAEMON_URL": logged.url}
    assert logged("log", "verify", env=stranger).returncode != 0  # an identity that nobody has let in sees nothing
    done = logged("log", "verify", "--anew")
    assert done.returncode == 0, done.stderr
    assert "entries 1 to 5 are older than the chain" in done.stdout
    after = logged.json("log", "verify")
    assert (after["known"], after["before_chain"]) == (True, 5)
    assert after["key"] != before["key"]
    assert logged("log", "verify", "--key", str(before["key"])).returncode == 1


def test_a_history_that_was_put_back_is_not_the_one_that_was_seen(logged: Program):  # SEC-183
    """The database and the file beside it, as they were together: at first its end is missing, then it is another."""
    assert logged("daemon", "stop").returncode == 0
    earlier = {path: path.read_bytes() for path in (logged.home / "server").iterdir() if path.name != "daemon.log"}
    assert logged("export", "openai").returncode == 0
    seen = logged.json("log", "verify")
    assert logged("daemon", "stop").returncode == 0
    for path, data in earlier.items():
        path.write_bytes(data)
    for name in ("store.db-wal", "store.db-shm"):
        (logged.home / "server" / name).unlink(missing_ok=True)
    done = logged("log", "verify")
    assert (done.returncode, "missing from the end of the log, as this machine has seen" in done.stderr) == (1, True)
    assert logged("export", "openai").returncode == 0
    assert int(str(logged.json("log", "-n", "1")["events"][0]["id"])) == seen["last"]  # type: ignore[index]
    done = logged("log", "verify")
    assert (done.returncode, "is not the one that this machine has seen" in done.stderr) == (1, True), done.stderr
    assert logged("log", "verify", "--anew").returncode == 0
    assert logged("log", "verify").returncode == 0


@pytest.mark.parametrize(
    ("statement", "entry"),
    [
        ("UPDATE audit SET detail = 'nothing' WHERE id = 1", 1),
        ("UPDATE audit SET detail = 'nothing' WHERE id = 3", 3),
        ("DELETE FROM audit WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id > 3", 4),
        ("UPDATE audit SET id = 9 WHERE id = 5", 5),
    ],
    ids=["the first changed", "changed", "removed", "cut off", "renumbered"],
)
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_the_first_bad_entry_is_named(logged: Program, statement, entry, running):  # SEC-183
    if not running:
        assert logged("daemon", "stop").returncode == 0
    bend(logged, statement)
    done = logged("log", "verify")
    assert done.returncode == 1
    assert done.stderr.startswith("authsome: error: entr") or not running
    assert str(entry) in done.stderr
    assert ("entries before it are as they were" in done.stderr) is (entry > 2)
    answer = json.loads(logged("log", "verify", "--json").stdout)
    assert (answer["whole"], answer["entry"], answer["error"]) == (False, entry, "log_damaged")


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_damage_is_told_by_itself(logged: Program, running):  # SEC-183
    """As soon as the daemon sees it: to the user's command, in its status, by doctor."""
    told = logged.directory / "told"
    config = logged.home / "config.json"
    words = ["sh", "-c", f"cat > '{told}.new' && mv '{told}.new' '{told}'"]
    config.write_text(json.dumps({**json.loads(config.read_text()), "notify": {"log_damaged": words}}))
    assert logged.json("daemon", "status")["log_damaged"] is None
    if not running:
        assert logged("daemon", "stop").returncode == 0
    bend(logged, "DELETE FROM audit WHERE id > 4")
    assert logged("export", "openai").returncode == 0
    patience.wait(told.exists, "the command")
    notice = json.loads(told.read_text())
    assert (notice["event"], notice["provider"]) == ("log_damaged", None)
    assert "entry 5 is missing" in notice["message"]
    assert "entry 5 is missing" in str(logged.json("daemon", "status")["log_damaged"])
    status = logged("daemon", "status")
    assert (status.returncode, "not as it was written" in status.stdout) == (0, True)
    examined = logged("doctor")
    assert (examined.returncode, "entry 5 is missing" in examined.stdout) == (1, True)


def test_an_export_is_checked_without_the_daemon(logged: Program):  # SEC-183
    """By nobody's word but the key's: another home, no daemon."""
    file = logged.directory / "audit.ndjson"
    told = logged.json("log", "export", "--output", str(file))
    assert told["entries"] == 6  # the export is on record, too
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    elsewhere = {"AUTHSOME_HOME": str(logged.directory / "elsewhere")}
    done = logged("log", "verify", "--file", str(file), "--key", str(told["key"]), "--json", env=elsewhere)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "whole": True, "entries": 6, "first": 1, "last": 6, "checkpoints": 1, "key": told["key"],
    }  # fmt: skip
    assert not (logged.directory / "elsewhere").exists()
    lines = file.read_text().splitlines()
    assert KEY not in file.read_text()
    entries = [json.loads(line) for line in lines[1:-1]]
    assert [each["id"] for each in entries] == [1, 2, 3, 4, 5, 6]
    assert [each["previous"] for each in entries[1:]] == [each["hash"] for each in entries[:-1]]
    assert all(each["identity"] and each["principal"] for each in entries)
    assert all(len(each["proof"]) == 22 for each in entries if each["event"] == "export")
    file.write_text("\n".join([*lines[:3], *lines[4:]]) + "\n")
    done = logged("log", "verify", "--file", str(file), env=elsewhere)
    assert (done.returncode, "entry 3 is missing" in done.stderr) == (1, True)


def test_an_export_goes_to_standard_output_and_into_another_program(logged: Program):
    done = logged("log", "export", "--format", "ndjson")
    assert done.returncode == 0
    assert [json.loads(line).get("id") for line in done.stdout.splitlines()] == [None, 1, 2, 3, 4, 5, 6, None]
    refused = logged("log", "export", "--json")
    assert refused.returncode == 2
    assert "--output" in refused.stdout


def test_an_export_is_private_and_takes_the_place_of_an_older_one_when_it_is_whole(logged: Program):
    """What was there may have been open to others; it stays until there is better."""
    file = logged.directory / "audit.ndjson"
    file.write_text("old\n")
    file.chmod(0o644)
    refused = logged("log", "export", "--output", str(file), env={"AUTHSOME_DAEMON_URL": "http://127.0.0.1:9"})
    assert refused.returncode == 9
    assert file.read_text() == "old\n"
    link = logged.directory / "link.ndjson"
    link.symlink_to(file)
    assert logged("log", "export", "--output", str(link)).returncode == 0
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert logged("log", "verify", "--file", str(file)).returncode == 0
    assert [each.name for each in logged.directory.iterdir() if "ndjson" in each.name and each.name[0] == "."] == []


def test_an_export_that_breaks_off_leaves_what_was_there(logged: Program):
    file = logged.directory / "audit.ndjson"
    file.write_text("old\n")

    def breaking_off() -> None:
        with log_export._opened(str(file), None) as write:  # type: ignore[arg-type]  # for standard output alone
            write("half\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaking_off()
    assert file.read_text() == "old\n"
    assert [each.name for each in file.parent.iterdir() if "audit" in each.name] == ["audit.ndjson"]


@pytest.mark.parametrize("place", ["missing/audit.ndjson", "."])
def test_where_an_export_cannot_go_is_said_and_not_blamed_on_the_disk_alone(logged: Program, place):
    done = logged("log", "export", "--output", place, cwd=logged.directory)
    assert done.returncode == 9
    assert f"{place} could not be written: " in done.stderr
    assert "can be written to" in done.stderr


def test_an_export_goes_into_a_pipe(logged: Program):
    done = logged("log", "export", "--output", "/dev/stdout")
    assert [json.loads(line).get("id") for line in done.stdout.splitlines()][-1] is None


def test_since_begins_an_export_further_on(logged: Program):
    file = logged.directory / "since.ndjson"
    told = logged.json("log", "export", "--since", "2999-01-01", "--output", str(file))
    assert told["entries"] == 1
    told = logged.json("log", "export", "--since", "1h", "--output", str(file))
    assert told["entries"] == 7
    assert logged("log", "verify", "--file", str(file)).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--file", "missing"], "cannot be read"),
        (["--file", "config.json"], "no export"),
        (["--key", "did:key:z6MkNot"], "did:key"),
        (["--key", "missing"], "file"),
    ],
)
def test_what_cannot_be_checked_is_said(logged: Program, words, said):
    done = logged("log", "verify", *words, cwd=logged.home)
    assert done.returncode == 2
    assert said in done.stderr


def test_another_key_is_not_believed(logged: Program):  # SEC-183
    file = logged.directory / "audit.ndjson"
    logged.json("log", "export", "--output", str(file))
    other = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
    for words in (["--file", str(file)], []):
        done = logged("log", "verify", *words, "--key", other)
        assert done.returncode == 1
        assert "key" in done.stderr


# ---- a collector -----------------------------------------------------------------------------------------------------


def test_a_collector_gets_every_entry_and_the_checkpoint(logged: Program):
    """As OpenTelemetry defines it; with the headers that its variable names, and no secret."""
    headers = "Authorization=Bearer%20collect,x-tenant=one"
    with collectors.running() as collector:
        done = logged("log", "export", "--otlp", collector.url, "--json", env={"OTEL_EXPORTER_OTLP_HEADERS": headers})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"] == 6
    assert collector.sizes == [6, 1]
    assert {(each["authorization"], each["x-tenant"]) for each in collector.headers} == {("Bearer collect", "one")}
    assert collector.resources[0]["service.name"] == "authsome"
    names = [record.event_name.removeprefix("authsome.audit.") for record in collector.records]
    assert names == ["claim", "login", "export", "export", "export", "log_exported", "checkpoint"]
    assert collector.attributes("login")[0]["authsome.audit.provider"] == "openai"
    assert collector.attributes("login")[0]["authsome.audit.id"] == 2
    assert collector.attributes("checkpoint")[0]["authsome.audit.ends_at"] == 6
    assert all(record.time_unix_nano > 1_700_000_000 * 10**9 for record in collector.records)
    assert KEY not in str(collector.records)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://[x", "the URL of a collector"),
        ("https://collector.example.com:x/", "the URL of a collector"),
        ("https://ada:hunter2@127.0.0.1:1/", "no user in a URL"),
    ],
)
def test_what_is_no_place_to_send_the_log_to_is_said_at_once(logged: Program, url, said):
    done = logged("log", "export", "--otlp", url)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert logged.json("log", "verify")["last"] == 5


def test_an_address_that_is_never_dialled_is_not_asked_again(logged: Program):
    began = time.monotonic()
    done = logged("log", "export", "--otlp", "https://169.254.169.254/")
    assert done.returncode == 8
    assert "never dialled" in done.stderr
    assert time.monotonic() - began < 15  # the pauses take 31


def test_an_export_without_line_ends_is_not_read_whole(logged: Program):
    done = logged("log", "verify", "--file", "/dev/zero", timeout=60)
    assert (done.returncode, "no export" in done.stderr) == (2, True)


def test_a_busy_collector_is_asked_again(logged: Program):
    with collectors.running() as collector:
        collector.answers = [(503, {}, b""), (429, {"Retry-After": "0"}, b"")]
        done = logged("log", "export", "--otlp", f"{collector.url}/v1/logs")
    assert done.returncode == 0, done.stderr
    assert collector.sizes == [6, 1]
    assert len(collector.headers) == 4


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, {}, b"no"), "status 400"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "status 302"),
        (
            (200, {}, b'{"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "too \\u001b[31mold"}}'),
            "rejects 2 records: too old",
        ),
        ((200, {}, b"<html>"), "no collector"),
    ],
)
def test_what_a_collector_does_not_take_is_told(logged: Program, answer, said):
    with collectors.running() as collector:
        collector.answers = [answer]
        done = logged("log", "export", "--otlp", collector.url)
    assert done.returncode == 5
    assert said in done.stderr
    assert "0 entries were taken" in done.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--otlp", "http://collector.example:4318"], 2),
        (["--otlp", "ftp://x"], 2),
        (["--otlp", "http://127.0.0.1:1", "--output", "x"], 2),
    ],
)
def test_where_a_log_is_not_sent(logged: Program, words, status):
    """In clear to another machine; by a protocol that is none."""
    done = logged("log", "export", *words, env={"HTTPS_PROXY": None})
    assert done.returncode == status, done.stderr


def test_a_new_master_key_leaves_the_log_as_it_was(logged: Program):  # SEC-183
    """Also the key that it is signed with, which somebody has noted down."""
    key = str(logged.json("log", "verify")["key"])
    done = logged("admin", "rekey")
    assert done.returncode == 0, done.stderr
    assert logged.json("log", "verify", "--key", key)["whole"] is True
    assert logged("daemon", "restart").returncode == 0
    assert logged.json("log", "verify", "--key", key)["whole"] is True
