"""What every test may ask for: real servers on loopback, a clean environment, Authsome as a process."""

import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Final

import hypothesis
import pytest
from hypothesis import HealthCheck

from browser import chromium
from fakes import api, definitions, endpoint, oidc, program
from fakes.authority import Authority
from fakes.definitions import Define
from fakes.ports import free_port as find_free_port
from fakes.visitor import Visitor, link_of

LONGEST: Final = (
    "crash/test_rekeying.py",
    "proxy/test_streams.py",
    "dashboard/test_places.py",
    "dashboard/test_live.py",
    "proxy/test_clients.py",
    "proxy/test_conformance.py",
    "dashboard/test_entrance.py",
    "cli/test_log.py",
    "cli/test_login.py",
    "cli/test_backup.py",
    "proxy/test_full.py",
    "cli/test_keys.py",
    "crash/test_vault.py",
    "security/test_processes.py",
    "proxy/test_worker.py",
    "journeys/test_refresh.py",
    "journeys/test_quick.py",
    "vault/test_rekeying.py",
    "security/test_records.py",
    "security/test_crashes.py",
    "dashboard/test_weight.py",
    "journeys/test_login_in_browser.py",
    "crash/test_refresh.py",
    "broker/test_entrance.py",
)
"""The files that take longest, longest first, as far as the end of a run depends on it."""

_KEPT: Final = frozenset({"CI", "COLUMNS", "LANG", "LC_ALL", "PATH", "TERM", "TMPDIR", "USER"})
_SET_UP: Final = pytest.StashKey[Mapping[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Leave nothing of the developer's environment to the tests, and an empty home."""
    # How long an example takes says nothing on a shared machine; `--timeout` ends what hangs. Every run tries the same
    # examples, lest chance fails it; `--hypothesis-seed=NUMBER` tries others.
    hypothesis.settings.register_profile(
        "authsome", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("authsome")
    config.stash[_SET_UP] = dict(os.environ)
    for name in set(os.environ) - _KEPT:
        del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="home-of-tests-")
    config.add_cleanup(home.cleanup)
    os.environ["HOME"] = home.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: begun last, one would keep its worker busy when the others have ended."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish() -> None:
    """Spare the collector what was loaded by now: with all tests that is nearly everything it would look at."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Let a module's last test hold nothing any more, which pytest itself sees to after `left_open` has looked."""
    if isinstance(item, pytest.Function) and (nextitem is None or nextitem.path != item.path):
        item.funcargs.clear()


@pytest.fixture(scope="module", autouse=True)
def left_open() -> Iterator[None]:
    """Fails the module that leaves something open for the collector, not the test that runs when that comes round.

    `-X tracemalloc=10` says where it was opened.
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def set_up_environment(pytestconfig: pytest.Config) -> Mapping[str, str]:
    """The environment before it was scrubbed: for pip and npm, which may need its certificates and indexes."""
    return pytestconfig.stash[_SET_UP]


# ---- values ------------------------------------------------------------------------------------------------


@pytest.fixture
def free_port() -> int:
    """A loopback port that nothing listens on."""
    return find_free_port()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An AUTHSOME_HOME that nothing has made yet."""
    return tmp_path / "authsome home"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority that the tests' clients trust."""
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def rogue(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts."""
    return Authority.create(tmp_path_factory.mktemp("rogue"), name="Rogue")


# ---- servers -----------------------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[[AbstractContextManager[object]], object]]:
    """Keeps any server of the fakes running for the length of the test.

    As in `server = serve(oidc.serve(redirect_uris=[callback]))`.
    """
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def api_server(authority: Authority) -> Iterator[api.ApiServer]:
    """An API server with TLS, named api.example.localhost (and *.example.localhost, localhost, 127.0.0.1)."""
    leaf = authority.issue("api.example.localhost", "*.example.localhost", "localhost", "127.0.0.1")
    with api.serve(leaf=leaf) as server:
        yield server


@pytest.fixture
def plain_api_server() -> Iterator[api.ApiServer]:
    """An API server without TLS."""
    with api.serve() as server:
        yield server


@pytest.fixture
def hostile() -> Iterator[endpoint.Endpoint]:
    """A token endpoint, plain http, whose `script` the test sets; it answers tokens until then."""
    with endpoint.serve(endpoint.tokens()) as server:
        yield server


@pytest.fixture
def oidc_server(program: program.Program) -> Iterator[oidc.OidcServer]:
    """An OAuth server, plain http, whose clients may redirect to the `program` fixture's daemon."""
    with oidc.serve(redirect_uris=[program.callback]) as server:
        yield server


@pytest.fixture
def oidc_tls(program: program.Program, authority: Authority) -> Iterator[oidc.OidcServer]:
    """An OAuth server with TLS, named login.example.localhost, for the `program` fixture's daemon."""
    leaf = authority.issue("login.example.localhost", "127.0.0.1")
    trust = authority.client_context()
    with oidc.serve(redirect_uris=[program.callback], leaf=leaf, trust=trust, host="login.example.localhost") as server:
        yield server


# ---- authsome as a process ---------------------------------------------------------------------------------


@pytest.fixture(name="program")
def fixture_program(tmp_path: Path, authority: Authority) -> Iterator[program.Program]:
    """Authsome of this checkout with a fresh home and port, trusting `authority`; leaves no process behind."""
    variables = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
    with program.installed(tmp_path / "user", variables=variables) as installation:
        yield installation


@pytest.fixture
def run_cli(program: program.Program) -> Callable[..., CompletedProcess[str]]:
    """Runs a command of the `program` fixture to its end.

    As in `done = run_cli("login", "openai", "--stdin", input=key)`.
    """
    return program


@pytest.fixture
def daemon(program: program.Program) -> program.Program:
    """The `program` fixture with its daemon running."""
    started = program("daemon", "start")
    assert started.returncode == 0, started.stderr
    return program


@pytest.fixture
def define(program: program.Program) -> Define:
    """Puts a provider definition where a user would."""
    return partial(definitions.put, program.home)


@pytest.fixture
def keyed(define: Define, api_server: api.ApiServer) -> api.ApiServer:
    """A provider named keyed that takes an API key and whose API is `api_server`."""
    define(definitions.keyed(api_server.url("/", host="api.example.localhost")))
    return api_server


@pytest.fixture
def start(program: program.Program) -> Iterator[Callable[..., Popen[str]]]:
    """Starts a command and leaves it running until the test ends."""
    with ExitStack() as stack:

        def started(*args: str, **options: object) -> Popen[str]:
            process = stack.enter_context(program.start(*args, **options))  # type: ignore[arg-type]
            stack.callback(process.kill)
            return process

        yield started


@pytest.fixture
def begin_login(start: Callable[..., Popen[str]]) -> Callable[..., tuple[Popen[str], str]]:
    """Starts a login with an OAuth client, or None to be asked for it in the browser; tells the link to be opened.

    As in `process, link = begin_login("acme", "--force", client=oidc.POST)`.
    """

    def begin(*args: str, client: oidc.Client | None = oidc.PUBLIC) -> tuple[Popen[str], str]:
        if client is None:
            process = start("login", *args)
        else:
            fields = {"client_id": client.id} | ({"client_secret": client.secret} if client.secret else {})
            process = start("login", *args, "--no-browser", "--stdin", input=json.dumps(fields))
        return process, link_of(process)

    return begin


# ---- a browser ---------------------------------------------------------------------------------------------


@pytest.fixture
def visitor() -> Visitor:
    """A fresh browser profile, without scripts."""
    return Visitor()


@pytest.fixture(scope="session")
def chromium_browser(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[chromium.Browser]:
    """One headless Chromium, trusting `authority`, for all tests; each takes profiles of its own from it."""
    with chromium.launch(tmp_path_factory.mktemp("chromium"), accept=[authority.spki]) as browser:
        yield browser


@pytest.fixture
def page(chromium_browser: chromium.Browser) -> Iterator[chromium.Page]:
    """A page in a fresh browser profile."""
    with chromium_browser.profile() as profile:
        yield profile.new_page()
