"""What the child's environment becomes."""

import pytest

from authsome.proxy import environment
from authsome.proxy.environment import Grant


def named(*hosts: str) -> list[tuple[str, bool]]:
    """Hosts of routes; `*.` for a suffix."""
    return [(host.removeprefix("*."), host.startswith("*.")) for host in hosts]


GRANT = Grant(
    run="run-1",
    password="s3cret",
    hosts=named("api.example.com"),
    placeholders={"EXAMPLE_API_KEY": "sk-placeholder"},
)
BUNDLE, PRELOAD = "/h/bundle.pem", '/h o/pre"load.cjs'


def child(environ: dict[str, str]) -> dict[str, str]:
    """The child's environment for a caller's."""
    return environment.for_child(environ, GRANT, port=4711, bundle=BUNDLE, node_preload=PRELOAD)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY"])
def test_proxies_in_both_cases(name):
    """Every proxy variable leads to the run's proxy with its credential, whatever it was before."""
    # SEC-167
    found = child({name: "http://elsewhere", name.lower(): "http://elsewhere"})
    assert found[name] == found[name.lower()] == "http://run-1:s3cret@127.0.0.1:4711"


@pytest.mark.parametrize(
    "name",
    [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "PIP_CERT",
        "NPM_CONFIG_CAFILE",
        "npm_config_cafile",
        "AWS_CA_BUNDLE",
        "DENO_CERT",
        "CARGO_HTTP_CAINFO",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "HTTPLIB2_CA_CERTS",
    ],
)
def test_roots_override_what_was_inherited(name):
    """Every name that a tool reads its roots by."""
    # SEC-167
    assert child({name: "/company.pem"})[name] == BUNDLE


def test_wget_has_its_settings_from_a_file_beside_the_bundle():
    """Whatever file of a system's settings was named before."""
    assert child({"SYSTEM_WGETRC": "/company"})["SYSTEM_WGETRC"] == "/h/bundle.wgetrc"


def test_single_tools_settings_do_not_win():
    """npm, pip and cargo have proxy variables of their own, which would lead around ours."""
    # SEC-167
    given = {"NPM_CONFIG_PROXY": "x", "NPM_CONFIG_HTTPS_PROXY": "x", "PIP_PROXY": "x", "CARGO_HTTP_PROXY": "x"}
    assert not child(given).keys() & given.keys()
    npm = dict.fromkeys(("npm_config_proxy", "npm_config_https_proxy", "npm_config_noproxy"), "x")
    found = child({**npm, "NO_PROXY": "a.net"})
    assert [found[name] for name in npm] == [found["HTTPS_PROXY"], found["HTTPS_PROXY"], f"{DIRECT},a.net"]


@pytest.mark.parametrize(("given", "place"), [({}, 0), ({"GIT_CONFIG_COUNT": "2"}, 2), ({"GIT_CONFIG_COUNT": "x"}, 0)])
def test_git_has_the_proxy_after_the_callers_settings(given, place):
    """Git takes settings from the environment, numbered, and of two for one name the last."""
    # SEC-167
    caller = {**given, "GIT_CONFIG_KEY_1": "http.proxy", "GIT_CONFIG_VALUE_1": "http://elsewhere"}
    found = child(caller)
    assert found["GIT_CONFIG_COUNT"] == str(place + 1)
    assert found[f"GIT_CONFIG_KEY_{place}"] == "http.proxy"
    assert found[f"GIT_CONFIG_VALUE_{place}"] == found["HTTPS_PROXY"]
    assert found["GIT_CONFIG_VALUE_1"] == "http://elsewhere"


def test_secrets_are_gone_and_placeholders_stand():
    """Keys of ours, and real values of the variables that stand for a connection, do not reach the child."""
    given = {
        "AUTHSOME_MASTER_KEY": "k",
        "AUTHSOME_IDENTITY_KEY": "k",
        "AUTHSOME_HOME": "/h",
        "EXAMPLE_API_KEY": "sk-mine",
        "PATH": "/bin",
    }
    found = child(given)
    assert found["EXAMPLE_API_KEY"] == "sk-placeholder"
    assert not found.keys() & {"AUTHSOME_MASTER_KEY", "AUTHSOME_IDENTITY_KEY"}
    assert (found["AUTHSOME_HOME"], found["PATH"], found["AUTHSOME_RUN"]) == ("/h", "/bin", "run-1")


def test_the_callers_environment_is_left_alone():
    """A pure function."""
    given = {"HTTPS_PROXY": "x"}
    child(given)
    assert given == {"HTTPS_PROXY": "x"}


DIRECT = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("inherited", "hosts", "result"),
    [
        ("", ("api.example.com",), DIRECT),
        ("intra.net, .corp", ("api.example.com",), f"{DIRECT},intra.net,.corp"),
        ("localhost", ("api.example.com",), DIRECT),
        ("*", ("api.example.com",), DIRECT),
        ("*.example.com", ("api.example.com",), DIRECT),
        ("example.com", ("api.example.com",), DIRECT),
        (".example.com", ("api.example.com",), DIRECT),
        ("EXAMPLE.com", ("api.example.com",), DIRECT),
        ("ample.com", ("api.example.com",), DIRECT),
        ("com", ("api.example.com",), DIRECT),
        ("api.example.com:443", ("api.example.com",), DIRECT),
        ("api.example.com.", ("api.example.com",), DIRECT),
        ("other.example.com", ("api.example.com",), f"{DIRECT},other.example.com"),
        ("10.0.0.0/8", ("api.example.com",), f"{DIRECT},10.0.0.0/8"),
        ("a.example.org", ("*.example.org",), DIRECT),
        ("example.org", ("*.example.org",), DIRECT),
        ("", ("api.example.localhost",), "127.0.0.1,::1"),
    ],
)
def test_no_proxy_exempts_no_host_of_a_route(inherited, hosts, result):
    """Entries are read in the widest way that any program reads them."""
    # SEC-167
    assert environment.no_proxy((inherited,), named(*hosts)) == result


def test_no_proxy_of_both_cases_is_merged():
    """Programs read one or the other."""
    found = child({"NO_PROXY": "a.net", "no_proxy": "b.net"})
    assert found["NO_PROXY"] == found["no_proxy"] == f"{DIRECT},a.net,b.net"


def test_node_options_are_added_to():
    """The caller's options stay, the path is quoted as Node reads it, and nothing is added twice."""
    wanted = r'--require "/h o/pre\"load.cjs"'
    assert child({})["NODE_OPTIONS"] == wanted
    assert child({"NODE_OPTIONS": "--title=x"})["NODE_OPTIONS"] == f"--title=x {wanted}"
    assert child({"NODE_OPTIONS": wanted})["NODE_OPTIONS"] == wanted
