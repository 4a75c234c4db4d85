"""Placeholders that a command puts on a request itself, through the whole product."""

import base64
import json
import sys
from urllib.parse import quote

import pytest

from fakes import definitions

APP, SECRET = "app-0123456789", "s/cret+9876543210&x"
_CHILD = """
import json, os, sys, requests
app, secret, url = os.environ["PAIR_APP"], os.environ["PAIR_SECRET"], sys.argv[1]
s = requests.Session()
for _ in range(4):
    assert s.post(url + "/token", data={"client_id": app, "client_secret": secret}).ok
    assert s.post(url + "/json?key=" + app, json={"secret": secret, "text": "it is " + secret}).ok
    assert s.get(url + "/a/" + app + "/b", auth=(app, secret), headers={"X-Secret": secret}).ok
print(s.get(url + "/echo", headers={"X-Secret": secret}).text)
"""


@pytest.fixture
def paired(program, define, api_server):
    """A provider of two fields, connected; its definition puts one of them into a parameter."""
    document = definitions.keyed(api_server.url("/", host="api.example.localhost"))
    document |= {
        "name": "pair",
        "api_key": {
            "fields": [{"name": "app", "label": "app", "secret": False}, {"name": "secret", "label": "secret"}]
        },
        "inject": {"query": "app", "template": "{app}"},
        "export": {
            "env": {
                "PAIR_APP": {"value": "{app}", "placeholder": "app-placeholder"},
                "PAIR_SECRET": {"value": "{secret}", "placeholder": "secret-placeholder"},
            }
        },
    }
    define(document)
    done = program("login", "pair", "--stdin", input=json.dumps({"app": APP, "secret": SECRET}))
    assert done.returncode == 0, done.stderr
    return api_server


def test_a_program_shows_its_placeholders_in_its_own_ways(program, paired):
    """The server gets the real values, request by request; answers do not tell; each use is on record. # SEC-163"""
    url = paired.url("", host="api.example.localhost")
    done = program("run", "--", sys.executable, "-c", _CHILD, url)
    assert done.returncode == 0, done.stderr
    form, document, got = paired.requests[:3]
    assert form.body == b"client_id=app-0123456789&client_secret=s%2Fcret%2B9876543210%26x"
    assert json.loads(document.body) == {"secret": SECRET, "text": "it is secret-placeholder"}
    assert document.target == f"/json?key={APP}&app={APP}"
    assert got.target == f"/a/{APP}/b?app={APP}"
    assert got.header("authorization") == "Basic " + base64.b64encode(f"{APP}:{SECRET}".encode()).decode()
    assert got.header("x-secret") == SECRET
    for number in (3, 6, 9):  # by the daemon's answer and by a kept one
        same = [(each.target, each.body) for each in paired.requests[number : number + 3]]
        assert same == [(each.target, each.body) for each in (form, document, got)]
    assert SECRET not in done.stdout + done.stderr
    events = program.json("log", "-n", "50", "--event", "resolve")["events"]
    assert isinstance(events, list)
    assert len(events) == len(paired.requests) == 13


def test_explain_names_them(program, paired):
    """The variables, and none where the definition switches it off."""
    url = paired.url("/x", host="api.example.localhost")
    told = program.json("run", "--explain", url)
    assert told["placeholders"] == ["PAIR_APP", "PAIR_SECRET"]
    assert "replaces   the placeholder of PAIR_APP or PAIR_SECRET" in program("run", "--explain", url).stdout


def test_a_definition_can_name_the_places(program, paired, define):
    """A field of a form that proves something is replaced, a text that is kept is not; `--explain` says where."""
    # SEC-163
    document = json.loads(program("inspect", "pair", "--json").stdout)
    document = document.get("definition", document)
    define({**document, "replace": {"form": "client_secret", "query": "key", "path": "/tokens/"}})
    url = paired.url(
        "/tokens/secret-placeholder?key=secret-placeholder&q=secret-placeholder", host="api.example.localhost"
    )
    body = "client_secret=secret-placeholder&text=secret-placeholder"
    assert program("run", "--", "curl", "-sf", "-d", body, "-H", "X-Note: secret-placeholder", url).returncode == 0
    request = paired.requests[-1]
    value = quote(SECRET, safe="")
    assert request.target == f"/tokens/{value}?key={value}&q=secret-placeholder&app={APP}"
    assert request.body.decode() == f"client_secret={value}&text=secret-placeholder"
    assert request.header("x-note") == "secret-placeholder"
    told = program.json("run", "--explain", url)
    assert told["replaced_in"] == {"query": ["key"], "form": ["client_secret"], "path": ["/tokens/"]}
    where = "in the query as key and in a form as client_secret and in the path after /tokens/"
    assert f"the placeholder of PAIR_APP or PAIR_SECRET, {where}" in program("run", "--explain", url).stdout


def test_a_definition_can_switch_it_off(program, paired, define):
    """What the child put there goes out as it is; what the definition injects is put on."""
    document = json.loads(program("inspect", "pair", "--json").stdout)
    document = document.get("definition", document)
    define({**document, "replace": "off"})
    url = paired.url("/x?key=secret-placeholder", host="api.example.localhost")
    assert program("run", "--", "curl", "-sf", url).returncode == 0
    assert paired.requests[-1].target == f"/x?key=secret-placeholder&app={APP}"
    assert program.json("run", "--explain", url)["placeholders"] == []
