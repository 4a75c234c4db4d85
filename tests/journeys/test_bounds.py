"""What bounds a run, on the command line: its time, its connections, the run around it, what it may reach directly."""

import re
import sys

import pytest

from fakes import api, claim
from fakes.patience import ever_longer
from fakes.program import Program

KEY, OTHER = "kk-0123456789abcdefghijklmnop", "kk-0123456789abcdefghijklmnoz"
_CHILD = """
import sys, time, requests
url = sys.argv[1]
events = requests.get(url + "/sse?events=" + sys.argv[2] + "&interval=0.5", stream=True).iter_lines()
print(next(events).decode(), flush=True)
kept = requests.Session()
print(kept.get(url + "/v1").status_code, flush=True)
while (answer := kept.get(url + "/v1")).ok:
    time.sleep(0.2)
print(answer.status_code, answer.json()["detail"], flush=True)
print(sum(1 for line in events if line))
sys.exit(7)
"""


@pytest.fixture
def two(program: Program, keyed: api.ApiServer) -> api.ApiServer:
    """A provider with two connections, `default` and `work`."""
    assert program("login", "keyed", "--stdin", input=KEY).returncode == 0
    assert program("login", "keyed", "--connection", "work", "--stdin", "--no-verify", input=OTHER).returncode == 0
    keyed.requests.clear()
    return keyed


def keys(server: api.ApiServer) -> list[str]:
    """The keys that the server was sent since this was asked last."""
    found = [(request.header("authorization") or "none").removeprefix("Bearer ") for request in server.requests]
    server.requests.clear()
    return found


def test_a_run_whose_time_is_over_in_the_middle_of_a_stream(program: Program, two: api.ApiServer):
    """The next request of a kept connection is told so, the stream that has begun comes to its end, the child lives."""
    assert any(outlives_its_time(program, two, int(seconds)) for seconds in ever_longer(3))


def outlives_its_time(program: Program, two: api.ApiServer, seconds: int) -> bool:
    """Whether a child has begun its stream and served its request while its run of so many seconds lasted."""
    url = two.url("", host="api.example.localhost")
    events = 2 * seconds + 8  # two a second, the last ones when the time is long over
    done = program("run", "--for", f"{seconds}s", "--", sys.executable, "-c", _CHILD, url, str(events))
    if not re.match(r"data: .*\n200\n", done.stdout):
        return False
    assert done.returncode == 7, done.stderr
    _, _, refused, rest = done.stdout.splitlines()
    assert refused == "403 the run's time is over"
    assert int(rest) == events - 1
    assert set(keys(two)) == {KEY}
    return True


def test_only_and_connection_together(program: Program, two: api.ApiServer):
    """One connection of two of one provider, and no other provider's."""
    url = two.url("/v1", host="api.example.localhost")
    curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
    assert program("run", "--", *curl).stdout == "200"
    assert program("run", "--only", "keyed", "--connection", "keyed=work", "--", *curl).stdout == "200"
    assert keys(two) == [KEY, OTHER]
    chosen = [*curl, "-H", "Authsome-Connection: default"]
    assert program("run", "--only", "keyed", "--connection", "keyed=work", "--", *chosen).stdout == "403"
    assert program("run", "--only", "keyed", "--connection", "keyed=none", "--", *curl).returncode == 125
    done = program("run", "--only", "openai", "--connection", "keyed=work", "--", *curl)
    assert (done.returncode, keys(two)) == (125, [])
    assert "openai is not connected" in done.stderr


@pytest.mark.parametrize(
    "inherited", ["", "api.example.localhost", ".localhost,10.0.0.0/8", "*", "localhost, other.test"]
)
def test_what_is_reached_directly(program: Program, two: api.ApiServer, inherited: str):
    """A server of this machine by its address, and never the host of a route, whatever the caller has exempted."""
    # SEC-167
    with api.serve() as mine:
        script = (
            f"curl -sf {two.url('/v1', host='api.example.localhost')} && curl -sf http://127.0.0.1:{mine.port}/mine"
        )
        done = program("run", "--", "sh", "-c", script, env={"NO_PROXY": inherited, "no_proxy": inherited})
        assert done.returncode == 0, done.stderr
        assert [request.target for request in mine.requests] == ["/mine"]
        assert mine.requests[0].header("authorization") is None
    assert keys(two) == [KEY]


def test_a_run_in_a_run_is_never_wider(program: Program, two: api.ApiServer):
    """The inner one has the outer one's connection, and is refused another, another provider, and more time."""
    url = two.url("/v1", host="api.example.localhost")
    curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
    outer = ("run", "--only", "keyed", "--connection", "keyed=work", "--")
    inner = (*program.command, "run")
    for more in ((), ("--only", "keyed"), ("--connection", "keyed=work"), ("--for", "2h"), ("--unmatched", "tunnel")):
        assert program(*outer, *inner, *more, "--", *curl).stdout == "200", more
        assert keys(two) == [OTHER]
    for more in (("--connection", "keyed=default"), ("--only", "openai"), ("--only", "keyed,openai")):
        assert program(*outer, *inner, *more, "--", *curl).returncode == 125, more
    chosen = [*curl, "-H", "Authsome-Connection: default"]
    assert program(*outer, *inner, "--", *chosen).stdout == "403"
    script = f"until ! {' '.join(inner)} --for 2h -- curl -sf -o /dev/null {url}; do sleep 0.2; done; echo over"

    def serves_until_it_is_over(seconds: int) -> bool:
        assert program("run", "--for", f"{seconds}s", "--", "sh", "-c", script).stdout == "over\n"
        served = set(keys(two))
        assert served <= {KEY}
        return bool(served)

    assert any(serves_until_it_is_over(int(seconds)) for seconds in ever_longer(3))


def test_a_run_in_another_identitys_run_is_refused(program: Program, two: api.ApiServer):
    """A CI's limited identity, whose key its child does not have: the one on the disk may do more, and does not."""
    # SEC-17
    env = claim.printed(program)
    claim.confirm(program, env, {"connections": "keyed", "methods": "GET"})
    url = two.url("/v1", host="api.example.localhost")
    curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x=y", url)
    inner = (*program.command, "run", "--", *curl)
    done = program("run", "--", *inner, env=env)
    assert (done.returncode, "AUTHSOME_IDENTITY names ci, whose key is not here" in done.stderr) == (125, True)
    done = program("run", "--", "env", "-u", "AUTHSOME_IDENTITY", *inner, env=env)
    assert done.returncode == 125
    assert "the run that this one is begun in is of the identity ci" in done.stderr
    assert keys(two) == []
