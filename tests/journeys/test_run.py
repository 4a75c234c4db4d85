"""`run` through the whole product: the child holds placeholders, the server gets the credential."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes import api, oidc
from fakes.patience import wait

KEY = "kk-0123456789abcdefghijklmnop"


@pytest.fixture
def logged_in(program, keyed):
    """The `keyed` provider, connected."""
    done = program("login", "keyed", "--stdin", input=KEY)
    assert done.returncode == 0, done.stderr
    return keyed


def test_curl_gets_the_credential_put_on(program, logged_in):
    """The server gets the key, the child's environment and arguments do not hold it. # SEC-141 # SEC-154"""
    url = logged_in.url("/v1/models", host="api.example.localhost")
    script = f'env; cat /proc/self/environ; curl -sf -H "Authorization: Bearer $KEYED_API_KEY" {url}'
    done = program("run", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    (request,) = logged_in.requests
    assert request.header("authorization") == f"Bearer {KEY}"
    assert "KEYED_API_KEY=kk-placeholder" in done.stdout
    assert KEY not in done.stdout.partition('{"')[0]


@pytest.mark.usefixtures("logged_in")
def test_a_tunnel_does_not_lead_to_this_machine(program, authority):
    """A host that no provider names is not opened, and loopback is no place that a tunnel leads to. # SEC-160"""
    with api.serve(leaf=authority.issue("other.example.localhost")) as other:
        url = other.url("/", host="other.example.localhost")
        done = program("run", "--", "curl", "-sv", "--noproxy", "", url)
        assert other.requests == []
    assert done.returncode != 0
    assert KEY not in done.stdout + done.stderr


def test_without_the_runs_credential_the_proxy_says_407(program, logged_in):
    """Another process of this machine cannot use the run's proxy. # SEC-149"""
    url = logged_in.url("/", host="api.example.localhost")
    script = f'curl -sk -o /dev/null -w "%{{http_connect}}" -x "http://127.0.0.1:${{HTTPS_PROXY##*:}}" {url}'
    done = program("run", "--", "sh", "-c", script)
    assert done.stdout == "407"
    assert logged_in.requests == []


@pytest.mark.parametrize(
    "client",
    [
        pytest.param("import urllib.request as u; print(u.urlopen('{url}').status)", id="urllib"),
        pytest.param("import requests; print(requests.get('{url}').status_code)", id="requests"),
        pytest.param("import httpx; print(httpx.get('{url}').status_code)", id="httpx"),
    ],
)
def test_python_clients(program, logged_in, client):
    """Python's clients need nothing but the environment that `run` gives them."""
    url = logged_in.url("/v1/x", host="api.example.localhost")
    done = program("run", "--", sys.executable, "-c", client.format(url=url))
    assert (done.stdout.strip(), done.returncode) == ("200", 0), done.stderr
    assert logged_in.requests[-1].header("authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "client",
    [
        pytest.param("fetch('{url}').then(r => console.log(r.status))", id="fetch"),
        pytest.param("require('https').get('{url}', r => {{ console.log(r.statusCode); r.resume() }})", id="https"),
    ],
)
def test_node_clients(program, logged_in, client):
    """So do Node's."""
    url = logged_in.url("/v1/x", host="api.example.localhost")
    done = program("run", "--", shutil.which("node") or "node", "-e", client.format(url=url))
    assert (done.stdout.strip(), done.returncode) == ("200", 0), done.stderr
    assert logged_in.requests[-1].header("authorization") == f"Bearer {KEY}"


def test_programs_of_a_script(program, logged_in):
    """Nor do the programs that shell scripts call, one by its token's variable and one by its settings' file."""
    url = logged_in.url("/v1/x", host="api.example.localhost")
    script = f"wget -q -O /dev/null {url} && GH_ENTERPRISE_TOKEN=$KEYED_API_KEY GH_TOKEN=$KEYED_API_KEY gh api {url}"
    done = program("run", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    wget, gh = logged_in.requests[-2:]
    assert [each.header("authorization") for each in (wget, gh)] == [f"Bearer {KEY}"] * 2
    assert (wget.header("user-agent") or "").startswith("Wget/")
    assert (gh.header("user-agent") or "").startswith("GitHub CLI")


def test_logging_out_takes_effect_at_once(program, start, logged_in):
    """A child that is running gets an answer that names the command, not an unauthenticated request. # SEC-162"""
    url = logged_in.url("/", host="api.example.localhost")
    child = start("run", "--", "sh", "-c", f"echo ready; read go; curl -s -w ' %{{http_code}}' {url}")
    assert child.stdout.readline() == "ready\n"
    assert program("logout", "keyed").returncode == 0
    out, _ = child.communicate("go\n", timeout=60)
    assert "authsome login keyed" in out
    assert logged_in.requests == []


def test_a_run_in_a_run_is_bounded_by_it(program, logged_in):
    """The inner command gets its credential through the same worker; it cannot be given more than the outer one."""
    url = logged_in.url("/v1/inner", host="api.example.localhost")
    inner = [*program.command, "run", "--"]
    done = program("run", "--", *inner, "curl", "-sf", "-o", "/dev/null", url)
    assert done.returncode == 0, done.stderr
    assert logged_in.requests[-1].header("authorization") == f"Bearer {KEY}"
    done = program("run", "--unmatched", "deny", "--", *inner, "curl", "-s", "-w", "%{http_connect}", "https://a.test")
    assert done.stdout.endswith("403")
    assert program("login", "openai", "--stdin", "--no-verify", input="sk-" + "a1B2" * 12).returncode == 0
    done = program("run", "--only", "keyed", "--", *inner[:-1], "--only", "openai", "--", "true")
    assert done.returncode == 125
    assert "openai is not among what the run around this one may use" in done.stderr
    assert program("run", "--", "true", env={"AUTHSOME_RUN": "0123456789abcdef"}).returncode == 125


def test_a_request_chooses_its_connection_by_a_header(program, logged_in):
    """Two keys of one provider, side by side in one command; a pinned run stays with its own."""
    other = KEY[:-1] + "z"
    assert program("login", "keyed", "--connection", "work", "--stdin", "--no-verify", input=other).returncode == 0
    logged_in.requests.clear()
    url = logged_in.url("/v1/x", host="api.example.localhost")
    script = f"curl -sf {url}; curl -sf -H 'Authsome-Connection: work' {url}; curl -s -H 'Authsome-Connection: x' {url}"
    done = program("run", "--", "sh", "-c", f"({script}) > out; tail -n 1 out")
    keys = [(request.header("authorization") or "").removeprefix("Bearer ") for request in logged_in.requests]
    assert keys == [KEY, other]
    assert "authsome login keyed --connection x" in done.stdout
    script = f"curl -s -H 'Authsome-Connection: work' {url}"
    done = program("run", "--connection", "keyed=default", "--", "sh", "-c", script)
    assert "this run uses the connection default of keyed" in done.stdout
    assert len(logged_in.requests) == 2
    assert {event["connection"] for event in program.json("log", "--event", "resolve")["events"]} == {"default", "work"}


def test_the_proxy_has_no_use_for_an_identitys_key(program, logged_in):
    """Once a run has begun its key can be elsewhere: the proxy asks with the run's own secret. # SEC-144"""
    url = logged_in.url("/v1/x", host="api.example.localhost")
    keys, away = program.home / "identities", program.home.parent / "away"
    script = f"mv '{keys}' '{away}'; curl -sf {url}; s=$?; mv '{away}' '{keys}'; exit $s"
    assert program("run", "--", "sh", "-c", script).returncode == 0
    assert logged_in.requests[-1].header("authorization") == f"Bearer {KEY}"


@pytest.mark.usefixtures("logged_in")
def test_a_run_ends_with_its_child(program):
    """When the command has ended, no live run is left, and one process more: the worker that waits for the next run.

    It goes when the daemon goes. # SEC-137 # SEC-138
    """
    for _ in range(2):
        assert program("run", "--", "true").returncode == 0
    wait(lambda: len(program.json("log", "--event", "run_ended")["events"]) == 2, "the end of both runs")
    left = [line for line in program.processes().values() if "daemon serve" not in line]
    assert len(left) == 1
    assert "proxy-worker" in left[0]
    assert program("daemon", "stop").returncode == 0
    assert program.wait_gone() == {}


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], -15),
        (["no-such-command-anywhere"], 127),
        (["/etc/passwd"], 126),
    ],
)
@pytest.mark.usefixtures("logged_in")
def test_exit_status(program, command, status):
    """The status is the child's own, or the shell's word for why there was none. # SEC-180"""
    done = program("run", "--", *command)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("logged_in")
def test_a_script_without_an_interpreter(program, tmp_path):
    """The shell runs it, as it does for `env`; a program for another machine stays one that cannot be run. # SEC-180"""
    script, other = tmp_path / "script", tmp_path / "other"
    script.write_text('echo "$0 $1"; exit 7\n')
    other.write_bytes(b"\x7fELF\0\0\0")
    for path in (script, other):
        path.chmod(0o755)
    done = program("run", "--", str(script), "a b")
    assert (done.returncode, done.stdout) == (7, f"{script} a b\n")
    assert program("run", "--", str(other)).returncode == 126


def test_an_expired_token_is_refreshed_once(program, log_in, define, api_server):
    """Five runs at once at expiry cause one refresh, and all requests carry the new token. # SEC-77"""
    with oidc.serve(redirect_uris=[program.callback]) as server:
        define(server.definition("acme", api_url=api_server.url("/", host="api.example.localhost")))
        log_in(server, "acme")
        program.make_due()
        url = api_server.url("/", host="api.example.localhost")
        with ThreadPoolExecutor(5) as pool:
            done = list(pool.map(lambda _: program("run", "--", "curl", "-sf", url), range(5)))
        assert [each.returncode for each in done] == [0] * 5, [each.stderr for each in done]
        (refresh,) = server.token_requests("refresh_token")
        token = refresh.answer["access_token"]
        assert {request.header("authorization") for request in api_server.requests} == {f"Bearer {token}"}


@pytest.mark.usefixtures("logged_in")
def test_the_child_cannot_ask_for_the_credential_itself(program):
    """What its proxy URL holds is worthless to the daemon: neither it nor the run's id resolves anything. # SEC-141"""
    script = (
        "pair=${HTTPS_PROXY#http://}; pair=${pair%@*}; "
        'curl -s -o /dev/null -w "%{http_code}" -H "Authorization: Run $pair" -H "Content-Type: application/json" '
        f'-d \'{{"method":"GET","host":"api.example.localhost","path":"/"}}\' {program.url}/proxy/resolve'
    )
    done = program("run", "--", "sh", "-c", script)
    assert done.stdout == "401", done.stderr
