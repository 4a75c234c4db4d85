"""A CI's identity, from its making to its end: nothing on disk, claimed, limited, used, revoked."""

from fakes import api, claim
from fakes.program import Program

KEY = "kk-0123456789abcdefghijklmnop"


def test_an_identity_of_a_ci(program: Program, keyed: api.ApiServer):
    """Its runs get what it may use, with the methods that it may use; and nothing once it is revoked. # SEC-17"""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    env = claim.printed(program)
    assert program("whoami", env=env).returncode == 10
    claim.confirm(program, env, {"connections": "keyed", "methods": "GET"})
    assert "keyed; GET" in program("whoami", env=env).stdout
    url = keyed.url("/v1", host="api.example.localhost")
    command = ["run", "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    assert program(*command, url, env=env).stdout == "200"
    assert keyed.requests[-1].header("authorization") == f"Bearer {KEY}"
    assert program(*command, "-d", "x=y", url, env=env).stdout == "403"
    assert len(keyed.requests) == 1
    exported = program("export", "keyed", env=env)
    assert (exported.returncode, "no secret in clear" in exported.stderr) == (4, True)
    assert program("identity", "limit", "ci", "--connections", "other").returncode == 0
    assert "keyed" not in program("list", "--connected", env=env).stdout
    assert program("get", "keyed", env=env).returncode == 3
    assert program("identity", "limit", "ci", "--none").returncode == 0
    assert KEY in program("export", "keyed", env=env).stdout
    assert program("identity", "revoke", "ci", "--yes").returncode == 0
    assert program(*command, url, env=env).returncode == 125
    assert len(keyed.requests) == 1


def test_a_running_child_loses_its_credential(program: Program, keyed: api.ApiServer):
    """Revoked while its child runs: the child's next request gets nothing. # SEC-17"""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    env = claim.printed(program)
    claim.confirm(program, env)
    url = keyed.url("/v1", host="api.example.localhost")
    script = (
        f"curl -s -o /dev/null -w '%{{http_code}}\\n' {url}; read x; curl -s -o /dev/null -w '%{{http_code}}\\n' {url}"
    )
    process = program.start("run", "--", "sh", "-c", script, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "200\n"
    assert program("identity", "revoke", "ci", "--yes").returncode == 0
    out, err = process.communicate("go\n", timeout=60)
    assert out.strip() in {"401", "403", "407", "502", "000"}, err
    assert len(keyed.requests) == 1
