"""Runs' children behind the real worker, with a fake daemon behind that and an API server in front of it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import api, daemon_api
from fakes.api import ApiServer
from fakes.authority import Authority
from fakes.daemon_api import DaemonApi
from proxy.support import HOST, PLACEHOLDER, TOKEN, Proxy, Runner

ENGINES = ("auto", "full")
"""What `proxy.engine` can be: ours, with the full one for HTTP/2 alone, and the full one for everything."""


@contextmanager
def _runner(directory: Path, authority: Authority, engine: str) -> Iterator[Runner]:
    leaf = authority.issue(HOST, "*.example.localhost")
    with daemon_api.serve() as daemon, api.serve(leaf=leaf) as server:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "AUTHSOME_HOME": str(directory / "authsome home"),
            "AUTHSOME_CA_BUNDLE": str(authority.certificate),
            "LANG": "C.UTF-8",
        }
        home = directory / "authsome home"
        runner = Runner(daemon=daemon, server=server, home=home, directory=directory, environ=environ, engine=engine)
        _reset(runner)
        try:
            yield runner
        finally:
            runner.stop_workers()


def _reset(runner: Runner) -> None:
    """A route to the server, a credential, and no memories."""
    daemon, server = runner.daemon, runner.server
    daemon.routes = [daemon_api.route(HOST, port=server.port)]
    daemon.credentials = {HOST: daemon_api.bearer(TOKEN)}
    daemon.environment = {"EXAMPLE_API_KEY": PLACEHOLDER}
    daemon.refreshed.clear()
    daemon.resolved.clear()
    daemon.requests.clear()
    server.requests.clear()
    server.protected.clear()
    server.answers.clear()
    server.connections = 0


@pytest.fixture(scope="module")
def engine() -> str:
    """Which engine serves; a module that says what holds for both makes it a parameter."""
    return ENGINES[0]


@pytest.fixture
def runner(tmp_path: Path, authority: Authority, engine: str) -> Iterator[Runner]:
    """Runs commands behind a proxy of their own, with a daemon and a server of their own."""
    with _runner(tmp_path, authority, engine) as runner:
        yield runner


@pytest.fixture(scope="module", name="_standing")
def fixture_standing(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, engine: str
) -> Iterator[tuple[Runner, Proxy]]:
    directory = tmp_path_factory.mktemp("standing")
    with _runner(directory, authority, engine) as runner, runner.proxy() as proxy:
        yield runner, proxy


@pytest.fixture
def proxy(_standing: tuple[Runner, Proxy]) -> Proxy:
    """One worker for all tests of a module; its daemon and server begin each test without memories."""
    _reset(_standing[0])
    return _standing[1]


@pytest.fixture
def daemon_fake(_standing: tuple[Runner, Proxy]) -> DaemonApi:
    """The daemon behind `proxy`."""
    return _standing[0].daemon


@pytest.fixture
def api_server(_standing: tuple[Runner, Proxy]) -> ApiServer:
    """The server in front of `proxy`."""
    return _standing[0].server


@pytest.fixture
def fresh_server(proxy: Proxy, daemon_fake: DaemonApi, authority: Authority) -> Iterator[ApiServer]:
    """A server behind `proxy` that knows of this test's connections alone: one of a test before may come late."""
    assert proxy
    with api.serve(leaf=authority.issue(HOST)) as server:
        daemon_fake.routes = [daemon_api.route(HOST, port=server.port)]
        yield server


GO = """
package main

import (
	"io"
	"net/http"
	"os"
)

func main() {
	response, err := http.Get(os.Args[1])
	if err != nil {
		panic(err)
	}
	io.Copy(os.Stdout, response.Body)
}
"""


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that Go's own compiler made, with the standard library and nothing else."""
    directory = tmp_path_factory.mktemp("go")
    (directory / "main.go").write_text(GO)
    environ = {"PATH": os.environ["PATH"], "HOME": str(directory), "GOPROXY": "off"}
    subprocess.run(["go", "build", "-o", "client", "main.go"], cwd=directory, env=environ, check=True)
    return directory / "client"
