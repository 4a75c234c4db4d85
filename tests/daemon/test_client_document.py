"""The document whose URL is our client id: there for providers that can read it, and only then."""

import http.client
import json

import pytest

from fakes.program import Program


def ask(program: Program, host: str) -> tuple[int, dict[str, object]]:
    """The answer to a request for the document by this name of the daemon's."""
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=60)
    connection.request("GET", "/auth/client.json", headers={"Host": host})
    response = connection.getresponse()
    value = json.loads(response.read())
    connection.close()
    return response.status, value


@pytest.mark.parametrize("base_url", [None, "https://auth.example.com"])
def test_who_can_read_it(program: Program, base_url):
    """A daemon that the world can reach says who it is, by its own URL; one for this machine alone does not."""
    env = {"AUTHSOME_SERVER_BASE_URL": base_url}
    assert program("daemon", "start", env=env).returncode == 0
    status, value = ask(program, "auth.example.com" if base_url else f"127.0.0.1:{program.port}")
    if base_url is None:
        assert status == 404
        return
    assert status == 200
    assert value["client_id"] == "https://auth.example.com/auth/client.json"
    assert value["redirect_uris"] == ["https://auth.example.com/auth/callback/oauth"]
    assert (value["token_endpoint_auth_method"], value["application_type"]) == ("none", "web")
