"""Ending logins at a real OAuth server; several connections of one provider; a provider of one's own at its own URL."""

import http.client
import json
from pathlib import Path

import pytest

from fakes import oidc

GITLAB = Path(__file__).resolve().parents[2] / "providers" / "gitlab.json"


@pytest.fixture
def acme(define, oidc_server):
    """An OAuth provider named acme."""
    define(oidc_server.definition("acme"))
    return oidc_server


def tokens(program, *args):
    """The fields of a connection."""
    done = program("export", "acme", *args, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_alive(server, token):
    """Whether the provider's API takes a token."""
    connection = http.client.HTTPConnection(server.issuer.removeprefix("http://"), timeout=60)
    connection.request("GET", "/api/user", headers={"Authorization": f"Bearer {token}"})
    status = connection.getresponse().status
    connection.close()
    return status == 200


def test_revoking_ends_it_there_and_here(program, acme, log_in):
    """The provider takes neither token any more; the words say what happened. # SEC-108"""
    log_in(acme, "acme")
    (login,) = acme.token_requests("authorization_code")
    assert is_alive(acme, login.answer["access_token"])
    done = program("revoke", "acme")
    assert (done.returncode, done.stdout, done.stderr) == (0, "revoked acme (default)\n", "")
    assert [request.form["token_type_hint"] for request in acme.log("/token/revocation")] == [
        "refresh_token",
        "access_token",
    ]
    assert not is_alive(acme, login.answer["access_token"])
    done = program("revoke", "acme")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("authsome: error: acme is not connected, so there is nothing to revoke\n")
    assert program("revoke", "acm").returncode == 4
    assert [event["connection"] for event in program.json("log", "--event", "revoke")["events"]] == ["default"]


def test_keys_are_not_revoked_from_here(program):
    """Each is told by name, with where it can be ended."""
    for name in ("home", "work"):
        key = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
        assert program("login", "openai", "--connection", name, "--no-verify", "--stdin", input=key).returncode == 0
    done = program("revoke", "openai")
    assert (done.returncode, done.stdout) == (5, "")
    assert [line for line in done.stderr.splitlines() if "error" in line] == [
        f"authsome: error: {name} is kept: openai offers no way to revoke the key {name} from here"
        for name in ("home", "work")
    ]
    assert "https://platform.openai.com/api-keys" in done.stderr
    assert len(program.json("list", "--connected")["providers"][0]["connections"]) == 2


def test_a_client_of_our_own_is_given_back(program, acme, log_in):
    """With its last login; the server does not know it any more, and the next login registers anew. # SEC-107"""
    log_in(acme, "acme", "--flow", "dcr_pkce")
    done = program("revoke", "acme")
    assert (done.returncode, done.stdout) == (
        0,
        "revoked acme (default)\ngave back the client that was registered at acme\n",
    )
    (made,) = acme.log("/reg")
    (ended,) = (request for request in acme.log() if request.method == "DELETE")
    assert (ended.path, ended.status) == (f"/reg/{made.answer['client_id']}", 204)
    log_in(acme, "acme", "--flow", "dcr_pkce")
    assert len(acme.log("/reg")) == 2


def test_what_could_not_be_revoked_is_said_and_kept(program, acme, log_in):
    """Nothing is called revoked that is not. # SEC-108"""
    log_in(acme, "acme")
    acme.plan("/token/revocation", status=503)
    done = program("revoke", "acme")
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("authsome: error: 127.0.0.1: answered 503\n")
    assert program("get", "acme").returncode == 0
    assert program.json("log", "--event", "revoke")["events"] == []
    assert program("revoke", "acme").stdout == "revoked acme (default)\n"


def test_some_revoked_and_some_kept(program, acme, log_in):
    """Each is told by name, and the status is that of what failed."""
    log_in(acme, "acme", "--connection", "home")
    log_in(acme, "acme", "--connection", "work")
    acme.plan("/token/revocation", status=200)
    acme.plan("/token/revocation", status=200)
    acme.plan("/token/revocation", status=503)
    done = program("revoke", "acme")
    assert (done.returncode, done.stdout) == (8, "revoked acme (home)\n")
    assert done.stderr.startswith("authsome: error: work is kept: 127.0.0.1: answered 503\n")
    acme.plan("/token/revocation", status=503)
    answer = json.loads(program("revoke", "acme", "--json").stdout)
    assert (answer["error"], answer["message"]) == ("endpoint_unreachable", "127.0.0.1: answered 503")
    assert [each["connection"] for each in program.json("revoke", "acme")["revoked"]] == ["work"]


def test_logging_out_needs_no_network(program, acme, log_in):
    """It forgets here, says that the login lives on, and how to end it there. # SEC-109"""
    log_in(acme, "acme")
    (login,) = acme.token_requests("authorization_code")
    acme.clear_log()
    done = program("logout", "acme")
    assert (done.returncode, done.stdout) == (0, "forgot acme (default)\n")
    assert done.stderr == "the login itself lives on at acme; `authsome revoke acme` ends a login there, too\n"
    assert acme.log() == ()
    assert is_alive(acme, login.answer["access_token"])


def test_several_connections_each_by_its_name(program, define, log_in):
    """Listed, shown, refreshed, chosen, forgotten and revoked by name, and none touches another."""
    with oidc.serve(redirect_uris=[program.callback]) as acme:
        define(acme.definition("acme"))
        for name in ("home", "work", "spare"):
            log_in(acme, "acme", "--connection", name, login=f"owner-of-{name}")
        rows = [line.split()[:3] for line in program("list", "--connected").stdout.splitlines()[1:]]
        assert rows == [["acme", "home", "*"], ["acme", "spare", "connected"], ["acme", "work", "connected"]]
        program.make_due()
        before = {name: program.json("get", "acme", "--connection", name) for name in ("home", "work")}
        assert before["work"]["scopes"] == ["openid"]  # as granted: offline_access was asked for, too
        acme.clear_log()
        assert program("export", "acme", "--connection", "work").returncode == 0
        assert len(acme.token_requests("refresh_token")) == 1
        assert program.json("get", "acme", "--connection", "work")["expires_at"] > before["work"]["expires_at"]
        assert program.json("get", "acme", "--connection", "home") == before["home"]
        assert program("set-default", "acme", "work").returncode == 0
        assert program.json("get", "acme")["connection"] == "work"
        assert program("logout", "acme", "--connection", "spare").returncode == 0
        assert program("revoke", "acme", "--connection", "work").stdout == "revoked acme (work)\n"
        assert program.json("get", "acme")["connection"] == "home"  # alone again, so the default


def test_forcing_a_login_replaces_the_one_there_is(program, acme, log_in):
    """Without `--force` what is connected stays."""
    log_in(acme, "acme")
    first = program.json("get", "acme")
    done = program("login", "acme", "--no-browser", "--stdin", input='{"client_id": "public"}')
    assert done.returncode == 6
    assert program.json("get", "acme") == first
    log_in(acme, "acme", "--force", "--scopes", "openid")
    second = program.json("get", "acme")
    assert (second["created_at"], second["scopes"]) == (first["created_at"], ["openid"])


def test_a_provider_of_ones_own_at_its_own_url(program, define, log_in, authority):
    """The bundled definition of a self-hosted provider, at `--base-url`: login, refresh and revocation go there."""
    leaf = authority.issue("git.example.localhost", "127.0.0.1")
    routes = {"authorization": "/oauth/authorize", "token": "/oauth/token", "revocation": "/oauth/revoke"}
    with oidc.serve(
        redirect_uris=[program.callback],
        leaf=leaf,
        trust=authority.client_context(),
        host="git.example.localhost",
        routes=routes,
    ) as server:
        definition = json.loads(GITLAB.read_text()) | {"allow_private_addresses": True}
        define(definition)
        log_in(server, "gitlab", "--base-url", server.issuer, "--scopes", "openid,offline_access")
        shown = program.json("get", "gitlab")
        assert shown["variables"] == {"base_url": server.issuer}
        program.make_due()
        exported = program.json("export", "gitlab")
        (refresh,) = server.token_requests("refresh_token")
        assert exported["GITLAB_TOKEN"] == refresh.answer["access_token"]
        assert program("revoke", "gitlab").stdout == "revoked gitlab (default)\n"
        assert [request.form["token"] for request in server.log("/oauth/revoke")] == [
            refresh.answer["refresh_token"],
            refresh.answer["access_token"],
        ]
