"""A honeytoken serves whoever uses it, and raises an alarm: on record, by the user's command, in list and doctor."""

import json

import pytest

from fakes import claim
from fakes.program import Program
from security import adversary
from security.conftest import KEY

TELL = """#!/bin/sh
cat > "$1.new" && mv "$1.new" "$1"
"""


@pytest.fixture
def planted(program: Program, keyed):
    """The provider named keyed with a decoy for its only connection, and a command that tells of uses."""
    script, told = program.directory / "tell", program.directory / "told"
    script.write_text(TELL)
    script.chmod(0o700)
    done = program("honeytoken", "keyed")
    assert done.returncode == 0, done.stderr
    assert "whoever uses it is on record" in done.stdout
    config = json.loads((program.home / "config.json").read_text())
    config["notify"] = {"honeytoken": [str(script), str(told)]}
    (program.home / "config.json").write_text(json.dumps(config))
    return keyed


def told(program):
    """What the user's command was told."""
    path = program.directory / "told"
    adversary.wait(path.exists, "the user to be told")
    text = path.read_text()
    path.unlink()
    return json.loads(text)


def uses(program):
    return program.json("log", "--event", "honeytoken")["events"]


def resolve(program, keyed, **more):
    request = {"method": "GET", "host": "api.example.localhost", "port": keyed.port, "path": "/v1/x", **more}
    return adversary.owner(program).ask("POST", "/proxy/resolve", request)


def test_a_run_that_uses_one_is_served_and_told_of(program, planted):
    """The request goes out with the decoy, which the provider does not know, and with no real secret."""
    url = f"https://api.example.localhost:{planted.port}/v1/x"
    done = program("run", "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
    assert done.stdout == "200", done.stderr
    assert b"kk-" in planted.requests[-1].head
    assert told(program)["event"] == "honeytoken"
    entries = uses(program)
    assert entries
    assert {(each["provider"], each["host"], each["path"]) for each in entries} == {
        ("keyed", "api.example.localhost", "/v1/x")
    }
    assert all(each["run"] and each["identity"] for each in entries)
    assert "honeytoken, USED" in program("list", "--connected").stdout
    assert "was used" in program("list").stderr
    checks = json.loads(program("doctor", "--json").stdout)
    assert [
        each["result"] for each in checks["checks"] if "honeytoken" in each["message"] and each["check"] == "logins"
    ] == ["fail"]
    assert program.json("log", "verify")["whole"] is True


def test_the_worker_keeps_none(program, planted):
    """Each request is asked for, so each is on record; and the answer looks like any other."""
    url = f"https://api.example.localhost:{planted.port}/v1/x"
    program("run", "--", "curl", "-sS", *(["-o", "/dev/null", url] * 4))
    assert len(uses(program)) >= 4
    answer = resolve(program, planted).json()
    assert answer["reusable_seconds"] == 0
    assert "honeytoken" not in json.dumps(answer)


@pytest.mark.parametrize("words", [("export", "keyed"), ("get", "keyed")])
@pytest.mark.usefixtures("planted")
def test_every_way_of_using_one_counts(program, words):
    assert "honeytoken" in program("list", "--connected").stdout
    assert uses(program) == []
    done = program(*words)
    assert done.returncode == 0, done.stderr
    (entry,) = uses(program)
    assert (entry["detail"], entry["provider"]) == (words[0], "keyed")
    message = told(program)
    assert message["connection"] == "default"
    assert entry["identity"] in message["message"]


def test_a_rejected_decoy_is_served_again(program, planted):
    """What happens to a real key whose provider says 401: nothing tells the two apart."""
    assert resolve(program, planted, rejected=True).status == 200


@pytest.mark.usefixtures("planted")
def test_a_decoy_replaces_nothing_and_is_forgotten_like_any_other(program):
    done = program("honeytoken", "keyed")
    assert done.returncode == 6
    assert program("honeytoken", "keyed", "--connection", "backup").returncode == 0
    done = program("revoke", "keyed", "--connection", "backup")
    assert done.returncode == 5
    assert "is a honeytoken: the provider does not know it" in done.stderr
    assert "forget it: authsome logout keyed --connection backup" in done.stderr
    forgotten = program("logout", "keyed", "--connection", "backup")
    assert forgotten.returncode == 0
    assert "lives on" not in forgotten.stderr  # of a decoy there is nothing to be deleted at the provider
    real = program("login", "keyed", "--force", "--stdin", input=KEY)
    assert real.returncode == 0, real.stderr
    assert "honeytoken" not in program("list", "--connected").stdout
    program("export", "keyed")
    assert uses(program) == []


@pytest.mark.usefixtures("planted")
def test_a_limited_identity_is_told_of_no_decoy(program):
    """Whose credential is to be watched sees a connection like any other, before it uses it and after."""
    env = claim.printed(program)
    claim.confirm(program, env, {"connections": "keyed"})
    for _ in range(2):
        for words in (("list",), ("get", "keyed"), ("log",)):
            done = program(*words, "--json", env=env)
            assert done.returncode == 0, done.stderr
            assert '"honeytoken": true' not in done.stdout
            assert '"event": "honeytoken"' not in done.stdout
        exported = program("log", "export", env=env)
        assert exported.returncode == 0, exported.stderr
        assert '"event":"log_exported"' in exported.stdout
        assert "honeytoken" not in exported.stdout
        assert program("export", "keyed", env=env).returncode == 0
    assert len(uses(program)) >= 3
    assert "honeytoken, USED" in program("list", "--connected").stdout
