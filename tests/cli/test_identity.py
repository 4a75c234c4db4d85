"""`identity`: keys are made, chosen, claimed, limited and revoked, and shown only where that is the point."""

import base64
import json
import re
import stat

import pytest

from authsome.identity import did
from fakes import claim
from fakes.program import Program


def handles(program: Program, *words: str) -> dict[str, dict[str, object]]:
    return {each["handle"]: each for each in program.json("identity", "list", *words)["identities"]}


def test_there_is_none_at_first(program: Program):
    """To list makes nothing, and starts nothing."""
    assert program.json("identity", "list") == {"identities": []}
    assert program.processes() == {}
    assert not program.home.exists()


def test_keys_are_made_and_chosen(program: Program):
    """The first becomes the one that acts; a further one does when that is said."""
    first = program.json("identity", "create", "first")
    second = program.json("identity", "create", "second")
    assert (first["current"], second["current"]) == (True, False)
    for each in ("first", "second"):
        path = program.home / "identities" / f"{each}.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600  # SEC-26
    assert program.json("whoami")["identity"]["handle"] == "first"
    assert "second acts from here" in program("identity", "use", "second").stdout
    assert program("whoami").returncode == 10  # nobody has claimed it
    assert program.json("identity", "create", "third", "--use")["current"] is True
    listed = handles(program)
    assert [each for each in listed if listed[each]["current"]] == ["third"]
    assert {listed[each]["status"] for each in listed} == {None}  # to one that is unclaimed nothing is told


@pytest.mark.parametrize(
    "words",
    [
        ["create", "../x"],
        ["create", "X"],
        ["create", "first"],
        ["use", "nobody"],
        ["use", "../first"],
        ["create", "x", "--print", "--use"],
        ["limit", "first"],
        ["limit", "first", "--none", "--methods", "GET"],
        ["limit", "first", "--for", "soon"],
        ["limit", "first", "--for", "999999w"],
        ["limit", "../x", "--none"],
        ["revoke", "first"],
    ],
)
def test_what_cannot_be_meant(program: Program, words):
    """A name that is taken, malformed or unknown, limits that are none, and a question that nobody can answer."""
    assert program("identity", "create", "first").returncode == 0
    done = program("identity", *words)
    assert done.returncode == 2, done.stderr
    assert "hint:" in done.stderr


def test_a_printed_key_lies_nowhere(daemon: Program):
    """What `--print` shows signs as the identity, and no file has it. # SEC-26"""
    assert daemon("whoami").returncode == 0
    env = claim.printed(daemon)
    assert env.keys() == {"AUTHSOME_IDENTITY", "AUTHSOME_IDENTITY_KEY"}
    key = env["AUTHSOME_IDENTITY_KEY"]
    seed = base64.b64decode(key)
    assert daemon("whoami", env=env).returncode == 10
    claim.confirm(daemon, env)
    assert daemon.json("whoami", env=env)["identity"]["handle"] == "ci"
    for path, data in daemon.files().items():
        assert key.encode() not in data, path
        assert seed not in data, path
    listed = handles(daemon)
    assert (listed["ci"]["here"], listed["ci"]["status"]) == (False, "active")
    assert listed["ci"]["last_used_at"] is not None
    (own,) = [each for each in daemon.json("identity", "list", env=env)["identities"] if each["handle"] == "ci"]
    assert (own["here"], own["current"]) == (False, True), "it came from the environment"
    assert re.search(r"^\* +ci +environment ", daemon("identity", "list", env=env).stdout, re.MULTILINE)


def test_a_claim_waits_for_its_answer(daemon: Program):
    """The link and the fingerprint are said at once, the end when somebody has confirmed it. # SEC-20"""
    assert daemon("whoami").returncode == 0
    env = claim.printed(daemon)
    process = daemon.start("identity", "claim", "--json", env=env)
    url = daemon.wait_opened()
    assert re.fullmatch(rf"{re.escape(daemon.url)}/claim/[\w-]{{43}}", url)
    browser = claim.sign_in(daemon)
    browser.open(url)
    asked = browser.page
    browser.submit({}, to="/confirm")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["identity"]["handle"] == "ci"
    assert url in err
    assert answer["identity"]["fingerprint"] in err
    assert answer["identity"]["fingerprint"] in asked
    assert did.fingerprint(answer["identity"]["did"]) == answer["identity"]["fingerprint"]
    again = daemon("identity", "claim", env=env)
    assert again.returncode == 0
    assert "claimed already" in again.stderr


def test_a_claim_can_be_broken_off(daemon: Program):
    """On a terminal the link is drawn, too; Ctrl-C ends the wait."""
    assert daemon("whoami").returncode == 0
    env = claim.printed(daemon)
    with daemon.on_terminal("identity", "claim", "--no-browser", env=env) as terminal:
        terminal.expect("/claim/")
        terminal.expect("█")
        terminal.expect("waiting for the confirmation")
        terminal.interrupt()
        assert terminal.wait() == 11


def test_a_refused_claim_says_so(daemon: Program):
    """No is an answer."""
    assert daemon("whoami").returncode == 0
    process = daemon.start("identity", "claim", env=claim.printed(daemon))
    link = daemon.wait_opened()
    browser = claim.sign_in(daemon)
    browser.open(link)
    browser.submit({}, to="/refuse")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "did not confirm it" in err


def test_limits_are_set_and_shown(daemon: Program):
    """By the owner, in one go each time; the limited one sees them, and cannot lift them."""
    assert daemon("whoami").returncode == 0
    env = claim.printed(daemon)
    claim.confirm(daemon, env)
    done = daemon("identity", "limit", "ci", "--connections", "github,*/ci", "--methods", "get,HEAD", "--for", "2d")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ci is limited to github, */ci; GET, HEAD; until ")
    assert "github, */ci; GET, HEAD; until " in daemon("whoami", env=env).stdout
    limited = daemon.json("whoami", env=env)["limits"]
    assert (limited["connections"], limited["methods"]) == (["github", "*/ci"], ["GET", "HEAD"])
    refused = daemon("identity", "limit", "ci", "--none", env=env)
    assert (refused.returncode, "is limited" in refused.stderr) == (4, True)
    lifting = daemon("identity", "limit", "ci", "--for", "1d")
    assert lifting.stdout.startswith("ci may act until ")
    assert "warning: no longer limited to github, */ci; GET, HEAD: name together" in lifting.stderr
    assert daemon("identity", "limit", "ci", "--for", "2d").stderr == ""
    lifted = daemon("identity", "limit", "ci", "--none")
    assert (lifted.stdout, lifted.stderr) == ("ci has no limits\n", "")
    assert daemon.json("whoami", env=env)["limits"] == {"connections": None, "methods": None, "expires_at": None}


def test_a_revoked_identity_is_done(daemon: Program):
    """At its next request, for good. # SEC-17"""
    mine = daemon.json("whoami")["identity"]["handle"]
    env = claim.printed(daemon)
    claim.confirm(daemon, env)
    assert daemon("whoami", env=env).returncode == 0
    assert daemon("identity", "revoke", "ci", "--yes").stdout == "revoked ci\n"
    assert daemon("whoami", env=env).returncode == 10
    late = daemon("identity", "limit", "ci", "--none")
    assert (late.returncode, "the identity ci is revoked for good" in late.stderr) == (4, True)
    assert {each: row["status"] for each, row in handles(daemon).items()} == {mine: "active", "ci": "revoked"}
    with daemon.on_terminal("identity", "revoke", mine) as terminal:
        terminal.expect("will never act again, and its runs end. No other acts for you without limits")
        terminal.send_line("n")
        assert terminal.wait() == 11
    assert daemon("whoami").returncode == 0


def test_the_last_identity_is_not_revoked_by_mistake(daemon: Program):
    """It is said that it is the last, and only of the last: one that is limited could not make another act."""
    mine = daemon.json("whoami")["identity"]["handle"]
    env = claim.printed(daemon)
    claim.confirm(daemon, env)
    for limit, said in ((["--none"], "its runs end. Revoke"), (["--methods", "GET"], "its runs end. No other acts")):
        assert daemon("identity", "limit", "ci", *limit).returncode == 0
        with daemon.on_terminal("identity", "revoke", mine) as terminal:
            terminal.expect(said)
            terminal.send_line("n")
            assert terminal.wait() == 11
    for words in (["revoke", "--yes"], ["revoke", "--yes", "--json"], ["limit", "--for", "1d"]):
        refused = daemon("identity", words[0], mine, *words[1:])
        assert refused.returncode == 4, refused
        assert f"the identity {mine} is the last to act for you without limits" in refused.stdout + refused.stderr
        assert "say --last" in refused.stdout + refused.stderr
    said = daemon("identity", "limit", mine, "--for", "1d", "--last").stderr
    assert "no other acts for you without limits: only who signs in by a password lifts these" in said


def test_the_last_identity_is_revoked_by_a_word_of_its_own(daemon: Program):
    mine = daemon.json("whoami")["identity"]["handle"]
    assert daemon("identity", "revoke", mine, "--yes").returncode == 4
    assert daemon("whoami").returncode == 0
    assert daemon("identity", "revoke", mine, "--yes", "--last").stdout == f"revoked {mine}\n"
    assert daemon("whoami").returncode == 10


def test_a_runs_child_changes_nothing(daemon: Program):
    """Neither who acts nor what anybody may do is changed from inside a run."""
    for words in (["create", "x"], ["use", "x"], ["limit", "x", "--none"], ["revoke", "x", "--yes"]):
        done = daemon("identity", *words, env={"AUTHSOME_RUN": "some"})
        assert done.returncode == 4, words
