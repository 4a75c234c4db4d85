"""A daemon that several machines share: reached by its public URL, behind nginx, from a machine of its own network."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fakes import claim, definitions, network, nginx, oidc
from fakes.authority import Authority
from fakes.network import Cable
from fakes.patience import wait
from fakes.program import CHECKOUT, Program, installed
from fakes.visitor import Visitor, link_of
from security import adversary

NAME = "vault.example.test"
URL = f"https://{NAME}"
APIS = ("api.example.test", "acme.example.test")
KEY = "kk-0123456789abcdefghijklmnop"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The machine that the daemon runs on, and one that uses it."""

    cable: Cable
    host: Program
    client: Program
    credentials: Path
    """What the APIs got, a line for each request, once it was answered."""
    authority: Authority

    def credential(self) -> str:
        """What they got with the only request that there was."""
        wait(lambda: self.credentials.read_text().endswith("\n"), "its line in the log")
        (line,) = self.credentials.read_text().splitlines()
        return line

    def run(self, *words: str) -> str:
        """What a program on the client's machine prints."""
        return subprocess.run(self.cable.command(*words), capture_output=True, text=True, check=True).stdout

    def browser(self) -> Visitor:
        """A browser that finds the public URL."""
        return Visitor(addresses={NAME: self.cable.here}, trust=self.authority.client_context())

    def signed_in(self) -> Visitor:
        """The same, signed in as the daemon's owner."""
        return claim.sign_in(self.host, self.browser())

    def join(self) -> None:
        """Have the client's identity claimed by the owner."""
        process = self.client.start("identity", "claim", "--no-browser")
        link = link_of(process)
        browser = self.signed_in()
        browser.open(link)
        browser.submit({}, to="/confirm")
        assert browser.status == 200, browser.page
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err


@pytest.fixture
def shared(tmp_path: Path, authority: Authority) -> Iterator[Shared]:
    """A daemon on this machine's loopback, nginx before it, and a client beside this machine."""
    with ExitStack() as stack:
        cable = stack.enter_context(network.beside([NAME, *APIS]))
        leaf = authority.issue(NAME, *APIS)
        roots = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
        host = stack.enter_context(installed(tmp_path / "host", variables={**roots, "AUTHSOME_SERVER_BASE_URL": URL}))
        configure(host, {"users": ["nobody"]})  # whom nginx's workers run as
        definitions.put(host.home, definitions.keyed(f"https://{APIS[0]}"))
        credentials = stack.enter_context(
            nginx.forward(
                tmp_path / "nginx", leaf, address=cable.here, name=NAME, upstream=f"127.0.0.1:{host.port}", apis=APIS
            )
        )
        client = stack.enter_context(
            installed(
                tmp_path / "client",
                command=cable.command(sys.executable, str(CHECKOUT / "authsome.py")),
                variables={**roots, "AUTHSOME_DAEMON_URL": URL, "NO_PROXY": ".example.test"},
            )
        )
        configure(client, {"proxy": {"idle_minutes": 0.01}})
        assert host("whoami").returncode == 0
        yield Shared(cable=cable, host=host, client=client, credentials=credentials, authority=authority)


def configure(program: Program, config: dict[str, object]) -> None:
    """Write config.json as a user would."""
    program.home.mkdir(mode=0o700)
    path = program.home / "config.json"
    path.write_text(json.dumps(config))
    path.chmod(0o600)


def test_a_client_on_another_machine(shared: Shared):
    """Claimed, logged in, run and listed by the public URL; no daemon is started there. # SEC-20 # SEC-206"""
    stranger = shared.client("whoami")
    assert (stranger.returncode, "identity claim" in stranger.stderr) == (10, True)
    shared.join()
    answer = shared.client.json("whoami")
    assert (answer["daemon"]["url"], answer["principal"]["name"]) == (URL, "owner")  # type: ignore[index]
    assert shared.client("login", "keyed", "--stdin", input=KEY).returncode == 0
    done = shared.client("run", "--", "curl", "-sS", f"https://{APIS[0]}/v1")
    assert (done.stdout, done.returncode) == ("ok", 0), done.stderr
    assert shared.credential() == f"Bearer {KEY}"
    assert "keyed" in shared.host("list", "--connected").stdout
    assert "resolve" in shared.client("log").stdout
    checks = shared.client("doctor", "--json").stdout
    clock = next(each for each in json.loads(checks)["checks"] if each["check"] == "clock")
    assert clock["result"] == "ok", clock
    assert not (shared.client.home / "server" / "store.db").exists()
    assert not (shared.client.home / "server" / "daemon.json").exists()
    for words in (["daemon", "start"], ["daemon", "restart"]):
        assert shared.client(*words).returncode != 0, words
    assert not any("daemon serve" in line for line in shared.client.processes().values())


def test_a_login_from_another_machine(shared: Shared):
    """The provider sends the browser to the public URL, and the client hears of it. # SEC-61"""
    shared.join()
    with oidc.serve(redirect_uris=[f"{URL}/auth/callback/oauth"]) as server:
        definitions.put(shared.host.home, server.definition("acme", api_url=f"https://{APIS[1]}"))
        client_id = json.dumps({"client_id": oidc.PUBLIC.id})
        process = shared.client.start("login", "acme", "--no-browser", "--stdin", input=client_id)
        browser = shared.browser()
        browser.log_in(link_of(process), server)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert browser.url.startswith(f"{URL}/auth/sessions/")
    done = shared.client("run", "--", "curl", "-sS", f"https://{APIS[1]}/v1")
    assert (done.stdout, done.returncode) == ("ok", 0), done.stderr
    assert re.fullmatch(r"Bearer \S{20,}", shared.credential())
    cookies = [each.key for each in shared.signed_in().cookies.values()]
    assert any(each.startswith(("__Host-", "__Secure-")) for each in cookies), cookies


def test_a_proof_for_another_daemon(shared: Shared):
    """What is meant for somebody's loopback, or for another name, is worth nothing at the public URL. # SEC-209"""
    caller = adversary.owner(shared.host)

    def answered(audience: str, *, host: str = NAME) -> str:
        token = caller.token("GET", "/whoami", audience=audience)
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(shared.authority.certificate)]
        command += ["-H", f"Authorization: PoP {token}", "-H", f"Host: {host}", f"{URL}/whoami"]
        return shared.run(*command)

    assert answered(URL) == "200"
    for audience in (f"http://127.0.0.1:{shared.host.port}", f"http://localhost:{shared.host.port}", URL + "/"):
        assert answered(audience) == "401"
    assert answered("https://other.example.test") == "401"
    assert answered(f"http://127.0.0.1:{shared.host.port}", host=f"127.0.0.1:{shared.host.port}") == "421"


def test_guesses_count_for_whoever_makes_them(shared: Shared):
    """Behind nginx each address waits for itself, whatever is said there of where it comes from. # SEC-202 # SEC-204"""
    believing = {**shared.host.variables, "AUTHSOME_TRUSTED_PROXY": "127.0.0.1"}
    host = replace(shared.host, variables=believing)
    assert host("daemon", "restart").returncode == 0
    cable = shared.cable
    place = f"{URL}/ui/sign-in"

    def guess(number: int, source: str, *forged: str) -> str:
        """The status of a try to sign in."""
        jar = str(shared.client.directory / f"jar-{source}")
        usual = ["curl", "-s", "--cacert", str(shared.authority.certificate), "--interface", source]
        usual += ["-b", jar, "-c", jar, *(word for each in forged for word in ("-H", f"X-Forwarded-For: {each}"))]
        (token,) = re.findall(r'name="form_token" value="([^"]+)"', shared.run(*usual, place))
        fields = {"form_token": token, "email": f"{number}@example.org", "password": "not it at all", "next": "/ui/"}
        data = [word for name, value in fields.items() for word in ("--data-urlencode", f"{name}={value}")]
        return shared.run(*usual, "-o", "/dev/null", "-w", "%{http_code}", *data, place)

    answers = []
    while "429" not in answers:
        number = len(answers)
        answers.append(guess(number, cable.there, f"198.51.100.{number}", f"{cable.elsewhere}, 127.0.0.1"))
        assert number < 40, answers
    assert answers[:20] == ["403"] * 20
    assert guess(100, cable.elsewhere) == "403"  # for all that was said in its name
    claim.sign_in(host, shared.browser())
    assert f"at {cable.here}" in host("log", "--event", "sign_in").stdout


def test_a_listener_on_the_network(tmp_path: Path, authority: Authority):
    """Refused without a proxy that ends TLS; with one, it is for that proxy alone. # SEC-204 # SEC-205"""
    with network.beside([NAME]) as cable:
        roots = {"AUTHSOME_CA_BUNDLE": str(authority.certificate), "AUTHSOME_HOST": cable.here}
        with installed(tmp_path / "clear", variables=roots) as program:
            refused = program("daemon", "start")
            assert (refused.returncode, "in clear" in refused.stderr) == (2, True)
            assert program("whoami").returncode == 2
            assert program.wait_gone() == {}
        trusted = {"AUTHSOME_SERVER_BASE_URL": URL, "AUTHSOME_TRUSTED_PROXY": cable.there}
        with installed(tmp_path / "proxied", variables={**roots, **trusted}) as program:
            assert program("whoami").returncode == 0  # from this machine

            def status(host: str, *words: str) -> str:
                command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {host}", *words]
                done = subprocess.run(
                    cable.command(*command, f"http://{cable.here}:{program.port}/health"),
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                return done.stdout

            assert status(NAME, "--interface", cable.there) == "200"
            assert status(f"{cable.here}:{program.port}", "--interface", cable.there) == "421"
            assert status(f"127.0.0.1:{program.port}", "--interface", cable.there) == "421"
            assert status(NAME, "--interface", cable.elsewhere) == "403"
