"""Calls are signed for one daemon, identities register themselves, and errors come back as what they were."""

import base64
import json

import pytest

from authsome.client import keys
from authsome.client.api import Daemon
from authsome.errors import (
    AuthenticationFailed,
    ConnectionNotFound,
    DaemonUnavailable,
    IdentityUnclaimed,
    UsageError,
)
from authsome.home import Settings
from fakes.ports import free_port


@pytest.fixture
def known(settings: Settings, small_daemon) -> Settings:
    """Settings of an identity that the daemon knows."""
    made = keys.create(settings)
    small_daemon.registered[made.handle] = made.key.did
    small_daemon.claimed.add(made.handle)
    return settings._replace(daemon_url=small_daemon.url)


def test_a_call_is_signed_for_its_method_target_and_body(known, small_daemon):
    """The small daemon verifies each proof; a kept connection serves several calls."""
    with Daemon(known) as daemon:
        assert daemon.call("GET", "/a?b=c%20d") == {"method": "GET", "target": "/a?b=c%20d"}
        assert daemon.call("POST", "/x", {"ü": 1})["method"] == "POST"
    assert small_daemon.calls[1] == ("POST", "/x", {"ü": 1})


def test_a_problem_becomes_the_error_it_was(known, small_daemon):
    small_daemon.answer = lambda _method, _target: (
        404,
        {"type": "about:blank", "code": "connection_not_found", "detail": "no such thing", "hint": "look"},
    )
    with Daemon(known) as daemon, pytest.raises(ConnectionNotFound) as caught:
        daemon.call("GET", "/connections/a/b")
    assert (caught.value.message, caught.value.hint) == ("no such thing", "look")


@pytest.mark.parametrize("answer", [(500, b"<html>"), (200, b"[1]"), (404, {"error": "x"}), (200, b"\xff")])
def test_an_answer_that_is_no_daemons_is_said_to_be_none(known, small_daemon, answer):
    small_daemon.answer = lambda _method, _target: answer
    with Daemon(known) as daemon, pytest.raises(DaemonUnavailable, match="not one of an authsome daemon"):
        daemon.call("GET", "/whoami")


def test_a_wanted_status_is_no_error(known, small_daemon):
    small_daemon.answer = lambda _method, _target: (503, {"database": "damaged"})
    with Daemon(known) as daemon:
        assert daemon.call("GET", "/ready", accept=frozenset({503})) == {"database": "damaged"}


def test_an_unknown_identity_registers_once_and_is_told_when_that_is_not_enough(settings, small_daemon):
    """At somebody else's daemon it stays unclaimed, however often it asks, and its bootstrap secret stays at home."""
    keys.create(settings)
    settings.home.server.mkdir(mode=0o700)
    settings.home.bootstrap.touch(0o600)
    settings.home.bootstrap.write_text("the owner's secret")
    with Daemon(settings._replace(daemon_url=small_daemon.url)) as daemon:
        with pytest.raises(IdentityUnclaimed):
            daemon.call("GET", "/whoami")
        with pytest.raises(AuthenticationFailed):
            daemon.call("GET", "/whoami")
    assert [target for _, target, _ in small_daemon.calls] == ["/whoami", "/identities", "/whoami"]
    # SEC-123: only the daemon that holds our home is shown the secret
    assert "the owner's secret" not in json.dumps(small_daemon.calls)


def test_who_only_looks_makes_nothing_known(settings, small_daemon):
    """Neither is a key made where there is none, nor is one that the daemon does not know registered there."""
    there = settings._replace(daemon_url=small_daemon.url)
    with Daemon(there) as daemon:
        daemon.only_looks = True
        with pytest.raises(IdentityUnclaimed, match="no identity yet"):
            daemon.call("GET", "/whoami")
    assert keys.active(settings) is None
    made = keys.create(settings)
    with Daemon(there) as daemon:
        daemon.only_looks = True
        with pytest.raises(IdentityUnclaimed, match=made.handle):
            daemon.call("GET", "/whoami")
    assert [target for _, target, _ in small_daemon.calls] == ["/whoami"]


def test_the_key_never_leaves(known, small_daemon):
    # SEC-26
    identity = keys.active(known)
    assert identity is not None
    with Daemon(known) as daemon:
        daemon.call("POST", "/x", {})
        daemon.register()
    seed = identity.key.seed.reveal()
    said = json.dumps(small_daemon.calls)
    assert base64.b64encode(seed).decode() not in said
    assert seed.hex() not in said


def test_plain_http_to_another_machine_is_refused(settings):
    with pytest.raises(UsageError, match="plain http"):
        Daemon(settings._replace(daemon_url="http://broker.example:7998")).call("GET", "/whoami")


def test_a_daemon_elsewhere_is_never_started_from_here(settings):
    """A URL with https means a daemon that is not ours to start, even when it is on this machine."""
    url = f"https://127.0.0.1:{free_port()}"
    with pytest.raises(DaemonUnavailable) as caught:
        Daemon(settings._replace(daemon_url=url)).call("GET", "/whoami")
    assert "AUTHSOME_DAEMON_URL" in str(caught.value.hint)
    assert not settings.home.server.exists()
