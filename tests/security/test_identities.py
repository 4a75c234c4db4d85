"""Who may become somebody: registering, claiming, being revoked, and what the record says of those who were refused."""

import json
import sqlite3
import stat
from contextlib import closing

import pytest

from authsome.broker.identities import UNCLAIMED_LIMIT
from security import adversary
from security.adversary import ask


def database(program):
    """The daemon's own database, opened beside it."""
    return closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60, isolation_level=None))


def reasons(caller):
    """Why callers were refused, newest first, as the owner reads it."""
    return [event.get("detail") for event in caller.ask("GET", "/audit/events?event=denied&limit=100").json()["events"]]


def test_refused_callers_are_told_apart_in_the_record_only(daemon, mine):
    """Unregistered, unclaimed, revoked, forged: one public answer, and a cause for each in the log. # SEC-17"""
    unclaimed = adversary.newcomer(daemon, "unclaimed")
    assert unclaimed.register().json()["claimed"] is False
    revoked = adversary.newcomer(daemon, "revoked")
    assert revoked.register().status == 200
    with database(daemon) as store:  # as claiming and revoking will do it
        (principal,) = store.execute("SELECT id FROM principals").fetchone()
        store.execute("UPDATE identities SET principal_id = ? WHERE handle = 'revoked'", (principal,))
        assert revoked.ask("GET", "/whoami").status == 200
        store.execute("UPDATE identities SET revoked_at = 1 WHERE handle = 'revoked'")
    answers = [
        revoked.ask("GET", "/whoami"),  # SEC-17: on the very next request
        unclaimed.ask("GET", "/whoami"),
        adversary.newcomer(daemon, "unregistered").ask("GET", "/whoami"),
        adversary.newcomer(daemon, mine.handle).ask("GET", "/whoami"),
    ]
    assert [answer.status for answer in answers] == [401] * 4
    assert len({answer.body for answer in answers}) == 1
    causes = ["wrong signature", "unknown identity", "unclaimed identity", "revoked identity"]
    assert reasons(mine)[: len(causes)] == causes


def test_a_deleted_identity_is_unknown_at_once(daemon, mine):
    """What is no longer registered is refused on the next request. # SEC-17"""
    gone = adversary.newcomer(daemon, "gone")
    gone.register()
    with database(daemon) as store:
        store.execute("UPDATE identities SET principal_id = (SELECT id FROM principals) WHERE handle = 'gone'")
        assert gone.ask("GET", "/connections").status == 200
        store.execute("DELETE FROM identities WHERE handle = 'gone'")
    assert gone.ask("GET", "/connections").status == 401
    assert mine.ask("GET", "/connections").status == 200
    follower = adversary.newcomer(daemon, "gone")  # with another key: the daemon must not have kept the first
    follower.register()
    with database(daemon) as store:
        store.execute("UPDATE identities SET principal_id = (SELECT id FROM principals) WHERE handle = 'gone'")
    for _ in range(2):
        assert follower.ask("GET", "/connections").status == 200
        assert gone.ask("GET", "/connections").status == 401


def test_a_handle_belongs_to_its_first_key(daemon, mine):
    """Another key cannot have a handle that is taken, nor one key two handles; the first binding stays. # SEC-19"""
    thief = adversary.newcomer(daemon, mine.handle)
    answer = thief.register()
    assert (answer.status, answer.code) == (403, "not_allowed")
    assert thief.ask("GET", "/whoami").status == 401
    assert mine.ask("GET", "/whoami").status == 200
    second = adversary.Caller(port=mine.port, handle="second-name", pair=mine.pair)
    assert second.register().status == 403
    # the proof must be of the very key and handle that are to be registered
    for handle, did in ((thief.handle, mine.pair.did), ("another", thief.pair.did)):
        body = {"handle": handle, "did": did}
        assert thief.ask("POST", "/identities", body).status == 401


def test_registrations_are_limited(daemon, mine):
    """Strangers fill a hundred places, and no more; whoever is known is not disturbed. # SEC-19"""
    statuses = [
        adversary.newcomer(daemon, f"flood-{number}").register().status for number in range(UNCLAIMED_LIMIT + 5)
    ]
    assert statuses == [200] * UNCLAIMED_LIMIT + [403] * 5
    assert mine.ask("GET", "/whoami").status == 200
    with database(daemon) as store:
        (count,) = store.execute("SELECT count(*) FROM identities").fetchone()
    assert count == UNCLAIMED_LIMIT + 1


def test_only_the_bootstrap_secret_claims_and_only_once(daemon):
    """Before the owner came nobody can claim; the secret in the home does, once, even in a flood. # SEC-20"""
    path = daemon.home / "server" / "bootstrap"
    candidates = [entry for entry in (daemon.home / "server").iterdir() if "bootstrap" in entry.name] or [path]
    secret = candidates[0].read_text()
    assert stat.S_IMODE(candidates[0].stat().st_mode) == 0o600
    for number, guess in enumerate(["", "x", secret[:-1], secret + "x", secret.swapcase()]):
        agent = adversary.newcomer(daemon, f"agent-{number}")
        assert agent.register(bootstrap=guess).json()["claimed"] is False
        assert agent.ask("GET", "/whoami").status == 401
    for number in range(UNCLAIMED_LIMIT):
        adversary.newcomer(daemon, f"flood-{number}").register()
    owner = adversary.newcomer(daemon, "the-owner")
    assert owner.register(bootstrap=secret).json()["claimed"] is True
    assert not candidates[0].exists()
    late = adversary.newcomer(daemon, "agent-0")  # a handle that is taken, and a secret that was spent
    assert late.register(bootstrap=secret).status == 403
    with database(daemon) as store:
        store.execute("DELETE FROM identities WHERE principal_id IS NULL")
    again = adversary.newcomer(daemon, "too-late")
    assert again.register(bootstrap=secret).json()["claimed"] is False
    assert again.ask("GET", "/whoami").status == 401
    assert owner.ask("GET", "/whoami").status == 200


def test_an_identity_cannot_claim_itself(daemon, mine):
    """There is no way from unclaimed to claimed over HTTP but the first identity's. # SEC-20"""
    agent = adversary.newcomer(daemon, "agent")
    agent.register()
    for method, target, body in (
        ("POST", "/identities", {"handle": "agent", "did": agent.pair.did, "principal": "owner"}),
        ("POST", "/identities", {"handle": "agent", "did": agent.pair.did, "claimed": True}),
        ("POST", "/claim/agent", {}),
        ("POST", "/identities/agent/claim", {}),
    ):
        assert agent.ask(method, target, body).status in {400, 401, 404, 405}
    assert agent.ask("GET", "/whoami").status == 401
    assert mine.ask("GET", "/whoami").status == 200


def test_an_agent_cannot_answer_its_own_question(daemon, mine):
    """With the link, but without a browser that is signed in, it gets nowhere; nor has one with limits. # SEC-20"""
    agent = adversary.newcomer(daemon, "agent")
    agent.register()
    link = str(agent.ask("POST", "/claim").json()["url"])
    path = link.removeprefix(daemon.url)
    for name in ("", "/confirm", "/refuse"):
        method = "POST" if name else "GET"
        for proof in ((), (("Authorization", f"PoP {agent.token(method, path + name)}"),)):
            kind = (("Content-Type", "application/x-www-form-urlencoded"),) if name else ()
            answer = ask(daemon.port, method, path + name, *proof, *kind, ("Sec-Fetch-Site", "same-origin"))
            assert answer.status in {303, 401, 403}, answer
            assert agent.handle not in answer.body.decode()
    assert agent.ask("GET", "/claim").json() == {"state": "waiting"}
    assert agent.ask("POST", "/ui/links").status == 401
    limited = adversary.newcomer(daemon, "limited")
    limited.register()
    with database(daemon) as store:
        store.execute("UPDATE identities SET principal_id = (SELECT id FROM principals) WHERE handle = 'limited'")
    for limits in ({"methods": ["GET"]}, {"connections": ["*"]}, {"expires_at": "2100-01-01T00:00:00Z"}):
        assert mine.ask("POST", "/identities/limited/limits", limits).status == 200
        assert limited.ask("POST", "/ui/links").status == 403
    assert agent.ask("GET", "/whoami").status == 401


def test_whoever_asks_to_be_claimed_proves_it_each_time(daemon, mine):
    """A proof that asks, or looks, works once; a revoked identity may do neither, and its claim is gone.

    # SEC-8 # SEC-17
    """
    agent = adversary.newcomer(daemon, "agent")
    agent.register()
    asking, looking = agent.token("POST", "/claim"), agent.token("GET", "/claim")
    for method, token, status in (("POST", asking, 201), ("GET", looking, 200)):
        assert [agent.send(token, method, "/claim").status for _ in range(3)] == [status, 401, 401]
    assert reasons(mine)[:4] == ["replayed"] * 4
    with database(daemon) as store:
        store.execute("UPDATE identities SET revoked_at = 1 WHERE handle = 'agent'")
    for method in ("POST", "GET"):
        assert agent.ask(method, "/claim").status == 401
    assert reasons(mine)[:2] == ["revoked identity"] * 2


def test_the_private_key_stays(daemon, mine):
    """The key file is private, and its seed reaches neither the daemon's files nor any log. # SEC-26"""
    folder = daemon.home / "identities"
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    for command in ("whoami", "list", "doctor", "log"):
        done = daemon(command, "--verbose", env={"AUTHSOME_LOG_LEVEL": "debug"})
        assert file.read_text().strip() not in done.stdout + done.stderr
    seed = mine.pair.seed.reveal()
    for other, data in daemon.files().items():
        if other != file:
            assert seed not in data, other
            assert file.read_bytes().strip() not in data, other
            assert seed.hex().encode() not in data, other


@pytest.mark.parametrize(
    "body", [{}, {"handle": "x"}, {"handle": "X Y", "did": "did:key:z6Mk"}, {"handle": "x", "did": "did:key:z"}]
)
def test_malformed_registrations(target, body):
    """A registration that is none is refused without an account of the inside. # SEC-47"""
    answer = ask(
        target.port, "POST", "/identities", ("Content-Type", "application/json"), body=json.dumps(body).encode()
    )
    assert answer.status in {400, 401}
    assert "/" not in str(answer.json()["detail"])
