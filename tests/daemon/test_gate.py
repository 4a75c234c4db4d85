"""The door of a daemon that is starting."""

import json
import threading
from contextlib import ExitStack

import pytest

from authsome import __version__
from authsome.daemon.gate import Gate
from authsome.daemon.messages import json_response


@pytest.fixture
def gate(run_server):
    """A closed gate, and the server before it."""
    aside = []
    gate = Gate("the-build", lambda: [step() for step in aside])
    served = run_server(gate.handle)
    aside.append(served.server.step_aside)
    yield gate, served
    gate.close()


def test_that_it_lives_is_told_at_once(gate):
    """Liveness needs no vault; the same answer as ever, and only to GET and HEAD."""
    gate, served = gate
    answer = served.get("/health")
    assert json.loads(answer.body) == {"status": "ok", "version": __version__, "build": "the-build"}
    with served.client() as client:
        client.send(served.head("HEAD", "/health"))
        assert client.expect(200, with_body=False).headers["content-length"] == str(len(answer.body))
        client.send(served.head("DELETE", "/health"))
        assert client.expect(405).headers["allow"] == "GET, HEAD"


def test_everything_else_waits_and_is_answered(gate):
    """Who comes early is served when the vault is open, however many they are; health is told meanwhile."""
    gate, served = gate
    with ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(served.head("GET", f"/{number}"))
        for _ in range(3):
            assert served.get("/health").status == 200
        gate.open(lambda request: json_response({"path": request.path}))
        for number, client in enumerate(clients):
            assert json.loads(client.expect(200).body) == {"path": f"/{number}"}
    assert json.loads(served.get("/health").body) == {"path": "/health"}


def test_who_waits_for_a_vault_that_does_not_open_is_told(gate):
    """The daemon ends; its callers do not hang until then."""
    gate, served = gate
    with served.client() as client:
        client.send(served.head("GET", "/whoami"))
        threading.Timer(0.05, gate.close).start()
        assert json.loads(client.expect(503).body)["code"] == "daemon_unavailable"
